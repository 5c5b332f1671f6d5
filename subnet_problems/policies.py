"""The forward pass of a whole population: one lean kernel for chains of linear layers, ``vmap`` for all other modules.

Neither looks at how many other episodes are alive: what comes out for one episode is the same bits alone and in any
company.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from evotorch.neuroevolution.net.multilayered import MultiLayered
from numpy.typing import NDArray
from torch import Tensor, nn

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
    chain = _as_chain(module) if device.type == "cpu" and find_spec("numba") else None
    if chain is not None:
        return _ChainPolicy(chain, layers, chunks, popsize=popsize, num_episodes=num_episodes)
    weights = torch.empty((popsize, layers[-1].slice.stop), dtype=torch.float32, device=device)
    start = 0
    for chunk in chunks:
        weights[start : start + len(chunk)] = chunk
        start += len(chunk)
    return _VmapPolicy(module, layers, weights, num_episodes=num_episodes)


_ACTIVATIONS: dict[type[nn.Module], int] = {nn.Identity: 0, nn.Tanh: 1, nn.ReLU: 2}


def _as_chain(module: nn.Module) -> list[tuple[nn.Linear, int]] | None:
    """The module as (linear layer, activation code) pairs, or None if it is anything else."""
    modules = _flatten(module)
    chain: list[tuple[nn.Linear, int]] = []
    for part in modules:
        if type(part) is nn.Linear:
            chain.append((part, 0))
        elif type(part) in _ACTIVATIONS and chain and chain[-1][1] == 0:
            chain[-1] = (chain[-1][0], _ACTIVATIONS[type(part)])
        else:
            return None
    parameters = sum(len(list(linear.parameters())) for linear, _ in chain)
    return chain if parameters == len(list(module.parameters())) else None  # a layer used twice is no chain


def _flatten(module: nn.Module) -> list[nn.Module]:
    if type(module) in (nn.Sequential, MultiLayered):
        return [leaf for part in cast(Iterable[nn.Module], module) for leaf in _flatten(part)]
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
        from ._kernel import forward

        self._forward = forward
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
            destination = torch.from_numpy(self._weights[start : start + len(chunk)])
            for layer in layers:
                part = chunk[:, layer.slice]
                if len(layer.shape) == 2:
                    target = destination[:, layer.slice].view(-1, layer.shape[1], layer.shape[0])
                    target.copy_(part.view(-1, *layer.shape).transpose(1, 2))
                else:
                    destination[:, layer.slice] = part
            start += len(chunk)

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        outputs = np.empty((len(rows), int(self._plan[-1, 1])), dtype=np.float32)
        self._forward(self._weights, self._plan, self._num_episodes, rows, obs, self._scratch, outputs)
        return outputs


class _VmapPolicy:
    """Any module, recurrent ones too, by ``torch.func``, on any device.

    All E episodes of a network are computed until its last one has ended: so a network's share of the batched
    product always has the same shape, and its bits do not depend on what has ended.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Layer], weights: Tensor, *, num_episodes: int) -> None:
        self._layers = layers
        self._module = module.to(weights.device)
        self._weights = weights
        self._num_episodes = num_episodes
        self._networks: NDArray[np.int32] = np.arange(len(weights), dtype=np.int32)
        self._state: Any = None
        self._first = torch.func.vmap(torch.func.vmap(self._call, (None, 0)), (0, 0))
        self._next = torch.func.vmap(torch.func.vmap(self._call, (None, 0, 0)), (0, 0, 0))

    def _call(self, flat: Tensor, obs: Tensor, *state: Any) -> Any:
        parameters = {layer.name: flat[layer.slice].view(layer.shape) for layer in self._layers}
        return torch.func.functional_call(self._module, parameters, (obs, *state))

    @torch.no_grad()
    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        networks = rows // self._num_episodes
        self._drop_ended(np.unique(networks))
        positions = np.searchsorted(self._networks, networks) * self._num_episodes + rows % self._num_episodes
        padded = np.zeros((len(self._networks) * self._num_episodes, obs.shape[1]), dtype=np.float32)
        padded[positions] = obs
        batch = torch.from_numpy(padded).view(-1, self._num_episodes, obs.shape[1]).to(self._weights.device)
        if self._state is None:
            result = self._first(self._weights, batch)
        else:
            result = self._next(self._weights, batch, self._state)
        if isinstance(result, tuple):
            result, self._state = result
        outputs = result.flatten(0, 1).cpu().numpy()[positions]
        return np.ascontiguousarray(outputs, dtype=np.float32)

    def _drop_ended(self, live: NDArray[np.int32]) -> None:
        if len(live) == len(self._networks):
            return
        keep = torch.from_numpy(np.isin(self._networks, live)).to(self._weights.device)
        self._networks = live
        self._weights = self._weights[keep]
        if self._state is not None:
            self._state = torch.utils._pytree.tree_map(lambda leaf: leaf[keep], self._state)
