"""The layout in which kernels read the weights of chains: rows of 16 weights, and bits that say which are kept."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array")

#: Number of outputs of a layer that are summed together.
LANES = 16


class Packed(NamedTuple, Generic[Array]):
    """The weights of N networks: their own numbers, or bits that select from weights that they share.

    A layer is stored in blocks of 16 outputs, of which the last is filled up with zeros. A block has a row of its 16
    biases (0 if the layer has none), then a row with the 16 weights of the first input, a row of the second, and so on.

    Attributes:
        weights: ``(N or 1, 16 R)`` float32: the R rows of each network, or those that all networks share.
        bits: ``(N or 1, R)`` uint16: the lowest bit says whether the first weight of a row is kept, and so on.
        scales: ``(N or 1, 2 layers)`` float32: the factors of each layer's weights and biases.
    """

    weights: Array
    bits: Array
    scales: Array


def num_weights_of(plan: NDArray[np.int64]) -> int:
    """D, the number of weights of a network."""
    return int((plan[:, 1] * (plan[:, 0] + plan[:, 2])).sum())


def row_places(plan: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where the rows of ``Packed`` come from: ``(R, 16)`` indices of weights, or D for what is filled up with zeros."""
    num_weights, offset, rows = num_weights_of(plan), 0, []
    for n_in, n_out, has_bias, _ in plan.tolist():
        j = np.arange(-(-n_out // LANES) * LANES).reshape(-1, 1, LANES)
        inputs, biases = offset + j * n_in + np.arange(n_in)[:, None], offset + n_in * n_out + j
        block = np.concatenate([biases if has_bias else np.full_like(j, num_weights), inputs], axis=1)
        rows.append(np.where(j < n_out, block, num_weights).reshape(-1, LANES))
        offset += n_out * (n_in + has_bias)
    return np.concatenate(rows).astype(np.int32)


def scales_of(scales: Tensor | None, plan: NDArray[np.int64]) -> Tensor:
    """The factors of parameter tensors ``(N, tensors)`` as ``Packed.scales``; None stands for no factors."""
    result = torch.ones((1 if scales is None else len(scales), 2 * len(plan)), dtype=torch.float32)
    if scales is None:
        return result
    result[:, torch.from_numpy(np.stack([np.ones_like(plan[:, 2]), plan[:, 2]], axis=1).reshape(-1) == 1)] = scales
    return result
