"""Checks of user arguments. Each error names the argument, the expected value and the value that it got."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: The values of a plain mask: a weight is removed or kept.
BITS = (0, 1)
_WHOLE = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

#: The greatest finite float32. Every number that a user passes ends up as float32.
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
#: NumPy arrays have at most 64 dimensions, and one of them is the batch.
_MAX_DIMENSIONS = 63


def check_count(name: str, value: Any, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` as an int of at least ``minimum`` (and at most ``maximum``).

    Raises:
        TypeError: ``value`` is not a whole number, or is a bool.
        ValueError: ``value`` is out of range.
    """
    expected = f"expected a whole number >= {minimum}" + ("" if maximum is None else f" and <= {maximum}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: {expected}, got {value!r}")
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{name}: {expected}, got {value!r}")
    return number


def check_real(
    name: str, value: Any, *, above: float | None = None, minimum: float | None = None, below: float | None = None
) -> float:
    """Return ``value`` as a finite float within ``(above, below)`` or ``[minimum, below)``.

    Raises:
        TypeError: ``value`` is not a real number.
        ValueError: ``value`` is NaN, infinite, too large for float32, or out of range.
    """
    bounds = [f"> {above:g}" if above is not None else "", f">= {minimum:g}" if minimum is not None else ""]
    bounds.append(f"and < {below:g}" if below is not None else "")
    expected = " ".join(["expected a finite number", *filter(None, bounds)])
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: {expected}, got {value!r}")
    number = _to_float(value)
    finite = math.isfinite(number)
    if finite and abs(number) > _MAX_FLOAT32:
        raise ValueError(f"{name}: expected a number that float32 can hold, got {value!r}")
    if (
        not finite
        or (above is not None and np.float32(number) <= above)
        or (minimum is not None and number < minimum)
        or (below is not None and number >= below)
    ):
        raise ValueError(f"{name}: {expected}, got {value!r}")
    return number


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool.

    Raises:
        TypeError: ``value`` is not a bool.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        TypeError: ``value`` is not a string.
        ValueError: ``value`` is not one of ``choices``.
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
        TypeError: ``value`` is not a whole number.
        ValueError: ``value`` is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number in [0, 2**63), got {value!r}")
    if not 0 <= (seed := int(value)) < 2**63:
        raise ValueError(f"{name}: expected a whole number in [0, 2**63), got {value!r}")
    return seed


def check_sparsity(name: str, value: Any) -> float:
    """Return ``value`` as a sparsity, the fraction of weights removed, in ``[0, 1)``.

    Raises:
        TypeError: ``value`` is not a real number.
        ValueError: ``value`` is NaN or outside ``[0, 1)``.
    """
    return check_real(name, value, minimum=0.0, below=1.0)


def check_rescale(name: str, value: Any, num_layers: int | None = None) -> bool | tuple[float, ...]:
    """Return ``value`` as a bool, or as one factor for each layer, rounded to float32.

    ``num_layers`` is None if the network is not known yet.

    Raises:
        TypeError: ``value`` is neither.
        ValueError: The number of factors is wrong, or a factor is not finite and above 0.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        factors = "a factor for each layer" if num_layers is None else f"{num_layers} factors"
        raise TypeError(f"{name}: expected True, False or {factors}, got {value!r}")
    if num_layers is not None and len(value) != num_layers:
        raise ValueError(f"{name}: expected a factor for each of {num_layers} layers, got {value!r}")
    return tuple(float(np.float32(check_real(name, factor, above=0.0))) for factor in value)


def check_matrix(name: str, value: torch.Tensor, num_columns: int) -> torch.Tensor:
    """Return ``value`` if it has shape ``(N, num_columns)`` and no NaN.

    Raises:
        ValueError: The shape is wrong, or an element is NaN (the message gives its row and column).
    """
    if value.ndim != 2 or value.shape[1] != num_columns:
        raise ValueError(f"{name}: expected shape (N, D) = (N, {num_columns}), got {tuple(value.shape)}")
    # The sum is NaN if any element is NaN (or if infinities cancel), and needs no (N, D) temporary.
    if value.is_floating_point() and torch.isnan(value.sum()):
        rows, columns = torch.nonzero(torch.isnan(value), as_tuple=True)
        if len(rows):
            raise ValueError(f"{name}: expected no NaN, got one at row {int(rows[0])}, column {int(columns[0])}")
    return value


def check_mapping(name: str, value: Any) -> dict[str, Any]:
    """Return ``value`` as a dict; None becomes an empty dict.

    Raises:
        TypeError: ``value`` is not a mapping, or a key is not a string.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name}: expected a mapping of names to values, got {value!r}")
    return dict(value)


def check_shape(name: str, value: Any) -> tuple[int, ...]:
    """Return ``value`` as a shape.

    Raises:
        TypeError: ``value`` is not a sequence of whole numbers.
        ValueError: A size is below 1, or there are more than 63 (NumPy's limit, less one for the batch).
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a tuple of whole numbers >= 1, got {value!r}")
    if len(value) > _MAX_DIMENSIONS:
        raise ValueError(f"{name}: expected at most {_MAX_DIMENSIONS} whole numbers, got {len(value)}")
    return tuple(check_count(f"{name}[{i}]", size) for i, size in enumerate(value))


@contextmanager
def naming(**names: str) -> Iterator[None]:
    """Rename arguments in errors raised inside: ``naming(seed="network_seed")`` renames ``seed``."""
    try:
        yield
    except (TypeError, ValueError, FileExistsError) as error:
        name, rest = re.match(r"(\w*)(.*)", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
        kinds = (TypeError, ValueError, FileExistsError)
        if name not in names or not rest.startswith((":", "[")) or type(error) not in kinds:
            raise
        raise type(error)(names[name] + rest) from error.__cause__


def reason_of(error: BaseException) -> str:
    """Return an error's message, or its repr if the message is empty."""
    return str(error) or repr(error)


def check_path(name: str, value: Any) -> Path:
    """Return ``value`` as a path.

    Raises:
        TypeError: ``value`` is neither a string nor a path.
        ValueError: ``value`` is empty or contains a null character.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {value!r}")
    if str(value) == "" or "\0" in str(value):
        raise ValueError(f"{name}: expected a path, got {value!r}")
    return Path(value)


def check_numbers(
    name: str, value: Any, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return a copy of ``value``, a tensor or array-like, as a plain tensor of real numbers.

    Raises:
        TypeError: An element is not a real number, or the rows differ in length.
    """
    if isinstance(value, torch.Tensor):
        if not value.is_complex():
            return value.detach().to(device, dtype, copy=True).as_subclass(torch.Tensor)
    else:
        try:
            array = np.asarray(value)
            if array.dtype.kind in "fiub":
                with np.errstate(over="ignore"):
                    array = array.astype(np.float64 if dtype == torch.float64 else np.float32)
                return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)).to(device, dtype)
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{name}: expected an array of real numbers, got {value!r}")


def check_mask(name: str, value: Any, num_weights: int, values: Sequence[int] = BITS) -> torch.Tensor:
    """Return ``value``, a tensor or an array, on the CPU if it is the mask of one solution, ``(D,)``.

    Args:
        name: Name of the argument, for error messages.
        value: What was given.
        num_weights: D.
        values: The values that a mask may have. Masks of 0 and 1 are bool, all others int8.

    Raises:
        TypeError: The elements are not bools, or not whole numbers if there are other values than 0 and 1.
        ValueError: The shape is wrong, or an element is not one of ``values``.
    """
    mask = _mask(name, value, f"(D,) = ({num_weights},)", values)
    if mask.shape != (num_weights,):
        raise ValueError(f"{name}: expected shape (D,) = ({num_weights},), got {tuple(mask.shape)}")
    return mask.cpu()


def check_masks(name: str, value: Any, num_weights: int, values: Sequence[int] = BITS) -> torch.Tensor:
    """Return ``value``, a tensor or an array, on its own device if it is N >= 1 masks, ``(N, D)``.

    Args:
        name: Name of the argument, for error messages.
        value: What was given.
        num_weights: D.
        values: See ``check_mask``.

    Raises:
        TypeError: See ``check_mask``.
        ValueError: See ``check_mask``.
    """
    shape = f"(N, D) = (N, {num_weights})"
    masks = _mask(name, value, shape, values)
    if masks.ndim != 2 or masks.shape[1] != num_weights or not len(masks):
        raise ValueError(f"{name}: expected shape {shape} with N >= 1, got {tuple(masks.shape)}")
    return masks


def _mask(name: str, value: Any, shape: str, values: Sequence[int]) -> torch.Tensor:
    """Return ``value`` as a plain tensor of bools or int8; ``shape`` is the expected shape for the error message.

    Raises:
        TypeError: The elements have another type.
        ValueError: An element is not one of ``values``.
    """
    is_plain = tuple(values) == BITS
    listed = f"{values[0]} to {values[-1]}" if isinstance(values, range) else f"each one of {tuple(values)}"
    mask = value if isinstance(value, torch.Tensor) else torch.as_tensor(value) if _kind_of(value) in "biu" else None
    if mask is None or mask.dtype not in ((torch.bool,) if is_plain else _WHOLE):
        expected = "bools" if is_plain else f"whole numbers, {listed},"
        raise TypeError(f"{name}: expected {expected} of shape {shape}, got {value!r}")
    mask = mask.as_subclass(torch.Tensor)
    if is_plain:
        return mask
    if not torch.isin(mask, torch.tensor(values, device=mask.device)).all():
        raise ValueError(f"{name}: expected {listed}, got {sorted(set(mask.flatten().tolist()))}")
    return mask.to(torch.int8)


def _kind_of(value: Any) -> str:
    """The kind of an array's dtype, as NumPy has it; "?" if it is not an array."""
    try:
        return np.asarray(value).dtype.kind
    except ValueError:  # rows of different lengths
        return "?"
