"""How a policy meets an environment's spaces: flat observations in, outputs to actions out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan, prod
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ._checks import check_count, check_shape

FloatArray = NDArray[np.float32]

_DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class DiscreteActions:
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
        """How many outputs the policy has."""
        return self.n

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the outputs, as ``GymNE`` tells it to networks."""
        return (self.n,)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Outputs ``(n, length)`` to actions ``(n,)`` int64. The first of equal outputs wins.

        Raises:
            TypeError: ``outputs`` is no array.
            ValueError: Its shape is another.
        """
        _check_outputs(outputs, self.n)
        actions: NDArray[Any] = outputs.argmax(axis=1)
        return actions + self.start if self.start else actions

    def to_json(self) -> dict[str, Any]:
        """A JSON object ``actions_from_json`` reads."""
        return {"kind": "discrete", "n": self.n, "start": self.start}


@dataclass(frozen=True)
class BoxActions:
    """The action is the outputs, clipped to the bounds, in the space's shape.

    Attributes:
        low: Lower bounds, flat; -inf where there is none.
        high: Upper bounds, flat.
        shape: Shape of an action.
        dtype: Its dtype; outputs are rounded to the nearest whole number where it is an integer.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A bound is NaN or missing, a lower one above its upper one, or the dtype is none of numbers.
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
        """How many outputs the policy has."""
        return prod(self.shape)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Outputs ``(n, length)`` to actions ``(n, *shape)``.

        Raises:
            TypeError: ``outputs`` is no array.
            ValueError: Its shape is another.
        """
        _check_outputs(outputs, self.length)
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
        """A JSON object ``actions_from_json`` reads; null stands for no bound."""
        return {
            "kind": "box",
            "low": [v if np.isfinite(v) else None for v in self.low],
            "high": [v if np.isfinite(v) else None for v in self.high],
            "shape": list(self.shape),
            "dtype": self.dtype,
        }


Actions = DiscreteActions | BoxActions


def _check_outputs(outputs: FloatArray, length: int) -> None:
    if not isinstance(outputs, np.ndarray):
        raise TypeError(f"outputs: expected an array of shape (n, {length}), got {outputs!r}")
    if outputs.ndim != 2 or outputs.shape[1] != length:
        raise ValueError(f"outputs: expected shape (n, {length}), got {outputs.shape}")


def actions_from_json(data: dict[str, Any]) -> Actions:
    """What ``to_json`` of either kind wrote.

    Raises:
        ValueError: ``data`` is not such an object.
    """
    try:
        if data["kind"] == "discrete":
            return DiscreteActions(n=data["n"], start=data["start"])
        if data["kind"] == "box":
            low = tuple(-np.inf if v is None else float(v) for v in data["low"])
            high = tuple(np.inf if v is None else float(v) for v in data["high"])
            return BoxActions(low=low, high=high, shape=tuple(data["shape"]), dtype=data["dtype"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"action: expected a description of Discrete or Box actions, got {data!r}") from error
    raise ValueError(f"action: expected a description of Discrete or Box actions, got {data!r}")


def actions_of(space: gym.Space[Any]) -> Actions:
    """The rule for an action space.

    Raises:
        ValueError: It is neither Discrete nor Box.
    """
    if isinstance(space, gym.spaces.Discrete):
        return DiscreteActions(n=int(space.n), start=int(space.start))
    if isinstance(space, gym.spaces.Box) and prod(space.shape) > 0:
        low, high = (tuple(float(v) for v in bound.reshape(-1)) for bound in (space.low, space.high))
        return BoxActions(low=low, high=high, shape=space.shape, dtype=str(space.dtype))
    raise ValueError(f"env: expected an action space Discrete or Box (not empty), got {space}")


def observation_shape(space: gym.Space[Any]) -> tuple[int, ...]:
    """The shape of the observations of a Box space.

    Raises:
        ValueError: It is not Box, or empty.
    """
    if isinstance(space, gym.spaces.Box) and prod(space.shape) > 0:
        return space.shape
    raise ValueError(
        f"env: expected an observation space Box (not empty), which flattens to a vector, got {space}; "
        "wrap the environment, for instance in gymnasium.wrappers.FlattenObservation"
    )
