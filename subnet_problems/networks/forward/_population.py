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

from ._chain import chain_population
from ._vmap import vmap_population

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


class Way(Protocol):
    """One way to compute a population. It makes the policy, or returns None where it cannot compute the module."""

    def __call__(
        self,
        module: nn.Module,
        layers: Sequence[Layer],
        chunks: Iterable[Tensor],
        *,
        popsize: int,
        num_episodes: int,
        device: torch.device,
    ) -> PopulationPolicy | None:
        """See ``FrozenNetwork.population``."""
        ...


#: Tried in this order, the fastest first. The last one computes whatever can be vectorized.
WAYS: tuple[Way, ...] = (chain_population, vmap_population)


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
    options = {"popsize": popsize, "num_episodes": num_episodes}
    made = (way(module, layers, chunks, device=device, **options) for way in WAYS)
    return next(policy for policy in made if policy is not None)
