"""The kernel for chains of linear layers, tanh and ReLU on a GPU, in Triton, which comes with PyTorch for GPUs."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ._packed import LANES

#: Number of outputs of a layer that are summed at a time, at most.
_MOST_OUTPUTS = 1024
#: Number of inputs whose weights are loaded at a time, so that their delays overlap.
_INPUTS: tl.constexpr = tl.constexpr(8)
_LANES: tl.constexpr = tl.constexpr(LANES)


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    """``tanh`` of ``_chain_kernel``, to the same bits."""
    x = tl.where(x < -9.0, -9.0, x)  # unlike tl.maximum, this keeps NaN
    x = tl.where(x > 9.0, 9.0, x)
    z = x * x
    p = z * 1.3354651606789503e-08 + 2.060907536360901e-05
    p = p * z + 0.0034955875016748905
    p = p * z + 0.13381025195121765
    p = p * z + 1.0
    q = z * 7.776554298288829e-07 + 0.00032856338657438755
    q = q * z + 0.025876980274915695
    q = q * z + 0.4671434164047241
    q = q * z + 1.0
    return tl.math.div_rn(x * p, q)


@triton.jit
def _weight(weights, bits, row, lane, inside):  # type: ignore[no-untyped-def]
    """The weights in these rows and lanes; 0 if they are removed, or not ``inside``."""
    kept = (tl.load(bits + row, mask=inside, other=0) >> lane) & 1
    return tl.where(kept != 0, tl.load(weights + row * _LANES + lane, mask=inside, other=0.0), 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    weights,
    bits,
    scales,
    plan,
    rows,
    obs,
    scratch,
    outputs,
    num_layers,
    num_episodes,
    weights_stride,
    bits_stride,
    scales_stride,
    width,
    obs_length,
    num_outputs,
    outputs_at_a_time: tl.constexpr,
):
    """Compute the outputs of one episode. See ``launch``. A stride is 0 if all networks share a tensor."""
    episode = tl.program_id(0).to(tl.int64)
    network = (tl.load(rows + episode) // num_episodes).to(tl.int64)
    weights += network * weights_stride
    bits += network * bits_stride
    scales += network * scales_stride
    scratch += episode * 2 * width
    lanes = tl.arange(0, outputs_at_a_time)
    for j in range(0, obs_length, outputs_at_a_time):
        here = j + lanes < obs_length
        value = tl.load(obs + episode * obs_length + j + lanes, mask=here, other=0.0)
        tl.store(scratch + j + lanes, value, mask=here)
    start = 0
    for layer in range(num_layers):
        tl.debug_barrier()  # what other threads stored is read next
        x = scratch + (layer % 2) * width
        y = scratch + ((layer + 1) % 2) * width
        n_in = tl.load(plan + 4 * layer)
        n_out = tl.load(plan + 4 * layer + 1)
        activation = tl.load(plan + 4 * layer + 3)
        scale = tl.load(scales + 2 * layer)
        bias_scale = tl.load(scales + 2 * layer + 1)
        for j in range(0, n_out, outputs_at_a_time):
            out = j + lanes
            here = out < n_out
            lane = out % _LANES
            first = start + (out // _LANES) * (n_in + 1)
            total = _weight(weights, bits, first, lane, here) * bias_scale
            for k in range(0, n_in, _INPUTS):
                for i in tl.static_range(_INPUTS):
                    inside = here & (k + i < n_in)
                    weight = _weight(weights, bits, first + 1 + k + i, lane, inside) * scale
                    total = total + tl.load(x + k + i, mask=k + i < n_in, other=0.0) * weight
            if activation == 1:
                total = _tanh(total)
            elif activation == 2:
                total = tl.where(total < 0.0, 0.0, total)
            tl.store(y + out, total, mask=here)
        start += ((n_out + _LANES - 1) // _LANES) * (n_in + 1)
    tl.debug_barrier()
    last = scratch + (num_layers % 2) * width
    for j in range(0, num_outputs, outputs_at_a_time):
        here = j + lanes < num_outputs
        value = tl.load(last + j + lanes, mask=here, other=0.0)
        tl.store(outputs + episode * num_outputs + j + lanes, value, mask=here)


def launch(
    packed: Any, plan: Tensor, num_episodes: int, rows: Tensor, obs: Tensor, scratch: Tensor, outputs: Tensor
) -> None:
    """Compute the outputs of the networks ``rows // num_episodes`` for ``obs``, to the bits of ``_chain_kernel``.

    Products and sums are rounded one by one, and each output is summed in the order of its inputs.

    Args:
        packed: A ``Packed`` of tensors; its bits are int32.
        plan: ``(layers, 4)`` int32; see ``forward`` in ``_chain_kernel``.
        num_episodes: E.
        rows: ``(n,)`` int32 episode rows.
        obs: ``(n, inputs)`` float32.
        scratch: ``(n or more, 2, widest layer)`` float32.
        outputs: ``(n, outputs)`` float32, written.
    """
    width = scratch.shape[2]
    outputs_at_a_time = min(_MOST_OUTPUTS, triton.next_power_of_2(width))
    strides = [tensor.stride(0) if len(tensor) > 1 else 0 for tensor in packed]
    _forward[(len(rows),)](
        *packed,
        plan,
        rows,
        obs,
        scratch,
        outputs,
        len(plan),
        num_episodes,
        *strides,
        width,
        obs.shape[1],
        outputs.shape[1],
        outputs_at_a_time=outputs_at_a_time,
        num_warps=max(1, min(8, outputs_at_a_time // 64)),
        enable_fp_fusion=False,
    )
