"""The compiled kernel for chains of linear layers, tanh and ReLU."""

from __future__ import annotations

import numpy as np

from ..._compile import compiled


@compiled(inline="always")
def tanh(x):  # type: ignore[no-untyped-def]
    """Tanh as x P(x²) / Q(x²) on [-9, 9], fitted for least relative error, which is at most 4e-7."""
    x = min(max(x, np.float32(-9.0)), np.float32(9.0))
    z = x * x
    p = np.float32(1.3354651606789503e-08)
    p = p * z + np.float32(2.060907536360901e-05)
    p = p * z + np.float32(0.0034955875016748905)
    p = p * z + np.float32(0.13381025195121765)
    p = p * z + np.float32(1.0)
    q = np.float32(7.776554298288829e-07)
    q = q * z + np.float32(0.00032856338657438755)
    q = q * z + np.float32(0.025876980274915695)
    q = q * z + np.float32(0.4671434164047241)
    q = q * z + np.float32(1.0)
    return x * p / q


@compiled()
def transpose(weights, plan, out):  # type: ignore[no-untyped-def]
    """Copy weights from PyTorch's layout to the layout that ``forward`` reads.

    Args:
        weights: ``(n, D)`` float32; each linear layer as ``(out, in)``, followed by its bias if it has one.
        plan: See ``forward``.
        out: ``(n, D)`` float32, written; each linear layer as ``(in, out)``.
    """
    for i in range(weights.shape[0]):
        offset = 0
        for layer in range(plan.shape[0]):
            n_in, n_out, has_bias = plan[layer, 0], plan[layer, 1], plan[layer, 2]
            for k in range(n_in):
                for j in range(n_out):
                    out[i, offset + k * n_out + j] = weights[i, offset + j * n_in + k]
            offset += n_in * n_out
            if has_bias:
                out[i, offset : offset + n_out] = weights[i, offset : offset + n_out]
                offset += n_out


@compiled()
def forward(weights, plan, num_episodes, rows, obs, scratch, outputs):  # type: ignore[no-untyped-def]
    """Compute the outputs of the networks ``rows // num_episodes`` for ``obs``.

    The rows of a network are computed together, so that its weights are read from memory once for all of them.

    Args:
        weights: ``(N, D)`` float32; each linear layer as ``(in, out)``, followed by its bias if it has one.
        plan: ``(layers, 4)`` int64: inputs, outputs, 1 with a bias else 0, activation (0 none, 1 tanh, 2 ReLU).
        num_episodes: E.
        rows: ``(n,)`` int32 episode rows, ascending.
        obs: ``(n, inputs)`` float32.
        scratch: ``(2, rows at a time, widest layer)`` float32.
        outputs: ``(n, outputs)`` float32, written.
    """
    row = 0
    while row < rows.shape[0]:
        network = rows[row] // num_episodes
        count = 1
        while count < scratch.shape[1] and row + count < rows.shape[0] and rows[row + count] // num_episodes == network:
            count += 1
        w = weights[network]
        x = scratch[0]
        y = scratch[1]
        x[:count, : obs.shape[1]] = obs[row : row + count]
        offset = 0
        for layer in range(plan.shape[0]):
            n_in, n_out, has_bias, activation = plan[layer]
            for i in range(count):
                if has_bias:
                    y[i, :n_out] = w[offset + n_in * n_out : offset + n_in * n_out + n_out]
                else:
                    y[i, :n_out] = np.float32(0.0)
            k = 0
            while k + 4 <= n_in:  # four inputs at a time: the sums stay in registers
                w0 = w[offset + k * n_out : offset + (k + 1) * n_out]
                w1 = w[offset + (k + 1) * n_out : offset + (k + 2) * n_out]
                w2 = w[offset + (k + 2) * n_out : offset + (k + 3) * n_out]
                w3 = w[offset + (k + 3) * n_out : offset + (k + 4) * n_out]
                for i in range(count):
                    x0, x1, x2, x3 = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
                    z = y[i]
                    for j in range(n_out):
                        z[j] = (((z[j] + x0 * w0[j]) + x1 * w1[j]) + x2 * w2[j]) + x3 * w3[j]
                k += 4
            while k < n_in:
                wk = w[offset + k * n_out : offset + (k + 1) * n_out]
                for i in range(count):
                    xk = x[i, k]
                    z = y[i]
                    for j in range(n_out):
                        z[j] = z[j] + xk * wk[j]
                k += 1
            for i in range(count):
                z = y[i]
                if activation == 1:
                    for j in range(n_out):
                        z[j] = tanh(z[j])
                elif activation == 2:
                    for j in range(n_out):
                        z[j] = max(z[j], np.float32(0.0))
            offset += n_in * n_out + has_bias * n_out
            x, y = y, x
        outputs[row : row + count] = x[:count, : outputs.shape[1]]
        row += count
