"""The values of a mask: 0 and 1 by default. A rule with other values may flip or multiply the weights that it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from .._checks import BITS


def values_of(rule: Any) -> tuple[int, ...]:
    """The values of a rule's masks: its ``values``, or 0 and 1 if it has none.

    Raises:
        TypeError: ``values`` is not a sequence of whole numbers.
        ValueError: ``values`` is not made of distinct numbers from -128 to 127, 0 among them.
    """
    values = getattr(rule, "values", BITS)
    if not isinstance(values, Sequence) or not all(isinstance(value, Integral) for value in values):
        raise TypeError(f"values: expected whole numbers such as (-1, 0, 1), got {values!r}")
    values = tuple(int(value) for value in values)
    if len(values) < 2 or len(set(values)) < len(values) or 0 not in values or min(values) < -128 or max(values) > 127:
        raise ValueError(f"values: expected distinct numbers from -128 to 127, 0 among them, got {values}")
    return values


def representatives(mask: Tensor, values: Sequence[int], *, stdev: float, dtype: torch.dtype) -> Tensor:
    """Scores that stand for masks ``(N, D)``: the values, in their order, are spread evenly from -stdev to stdev."""
    if mask.dtype == torch.bool:
        index = mask.to(dtype)
    else:
        index = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        for number, value in enumerate(values):
            index += number * (mask == value)
    return (index * (2.0 / (len(values) - 1)) - 1.0) * stdev
