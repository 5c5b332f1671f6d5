"""The forward pass of chains of linear layers and activations, by a compiled kernel."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._weights import MaskedWeights, PopulationWeights
from ._packed import LANES, Packed, num_weights_of, row_places, scales_of
from ._way import FloatArray, Population

#: The activations that the kernel supports, with their codes.
ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.Tanh: 1, nn.ReLU: 2}


def as_chain(module: nn.Module) -> list[tuple[nn.Linear, int]] | None:
    """Return the module as (linear layer, activation code) pairs, or None if it is not such a chain."""
    if any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in module.modules()):  # noqa: SLF001
        return None
    modules = parts_of_chain(module)
    chain: list[tuple[nn.Linear, int]] = []
    for part in modules:
        if type(part) is nn.Linear:
            chain.append((part, 0))
        elif type(part) in ACTIVATIONS and chain and chain[-1][1] == 0:
            chain[-1] = (chain[-1][0], ACTIVATIONS[type(part)])
        else:
            return None
    # The kernel needs parameters in the order of computation, a weight before its bias, and no layer used twice.
    tensors = [tensor for linear, _ in chain for tensor in (linear.weight, linear.bias) if tensor is not None]
    parameters = list(module.parameters())
    in_order = len(tensors) == len(parameters) and all(map(operator.is_, tensors, parameters))
    return chain if in_order else None


def parts_of_chain(module: nn.Module) -> list[nn.Module]:
    """Return the modules that nested sequential containers compute one after another."""
    if type(module) is nn.Sequential or _is_evotorchs_chain(module):
        return [leaf for part in cast(Iterable[nn.Module], module) for leaf in parts_of_chain(part)]
    return [module]


def _is_evotorchs_chain(module: nn.Module) -> bool:
    """Return True for EvoTorch's ``MultiLayered``, which can exist only if EvoTorch has been imported."""
    source = sys.modules.get("evotorch.neuroevolution.net.multilayered")
    return source is not None and type(module) is source.MultiLayered


def plan_of(chain: Sequence[tuple[nn.Linear, int]]) -> NDArray[np.int64]:
    """The layers of a chain as kernels read them: ``(layers, 4)``, see ``forward`` in ``_chain_kernel``."""
    plan = [(part.in_features, part.out_features, part.bias is not None, activation) for part, activation in chain]
    return np.array(plan, dtype=np.int64)


class ChainPolicy:
    """A policy of linear layers and activations, by a compiled kernel.

    The kernel sums several outputs and episodes at a time, each in the order of its inputs: its result does not depend
    on what is summed beside it. Masks of frozen weights stay bits, so that those of many networks fit into the cache.
    """

    def __init__(self, weights: PopulationWeights, plan: NDArray[np.int64], *, num_episodes: int) -> None:
        from ._chain_kernel import ROWS, forward  # Numba takes a while to load

        self._forward, self._num_episodes, self._plan = forward, num_episodes, plan
        # One scratch for each call, since several threads may call.
        self._scratch_shape = (2, ROWS, -(-int(plan[:, :2].max()) // LANES) * LANES)
        if isinstance(weights, MaskedWeights) and weights.mask.dtype == torch.bool:
            self._packed = tuple(_packed_masks(weights, plan))
        else:
            self._packed = tuple(_packed_weights(weights, plan))

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        outputs = np.empty((len(rows), int(self._plan[-1, 1])), dtype=np.float32)
        scratch = np.empty(self._scratch_shape, dtype=np.float32)
        self._forward(self._packed, self._plan, self._num_episodes, rows, obs, scratch, outputs)
        return outputs


def _packed_masks(weights: MaskedWeights, plan: NDArray[np.int64]) -> Packed[NDArray[Any]]:
    """Binary masks, as bits, and the weights that they share."""
    from ._chain_kernel import pack_bits

    places = row_places(plan)
    frozen = np.append(weights.frozen.numpy() + np.float32(0.0), np.float32(0.0))  # no -0.0, as in MaskedWeights.dense
    bits = np.empty((len(weights), len(places)), dtype=np.uint16)
    pack_bits(weights.mask.numpy().view(np.uint8), places, bits)
    return Packed(frozen[places.reshape(1, -1)], bits, scales_of(weights.scales, plan).numpy())


def _packed_weights(weights: PopulationWeights, plan: NDArray[np.int64]) -> Packed[NDArray[Any]]:
    """Each network's own weights, all kept."""
    places = row_places(plan)
    values = np.empty((len(weights), places.size), dtype=np.float32)
    start = 0
    for chunk in weights.chunks(num_weights_of(plan)):
        padded = np.pad(chunk.numpy(), ((0, 0), (0, 1)))
        np.take(padded, places.reshape(-1), axis=1, out=values[start : start + len(chunk)], mode="clip")
        start += len(chunk)
    kept = np.full((1, len(places)), 2**LANES - 1, dtype=np.uint16)
    return Packed(values, kept, scales_of(None, plan).numpy())


def chain_population(population: Population) -> ChainPolicy | None:
    """See ``Way``. It computes chains on the CPU."""
    chain = as_chain(population.module) if population.device.type == "cpu" else None
    if chain is None:
        return None
    return ChainPolicy(population.weights, plan_of(chain), num_episodes=population.num_episodes)
