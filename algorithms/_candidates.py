"""Candidates: solutions that are evaluated again in every generation, so that the surest of them can be handed out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ._fitness import pooled_stdev, worth


@dataclass(frozen=True, eq=False)
class Candidate:
    """A solution ``(D,)`` and its evaluations so far, the higher the better."""

    values: Tensor
    shown: tuple[float, ...] = ()


def surest(shown: Sequence[float], stdev: float) -> tuple[float, float, float]:
    """How good it is at least: mean - stdev / sqrt(n), a lower confidence bound, as a key for ``max``."""
    return worth(shown, margin=-stdev)


def hope(shown: Sequence[float], stdev: float) -> tuple[float, float, float]:
    """How good it may well be: mean + stdev / (2 sqrt(n)); of what was never evaluated, infinitely good."""
    return worth(shown, margin=0.5 * stdev) if shown else (0.0, 1.0, math.inf)


def judged(
    candidates: Sequence[Candidate], evals: Sequence[float], others: Sequence[float], *, room: int
) -> tuple[list[Candidate], Candidate]:
    """Note what the candidates have shown; find the best, and drop one where another would be too many.

    Args:
        candidates: One at least.
        evals: The new evaluation of each, the higher the better.
        others: Those of the other solutions: how much they differ is what evaluations may, until candidates tell.
        room: How many there may be.

    Returns:
        Fewer than ``room`` candidates (none of 1), and the best of all.
    """
    played = [Candidate(c.values, (*c.shown, shown)) for c, shown in zip(candidates, evals, strict=True)]
    stdev = pooled_stdev([c.shown for c in played], others)
    best = max(played, key=lambda c: surest(c.shown, stdev))
    if len(played) >= room:
        rest = [c for c in played if c is not best] or played
        played.remove(min(rest, key=lambda c: hope(c.shown, stdev)))
    return played, best
