"""The forward pass of a whole population: one lean kernel for chains of linear layers, ``vmap`` for all other modules.

Neither looks at how many other episodes are alive: what comes out for one episode is the same bits alone and in any
company.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from evotorch.neuroevolution.net.multilayered import MultiLayered
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ._kernel import forward, transpose

if TYPE_CHECKING:
    from .networks import Layer

FloatArray = NDArray[np.float32]


class PopulationPolicy(Protocol):
    """N networks that each play E episodes; row ``r`` is an episode of network ``r // E``."""

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """Outputs ``(n, act_length)`` for the observations ``(n, obs_length)`` of the episodes ``rows``.

        ``rows`` ascend, and a row that was left out once never comes again.
        """
        ...


def make_population(
    module: nn.Module,
    layers: Sequence[Layer],
    chunks: Iterable[Tensor],
    *,
    popsize: int,
    num_episodes: int,
    device: torch.device,
) -> PopulationPolicy:
    """The fastest policy that can run this module on this device (see ``FrozenNetwork.population``)."""
    chain = as_chain(module) if device.type == "cpu" else None
    if chain is not None:
        return _ChainPolicy(chain, layers, chunks, popsize=popsize, num_episodes=num_episodes)
    weights = torch.empty((popsize, layers[-1].slice.stop), dtype=torch.float32, device=device)
    start = 0
    for chunk in chunks:
        weights[start : start + len(chunk)] = chunk
        start += len(chunk)
    return _VmapPolicy(module, layers, weights, num_episodes=num_episodes)


#: The activations that the kernel has, by their codes.
ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.Tanh: 1, nn.ReLU: 2}


def as_chain(module: nn.Module) -> list[tuple[nn.Linear, int]] | None:
    """The module as (linear layer, activation code) pairs, or None if it is anything else."""
    if any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in module.modules()):
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
    # Weights lie in the order of the module's parameters: a weight before its bias, and no layer used twice.
    tensors = [tensor for linear, _ in chain for tensor in (linear.weight, linear.bias) if tensor is not None]
    parameters = list(module.parameters())
    in_order = len(tensors) == len(parameters) and all(map(operator.is_, tensors, parameters))
    return chain if in_order else None


def parts_of_chain(module: nn.Module) -> list[nn.Module]:
    """The modules that are computed one after another in one of containers within containers."""
    if type(module) in (nn.Sequential, MultiLayered):
        return [leaf for part in cast(Iterable[nn.Module], module) for leaf in parts_of_chain(part)]
    return [module]


class _ChainPolicy:
    """Linear layers and activations, by a compiled kernel that takes one episode after another.

    Weights are held as ``(in, out)`` matrices: the kernel then adds whole columns, which vectorises without
    changing the order in which any one output is summed.
    """

    def __init__(
        self,
        chain: Sequence[tuple[nn.Linear, int]],
        layers: Sequence[Layer],
        chunks: Iterable[Tensor],
        *,
        popsize: int,
        num_episodes: int,
    ) -> None:
        self._num_episodes = num_episodes
        plan = []
        for linear, activation in chain:
            plan.append((linear.in_features, linear.out_features, linear.bias is not None, activation))
        self._plan = np.array(plan, dtype=np.int64)
        width = int(self._plan[:, :2].max())
        self._scratch = np.empty((2, width), dtype=np.float32)
        self._weights = np.empty((popsize, layers[-1].slice.stop), dtype=np.float32)
        start = 0
        for chunk in chunks:
            transpose(chunk.numpy(), self._plan, self._weights[start : start + len(chunk)])
            start += len(chunk)

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        outputs = np.empty((len(rows), int(self._plan[-1, 1])), dtype=np.float32)
        forward(self._weights, self._plan, self._num_episodes, rows, obs, self._scratch, outputs)
        return outputs


#: How many networks ``_VmapPolicy`` computes at a time. PyTorch's vectorised kernels and their scalar tails differ in
#: the last bit; in blocks of 32 every tensor has the same shape in any company, and no tail.
_BLOCK = 32


class _VmapPolicy:
    """Any module, recurrent ones too, by ``torch.func``, on any device.

    All E episodes of a network are computed until its last one has ended, and networks in blocks of fixed size: so
    every product has the same shape, and its bits depend neither on what has ended nor on how a population is split.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Layer], weights: Tensor, *, num_episodes: int) -> None:
        self._module = deepcopy(module).to(weights.device)  # the network's own stays where it is
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
        """Indices, the last one repeated up to a whole number of blocks."""
        return torch.from_numpy(np.pad(indices, (0, -len(indices) % _BLOCK), mode="edge"))
