"""Update of a center: it moves towards the best of its children and away from the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Vectors = TypeVar("Vectors", Tensor, NDArray[np.float64])

#: Weight of the step away from the worst children, relative to the step towards the best.
REPULSION = 0.3
#: Factor of the step of a center that learns from expected values.
LEARNING_RATE = 2.0
#: Number of generations at the first level of a search, and at each later level.
FIRST_GENERATIONS, GENERATIONS = 25, 3


def moved(values: Vectors, ranked: Sequence[int], num_elites: int, *, before: Vectors) -> Vectors:
    """The center after a step: ``before + 2 (towards - 0.3 away)``.

    ``towards`` is the vector from ``before`` to the weighted mean of the best, ``away`` to that of the worst.

    Args:
        values: ``(N, D)`` children, or their expected values.
        ranked: Indices of the children, best first.
        num_elites: K, the number of best children and of worst children that count.
        before: ``(D,)``, the center that the children were drawn around.

    Returns:
        ``(D,)``.
    """
    towards = weighted_mean(values, ranked[:num_elites])
    away = weighted_mean(values, ranked[::-1][:num_elites])
    result: Vectors = before + LEARNING_RATE * ((towards - before) - REPULSION * (away - before))
    return result


def weighted_mean(values: Vectors, ranked: Sequence[int]) -> Vectors:
    """The mean of the K rows ``ranked``, best first, weighted by log(K + 1/2) - log(rank).

    These are the weights of the (mu/mu_w, lambda) evolution strategy (Hansen 2016, eq. 49). Rows are
    added one by one, because the rounding of a matrix product depends on the number of threads.
    """
    weights = [math.log(len(ranked) + 0.5) - math.log(rank + 1) for rank in range(len(ranked))]
    total = reduce(add, weights)  # since Python 3.12, ``sum`` rounds differently
    mean: Vectors = 0.0 * values[0]
    for weight, row in zip(weights, ranked, strict=True):
        mean += values[row] * (weight / total)
    return mean
