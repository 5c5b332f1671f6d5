"""The compiled kernel for chains of linear layers, tanh and ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._compile import compiled
from ._packed import LANES

#: Maximum number of episodes of a network that are computed together.
ROWS = 4


def _sum_of_products(num_rows: int) -> Callable[..., Any]:
    """Make a function that sums 16 outputs of a layer for this many episodes; the sums stay in registers."""

    @intrinsic
    def add(_context, weights, bits, scales, layer, start, n_in, x, y, j):  # type: ignore[no-untyped-def]
        """``y[i, j + lane] = bias[lane] + x[i, 0] * weight[0, lane] + x[i, 1] * weight[1, lane] + ...``.

        Args:
            weights: ``(16 R,)`` float32 of a network.
            bits: ``(R,)`` uint16 of a network. A weight is 0 if its bit is not set.
            scales: ``(2 layers,)`` float32, by which weights and biases are multiplied.
            layer: The number of the layer.
            start: The block's first row.
            n_in: The number of inputs.
            x: ``(episodes, width)`` float32, the inputs.
            y: The same shape as ``x``, written.
            j: The first output.
        """

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def data(i: int) -> tuple[Any, Any]:
                array = context.make_array(signature.args[i])(context, builder, arguments[i])
                return array.data, cgutils.unpack_tuple(builder, array.shape)[-1]

            def load(pointer: Any) -> Any:
                return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)

            def spread(value: Any) -> Any:
                first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))

            def weights_of(row: Any, scale: Any) -> Any:
                kept = builder.bitcast(builder.load(builder.gep(b, [row])), ir.VectorType(ir.IntType(1), LANES))
                weight = load(builder.gep(w, [builder.mul(row, ir.Constant(row.type, LANES))]))
                return builder.fmul(builder.select(kept, weight, zeros), scale)

            vector, integer = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
            undefined, zeros, one = (
                ir.Constant(vector, ir.Undefined),
                ir.Constant(vector, None),
                ir.Constant(integer, 1),
            )
            (w, _), (b, _), (s, _), (x_data, width), (y_data, _) = (data(i) for i in (0, 1, 2, 6, 7))
            layer, start, n_in, j = (arguments[i] for i in (3, 4, 5, 8))
            factor = builder.mul(layer, ir.Constant(integer, 2))
            scale, bias_scale = (spread(builder.load(builder.gep(s, [i]))) for i in (factor, builder.add(factor, one)))
            episodes = [builder.mul(width, ir.Constant(width.type, i)) for i in range(num_rows)]
            xs = [builder.gep(x_data, [episode]) for episode in episodes]
            ys = [builder.gep(y_data, [builder.add(episode, j)]) for episode in episodes]
            bias = weights_of(start, bias_scale)
            sums = [cgutils.alloca_once_value(builder, bias) for _ in range(num_rows)]
            first_weights = builder.add(start, one)
            with cgutils.for_range(builder, n_in) as loop:
                weight = weights_of(builder.add(first_weights, loop.index), scale)
                for pointer, total in zip(xs, sums, strict=True):
                    product = builder.fmul(spread(builder.load(builder.gep(pointer, [loop.index]))), weight)
                    builder.store(builder.fadd(builder.load(total), product), total)
            for pointer, total in zip(ys, sums, strict=True):
                builder.store(builder.load(total), builder.bitcast(pointer, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(weights, bits, scales, integer, integer, integer, x, y, integer), emit

    return add  # type: ignore[no-any-return]


_add_1, _add_2, _add_3, _add_4 = (_sum_of_products(num_rows) for num_rows in range(1, ROWS + 1))


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
def pack_bits(mask, places, bits):  # type: ignore[no-untyped-def]
    """Copy masks to ``Packed.bits``.

    Args:
        mask: ``(n, D)`` uint8, 0 or 1.
        places: ``(R, 16)``, see ``row_places``.
        bits: ``(n, R)`` uint16, written.
    """
    for i in range(mask.shape[0]):
        for row in range(places.shape[0]):
            packed = np.uint16(0)
            for lane in range(LANES):
                place = places[row, lane]
                if place < mask.shape[1]:
                    packed |= np.uint16(mask[i, place]) << np.uint16(lane)
            bits[i, row] = packed


@compiled()
def _activate(values, activation):  # type: ignore[no-untyped-def]
    """Apply an activation to ``values``, in place. In a function by itself, the compiler vectorizes the loops."""
    if activation == 1:
        for i in range(values.shape[0]):
            values[i] = tanh(values[i])
    elif activation == 2:
        for i in range(values.shape[0]):
            values[i] = max(values[i], np.float32(0.0))


@compiled()
def forward(packed, plan, num_episodes, rows, obs, scratch, outputs):  # type: ignore[no-untyped-def]
    """Compute the outputs of the networks ``rows // num_episodes`` for ``obs``.

    The rows of a network are computed together, so that its weights are read from memory once for all of them. Each
    output is its bias plus the products of the inputs in ascending order.

    Args:
        packed: ``tuple(Packed)``, a plain tuple; see ``Kept`` for why.
        plan: ``(layers, 4)`` int64: inputs, outputs, 1 with a bias else 0, activation (0 none, 1 tanh, 2 ReLU).
        num_episodes: E.
        rows: ``(n,)`` int32 episode rows, ascending.
        obs: ``(n, inputs)`` float32.
        scratch: ``(2, 4, widest layer)`` float32, its width a multiple of 16.
        outputs: ``(n, outputs)`` float32, written.
    """
    all_weights, all_bits, all_scales = packed
    row = 0
    while row < rows.shape[0]:
        network = rows[row] // num_episodes
        count = 1
        while count < ROWS and row + count < rows.shape[0] and rows[row + count] // num_episodes == network:
            count += 1
        weights = all_weights[min(network, all_weights.shape[0] - 1)]
        bits = all_bits[min(network, all_bits.shape[0] - 1)]
        scales = all_scales[min(network, all_scales.shape[0] - 1)]
        x, y = scratch[0], scratch[1]
        x[:count, : obs.shape[1]] = obs[row : row + count]
        start = 0
        for layer in range(plan.shape[0]):
            n_in, n_out, activation = plan[layer, 0], plan[layer, 1], plan[layer, 3]
            for j in range(0, n_out, LANES):
                if count == 1:
                    _add_1(weights, bits, scales, layer, start, n_in, x, y, j)
                elif count == 2:
                    _add_2(weights, bits, scales, layer, start, n_in, x, y, j)
                elif count == 3:
                    _add_3(weights, bits, scales, layer, start, n_in, x, y, j)
                else:
                    _add_4(weights, bits, scales, layer, start, n_in, x, y, j)
                start += n_in + 1
            for i in range(count):
                _activate(y[i, : (n_out + LANES - 1) // LANES * LANES], activation)
            x, y = y, x
        outputs[row : row + count] = x[:count, : outputs.shape[1]]
        row += count
