"""Rules that turn an environment's observations into the flat vector that a policy receives."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_count, check_shape
from ._rules import KeyedParts, Parts, check_keys, check_parts, read_rule

FloatArray = NDArray[np.float32]

_FLOAT32 = np.dtype(np.float32)


class Observations(ABC):
    """A rule that flattens observations like ``gymnasium.spaces.utils.flatten``. Rules compare by value."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Length of the flat vector."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an observation, the ``obs_shape`` that ``GymNE`` gives to networks; else that of the flat vector."""
        return (self.length,)

    def __call__(self, raw: Any) -> FloatArray:
        """Turn an observation into the vector ``(length,)``. Numbers too large for float32 become infinite.

        Args:
            raw: An element of the space. Lists and PyTorch tensors are accepted in place of arrays.

        Raises:
            TypeError: The observation, or a part of it, is not made of real numbers.
            ValueError: A shape is wrong, a number is out of range, or a part is missing.
        """
        return self.flatten(raw, "")

    @abstractmethod
    def flatten(self, raw: Any, place: str) -> FloatArray:
        """See ``__call__``. ``place`` is the place of ``raw`` in the whole observation, for error messages."""

    def leaves(self) -> Iterator[tuple[str, Observations]]:
        """Yield the rules without parts inside this one, in the vector's order, each with its place: ``.camera.0``."""
        yield "", self

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that ``observations_from_json`` reads."""


@dataclass(frozen=True)
class BoxObservations(Observations):
    """An array of numbers, flattened row by row. It serves Box and MultiBinary spaces.

    Attributes:
        shape_of_observation: Shape of the array.

    Raises:
        TypeError: The shape is not a tuple of whole numbers.
        ValueError: A size is below 1.
    """

    shape_of_observation: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape("shape_of_observation", self.shape_of_observation)

    @property
    def length(self) -> int:
        """See ``Observations``."""
        return prod(self.shape_of_observation)

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Observations``."""
        return self.shape_of_observation

    def flatten(self, raw: Any, place: str) -> FloatArray:
        """See ``Observations``."""
        if type(raw) is np.ndarray and raw.dtype is _FLOAT32 and raw.shape == self.shape_of_observation:
            return raw.reshape(-1)  # nearly all observations
        values = _numbers(raw, place, self.shape_of_observation)
        with np.errstate(over="ignore"):
            return values.reshape(-1).astype(np.float32, copy=False)

    def to_json(self) -> dict[str, Any]:
        """See ``Observations``."""
        return {"kind": "box", "shape": list(self.shape_of_observation)}


@dataclass(frozen=True)
class OneHotObservations(Observations):
    """A whole number or an array of them, each one-hot encoded. It serves Discrete and MultiDiscrete spaces.

    Attributes:
        nvec: How many values each number may have, flat.
        start: The lowest value of each number, flat.
        shape_of_observation: Shape of the array. Default: ``()``, a single number.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range, or a length does not match the shape.
    """

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    shape_of_observation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        size = prod(check_shape("shape_of_observation", self.shape_of_observation))
        for name, numbers, least in (("nvec", self.nvec, 1), ("start", self.start, -(2**62))):
            if not isinstance(numbers, tuple) or len(numbers) != size:
                raise ValueError(f"{name}: expected a tuple of {size} whole numbers, got {numbers!r}")
            for number in numbers:
                check_count(name, number, minimum=least, maximum=2**62)

    @property
    def length(self) -> int:
        """See ``Observations``."""
        return sum(self.nvec)

    def flatten(self, raw: Any, place: str) -> FloatArray:
        """See ``Observations``."""
        numbers = _numbers(raw, place, self.shape_of_observation)
        if numbers.dtype.kind == "f":
            raise TypeError(f"expected {_named(place)} of whole numbers, got {reprlib.repr(raw)}")
        flat = np.zeros(self.length, dtype=np.float32)
        offset = 0
        for number, n, start in zip(numbers.reshape(-1).tolist(), self.nvec, self.start, strict=True):
            if not start <= number < start + n:
                raise ValueError(f"expected {_named(place)} of {start} to {start + n - 1}, got {number}")
            flat[offset + int(number) - start] = 1.0
            offset += n
        return flat

    def to_json(self) -> dict[str, Any]:
        """See ``Observations``."""
        numbers = {"nvec": list(self.nvec), "start": list(self.start), "shape": list(self.shape_of_observation)}
        return {"kind": "one_hot", **numbers}


@dataclass(frozen=True)
class TupleObservations(Parts, Observations):
    """A tuple of parts, whose vectors are concatenated.

    Attributes:
        parts: The rules of the parts, in order.

    Raises:
        TypeError: ``parts`` is not a tuple of rules.
        ValueError: ``parts`` is empty.
    """

    parts: tuple[Observations, ...]

    def __post_init__(self) -> None:
        check_parts(self.parts, Observations)

    def flatten(self, raw: Any, place: str) -> FloatArray:
        """See ``Observations``."""
        values = self._split(raw, place)
        named = zip(self.names, self.parts, values, strict=True)
        return np.concatenate([part.flatten(value, f"{place}.{name}") for name, part, value in named])

    def _split(self, raw: Any, place: str) -> list[Any]:
        values = list(raw) if isinstance(raw, tuple | list) or (isinstance(raw, np.ndarray) and raw.ndim) else None
        if values is None or len(values) != len(self.parts):
            raise ValueError(f"expected {_named(place)} that is a tuple of {len(self.parts)}, got {reprlib.repr(raw)}")
        return values


@dataclass(frozen=True)
class DictObservations(KeyedParts, TupleObservations):
    """A dict of parts, whose vectors are concatenated. Keys that the space does not have are ignored.

    Attributes:
        parts: The rules of the parts, in the order of the space, which sorts the keys of an ordinary dict.
        keys: The keys of the parts.

    Raises:
        TypeError: ``parts`` is not a tuple of rules, or ``keys`` is not a tuple of strings.
        ValueError: ``parts`` is empty, or ``keys`` does not hold one different key for each part.
    """

    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys(self.keys, len(self.parts))

    def _split(self, raw: Any, place: str) -> list[Any]:
        if not isinstance(raw, Mapping) or not all(key in raw for key in self.keys):
            raise ValueError(f"expected {_named(place)} that is a dict with {list(self.keys)}, got {reprlib.repr(raw)}")
        return [raw[key] for key in self.keys]


def observations_from_json(data: dict[str, Any]) -> Observations:
    """Make the rule whose ``to_json`` returned ``data``.

    Raises:
        ValueError: ``data`` does not describe a rule.
    """
    return read_rule("observation", data, _KINDS)


_KINDS: dict[str, Callable[[dict[str, Any]], Observations]] = {
    "box": lambda data: BoxObservations(tuple(data["shape"])),
    "one_hot": lambda data: OneHotObservations(tuple(data["nvec"]), tuple(data["start"]), tuple(data["shape"])),
    "tuple": lambda data: TupleObservations(tuple(map(observations_from_json, data["parts"]))),
    "dict": lambda data: DictObservations(tuple(map(observations_from_json, data["parts"])), keys=tuple(data["keys"])),
}


def as_array(raw: Any) -> NDArray[Any] | None:
    """Convert a value into an array of real numbers or bools; return None if that is not possible.

    A tensor may be on any device and may require gradients.
    """
    try:
        if isinstance(raw, torch.Tensor):
            raw = raw.detach().cpu()
            raw = raw.double() if raw.is_floating_point() else raw  # NumPy has no bfloat16
        if np.ma.isMaskedArray(raw) and np.ma.getmaskarray(raw).any():  # masked values are not observations
            return None
        array: NDArray[Any] = np.asarray(raw)
    except Exception:  # rows of different lengths, or any error of the object's own conversion
        return None
    return array if array.dtype.kind in "fiub" else None


def _numbers(raw: Any, place: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Convert a value into an array of real numbers, of this shape."""
    array = as_array(raw)
    if array is None:
        raise TypeError(f"expected {_named(place)} of real numbers and shape {shape}, got {reprlib.repr(raw)}")
    if array.shape != shape:
        raise ValueError(f"expected {_named(place)} of shape {shape}, got {array.shape}")
    return array


def _named(place: str) -> str:
    return f"an observation {place[1:]!r}" if place else "an observation"
