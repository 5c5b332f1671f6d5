"""Way: what computes a population, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Population:
    """Many networks of one architecture, as ``FrozenNetwork.population`` takes them.

    Attributes:
        module: The architecture.
        layers: Its parameter tensors.
        chunks: The weights of all networks, ``(n, D)`` at a time. They can be read once.
        popsize: N, how many networks in all.
        num_episodes: E, how many episodes each of them plays.
        device: Where the forward pass runs.
    """

    module: nn.Module
    layers: Sequence[Layer]
    chunks: Iterable[Tensor]
    popsize: int
    num_episodes: int
    device: torch.device


#: One way to compute a population: it makes the policy, or returns None where it cannot compute the module there.
Way = Callable[[Population], PopulationPolicy | None]
