"""Checks of what a user passes in: each raises an error that names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch


def check_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``.

    Raises:
        TypeError: It is not a whole number (a bool is not one either).
        ValueError: It is below ``minimum``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    return int(value)


def check_real(
    name: str, value: Any, *, above: float | None = None, minimum: float | None = None, below: float | None = None
) -> float:
    """Return ``value`` as a finite float within ``(above, below)`` or ``[minimum, below)``.

    Raises:
        TypeError: It is not a real number.
        ValueError: It is NaN, infinite or out of range.
    """
    bounds = [f"> {above:g}" if above is not None else "", f">= {minimum:g}" if minimum is not None else ""]
    bounds.append(f"< {below:g}" if below is not None else "")
    expected = " ".join(["expected a finite number", *filter(None, bounds)])
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: {expected}, got {value!r}")
    number = float(value)
    if (
        not math.isfinite(number)
        or (above is not None and number <= above)
        or (minimum is not None and number < minimum)
        or (below is not None and number >= below)
    ):
        raise ValueError(f"{name}: {expected}, got {value!r}")
    return number


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool.

    Raises:
        TypeError: It is not one.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        TypeError: It is not a string.
        ValueError: It is none of them.
    """
    choices = sorted(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {choices}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")
    return value


def check_seed(name: str, value: Any) -> int:
    """Return ``value`` as an int in ``[0, 2**63)``.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number in [0, 2**63), got {value!r}")
    if not 0 <= (seed := int(value)) < 2**63:
        raise ValueError(f"{name}: expected a whole number in [0, 2**63), got {value!r}")
    return seed


def check_sparsity(name: str, value: Any) -> float:
    """Return ``value`` as a sparsity, the fraction of weights removed, in ``[0, 1)``.

    Raises:
        TypeError: It is not a real number.
        ValueError: It is NaN or outside ``[0, 1)``.
    """
    return check_real(name, value, minimum=0.0, below=1.0)


def check_matrix(name: str, value: torch.Tensor, num_columns: int) -> torch.Tensor:
    """Return ``value`` if it has shape ``(N, num_columns)`` and no NaN.

    Raises:
        ValueError: Its shape is another, or it holds a NaN (the message says in which row and column).
    """
    if value.ndim != 2 or value.shape[1] != num_columns:
        raise ValueError(f"{name}: expected shape (N, D) = (N, {num_columns}), got {tuple(value.shape)}")
    # The sum is NaN if any element is (or if infinities cancel), and costs no (N, D) temporary.
    if value.is_floating_point() and torch.isnan(value.sum()):
        rows, columns = torch.nonzero(torch.isnan(value), as_tuple=True)
        if len(rows):
            raise ValueError(f"{name}: expected no NaN, got one at row {int(rows[0])}, column {int(columns[0])}")
    return value
