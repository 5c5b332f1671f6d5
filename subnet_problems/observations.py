"""What surrounds a network in a policy: online statistics of observations, normalisation, clipped actions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._checks import check_count
from .policies import as_chain, parts_of_chain
from .rollout import Episodes, Normalizer
from .spaces import Actions

#: The least variance that is divided by, as in EvoTorch's ``RunningNorm``.
_MIN_VARIANCE = 1e-2


@dataclass(frozen=True)
class _Sums:
    count: int
    sum: NDArray[np.float64]
    sum_of_squares: NDArray[np.float64]


class ObservationStats:
    """Count, mean and standard deviation of observations. It never changes: merging makes a new one.

    Args:
        length: The observations' flat length.

    Attributes:
        count: How many observations.
        sum: Their sum, ``(length,)`` float64.
        sum_of_squares: The sum of their squares.
    """

    def __init__(self, length: int) -> None:
        self.count = 0
        self.sum = np.zeros(length, dtype=np.float64)
        self.sum_of_squares = np.zeros(length, dtype=np.float64)

    @classmethod
    def from_normalizer(cls, normalizer: Normalizer, *, count: int) -> ObservationStats:
        """Statistics that normalise as this normalizer does, within rounding; those to come are added to them.

        Args:
            normalizer: A policy's mean and scale.
            count: Of how many observations they are taken to be, which decides how fast they change.

        Raises:
            TypeError: ``normalizer`` is something else, or ``count`` is not a whole number.
            ValueError: ``count`` is below 1, or no statistics normalise so: a scale is not above 0, is above 10 (of the
                least standard deviation), or is of a standard deviation that float64 loses beside the mean.
        """
        if not isinstance(normalizer, Normalizer):
            raise TypeError(f"normalizer: expected a Normalizer, got {normalizer!r}")
        mean, scale = normalizer.mean.astype(np.float64), normalizer.scale.astype(np.float64)
        stats = cls(len(mean))
        stats.count = check_count("count", count)
        if (scale > 0.0).all():
            stats.sum, stats.sum_of_squares = count * mean, count * (scale**-2 + mean**2)
            if np.allclose(1.0 / stats.stdev, scale, rtol=1e-5, atol=0.0):
                return stats
        raise ValueError(
            "normalizer: expected scales above 0 and at most 10, which statistics of observations have, got "
            f"{normalizer}"
        )

    def merged(self, episodes: Episodes) -> ObservationStats:
        """These statistics and those of a round. Sums are rounded once, so that no order of episodes matters."""
        assert episodes.obs_sum is not None
        assert episodes.obs_sum_of_squares is not None
        return self + _Sums(
            int(episodes.lengths.sum()), _exact_sum(episodes.obs_sum), _exact_sum(episodes.obs_sum_of_squares)
        )

    def __add__(self, other: ObservationStats | _Sums) -> ObservationStats:
        result = ObservationStats(len(self.sum))
        result.count = self.count + other.count
        result.sum = self.sum + other.sum
        result.sum_of_squares = self.sum_of_squares + other.sum_of_squares
        return result

    def __sub__(self, other: ObservationStats) -> ObservationStats:
        return self + _Sums(-other.count, -other.sum, -other.sum_of_squares)

    @property
    def mean(self) -> NDArray[np.float64]:
        """``(length,)``; 0 where nothing was observed."""
        return np.asarray(self.sum / max(self.count, 1))

    @property
    def stdev(self) -> NDArray[np.float64]:
        """``(length,)``, at least 0.1; 1 where nothing was observed."""
        if not self.count:
            return np.ones_like(self.sum)
        variance = self.sum_of_squares / self.count - self.mean**2
        return np.asarray(np.sqrt(np.maximum(variance, _MIN_VARIANCE)))

    def normalizer(self) -> Normalizer | None:
        """What normalises by these statistics; None where nothing was observed."""
        if not self.count:
            return None
        return Normalizer(mean=self.mean.astype(np.float32), scale=(1.0 / self.stdev).astype(np.float32))

    def to(self, device: torch.device | str) -> ObservationStats:
        """These statistics, which live in main memory whatever the device; EvoTorch's ``PicklingLogger`` asks."""
        return self

    def __repr__(self) -> str:
        return f"<ObservationStats of {self.count} observations>"


def _exact_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = values.reshape(-1, values.shape[-1]).T
    return np.array([math.fsum(column) for column in columns.tolist()])


class PolicyModule(nn.Module):
    """A network with what surrounds it in a policy: observations normalised before it, Box actions clipped after it.

    Args:
        network: From ``(..., obs_length)`` to ``(..., act_length)``; recurrent ones keep their state argument and
            return a tuple, as EvoTorch's do.
        normalizer: Mean and scale of the observations, or None.
        actions: The actions to whose bounds outputs are clipped, or None. Only Box actions have bounds, alone or as
            parts of Tuple and Dict actions.

    ``torch.jit.script`` takes a policy whose network it takes, such as a chain of linear layers and activations; a
    recurrent one keeps its state argument, which TorchScript cannot type.
    """

    obs_mean: Tensor | None
    obs_scale: Tensor | None
    low: Tensor | None
    high: Tensor | None

    def __init__(self, network: nn.Module, normalizer: Normalizer | None, actions: Actions | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("obs_mean", None if normalizer is None else torch.tensor(normalizer.mean))
        self.register_buffer("obs_scale", None if normalizer is None else torch.tensor(normalizer.scale))
        limits = None if actions is None else actions.limits
        self.register_buffer("low", None if limits is None else torch.tensor(limits[0], dtype=torch.float32))
        self.register_buffer("high", None if limits is None else torch.tensor(limits[1], dtype=torch.float32))

    def forward(self, obs: Tensor, state: Any = None) -> Any:
        """The output for an observation ``(..., obs_length)``; with the next state, if the network has one."""
        if self.obs_mean is not None and self.obs_scale is not None:
            obs = (obs - self.obs_mean) * self.obs_scale
        result = self.network(obs) if state is None else self.network(obs, state)
        output, *next_state = result if isinstance(result, tuple) else (result,)
        if self.low is not None:
            output = torch.clamp(output, self.low, self.high)
        return (output, *next_state) if next_state else output

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in place of this: the same without a state, as types that it knows."""
        chain = as_chain(self.network) is not None
        parts = parts_of_chain(self.network) if chain else [self.network]
        if self.obs_mean is not None and self.obs_scale is not None:
            parts = [_Normalized(self.obs_mean, self.obs_scale), *parts]
        if self.low is not None and self.high is not None:
            parts = [*parts, _Clipped(self.low, self.high)]
        return nn.Sequential(*parts)


class _Normalized(nn.Module):
    if TYPE_CHECKING:  # TorchScript knows buffers by their values, and no annotation that is a string
        mean: Tensor
        scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, obs: Tensor) -> Tensor:
        """``(..., obs_length)``."""
        return (obs - self.mean) * self.scale


class _Clipped(nn.Module):
    if TYPE_CHECKING:
        low: Tensor
        high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, output: Tensor) -> Tensor:
        """``(..., act_length)``."""
        return torch.clamp(output, self.low, self.high)
