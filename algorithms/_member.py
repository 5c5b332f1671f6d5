"""Member: a candidate of a level of ``Continuation``, and all of its evaluations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pymoo.core.individual import Individual

from ._candidates import surest

Floats = NDArray[np.float64]


class Member:
    """A candidate of a level, and all of its evaluations.

    Attributes:
        x: ``(D + 1,)``, the individual.
        level: The index of its level.
        evaluations: The objectives of each evaluation, ``(M,)``.
    """

    def __init__(self, x: Floats, level: int, evaluations: list[Floats] | None = None) -> None:
        self.x, self.level = x, level
        self.evaluations = [] if evaluations is None else evaluations

    @property
    def fitness(self) -> tuple[float, ...]:
        """The negative first objective of each evaluation: the higher the better."""
        return tuple(-float(row[0]) for row in self.evaluations)

    @property
    def objectives(self) -> Floats:
        """The mean of all evaluations, ``(M,)``; infinity, where an objective was ever infinity, the worst there is."""
        rows = np.array(self.evaluations)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.mean(axis=0)
            mean = np.where(np.isfinite(mean), mean, (rows / len(rows)).sum(axis=0))  # where a sum overflows
        return np.where(np.isposinf(rows).any(axis=0), math.inf, mean)

    def value(self, stdev: float) -> float:
        """How good it is at least; -infinity where it was ever infinitely bad, infinity where it was always as good.

        Args:
            stdev: How much evaluations of the first objective differ.
        """
        share_bad, share_good, value = surest(self.fitness, stdev)
        if share_bad < 0.0:
            return -math.inf
        return math.inf if share_good == 1.0 else value

    def bounds(self, stdev: float) -> Floats:
        """The objectives ``(M,)``, with the upper confidence bound of the first one in its place.

        Args:
            stdev: How much evaluations of the first objective differ.
        """
        bounds = self.objectives
        bounds[0] += stdev / math.sqrt(len(self.evaluations))
        return bounds

    def individual(self) -> Individual:
        """The candidate as an individual of pymoo; its data has ``num_evaluations`` and the index of its ``level``."""
        data = {"num_evaluations": len(self.evaluations), "level": self.level}
        return Individual(X=self.x.copy(), F=self.objectives, evaluated={"F", "G", "H"}, **data)
