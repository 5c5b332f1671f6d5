"""What a problem may implement, so that the searches of this package learn from its phenotypes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@runtime_checkable
class DecodingProblem(Protocol):
    """A problem that decodes solutions into something coarser, so that many solutions have the same phenotype."""

    def expected_solutions(self, values: Tensor, *, center: Tensor | None, stdev: float) -> Tensor | Sequence[Tensor]:
        """For each solution, the expectation of all solutions that decode to the same phenotype.

        Args:
            values: ``(N, D)`` solutions, drawn from ``center + stdev * N(0, I)``.
            center: ``(D,)``; None if they are the problem's own initial solutions.
            stdev: Standard deviation of the noise; meaningless if ``center`` is None.

        Returns:
            ``(N, D)``, or a sequence of its N rows ``(D,)``, which may be computed when they are read.
        """
        ...

    def confined(self, center: Tensor) -> Tensor:
        """A solution with the phenotype of ``center``, but around which noise changes the phenotype.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``.
        """
        ...


@runtime_checkable
class LeveledDecodingProblem(DecodingProblem, Protocol):
    """A decoding problem that is solved through easier ones; the last of its levels is the problem itself."""

    @property
    def num_levels(self) -> int:
        """Number of levels; 1 if the problem needs no easier ones."""
        ...

    def at_level(self, level: int) -> AbstractContextManager[None]:
        """Context in which solutions are decoded at a level, from 0 (the easiest) to ``num_levels - 1``."""
        ...

    def narrowed(self, center: Tensor) -> Tensor:
        """A solution like ``center``, which comes from an easier level; noise around it changes only what may matter.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``.
        """
        ...


@runtime_checkable
class LeveledProblem(Protocol):
    """A pymoo problem that decodes an individual at a level, which is its last variable.

    Many individuals have the same phenotype, so that part of each draw is irrelevant noise; see ``DecodingProblem``.
    """

    def expected_individuals(self, x: Floats, *, center: Floats | None, stdev: float) -> Floats:
        """For each individual, the expectation of all individuals that decode to the same phenotype.

        Args:
            x: ``(N, D + 1)`` individuals at one level, drawn from ``center + stdev * N(0, I)``.
            center: ``(D + 1,)``; None if they are initial individuals, drawn around 0.
            stdev: Standard deviation of the noise.

        Returns:
            ``(N, D + 1)``.
        """
        ...

    def confined(self, center: Floats) -> Floats:
        """An individual with the phenotype of ``center``, but around which noise changes the phenotype.

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.
        """
        ...

    def narrowed(self, center: Floats) -> Floats:
        """An individual like ``center``; noise around it changes only what may matter at its level.

        Args:
            center: ``(D + 1,)``, found at an easier level.

        Returns:
            ``(D + 1,)``.
        """
        ...
