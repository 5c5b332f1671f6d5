"""The compiled kernels for masks of chains: kept weights between live units, stored input by input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..._compile import compiled
from ._chain_kernel import tanh

#: Number of episodes of a network that are computed together, in the lanes of a vector.
EPISODES = 4


class Kept(NamedTuple):
    """The kept weights between live units of N masks. Live units have consecutive numbers.

    Kernels receive a plain tuple of these arrays. Numba's cache would name this class, and could not be read any more
    by a later version in which the class has another name.

    Attributes:
        first: ``(N + 1,)`` int64: where the weights of each network start in ``targets`` and ``values``.
        widths: ``(N, layers + 1)`` int32: number of inputs, of live units of each hidden layer, of outputs.
        ends: ``(N, inputs of all layers)`` int32: for each live input of each layer, where its weights end, relative to
            the network's first weight.
        targets: uint16 or int32: the unit that each weight leads to.
        values: float32: the weights.
        biases: ``(N, outputs of all layers)`` float32: biases of live units, 0 where there are none.
    """

    first: NDArray[np.int64]
    widths: NDArray[np.int32]
    ends: NDArray[np.int32]
    targets: NDArray[Any]
    values: NDArray[np.float32]
    biases: NDArray[np.float32]


@intrinsic
def _add_product(_context, y, j, x, k, w):  # type: ignore[no-untyped-def]
    """``y[j:j+4] += x[k:k+4] * w``, for flat float32 arrays; each lane as a scalar sum would be rounded."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), EPISODES)
        pointers = []
        for array, index, kind in ((0, 1, signature.args[0]), (2, 3, signature.args[2])):
            data = context.make_array(kind)(context, builder, arguments[array]).data
            pointers.append(builder.bitcast(builder.gep(data, [arguments[index]]), vector.as_pointer()))
        undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), EPISODES), None)
        first = builder.insert_element(undefined, arguments[4], ir.Constant(ir.IntType(32), 0))
        product = builder.fmul(builder.load(pointers[1], align=4), builder.shuffle_vector(first, undefined, zeros))
        builder.store(builder.fadd(builder.load(pointers[0], align=4), product), pointers[0], align=4)
        return context.get_dummy_value()

    return types.void(y, j, x, k, w), emit


@compiled()
def _live_units(mask, plan, live):  # type: ignore[no-untyped-def]
    """Mark units that some input reaches (or a bias), and from which some output can be reached.

    Args:
        mask: ``(D,)``, not 0 where a weight is kept.
        plan: See ``forward`` in ``_chain_kernel``.
        live: ``(layers + 1, widest)`` bool, written: the inputs, then the outputs of each layer.
    """
    num_layers = plan.shape[0]
    live[:] = False
    live[num_layers, : plan[num_layers - 1, 1]] = True
    offset = mask.shape[0]
    for layer in range(num_layers - 1, -1, -1):  # backwards: units that lead to an output
        n_in, n_out, has_bias = plan[layer, 0], plan[layer, 1], plan[layer, 2]
        offset -= n_in * n_out + has_bias * n_out
        used = live[layer]
        for j in range(n_out):
            if live[layer + 1, j]:
                row = mask[offset + j * n_in : offset + (j + 1) * n_in]
                for k in range(n_in):
                    used[k] |= row[k] != 0
    live[0, : plan[0, 0]] = True
    offset = 0
    for layer in range(num_layers - 1):  # forwards: of these, units that an input or a bias reaches
        n_in, n_out, has_bias = plan[layer, 0], plan[layer, 1], plan[layer, 2]
        for j in range(n_out):
            if live[layer + 1, j]:
                row = mask[offset + j * n_in : offset + (j + 1) * n_in]
                is_reached = has_bias == 1 and mask[offset + n_in * n_out + j] != 0
                for k in range(n_in):
                    is_reached |= live[layer, k] & (row[k] != 0)
                live[layer + 1, j] = is_reached
        offset += n_in * n_out + has_bias * n_out


@compiled()
def pack(mask, frozen, scales, plan, packed):  # type: ignore[no-untyped-def]
    """Store the kept weights between live units, input by input.

    Args:
        mask: ``(N, D)``, the masks' values.
        frozen: ``(D,)`` float32.
        scales: ``(N, parameter tensors)`` float32.
        plan: See ``forward`` in ``_chain_kernel``.
        packed: ``tuple(Kept)``, written but for ``first``; it has room for all kept weights.
    """
    first, widths, ends, targets, values, biases = packed
    num_layers = plan.shape[0]
    widest = max(plan[:, 0].max(), plan[:, 1].max())
    live = np.empty((num_layers + 1, widest), dtype=np.bool_)
    numbers = np.empty((num_layers + 1, widest), dtype=np.int32)
    counts = np.empty(widest, dtype=np.int32)
    kept = np.empty(widest, dtype=np.int32)
    for n in range(mask.shape[0]):
        _live_units(mask[n], plan, live)
        for level in range(num_layers + 1):
            count = 0
            for unit in range(plan[0, 0] if level == 0 else plan[level - 1, 1]):
                numbers[level, unit] = count
                count += live[level, unit]
            widths[n, level] = count
        offset, tensor, end, end_of, bias_of = 0, 0, 0, 0, 0
        for layer in range(num_layers):
            n_in, n_out, has_bias = plan[layer, 0], plan[layer, 1], plan[layer, 2]
            counts[:n_in] = 0
            for j in range(n_out):
                if live[layer + 1, j]:
                    row = mask[n, offset + j * n_in : offset + (j + 1) * n_in]
                    for k in range(n_in):
                        counts[k] += row[k] != 0
            for k in range(n_in):
                if live[layer, k]:
                    end += counts[k]
                    counts[k] = end - counts[k]
                    ends[n, end_of] = end
                    end_of += 1
            scale, bias_scale = scales[n, tensor], np.float32(0.0)
            tensor += 1
            if has_bias:
                bias_scale = scales[n, tensor]
                tensor += 1
            for j in range(n_out):
                if not live[layer + 1, j]:
                    continue
                row = mask[n, offset + j * n_in : offset + (j + 1) * n_in]
                num_kept = 0
                for k in range(n_in):  # without branches, which are hard to predict
                    kept[num_kept] = k
                    num_kept += row[k] != 0
                for i in range(num_kept):
                    k = kept[i]
                    if live[layer, k]:
                        to = first[n] + counts[k]
                        counts[k] += 1
                        targets[to] = numbers[layer + 1, j]
                        weight = np.float32(row[k]) * frozen[offset + j * n_in + k] + np.float32(0.0)
                        values[to] = weight * scale
                bias = np.float32(0.0)
                if has_bias:
                    d = offset + n_in * n_out + j
                    bias = (np.float32(mask[n, d]) * frozen[d] + np.float32(0.0)) * bias_scale
                biases[n, bias_of] = bias
                bias_of += 1
            offset += n_in * n_out + has_bias * n_out


@compiled()
def forward(packed, plan, num_episodes, rows, obs, scratch, outputs):  # type: ignore[no-untyped-def]
    """Compute the outputs of the networks ``rows // num_episodes`` for ``obs``.

    Up to four rows of a network are computed together. Each output is summed input by input in ascending order, as in
    the dense kernel. What that one also adds are products of 0, which change no sum.

    Args:
        packed: ``tuple(Kept)``.
        plan: See ``forward`` in ``_chain_kernel``.
        num_episodes: E.
        rows: ``(n,)`` int32 episode rows, ascending.
        obs: ``(n, inputs)`` float32.
        scratch: ``(2, 4 * widest layer)`` float32.
        outputs: ``(n, outputs)`` float32, written.
    """
    first, widths, ends, targets, values, biases = packed
    row = 0
    while row < rows.shape[0]:
        network = rows[row] // num_episodes
        count = 1
        while count < EPISODES and row + count < rows.shape[0] and rows[row + count] // num_episodes == network:
            count += 1
        step = EPISODES if count > 1 else 1
        x, y = scratch[0], scratch[1]
        for k in range(obs.shape[1]):
            for lane in range(count):
                x[k * step + lane] = obs[row + lane, k]
            for lane in range(count, step):
                x[k * step + lane] = np.float32(0.0)
        start = first[network]
        i, end_of, bias_of = np.int64(0), 0, 0
        for layer in range(plan.shape[0]):
            n_in, n_out = widths[network, layer], widths[network, layer + 1]
            for j in range(n_out):
                for lane in range(step):
                    y[j * step + lane] = biases[network, bias_of + j]
            if step == 1:
                for k in range(n_in):
                    end = ends[network, end_of + k]
                    xk = x[k]
                    while i < end:
                        j = targets[start + i]
                        y[j] = y[j] + xk * values[start + i]
                        i += 1
            else:
                for k in range(n_in):
                    end = ends[network, end_of + k]
                    while i < end:
                        _add_product(
                            y, np.int64(targets[start + i]) * EPISODES, x, np.int64(k) * EPISODES, values[start + i]
                        )
                        i += 1
            activation = plan[layer, 3]
            if activation == 1:
                for j in range(n_out * step):
                    y[j] = tanh(y[j])
            elif activation == 2:
                for j in range(n_out * step):
                    y[j] = max(y[j], np.float32(0.0))
            end_of += n_in
            bias_of += n_out
            x, y = y, x
        for lane in range(count):
            for j in range(outputs.shape[1]):
                outputs[row + lane, j] = x[j * step + lane]
        row += count
