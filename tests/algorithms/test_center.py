"""The mean towards which a center moves."""

import math

import numpy as np
import pytest

from algorithms._center import weighted_mean
from algorithms._fitness import pooled_stdev


@pytest.mark.parametrize("num_rows", [1, 3, 4, 16, 32])
def test_weights_are_added_in_order_on_every_version_of_python(num_rows):
    """Since Python 3.12, ``sum`` rounds differently, and a search would give other numbers than on 3.11."""
    weights, total = [], 0.0
    for rank in range(num_rows):
        weights.append(math.log(num_rows + 0.5) - math.log(rank + 1))
        total += weights[-1]
    order = list(range(num_rows))[::-1]
    mean = weighted_mean(np.eye(num_rows), order)
    assert mean[order].tolist() == [weight / total for weight in weights]


def test_squares_are_added_in_order_on_every_version_of_python():
    groups = [[0.0, 1.0], *[[0.0, 1e-8]] * 20]
    squares = 0.0
    for low, high in groups:
        squares += (high - low) ** 2 / 2
    assert pooled_stdev(groups, []) == math.sqrt(squares / len(groups))
