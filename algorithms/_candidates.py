"""Candidates: solutions that are evaluated again in every generation, so that the most certain one can be returned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ._fitness import pooled_stdev, rank_key


@dataclass(frozen=True, eq=False)
class Candidate:
    """A solution ``(D,)`` and its evaluations so far; higher is better."""

    values: Tensor
    seen: tuple[float, ...] = ()


def surest(seen: Sequence[float], stdev: float) -> tuple[float, float, float]:
    """The lower confidence bound, mean - stdev / sqrt(n), as a key for ``max``."""
    return rank_key(seen, margin=-stdev)


def hope(seen: Sequence[float], stdev: float) -> tuple[float, float, float]:
    """An upper confidence bound, mean + stdev / (2 sqrt(n)), as a key for ``max``; infinity without evaluations."""
    return rank_key(seen, margin=0.5 * stdev) if seen else (0.0, 1.0, math.inf)


def judged(
    candidates: Sequence[Candidate], evals: Sequence[float], others: Sequence[float], *, room: int
) -> tuple[list[Candidate], Candidate]:
    """Record new evaluations of the candidates, find the best one, and drop the least promising if there are too many.

    Args:
        candidates: The candidates; at least one.
        evals: The new evaluation of each candidate; higher is better.
        others: Evaluations of the other solutions. Their standard deviation is used until a candidate has two.
        room: Maximum number of candidates, including the one to be added next.

    Returns:
        Fewer than ``room`` candidates (an empty list if ``room`` is 1), and the best of all, which may be dropped.
    """
    played = [Candidate(c.values, (*c.seen, seen)) for c, seen in zip(candidates, evals, strict=True)]
    stdev = pooled_stdev([c.seen for c in played], others)
    best = max(played, key=lambda c: surest(c.seen, stdev))
    if len(played) >= room:
        rest = [c for c in played if c is not best] or played
        played.remove(min(rest, key=lambda c: hope(c.seen, stdev)))
    return played, best
