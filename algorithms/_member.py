"""Member: a candidate of one level of ``Continuation``, with all its evaluations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pymoo.core.individual import Individual

from ._candidates import surest

Floats = NDArray[np.float64]


class Member:
    """A candidate of a level, with all its evaluations.

    Attributes:
        x: ``(D + 1,)``, the individual.
        level: The index of its level.
        evaluations: One ``(M,)`` vector of objectives per evaluation.
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
        """The mean of all evaluations, ``(M,)``; an objective that was ever positive infinity (the worst) stays so."""
        rows = np.array(self.evaluations)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.mean(axis=0)
            mean = np.where(np.isfinite(mean), mean, (rows / len(rows)).sum(axis=0))  # for sums that overflow
        return np.where(np.isposinf(rows).any(axis=0), math.inf, mean)

    def value(self, stdev: float) -> float:
        """The lower confidence bound of the fitness.

        It is -infinity if any evaluation was infinitely bad, and infinity if all were infinitely good.

        Args:
            stdev: Standard deviation of the first objective between evaluations.
        """
        share_bad, share_good, value = surest(self.fitness, stdev)
        if share_bad < 0.0:
            return -math.inf
        return math.inf if share_good == 1.0 else value

    def bounds(self, stdev: float) -> Floats:
        """The objectives ``(M,)``, with the first one replaced by its upper confidence bound.

        Args:
            stdev: Standard deviation of the first objective between evaluations.
        """
        bounds = self.objectives
        bounds[0] += stdev / math.sqrt(len(self.evaluations))
        return bounds

    def individual(self) -> Individual:
        """The candidate as a pymoo individual; its data holds ``num_evaluations`` and the index of its ``level``."""
        data = {"num_evaluations": len(self.evaluations), "level": self.level}
        return Individual(X=self.x.copy(), F=self.objectives, evaluated={"F", "G", "H"}, **data)
