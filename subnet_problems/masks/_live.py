"""Find the live weights of a mask: those on a path from an observation (or a bias) to an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..networks.forward._chain import ACTIVATIONS, as_chain

if TYPE_CHECKING:
    from ..networks._frozen_network import FrozenNetwork

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ChainLayer:
    """A linear layer of a chain under one mask or N masks, and the activation after it.

    Attributes:
        mask: ``(out, in)`` bool, True where a weight is kept; ``(N, out, in)`` for N masks.
        bias_mask: ``(out,)`` or ``(N, out)`` bool; False for a layer without a bias.
        has_bias: True if the layer has a bias.
        index: ``(out, in)`` int64, positions of the layer's weights in the ``(D,)`` vector.
        bias_index: ``(out,)`` int64, positions of the bias, right after the weights; unused without a bias.
        activation: ``nn.Identity``, ``nn.Tanh`` or ``nn.ReLU``. All three map 0 to 0.
    """

    mask: Bools
    bias_mask: Bools
    has_bias: bool
    index: NDArray[np.int64]
    bias_index: NDArray[np.int64]
    activation: type[nn.Module]


def is_chain(network: FrozenNetwork) -> bool:
    """Return True if a network is a chain of linear layers, tanh and ReLU, so that its live weights are known."""
    return as_chain(network.to_module(network.weights)) is not None


def chain_layers(network: FrozenNetwork, mask: Bools) -> list[ChainLayer]:
    """Split one mask ``(D,)``, or N masks ``(N, D)``, by the layers of a chain of linear layers, tanh and ReLU.

    Raises:
        ValueError: The network is not such a chain.
    """
    chain = as_chain(network.to_module(network.weights))
    if chain is None:
        raise ValueError(
            f"network: expected a chain of linear layers, tanh and ReLU (hidden sizes make one), got {network!r}"
        )
    layers, start = [], 0
    rows, modules = mask.shape[:-1], {code: module for module, code in ACTIVATIONS.items()}
    for linear, activation in chain:
        n_out, n_in = linear.weight.shape
        bias_start = start + n_out * n_in
        stop = bias_start if linear.bias is None else bias_start + n_out
        layers.append(
            ChainLayer(
                mask=mask[..., start:bias_start].reshape(*rows, n_out, n_in),
                bias_mask=np.zeros((*rows, n_out), dtype=bool) if linear.bias is None else mask[..., bias_start:stop],
                has_bias=linear.bias is not None,
                index=np.arange(start, bias_start).reshape(n_out, n_in),
                bias_index=np.arange(bias_start, bias_start + n_out),
                activation=modules[activation],
            )
        )
        start = stop
    return layers


def live_units(layers: Sequence[ChainLayer]) -> list[Bools]:
    """Find the units that have both a live input and a live output.

    A unit without a live input and without a bias is 0 for every observation. A unit without a live output affects no
    action. So removing all such units changes no action.

    Returns:
        Bool arrays for the inputs, each hidden layer and the outputs: ``(units,)``, or ``(N, units)`` for N masks. An
        input of the network always has a live input, and an output always has a live output.
    """
    first, last = layers[0].mask, layers[-1].mask
    fed = [np.ones((*first.shape[:-2], first.shape[-1]), dtype=bool)]
    for layer in layers:
        fed.append(np.asarray((layer.mask & fed[-1][..., None, :]).any(axis=-1) | layer.bias_mask))
    seen = [np.ones(last.shape[:-1], dtype=bool)]  # backward from the outputs
    for layer in reversed(layers):
        seen.append(np.asarray((layer.mask & seen[-1][..., None]).any(axis=-2)))
    return [a & b for a, b in zip(fed, reversed(seen), strict=True)]


def live_weights(layers: Sequence[ChainLayer], num_weights: int) -> Bools:
    """Find the kept weights between live units and the kept biases of live units: ``(D,)`` or ``(N, D)`` bool."""
    live = weights_between(live_units(layers), layers, num_weights)
    for layer in layers:
        live[..., layer.index] &= layer.mask
        if layer.has_bias:
            live[..., layer.bias_index] &= layer.bias_mask
    return live


def live_masks(network: FrozenNetwork, masks: torch.Tensor) -> torch.Tensor:
    """Return the live part of masks ``(N, D)``, or of one mask ``(D,)``.

    Raises:
        ValueError: The network is not a chain of linear layers, tanh and ReLU.
    """
    layers = chain_layers(network, masks.cpu().numpy())
    return torch.from_numpy(live_weights(layers, network.num_weights)).to(masks.device)


def weights_between(units: Sequence[Bools], layers: Sequence[ChainLayer], num_weights: int) -> Bools:
    """Find all weights between ``units`` and all biases of ``units``, kept or not: ``(D,)`` or ``(N, D)`` bool."""
    between = np.zeros((*units[0].shape[:-1], num_weights), dtype=bool)
    for layer, before, after in zip(layers, units[:-1], units[1:], strict=True):
        between[..., layer.index] = before[..., None, :] & after[..., None]
        if layer.has_bias:
            between[..., layer.bias_index] = after
    return between
