"""How a center moves: towards the best of its children, away from the worst, and averaged over generations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Vectors = TypeVar("Vectors", Tensor, NDArray[np.float64])

#: How far a center moves away from the worst, for a step of 1 towards the best.
REPULSION = 0.3
#: The length of a step towards what is expected.
LEARNING_RATE = 2.0
#: How many generations a search has at its first level, and at each of those that follow.
FIRST_GENERATIONS, GENERATIONS = 25, 3


def moved(values: Vectors, ranked: Sequence[int], num_elites: int, *, before: Vectors) -> Vectors:
    """The center after a step: ``before + 2 (towards - 0.3 away)``.

    ``towards`` leads from ``before`` to the weighted mean of the best, ``away`` to that of the worst.

    Args:
        values: ``(N, D)`` children, or what is expected of them.
        ranked: Indices of the children, the best first.
        num_elites: K, how many are the best, and how many the worst.
        before: ``(D,)``, the center that they were drawn around.

    Returns:
        ``(D,)``.
    """
    towards = weighted_mean(values, ranked[:num_elites])
    away = weighted_mean(values, ranked[::-1][:num_elites])
    result: Vectors = before + LEARNING_RATE * ((towards - before) - REPULSION * (away - before))
    return result


def weighted_mean(values: Vectors, ranked: Sequence[int]) -> Vectors:
    """The mean of the K rows ``ranked``, best first, weighted by log(K + 1/2) - log(rank).

    These are the weights of the (mu/mu_w, lambda) evolution strategy (Hansen 2016, eq. 49). One row after the other, a
    product and a sum each: a matrix product's bits depend on the number of threads.
    """
    weights = [math.log(len(ranked) + 0.5) - math.log(rank + 1) for rank in range(len(ranked))]
    total = sum(weights)
    mean: Vectors = 0.0 * values[0]
    for weight, row in zip(weights, ranked, strict=True):
        mean += values[row] * (weight / total)
    return mean
