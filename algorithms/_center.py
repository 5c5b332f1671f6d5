"""Update of a center: it moves towards the best of its children and away from the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Vector = TypeVar("Vector", Tensor, NDArray[np.float64])
Vector_co = TypeVar("Vector_co", Tensor, NDArray[np.float64], covariant=True)

#: Weight of the step away from the worst children, relative to the step towards the best.
REPULSION = 0.3
#: Factor of the step of a center that learns from expected values.
LEARNING_RATE = 2.0
#: Number of generations at the first level of a search, and at each later level.
FIRST_GENERATIONS, GENERATIONS = 25, 3


class Rows(Protocol[Vector_co]):
    """A matrix, or a sequence of its rows."""

    def __getitem__(self, row: int, /) -> Vector_co: ...


def moved(values: Rows[Vector], ranked: Sequence[int], num_elites: int, *, before: Vector) -> Vector:
    """The center after a step: ``before + 2 (towards - 0.3 away)``.

    ``towards`` is the vector from ``before`` to the weighted mean of the best, ``away`` to that of the worst.

    Args:
        values: The N children ``(D,)``, or their expected values: a matrix, or any sequence of rows.
        ranked: Indices of the children, best first.
        num_elites: K, the number of best children and of worst children that count.
        before: ``(D,)``, the center that the children were drawn around.

    Returns:
        ``(D,)``.
    """
    towards = weighted_mean(values, ranked[:num_elites])
    away = weighted_mean(values, ranked[::-1][:num_elites])
    result: Vector = before + LEARNING_RATE * ((towards - before) - REPULSION * (away - before))
    return result


def weighted_mean(values: Rows[Vector], ranked: Sequence[int]) -> Vector:
    """The mean of the K rows ``ranked``, best first, weighted by log(K + 1/2) - log(rank).

    These are the weights of the (mu/mu_w, lambda) evolution strategy (Hansen 2016, eq. 49). Rows are
    added one by one, because the rounding of a matrix product depends on the number of threads.
    """
    weights = [math.log(len(ranked) + 0.5) - math.log(rank + 1) for rank in range(len(ranked))]
    total = reduce(add, weights)  # since Python 3.12, ``sum`` rounds differently
    mean = values[ranked[0]] * (weights[0] / total)
    for weight, row in zip(weights[1:], ranked[1:], strict=True):
        mean += values[row] * (weight / total)
    return mean
