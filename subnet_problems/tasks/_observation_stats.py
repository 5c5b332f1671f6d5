"""Online statistics of observations, and the Normalizer made from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_count
from ._episodes import Episodes

FloatArray = NDArray[np.float32]

#: Lower bound of the variance that observations are divided by, as in EvoTorch's ``RunningNorm``.
_MIN_VARIANCE = 1e-2


@dataclass(frozen=True)
class _Sums:
    count: int
    sum: NDArray[np.float64]
    sum_of_squares: NDArray[np.float64]


class ObservationStats:
    """Count, mean and standard deviation of observations. An object never changes: merging returns a new one.

    Args:
        length: Length of a flat observation.

    Attributes:
        count: Number of observations.
        sum: Sum of the observations, ``(length,)`` float64.
        sum_of_squares: Sum of their squares, ``(length,)`` float64.
    """

    def __init__(self, length: int) -> None:
        self.count = 0
        self.sum = np.zeros(length, dtype=np.float64)
        self.sum_of_squares = np.zeros(length, dtype=np.float64)

    @classmethod
    def from_normalizer(cls, normalizer: Normalizer, *, count: int) -> ObservationStats:
        """Make statistics that normalize like this normalizer, up to rounding; new observations can be added to them.

        Args:
            normalizer: A policy's mean and scale.
            count: The number of observations that the statistics count as. A larger one makes them change more slowly.

        Raises:
            TypeError: ``normalizer`` is not a Normalizer, or ``count`` is not a whole number.
            ValueError: ``count`` is below 1, or no statistics give this normalizer: a scale is not above 0, is above 10
                (the standard deviation is at least 0.1), or float64 cannot hold the standard deviation beside the mean.
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
            f"normalizer: expected scales above 0 and at most 10, as statistics of observations give, got {normalizer}"
        )

    def merged(self, episodes: Episodes) -> ObservationStats:
        """Add the observations of a round. Sums are rounded only once, so the order of episodes does not matter."""
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
        """Mean, ``(length,)``; 0 without observations."""
        return np.asarray(self.sum / max(self.count, 1))

    @property
    def stdev(self) -> NDArray[np.float64]:
        """Standard deviation, ``(length,)``, at least 0.1; 1 without observations."""
        if not self.count:
            return np.ones_like(self.sum)
        variance = self.sum_of_squares / self.count - self.mean**2
        return np.asarray(np.sqrt(np.maximum(variance, _MIN_VARIANCE)))

    def normalizer(self) -> Normalizer | None:
        """Return the Normalizer of these statistics, or None without observations."""
        if not self.count:
            return None
        return Normalizer(mean=self.mean.astype(np.float32), scale=(1.0 / self.stdev).astype(np.float32))

    def to(self, device: torch.device | str) -> ObservationStats:
        """Return these statistics, which always stay on the CPU. EvoTorch's ``PicklingLogger`` calls this."""
        return self

    def __repr__(self) -> str:
        return f"<ObservationStats of {self.count} observations>"


def _exact_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    columns = values.reshape(-1, values.shape[-1]).T
    return np.array([math.fsum(column) for column in columns.tolist()])


@dataclass(frozen=True)
class Normalizer:
    """Observation normalization: ``(obs - mean) * scale``.

    Attributes:
        mean: ``(obs_length,)`` float32.
        scale: ``(obs_length,)`` float32, 1 / standard deviation.

    Raises:
        TypeError: ``mean`` or ``scale`` is not a float32 array.
        ValueError: ``mean`` or ``scale`` has the wrong shape or is not finite.
    """

    mean: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if not isinstance(values, np.ndarray) or values.dtype != np.float32:
                raise TypeError(f"{name}: expected a float32 array of shape (obs_length,), got {values!r}")
            if values.ndim != 1 or values.shape != self.mean.shape or not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite numbers of shape (obs_length,), got {values!r}")
