"""What rules for actions and for observations share: their parts, and what they are in JSON."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
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
