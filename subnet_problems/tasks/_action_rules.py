"""Rules that turn a policy's outputs into actions: their base class, and one rule for each space without parts."""

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
    """A rule that turns outputs into actions. Rules compare by value: equal rules make equal actions."""

    if TYPE_CHECKING:  # a property here would conflict with subclasses whose shape is a dataclass field

        @property
        def shape(self) -> tuple[int, ...]:
            """Shape of the outputs, the ``act_shape`` that ``GymNE`` gives to networks."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of outputs of the policy."""

    @property
    def count(self) -> int:
        """Number of numbers in an action."""
        return self.length

    @property
    def limits(self) -> Limits | None:
        """Lower and upper bounds, flat, to which outputs are clipped; None if no output has a bound."""
        return None

    @abstractmethod
    def __call__(self, outputs: FloatArray) -> Any:
        """Turn outputs ``(n, length)`` into n actions: one array if all have the same shape, else a list.

        Raises:
            TypeError: ``outputs`` is not an array.
            ValueError: The shape is wrong.
        """

    def one_by_one(self, actions: Any) -> list[Any]:
        """Turn the result of a call into a list of n actions that the space contains."""
        return [actions[i, ...] for i in range(len(actions))]

    def leaves(self) -> Iterator[tuple[str, Actions]]:
        """Yield the rules without parts inside this one, in the order of the outputs, each with its place in an action.

        A place is a sequence of keys and indices, with a dot before each: ``.arm.0``. It is empty for a rule by itself.
        """
        yield "", self

    def like(self, other: Actions) -> bool:
        """Return True if a policy with these actions can play a task with ``other``; bounds and dtypes may differ."""
        return type(self) is type(other) and self.shape == other.shape

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``actions_from_json`` reads."""


@dataclass(frozen=True)
class DiscreteActions(Actions):
    """The action is the index of the largest output, plus ``start``.

    Attributes:
        n: The number of actions, and of outputs.
        start: The first action. Default: 0.

    Raises:
        TypeError: An argument is not a whole number.
        ValueError: An argument is out of range: ``n`` below 1, or a number that int64 might not hold.
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
        """The one choice as (number of outputs, first action), in the form of ``MultiDiscreteActions.choices``."""
        return ((self.n, self.start),)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Return actions ``(n,)`` int64. The first of equal outputs wins. See ``Actions``."""
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
    """The action is an array of choices. A choice is the index of the largest of its own outputs, plus its start.

    Attributes:
        nvec: The number of outputs of each choice, flat.
        start: The lowest value of each choice, flat.
        shape_of_action: Shape of an action.
        dtype: Integer dtype of an action. Default: ``"int64"``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range, a length does not match the shape, or the dtype is not an integer type.
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
            raise ValueError(f"start: expected choices that {self.dtype} can hold, got {self}")

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
        """Each choice as (number of outputs, lowest value)."""
        return tuple(zip(self.nvec, self.start, strict=True))

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Return actions ``(n, *shape_of_action)``. The first of equal outputs wins. See ``Actions``."""
        check_outputs(outputs, self.length)
        indices = [outputs[:, part].argmax(axis=1) for part in slices_of(self.nvec)]
        actions = np.stack(indices, axis=1) + np.array(self.start, dtype=np.int64)
        return actions.astype(self.dtype).reshape(-1, *self.shape_of_action)

    def like(self, other: Actions) -> bool:
        """See ``Actions``. The choices must have the same numbers of outputs."""
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
    """The action is an int8 array: 1 where the output is above 0, else 0.

    Attributes:
        shape: Shape of an action.

    Raises:
        TypeError: ``shape`` is not a tuple of whole numbers.
        ValueError: A size is below 1.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape("shape", self.shape)

    @property
    def length(self) -> int:
        """See ``Actions``."""
        return prod(self.shape)

    def __call__(self, outputs: FloatArray) -> NDArray[np.int8]:
        """Return actions ``(n, *shape)``. See ``Actions``."""
        check_outputs(outputs, self.length)
        return (outputs > 0.0).astype(np.int8).reshape(-1, *self.shape)

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``."""
        return {"kind": "multi_binary", "shape": list(self.shape)}


@dataclass(frozen=True)
class BoxActions(Actions):
    """The action is the outputs, clipped to the bounds, in the shape of the space.

    Attributes:
        low: Lower bounds, flat; -inf for no bound.
        high: Upper bounds, flat; inf for no bound.
        shape: Shape of an action.
        dtype: Dtype of an action. For an integer dtype, outputs are rounded to the nearest whole number. Default:
            ``"float32"``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A bound is NaN or missing, a lower bound is above its upper bound, or the dtype is not numeric.
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
        """Return actions ``(n, *shape)``. See ``Actions``."""
        check_outputs(outputs, self.length)
        low, high, dtype = self.bounds
        if dtype.kind != "f":
            outputs = np.rint(outputs)
        # Clipping comes last, in the space's own precision, so that rounding cannot leave the bounds.
        actions = np.minimum(np.maximum(outputs.astype(low.dtype, copy=False), low), high)
        return np.asarray(actions, dtype=dtype).reshape(-1, *self.shape)

    @cached_property
    def bounds(self) -> tuple[NDArray[Any], NDArray[Any], np.dtype[Any]]:
        """Lower and upper bounds, flat, in the precision in which actions are clipped; and the dtype of an action."""
        dtype = np.dtype(self.dtype)
        precision = np.float32 if dtype == np.float32 else np.float64
        with np.errstate(over="ignore"):  # a bound that is too large becomes infinite, and is clipped below
            low, high = np.asarray(self.low, dtype=precision), np.asarray(self.high, dtype=precision)
        # If the space has no bound, the range of the dtype is the bound.
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        least, greatest = float(info.min), float(info.max)
        if dtype.kind != "f" and int(greatest) > info.max:  # float64 cannot hold the greatest int64
            greatest = float(np.nextafter(greatest, 0.0))
        low, high = np.clip(low, least, greatest), np.clip(high, least, greatest)
        return low, high, dtype

    def to_json(self) -> dict[str, Any]:
        """See ``Actions``. Null stands for no bound."""
        return {
            "kind": "box",
            "low": [v if np.isfinite(v) else None for v in self.low],
            "high": [v if np.isfinite(v) else None for v in self.high],
            "shape": list(self.shape),
            "dtype": self.dtype,
        }


def slices_of(lengths: Sequence[int]) -> list[slice]:
    """Return the slices of concatenated parts of these lengths."""
    return [slice(start, stop) for start, stop in pairwise(accumulate(lengths, initial=0))]


def check_outputs(outputs: FloatArray, length: int) -> None:
    """Check the outputs of a policy.

    Raises:
        TypeError: ``outputs`` is not an array.
        ValueError: The shape is wrong.
    """
    if not isinstance(outputs, np.ndarray):
        raise TypeError(f"outputs: expected an array of shape (n, {length}), got {outputs!r}")
    if outputs.ndim != 2 or outputs.shape[1] != length:
        raise ValueError(f"outputs: expected shape (n, {length}), got {outputs.shape}")
