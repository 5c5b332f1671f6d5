"""How the outputs of a policy become actions: what all rules have, and one for each space that has no parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import isnan, prod
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._checks import check_count, check_shape

FloatArray = NDArray[np.float32]
Limits = tuple[tuple[float, ...], tuple[float, ...]]

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = ("float16", "float32", "float64", *_WHOLE)


class Actions(ABC):
    """A rule that makes actions of outputs. Rules are values: equal ones make equal actions."""

    if TYPE_CHECKING:  # a property would stand in the way of those that keep their shape as a field

        @property
        def shape(self) -> tuple[int, ...]:
            """Shape of the outputs, as ``GymNE`` gives it to networks."""

    @property
    @abstractmethod
    def length(self) -> int:
        """How many outputs the policy has."""

    @property
    def count(self) -> int:
        """How many numbers an action has."""
        return self.length

    @property
    def limits(self) -> Limits | None:
        """Lower and upper bounds that outputs are clipped to, flat; None where no output has a bound."""
        return None

    @abstractmethod
    def __call__(self, outputs: FloatArray) -> Any:
        """Outputs ``(n, length)`` to a sequence of n actions: an array where all are arrays of one shape, else a list.

        Raises:
            TypeError: ``outputs`` is no array.
            ValueError: Its shape is wrong.
        """

    def one_by_one(self, actions: Any) -> list[Any]:
        """What a call returned as n actions that the space contains."""
        return [actions[i, ...] for i in range(len(actions))]

    def leaves(self) -> Iterator[tuple[str, Actions]]:
        """The rules that this one is made of, in the order of the outputs, each with where in an action its part is.

        A part's place is its keys and numbers, with a dot before each: ``.arm.0``. It is empty for a rule alone.
        """
        yield "", self

    def like(self, other: Actions) -> bool:
        """Whether a policy with these actions can play where ``other`` are asked for; bounds and dtypes may differ."""
        return type(self) is type(other) and self.shape == other.shape

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``actions_from_json`` reads."""


@dataclass(frozen=True)
class DiscreteActions(Actions):
    """The action is the index of the largest output, plus ``start``.

    Attributes:
        n: How many actions there are, and outputs.
        start: The first action.

    Raises:
        TypeError: An argument is not a whole number.
        ValueError: There are no actions, or int64 cannot hold them.
    """

    n: int
    start: int = 0

    def __post_init__(self) -> None:
        check_count("n", self.n, maximum=2**62)
        check_count("start", self.start, minimum=-(2**62), maximum=2**62)

    @property
    def length(self) -> int:
        """See ``Actions``."""
        return self.n

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Actions``."""
        return (self.length,)

    @property
    def count(self) -> int:
        """See ``Actions``."""
        return 1

    @property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """How many outputs each choice is among, and the number of the first, as ``MultiDiscreteActions`` has them."""
        return ((self.n, self.start),)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Actions ``(n,)`` int64. The first of equal outputs wins. See ``Actions``."""
        check_outputs(outputs, self.n)
        actions: NDArray[Any] = outputs.argmax(axis=1)
        return actions + self.start if self.start else actions

    def one_by_one(self, actions: Any) -> list[Any]:
        """See ``Actions``."""
        numbers: list[Any] = actions.tolist()
        return numbers

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``."""
        return {"kind": "discrete", "n": self.n, "start": self.start}


@dataclass(frozen=True)
class MultiDiscreteActions(Actions):
    """An action is an array of choices, each the index of the largest of some outputs, plus its first number.

    Attributes:
        nvec: For each choice, how many outputs it is among, flat.
        start: For each choice, the number of the first.
        shape_of_action: Shape of an action.
        dtype: Its dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range, there are more or fewer than the shape has, or dtype is no integer.
    """

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    shape_of_action: tuple[int, ...]
    dtype: str = "int64"

    def __post_init__(self) -> None:
        size = prod(check_shape("shape_of_action", self.shape_of_action))
        for name, numbers, least in (("nvec", self.nvec, 1), ("start", self.start, -(2**62))):
            if not isinstance(numbers, tuple) or len(numbers) != size:
                raise ValueError(f"{name}: expected a tuple of {size} whole numbers, got {numbers!r}")
            for number in numbers:
                check_count(name, number, minimum=least, maximum=2**62)
        if self.dtype not in _WHOLE:
            raise ValueError(f"dtype: expected one of {_WHOLE}, got {self.dtype!r}")
        held = np.iinfo(self.dtype)
        if any(start < held.min or start + n - 1 > held.max for n, start in self.choices):
            raise ValueError(f"start: expected numbers that {self.dtype} holds, got {self}")

    @property
    def length(self) -> int:
        """See ``Actions``."""
        return sum(self.nvec)

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Actions``."""
        return (self.length,)

    @property
    def count(self) -> int:
        """See ``Actions``."""
        return len(self.nvec)

    @property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """How many outputs each choice is among, and the number of the first."""
        return tuple(zip(self.nvec, self.start, strict=True))

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Actions ``(n, *shape_of_action)``. The first of equal outputs wins. See ``Actions``."""
        check_outputs(outputs, self.length)
        indices = [outputs[:, part].argmax(axis=1) for part in slices_of(self.nvec)]
        actions = np.stack(indices, axis=1) + np.array(self.start, dtype=np.int64)
        return actions.astype(self.dtype).reshape(-1, *self.shape_of_action)

    def like(self, other: Actions) -> bool:
        """See ``Actions``; the choices must be among as many numbers."""
        return isinstance(other, MultiDiscreteActions) and (self.nvec, self.shape_of_action) == (
            other.nvec,
            other.shape_of_action,
        )

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``."""
        numbers = {"nvec": list(self.nvec), "start": list(self.start), "shape": list(self.shape_of_action)}
        return {"kind": "multi_discrete", **numbers, "dtype": self.dtype}


@dataclass(frozen=True)
class MultiBinaryActions(Actions):
    """An action is an array of int8, 1 where the output is above 0, else 0.

    Attributes:
        shape: Shape of an action.

    Raises:
        TypeError: It is no tuple of whole numbers.
        ValueError: One of them is below 1.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape("shape", self.shape)

    @property
    def length(self) -> int:
        """See ``Actions``."""
        return prod(self.shape)

    def __call__(self, outputs: FloatArray) -> NDArray[np.int8]:
        """Actions ``(n, *shape)``. See ``Actions``."""
        check_outputs(outputs, self.length)
        return (outputs > 0.0).astype(np.int8).reshape(-1, *self.shape)

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``."""
        return {"kind": "multi_binary", "shape": list(self.shape)}


@dataclass(frozen=True)
class BoxActions(Actions):
    """The action is the outputs, clipped to the bounds, in the space's shape.

    Attributes:
        low: Lower bounds, flat; -inf where there is none.
        high: Upper bounds, flat.
        shape: Shape of an action.
        dtype: Its dtype; outputs are rounded to the nearest whole number where it is an integer.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A bound is NaN or missing, a lower one above its upper one, or the dtype is not numeric.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        size = prod(check_shape("shape", self.shape))
        for name, bounds in (("low", self.low), ("high", self.high)):
            if not isinstance(bounds, tuple) or not all(isinstance(bound, Real) for bound in bounds):
                raise TypeError(f"{name}: expected a tuple of numbers, got {bounds!r}")
            if len(bounds) != size or any(isnan(bound) for bound in bounds):
                raise ValueError(f"{name}: expected {size} numbers, none of them NaN, got {bounds!r}")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low: expected no bound above high = {self.high}, got {self.low}")
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype: expected one of {_DTYPES}, got {self.dtype!r}")

    @property
    def length(self) -> int:
        """See ``Actions``."""
        return prod(self.shape)

    @property
    def limits(self) -> Limits:
        """See ``Actions``."""
        return self.low, self.high

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Actions ``(n, *shape)``. See ``Actions``."""
        check_outputs(outputs, self.length)
        low, high, dtype = self.bounds
        if dtype.kind != "f":
            outputs = np.rint(outputs)
        # Clipping comes last, in the space's own precision, so that no rounding leaves the bounds.
        actions = np.minimum(np.maximum(outputs.astype(low.dtype, copy=False), low), high)
        return np.asarray(actions, dtype=dtype).reshape(-1, *self.shape)

    @cached_property
    def bounds(self) -> tuple[NDArray[Any], NDArray[Any], np.dtype[Any]]:
        """What actions are clipped to, flat and in the precision they are clipped in, and then the dtype they get."""
        dtype = np.dtype(self.dtype)
        precision = np.float32 if dtype == np.float32 else np.float64
        with np.errstate(over="ignore"):  # a bound that is too large becomes infinite, and is clipped below
            low, high = np.asarray(self.low, dtype=precision), np.asarray(self.high, dtype=precision)
        # Where the space has no bound, what the dtype can hold is one.
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        least, greatest = float(info.min), float(info.max)
        if dtype.kind != "f" and int(greatest) > info.max:  # the greatest int64 is no float64
            greatest = float(np.nextafter(greatest, 0.0))
        low, high = np.clip(low, least, greatest), np.clip(high, least, greatest)
        return low, high, dtype

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``; null stands for no bound."""
        return {
            "kind": "box",
            "low": [v if np.isfinite(v) else None for v in self.low],
            "high": [v if np.isfinite(v) else None for v in self.high],
            "shape": list(self.shape),
            "dtype": self.dtype,
        }


def slices_of(lengths: Sequence[int]) -> list[slice]:
    """Where things of these lengths are that stand one after another."""
    return [slice(start, stop) for start, stop in pairwise(accumulate(lengths, initial=0))]


def check_outputs(outputs: FloatArray, length: int) -> None:
    """Check the outputs of a policy.

    Raises:
        TypeError: They are no array.
        ValueError: Their shape is wrong.
    """
    if not isinstance(outputs, np.ndarray):
        raise TypeError(f"outputs: expected an array of shape (n, {length}), got {outputs!r}")
    if outputs.ndim != 2 or outputs.shape[1] != length:
        raise ValueError(f"outputs: expected shape (n, {length}), got {outputs.shape}")
