"""The forward pass of a whole population, by the fastest way that can compute the network.

No way looks at how many other episodes are alive: the output for one episode is the same bits alone and in any company.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._chain import ChainPolicy, as_chain
from ._vmap import VmapPolicy

if TYPE_CHECKING:
    from .._layer import Layer

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
        return ChainPolicy(chain, layers, chunks, popsize=popsize, num_episodes=num_episodes)
    weights = torch.empty((popsize, layers[-1].slice.stop), dtype=torch.float32, device=device)
    start = 0
    for chunk in chunks:
        weights[start : start + len(chunk)] = chunk
        start += len(chunk)
    return VmapPolicy(module, layers, weights, num_episodes=num_episodes)
