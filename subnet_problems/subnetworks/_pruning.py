"""Chains of layers without dead units, as NumPy arrays and as a plain module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..masks._live import Bools, ChainLayer, chain_layers, live_units
from ._parts import PolicyParts


@dataclass(frozen=True)
class MaskedLayer(ChainLayer):
    """A linear layer of a subnetwork, and the activation after it.

    Attributes:
        weight: ``(out, in)`` float32, 0 where removed.
        bias: ``(out,)`` float32, 0 where removed; zeros for a layer without a bias.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def masked_layers(subnet: PolicyParts) -> list[MaskedLayer]:
    """The layers of a subnetwork whose network is a chain of linear layers, tanh and ReLU.

    Raises:
        ValueError: The network is not such a chain.
    """
    weights = subnet.weights.numpy()
    layers = []
    for layer in chain_layers(subnet.network, subnet.mask.numpy()):
        bias = weights[layer.bias_index] if layer.has_bias else np.zeros(len(layer.bias_index), dtype=np.float32)
        layers.append(MaskedLayer(**vars(layer), weight=weights[layer.index], bias=bias))
    return layers


def compact(layers: Sequence[MaskedLayer]) -> list[MaskedLayer]:
    """The same function without dead units.

    All inputs and outputs stay, so that their order does not change. A layer without live units keeps one unit.
    """
    units = live_units(layers)
    units[0][:], units[-1][:] = True, True
    for alive in units:
        alive[0] |= not alive.any()
    return [
        replace(
            layer,
            weight=layer.weight[after][:, before],
            mask=layer.mask[after][:, before],
            bias=layer.bias[after],
            bias_mask=layer.bias_mask[after],
            index=layer.index[after][:, before],
            bias_index=layer.bias_index[after],
        )
        for layer, before, after in zip(layers, units[:-1], units[1:], strict=True)
    ]


def reached(layers: Sequence[MaskedLayer]) -> Bools:
    """``(outputs, inputs)`` bool, True if kept weights connect the input to the output."""
    paths = layers[0].mask
    for layer in layers[1:]:
        paths = layer.mask.astype(np.int64) @ paths.astype(np.int64) > 0
    return paths


def to_module(layers: Sequence[MaskedLayer]) -> nn.Sequential:
    """A plain module of these layers. A layer without any kept bias gets no bias."""
    modules: list[nn.Module] = []
    for layer in layers:
        n_out, n_in = layer.weight.shape
        linear = nn.Linear(n_in, n_out, bias=bool(layer.bias_mask.any()), dtype=torch.float32)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weight))
            if linear.bias is not None:
                linear.bias.copy_(torch.from_numpy(layer.bias))
        modules += [linear, layer.activation()]
    return nn.Sequential(*modules)
