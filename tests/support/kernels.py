"""The steps of the GPU's kernel by PyTorch operations, for a machine without a GPU."""

from __future__ import annotations

import torch


def step_by_pytorch(packed, plan, num_episodes, rows, obs, scratch, outputs):
    """See ``launch`` in ``_gpu_kernel``: the same products and sums, in the same order."""
    networks = rows.long() // num_episodes
    weights, bits, scales = (tensor[networks if len(tensor) > 1 else [0] * len(rows)] for tensor in packed)
    kept = (bits[:, :, None] >> torch.arange(16)) & 1 == 1
    weights = torch.where(kept, weights.view(*bits.shape, 16), 0.0)
    start, x = 0, obs
    for layer, (n_in, n_out, _, activation) in enumerate(plan.tolist()):
        blocks = -(-n_out // 16)
        part = weights[:, start : start + blocks * (n_in + 1)].view(len(rows), blocks, n_in + 1, 16)
        part = part.transpose(1, 2).reshape(len(rows), n_in + 1, -1)[:, :, :n_out]
        scale, bias_scale = scales[:, 2 * layer, None], scales[:, 2 * layer + 1, None]
        total = part[:, 0] * bias_scale
        for k in range(n_in):
            total = total + x[:, k, None] * (part[:, 1 + k] * scale)
        x = tanh(total) if activation == 1 else total.clamp(min=0.0) if activation == 2 else total
        start += blocks * (n_in + 1)
    outputs.copy_(x)


def tanh(x: torch.Tensor) -> torch.Tensor:
    """``tanh`` of ``_chain_kernel``."""
    x = x.clamp(-9.0, 9.0)
    z = x * x
    above = (1.3354651606789503e-08, 2.060907536360901e-05, 0.0034955875016748905, 0.13381025195121765, 1.0)
    below = (7.776554298288829e-07, 0.00032856338657438755, 0.025876980274915695, 0.4671434164047241, 1.0)
    p, q = (torch.full_like(x, coefficients[0]) for coefficients in (above, below))
    for a, b in zip(above[1:], below[1:], strict=True):
        p, q = p * z + torch.tensor(a), q * z + torch.tensor(b)
    return x * p / q
