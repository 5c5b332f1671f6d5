"""A compiled helper to find the k-th lowest of many values."""

from __future__ import annotations

import numpy as np

from .._compile import compiled


@compiled()
def enclosed(values, low, high):  # type: ignore[no-untyped-def]
    """The number of values below ``low``, and an array of those from ``low`` to ``high``. NaN is in neither."""
    num_below, count = 0, 0
    inside = np.empty(values.size, dtype=values.dtype)
    for value in values:
        num_below += value < low
        inside[count] = value  # kept if ``count`` moves on: no branch, which would be hard to predict
        count += (value >= low) & (value <= high)
    return num_below, inside[:count]
