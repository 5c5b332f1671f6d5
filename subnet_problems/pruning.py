"""What of a masked network matters: the units between an observation and an output, and the network that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .policies import ACTIVATIONS, as_chain

if TYPE_CHECKING:
    from .subnetwork import Subnetwork

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskedLayer:
    """A linear layer of a chain, and the activation after it.

    Attributes:
        weight: ``(out, in)`` float32, 0 where removed.
        mask: ``(out, in)`` bool, True where a weight is kept.
        bias: ``(out,)`` float32, 0 where removed; zeros for a layer without.
        bias_mask: ``(out,)`` bool; False for a layer without.
        has_bias: Whether the layer has one.
        index: ``(out, in)`` int64, where its weights are in the ``(D,)`` vector.
        bias_index: ``(out,)`` int64, where its bias is; behind its weights, if it has one.
        activation: After it: ``nn.Identity``, ``nn.Tanh`` or ``nn.ReLU``. All three turn 0 into 0.
    """

    weight: NDArray[np.float32]
    mask: Bools
    bias: NDArray[np.float32]
    bias_mask: Bools
    has_bias: bool
    index: NDArray[np.int64]
    bias_index: NDArray[np.int64]
    activation: type[nn.Module]


def masked_layers(subnet: Subnetwork) -> list[MaskedLayer]:
    """The layers of a subnetwork whose network is a chain of linear layers, tanh and ReLU.

    Raises:
        ValueError: It is something else.
    """
    chain = as_chain(subnet.network.to_module(subnet.weights))
    if chain is None:
        raise ValueError(
            f"network: expected a chain of linear layers, tanh and ReLU (hidden sizes make one), got {subnet.network!r}"
        )
    layers, start = [], 0
    mask, modules = subnet.mask.numpy(), {code: module for module, code in ACTIVATIONS.items()}
    for linear, activation in chain:
        n_out, n_in = linear.weight.shape
        index = start + np.arange(n_out * n_in).reshape(n_out, n_in)
        bias_index = start + n_out * n_in + np.arange(n_out)
        bias, bias_mask = np.zeros(n_out, dtype=np.float32), np.zeros(n_out, dtype=bool)
        start += n_out * n_in
        if linear.bias is not None:
            bias, bias_mask = linear.bias.detach().numpy(), mask[bias_index]
            start += n_out
        layers.append(
            MaskedLayer(
                linear.weight.detach().numpy(), mask[index], bias, bias_mask, linear.bias is not None, index,
                bias_index, modules[activation],
            )
        )  # fmt: skip
    return layers


def live_units(layers: Sequence[MaskedLayer]) -> list[Bools]:
    """Which units have both a live input and a live output.

    A unit without a live input and without a bias is 0 whatever is observed; what a unit without a live output does,
    nobody sees. So without all such units each action is what it was.

    Returns:
        An array of bool for the inputs, each hidden layer, and the outputs. Outputs count as having an output, and
        inputs as having an input.
    """
    fed = [np.ones(layers[0].mask.shape[1], dtype=bool)]
    for layer in layers:
        fed.append(np.asarray((layer.mask & fed[-1]).any(axis=1) | layer.bias_mask))
    seen = [np.ones(layers[-1].mask.shape[0], dtype=bool)]  # from the outputs back
    for layer in reversed(layers):
        seen.append(np.asarray((layer.mask & seen[-1][:, None]).any(axis=0)))
    return [a & b for a, b in zip(fed, reversed(seen), strict=True)]


def live_weights(layers: Sequence[MaskedLayer], num_weights: int) -> Bools:
    """Which of the ``(D,)`` weights are kept and between live units (a bias: of a live unit)."""
    live = np.zeros(num_weights, dtype=bool)
    units = live_units(layers)
    for layer, before, after in zip(layers, units[:-1], units[1:], strict=True):
        live[layer.index] = layer.mask & before & after[:, None]
        if layer.has_bias:
            live[layer.bias_index] = layer.bias_mask & after
    return live


def compact(layers: Sequence[MaskedLayer]) -> list[MaskedLayer]:
    """The same function with live units alone.

    All inputs and outputs stay, so that their order does, and one unit of a layer that has no live one.
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
    """Which inputs still reach which outputs: ``(outputs, inputs)``."""
    paths = layers[0].mask
    for layer in layers[1:]:
        paths = layer.mask.astype(np.int64) @ paths.astype(np.int64) > 0
    return paths


def to_module(layers: Sequence[MaskedLayer]) -> nn.Sequential:
    """A plain module of these layers; a layer whose bias is all removed has none."""
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
