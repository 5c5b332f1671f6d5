"""Online statistics of observations, and what observations are normalized by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_count
from ._episodes import Episodes

FloatArray = NDArray[np.float32]

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
        """Statistics that normalize as this normalizer does, within rounding; those to come are added to them.

        Args:
            normalizer: A policy's mean and scale.
            count: Of how many observations they are taken to be, which decides how fast they change.

        Raises:
            TypeError: ``normalizer`` is something else, or ``count`` is not a whole number.
            ValueError: ``count`` is below 1, or no statistics normalize so: a scale is not above 0, is above 10 (of the
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
        """What normalizes by these statistics; None where nothing was observed."""
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


@dataclass(frozen=True)
class Normalizer:
    """Observations to ``(obs - mean) * scale``.

    Attributes:
        mean: ``(obs_length,)`` float32.
        scale: ``(obs_length,)`` float32, 1 / standard deviation.

    Raises:
        TypeError: One is not a float32 array.
        ValueError: One is not of this shape, or not finite.
    """

    mean: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if not isinstance(values, np.ndarray) or values.dtype != np.float32:
                raise TypeError(f"{name}: expected a float32 array of shape (obs_length,), got {values!r}")
            if values.ndim != 1 or values.shape != self.mean.shape or not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite numbers of shape (obs_length,), got {values!r}")
