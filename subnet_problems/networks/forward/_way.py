"""Way: the interface of an implementation of the forward pass, with its input and output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:
    from .._layer import Layer
    from .._weights import PopulationWeights

FloatArray = NDArray[np.float32]


class PopulationPolicy(Protocol):
    """N networks that each play E episodes. Network ``r // E`` plays episode row ``r``."""

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """Compute outputs ``(n, act_length)`` for the observations ``(n, obs_length)`` of the episodes ``rows``.

        ``rows`` ascend. A row that is missing in one call is missing in all later calls.
        """
        ...


@dataclass(frozen=True)
class Population:
    """Many networks of one architecture, with the arguments of ``FrozenNetwork.population``.

    Attributes:
        module: The architecture.
        layers: Its parameter tensors.
        weights: The weights of the N networks.
        num_episodes: E, the number of episodes of each network.
        device: Device of the forward pass.
    """

    module: nn.Module
    layers: Sequence[Layer]
    weights: PopulationWeights
    num_episodes: int
    device: torch.device


#: An implementation of the forward pass: it returns the policy, or None if it cannot compute the module on the device.
Way = Callable[[Population], PopulationPolicy | None]
