"""What a run of ``Continuation`` prints."""

from __future__ import annotations

from typing import Any

from pymoo.util.display.column import Column
from pymoo.util.display.output import Output


class ContinuationOutput(Output):
    """What ``minimize(..., verbose=True)`` prints: the level, how many policies the front has, and the best of them."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.front, self.best = Column("level"), Column("front", width=5), Column("f_min")
        self.columns += [self.level, self.front, self.best]

    def update(self, algorithm: Any) -> None:
        """Note where an algorithm is."""
        super().update(algorithm)
        self.level.set(float(algorithm.levels[algorithm.level]))
        self.front.set(len(algorithm.opt))
        self.best.set(float(algorithm.opt.get("F")[:, 0].min()))
