"""Checks of arguments. They live here because ``algorithms`` imports nothing from ``subnet_problems``."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


def check_whole_number(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` as an int of at least ``minimum`` (and at most ``maximum``).

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is out of range.
    """
    expected = f"a whole number >= {minimum}" + ("" if maximum is None else f" and <= {maximum}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    if number > sys.maxsize:  # no list can be longer
        raise ValueError(f"{name}: expected {expected} and <= {sys.maxsize}, got {value!r}")
    return number


def check_positive(name: str, value: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Return ``value`` as a finite float above 0.

    Raises:
        TypeError: It is not a real number.
        ValueError: It is NaN, infinite or not positive, or becomes so when it is converted to ``dtype``.
    """
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a finite number > 0, got {value!r}")
    if not 0.0 < number <= sys.float_info.max:  # an int may be too large for float()
        raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
    if not 0.0 < torch.tensor(float(number), dtype=dtype).item() < math.inf:
        raise ValueError(f"{name}: expected a finite number > 0 that {dtype} can hold, got {value!r}")
    return float(number)


def check_vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return ``values`` as a vector of at least one finite float.

    Raises:
        TypeError: They are not real numbers.
        ValueError: They are empty, one is not finite, or they are not a vector.
    """
    try:
        vector = np.asarray(values)
    except ValueError:  # rows of different lengths
        vector = np.empty((0, 0))
    if not np.issubdtype(vector.dtype, np.number) or np.iscomplexobj(vector):
        raise TypeError(f"{name}: expected real numbers, got {values!r}")
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise ValueError(f"{name}: expected a vector of finite numbers, got {values!r}")
    return vector.astype(np.float64)


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool.

    Raises:
        TypeError: It is not a bool.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_path(name: str, value: Any) -> Path:
    """Return ``value`` as a file path.

    Raises:
        TypeError: It is neither a string nor a path.
        ValueError: It is empty, contains a null character, or is a folder.
    """
    if not isinstance(value, str | PathLike):
        raise TypeError(f"{name}: expected a path, got {value!r}")
    if str(value) == "" or "\0" in str(value):
        raise ValueError(f"{name}: expected a path, got {value!r}")
    path = Path(value)
    with suppress(OSError):  # opening the file reports a name that is too long
        if path.is_dir():
            raise ValueError(f"{name}: expected a file, got the folder {value!r}")
    return path
