"""What rules for actions and for observations share: their parts, and what they are in JSON."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


def read_rule(field: str, data: dict[str, Any], kinds: dict[str, Callable[[dict[str, Any]], _T]]) -> _T:
    """The rule that a JSON object describes.

    Args:
        field: The name of the field, for messages.
        data: The object.
        kinds: For each value of its ``kind`` what makes the rule.

    Raises:
        ValueError: It describes none of them.
    """
    try:
        return kinds[data["kind"]](data)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        expected = f"{field}: expected a description of kind {', '.join(sorted(kinds))}"
        raise ValueError(f"{expected}, got {reprlib.repr(data)}: {error}") from error


def check_parts(parts: Any, kind: type) -> None:
    """Check the parts of a rule.

    Raises:
        TypeError: They are no tuple of rules.
        ValueError: There are none.
    """
    if not isinstance(parts, tuple) or not all(isinstance(part, kind) for part in parts):
        raise TypeError(f"parts: expected a tuple of {kind.__name__}, got {parts!r}")
    if not parts:
        raise ValueError("parts: expected at least one, got none")


def check_keys(keys: Any, count: int) -> None:
    """Check the keys of the parts of a rule.

    Raises:
        TypeError: They are no tuple of strings.
        ValueError: There are more or fewer than parts, or one comes twice.
    """
    if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"keys: expected a tuple of strings, got {keys!r}")
    if len(set(keys)) != count or len(keys) != count:
        raise ValueError(f"keys: expected {count} different strings, got {keys!r}")


class Parts:
    """What rules of a tuple's parts share, for actions and for observations."""

    parts: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts are called."""
        return tuple(str(number) for number in range(len(self.parts)))

    @property
    def length(self) -> int:
        """How many numbers the parts have together."""
        return sum(part.length for part in self.parts)

    def leaves(self) -> Iterator[tuple[str, Any]]:
        """The rules that the parts are made of, in order, each with its place, such as ``.arm.0``."""
        for name, part in zip(self.names, self.parts, strict=True):
            for place, leaf in part.leaves():
                yield f".{name}{place}", leaf

    def to_json(self) -> dict[str, Any]:
        """A JSON object that describes the rule."""
        return {"kind": "tuple", "parts": [part.to_json() for part in self.parts]}


class KeyedParts(Parts):
    """What rules of a dict's parts share."""

    keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts are called."""
        return self.keys

    def to_json(self) -> dict[str, Any]:
        """A JSON object that describes the rule."""
        return {"kind": "dict", "keys": list(self.keys), "parts": [part.to_json() for part in self.parts]}
