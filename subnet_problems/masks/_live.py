"""Which weights of a mask are live: they lie between an observation and an output."""

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
    """What one mask or many keep of a linear layer of a chain, and the activation after it.

    Attributes:
        mask: ``(out, in)`` bool, True where a weight is kept; ``(N, out, in)`` of N masks.
        bias_mask: ``(out,)`` bool or ``(N, out)``; False for a layer without a bias.
        has_bias: Whether the layer has one.
        index: ``(out, in)`` int64, where its weights are in the ``(D,)`` vector.
        bias_index: ``(out,)`` int64, where its bias is; behind its weights, if it has one.
        activation: After it: ``nn.Identity``, ``nn.Tanh`` or ``nn.ReLU``. All three turn 0 into 0.
    """

    mask: Bools
    bias_mask: Bools
    has_bias: bool
    index: NDArray[np.int64]
    bias_index: NDArray[np.int64]
    activation: type[nn.Module]


def is_chain(network: FrozenNetwork) -> bool:
    """Whether a network is a chain of linear layers, tanh and ReLU, of which it is known what is live."""
    return as_chain(network.to_module(network.weights)) is not None


def chain_layers(network: FrozenNetwork, mask: Bools) -> list[ChainLayer]:
    """What one mask ``(D,)``, or each of N masks ``(N, D)``, keeps of a chain of linear layers, tanh and ReLU.

    Raises:
        ValueError: The network is something else.
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
    """Which units have both a live input and a live output.

    A unit without a live input and without a bias is 0 whatever is observed; what a unit without a live output does,
    nobody sees. So without all such units each action is what it was.

    Returns:
        An array of bool for the inputs, each hidden layer, and the outputs: ``(units,)``, or ``(N, units)`` of layers
        of N masks. Outputs count as having an output, and inputs as having an input.
    """
    first, last = layers[0].mask, layers[-1].mask
    fed = [np.ones((*first.shape[:-2], first.shape[-1]), dtype=bool)]
    for layer in layers:
        fed.append(np.asarray((layer.mask & fed[-1][..., None, :]).any(axis=-1) | layer.bias_mask))
    seen = [np.ones(last.shape[:-1], dtype=bool)]  # from the outputs back
    for layer in reversed(layers):
        seen.append(np.asarray((layer.mask & seen[-1][..., None]).any(axis=-2)))
    return [a & b for a, b in zip(fed, reversed(seen), strict=True)]


def live_weights(layers: Sequence[ChainLayer], num_weights: int) -> Bools:
    """Which of the weights are kept and between live units (a bias: of a live unit): ``(D,)``, or ``(N, D)``."""
    live = weights_between(live_units(layers), layers, num_weights)
    for layer in layers:
        live[..., layer.index] &= layer.mask
        if layer.has_bias:
            live[..., layer.bias_index] &= layer.bias_mask
    return live


def live_masks(network: FrozenNetwork, masks: torch.Tensor) -> torch.Tensor:
    """What of masks ``(N, D)``, or of one ``(D,)``, is live.

    Raises:
        ValueError: The network is no chain of linear layers, tanh and ReLU.
    """
    layers = chain_layers(network, masks.cpu().numpy())
    return torch.from_numpy(live_weights(layers, network.num_weights)).to(masks.device)


def weights_between(units: Sequence[Bools], layers: Sequence[ChainLayer], num_weights: int) -> Bools:
    """Which weights are between such units (a bias: of such a unit), whether kept or not: ``(D,)``, or ``(N, D)``."""
    between = np.zeros((*units[0].shape[:-1], num_weights), dtype=bool)
    for layer, before, after in zip(layers, units[:-1], units[1:], strict=True):
        between[..., layer.index] = before[..., None, :] & after[..., None]
        if layer.has_bias:
            between[..., layer.bias_index] = after
    return between
