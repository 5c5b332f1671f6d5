"""The forward pass of any module, including recurrent ones, by ``torch.func.vmap`` over the population."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ._way import FloatArray, Population

if TYPE_CHECKING:
    from .._layer import Layer


#: The number of networks that ``VmapPolicy`` computes at a time. PyTorch's vectorized kernels and their scalar tails
#: differ in the last bit. In blocks of 32 a tensor has the same shape for any population, and no tail.
_BLOCK = 32


class VmapPolicy:
    """A policy of any module, including recurrent ones, by ``torch.func`` on any device.

    All E episodes of a network are computed until its last one has ended, and networks are computed in blocks of fixed
    size. So every product has the same shape, and its bits depend neither on which episodes have ended nor on how a
    population is split.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Layer], weights: Tensor, *, num_episodes: int) -> None:
        self._module = deepcopy(module).to(weights.device)  # the network's own module stays on its device
        aliases: dict[int, list[str]] = {}  # a parameter that several modules share has several names
        for prefix, part in self._module.named_modules():
            for name, parameter in part.named_parameters(prefix, recurse=False, remove_duplicate=False):
                aliases.setdefault(id(parameter), []).append(name)
        self._layers = [(layer, aliases[id(p)]) for layer, p in zip(layers, self._module.parameters(), strict=True)]
        self._num_episodes = num_episodes
        self._networks: NDArray[np.int32] = np.arange(len(weights), dtype=np.int32)
        self._weights = weights[self._padded(self._networks)] if len(weights) % _BLOCK else weights
        self._state: Any = None
        self._first = torch.func.vmap(torch.func.vmap(self._call, (None, 0)), (0, 0))
        self._next = torch.func.vmap(torch.func.vmap(self._call, (None, 0, 0)), (0, 0, 0))

    def _call(self, flat: Tensor, obs: Tensor, *state: Any) -> Any:
        parameters = {name: flat[layer.slice].view(layer.shape) for layer, names in self._layers for name in names}
        return torch.func.functional_call(self._module, parameters, (obs, *state), tie_weights=False)

    @torch.no_grad()
    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        networks = rows // self._num_episodes
        self._drop_ended(np.unique(networks))
        positions = np.searchsorted(self._networks, networks) * self._num_episodes + rows % self._num_episodes
        padded = np.zeros((len(self._weights) * self._num_episodes, obs.shape[1]), dtype=np.float32)
        padded[positions] = obs
        batch = torch.from_numpy(padded).view(-1, self._num_episodes, obs.shape[1]).to(self._weights.device)
        results = [self._act_block(slice(i, i + _BLOCK), batch) for i in range(0, len(batch), _BLOCK)]
        outputs = torch.cat([output for output, _ in results])
        if results[0][1] is not None:
            self._state = tree_map(lambda *leaves: torch.cat(leaves), *(state for _, state in results))
        return np.ascontiguousarray(outputs.flatten(0, 1).cpu().numpy()[positions], dtype=np.float32)

    def _act_block(self, block: slice, batch: Tensor) -> tuple[Tensor, Any]:
        if self._state is None:
            result = self._first(self._weights[block], batch[block])
        else:
            result = self._next(self._weights[block], batch[block], tree_map(lambda leaf: leaf[block], self._state))
        return result if isinstance(result, tuple) else (result, None)

    def _drop_ended(self, live: NDArray[np.int32]) -> None:
        if len(live) == len(self._networks):
            return
        keep = self._padded(np.flatnonzero(np.isin(self._networks, live)))
        self._networks = live
        self._weights = self._weights[keep]
        if self._state is not None:
            self._state = tree_map(lambda leaf: leaf[keep], self._state)

    @staticmethod
    def _padded(indices: NDArray[Any]) -> Tensor:
        """Return indices with the last one repeated until they fill whole blocks."""
        return torch.from_numpy(np.pad(indices, (0, -len(indices) % _BLOCK), mode="edge"))


def vmap_population(population: Population) -> VmapPolicy:
    """See ``Way``. It computes any module on any device."""
    layers, num_weights = population.layers, population.layers[-1].slice.stop
    weights = torch.empty((len(population.weights), num_weights), dtype=torch.float32, device=population.device)
    start = 0
    for chunk in population.weights.chunks(num_weights):
        weights[start : start + len(chunk)] = chunk
        start += len(chunk)
    return VmapPolicy(population.module, layers, weights, num_episodes=population.num_episodes)
