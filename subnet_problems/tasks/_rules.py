"""Common code of rules for actions and observations: rules with parts, and rules in JSON."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


def read_rule(field: str, data: dict[str, Any], kinds: dict[str, Callable[[dict[str, Any]], _T]]) -> _T:
    """Make the rule that a JSON object describes.

    Args:
        field: The name of the field, for error messages.
        data: The JSON object.
        kinds: Maps each value of the object's ``kind`` to a function that makes the rule.

    Raises:
        ValueError: The object does not describe one of these rules.
    """
    try:
        return kinds[data["kind"]](data)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        expected = f"{field}: expected a description of kind {', '.join(sorted(kinds))}"
        raise ValueError(f"{expected}, got {reprlib.repr(data)}: {error}") from error


def check_parts(parts: Any, kind: type) -> None:
    """Check the parts of a rule.

    Raises:
        TypeError: ``parts`` is not a tuple of rules.
        ValueError: ``parts`` is empty.
    """
    if not isinstance(parts, tuple) or not all(isinstance(part, kind) for part in parts):
        raise TypeError(f"parts: expected a tuple of {kind.__name__}, got {parts!r}")
    if not parts:
        raise ValueError("parts: expected at least one, got none")


def check_keys(keys: Any, count: int) -> None:
    """Check the keys of the parts of a rule.

    Raises:
        TypeError: ``keys`` is not a tuple of strings.
        ValueError: There are not ``count`` keys, or two are equal.
    """
    if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"keys: expected a tuple of strings, got {keys!r}")
    if len(set(keys)) != count or len(keys) != count:
        raise ValueError(f"keys: expected {count} different strings, got {keys!r}")


class Parts:
    """Base class of rules for tuples, for actions and observations."""

    parts: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts: their indices."""
        return tuple(str(number) for number in range(len(self.parts)))

    @property
    def length(self) -> int:
        """Total length of the parts."""
        return sum(part.length for part in self.parts)

    def leaves(self) -> Iterator[tuple[str, Any]]:
        """Yield the rules without parts inside this one, in order, each with its place, such as ``.arm.0``."""
        for name, part in zip(self.names, self.parts, strict=True):
            for place, leaf in part.leaves():
                yield f".{name}{place}", leaf

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that describes the rule."""
        return {"kind": "tuple", "parts": [part.to_json() for part in self.parts]}


class KeyedParts(Parts):
    """Base class of rules for dicts."""

    keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts: their keys."""
        return self.keys

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that describes the rule."""
        return {"kind": "dict", "keys": list(self.keys), "parts": [part.to_json() for part in self.parts]}
