"""What playing episodes gives: their returns and lengths, or an EvaluationError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class EvaluationError(RuntimeError):
    """An evaluation that could not be finished; nothing of it was counted.

    Attributes:
        solution: Index of the solution in the population.
        episode: Index of its episode.
        step: The step at which it went wrong, from 1; 0 is the reset.
    """

    def __init__(self, solution: int, episode: int, step: int, reason: str) -> None:
        super().__init__(f"solution {solution}, episode {episode}, step {step}: {reason}")
        self.solution, self.episode, self.step, self.reason = solution, episode, step, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.solution, self.episode, self.step, self.reason)


class Episodes(NamedTuple):
    """What N solutions did in E episodes each.

    Attributes:
        returns: ``(N, E)`` float64, the sum of an episode's rewards.
        lengths: ``(N, E)`` int64, its steps.
        obs_sum: ``(N, E, obs_length)`` float64, the sum of the observations the policy acted upon, or None.
        obs_sum_of_squares: Likewise, of their squares.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    obs_sum: NDArray[np.float64] | None
    obs_sum_of_squares: NDArray[np.float64] | None

    @classmethod
    def concatenate(cls, shares: Sequence[Episodes]) -> Episodes:
        """The episodes of several shares of a population, in order."""
        merged: list[Any] = [None if p[0] is None else np.concatenate(p) for p in zip(*shares, strict=True)]
        return cls(*merged)
