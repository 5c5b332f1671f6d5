"""The display of a run of ``Continuation``."""

from __future__ import annotations

from typing import Any

from pymoo.util.display.column import Column
from pymoo.util.display.output import Output


class ContinuationOutput(Output):
    """Columns of ``minimize(..., verbose=True)``: level, size of the front, and lowest first objective."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.front, self.best = Column("level"), Column("front", width=5), Column("f_min")
        self.columns += [self.level, self.front, self.best]

    def update(self, algorithm: Any) -> None:
        """Update the columns from an algorithm."""
        super().update(algorithm)
        self.level.set(float(algorithm.levels[algorithm.level]))
        self.front.set(len(algorithm.opt))
        self.best.set(float(algorithm.opt.get("F")[:, 0].min()))
