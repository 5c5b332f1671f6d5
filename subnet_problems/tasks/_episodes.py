"""The result of playing episodes: returns and lengths, or an EvaluationError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class EvaluationError(RuntimeError):
    """An evaluation could not be finished, and none of it was counted.

    Attributes:
        solution: Index of the solution in the population.
        episode: Index of the episode among the solution's episodes.
        step: The step that failed, from 1; 0 is the reset.
        reason: Why it failed.
    """

    def __init__(self, solution: int, episode: int, step: int, reason: str) -> None:
        super().__init__(f"solution {solution}, episode {episode}, step {step}: {reason}")
        self.solution, self.episode, self.step, self.reason = solution, episode, step, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.solution, self.episode, self.step, self.reason)


class Episodes(NamedTuple):
    """The results of N solutions in E episodes each.

    Attributes:
        returns: ``(N, E)`` float64, the sum of the rewards of each episode.
        lengths: ``(N, E)`` int64, the length of each episode in steps.
        obs_sum: ``(N, E, obs_length)`` float64, the sum of the observations the policy acted upon, or None.
        obs_sum_of_squares: ``(N, E, obs_length)`` float64, the sum of their squares, or None.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    obs_sum: NDArray[np.float64] | None
    obs_sum_of_squares: NDArray[np.float64] | None

    @classmethod
    def concatenate(cls, shares: Sequence[Episodes]) -> Episodes:
        """Join the episodes of several parts of a population, in order."""
        merged: list[Any] = [None if p[0] is None else np.concatenate(p) for p in zip(*shares, strict=True)]
        return cls(*merged)
