"""How a policy meets an environment's spaces: flat observations in, outputs to actions out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class DiscreteActions:
    """The action is the index of the largest output, plus ``start``.

    Attributes:
        n: How many actions there are, and outputs.
        start: The first action.
    """

    n: int
    start: int = 0

    @property
    def length(self) -> int:
        """How many outputs the policy has."""
        return self.n

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the outputs, as ``GymNE`` tells it to networks."""
        return (self.n,)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Outputs ``(n, length)`` to actions ``(n,)`` int64. The first of equal outputs wins."""
        actions: NDArray[Any] = outputs.argmax(axis=1)
        return actions + self.start if self.start else actions

    def to_json(self) -> dict[str, Any]:
        """A JSON object :func:`actions_from_json` reads."""
        return {"kind": "discrete", "n": self.n, "start": self.start}


@dataclass(frozen=True)
class BoxActions:
    """The action is the outputs, clipped to the bounds, in the space's shape.

    Attributes:
        low: Lower bounds, flat; -inf where there is none.
        high: Upper bounds, flat.
        shape: Shape of an action.
        dtype: Its dtype; outputs are rounded to the nearest whole number where it is an integer.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def length(self) -> int:
        """How many outputs the policy has."""
        return prod(self.shape)

    def __call__(self, outputs: FloatArray) -> NDArray[Any]:
        """Outputs ``(n, length)`` to actions ``(n, *shape)``."""
        low, high, dtype = self._bounds
        if dtype.kind != "f":
            outputs = np.rint(outputs)
        # Clipping comes last, in the space's own precision, so that no rounding leaves the bounds.
        actions = np.minimum(np.maximum(outputs.astype(low.dtype, copy=False), low), high)
        return np.asarray(actions, dtype=dtype).reshape(-1, *self.shape)

    @cached_property
    def _bounds(self) -> tuple[NDArray[Any], NDArray[Any], np.dtype[Any]]:
        dtype = np.dtype(self.dtype)
        precision = np.float32 if dtype == np.float32 else np.float64
        low, high = np.asarray(self.low, dtype=precision), np.asarray(self.high, dtype=precision)
        # Where the space has no bound, what the dtype can hold is one.
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        least, greatest = float(info.min), float(info.max)
        if dtype.kind != "f" and int(greatest) > info.max:  # the greatest int64 is no float64
            greatest = float(np.nextafter(greatest, 0.0))
        low, high = np.clip(low, least, greatest), np.clip(high, least, greatest)
        return low, high, dtype

    def to_json(self) -> dict[str, Any]:
        """A JSON object :func:`actions_from_json` reads; null stands for no bound."""
        return {
            "kind": "box",
            "low": [v if np.isfinite(v) else None for v in self.low],
            "high": [v if np.isfinite(v) else None for v in self.high],
            "shape": list(self.shape),
            "dtype": self.dtype,
        }


Actions = DiscreteActions | BoxActions


def actions_from_json(data: dict[str, Any]) -> Actions:
    """What ``to_json`` of either kind wrote.

    Raises:
        ValueError: ``data`` is not such an object.
    """
    try:
        if data["kind"] == "discrete":
            n, start = data["n"], data["start"]
            if type(n) is int and type(start) is int and 1 <= n < 2**62 and abs(start) < 2**62:
                return DiscreteActions(n=n, start=start)
        elif data["kind"] == "box":
            low = tuple(-np.inf if v is None else float(v) for v in data["low"])
            high = tuple(np.inf if v is None else float(v) for v in data["high"])
            shape, dtype = tuple(data["shape"]), np.dtype(str(data["dtype"]))
            if (
                all(type(n) is int and n >= 1 for n in shape)
                and len(low) == len(high) == prod(shape)
                and all(a <= b for a, b in zip(low, high, strict=True))
                and dtype.kind in "fiu"
            ):
                return BoxActions(low=low, high=high, shape=shape, dtype=str(dtype))
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
