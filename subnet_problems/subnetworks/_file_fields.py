"""The fields of the JSON description in a subnetwork file, read and checked."""

from __future__ import annotations

from typing import Any

from .._json import from_json


class SubnetworkFileError(ValueError):
    """A file is not a complete and valid subnetwork file. The message says why."""


class Fields:
    """The fields of a JSON object that was read from a file."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self._values, self._prefix = values, prefix

    def take(self, name: str, kind: type) -> Any:
        """The field, of exactly this type (but a whole number is accepted as a float)."""
        value = self._values.get(name)
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else None
        if type(value) is not kind:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected {kind.__name__}, got {value!r}")
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def values(self, name: str) -> dict[str, Any]:
        """The field, a mapping of a user's values."""
        try:
            result = from_json(self.take(name, dict))
        except ValueError as error:
            raise SubnetworkFileError(f"{self._prefix}{name}: {error}") from error
        if not isinstance(result, dict) or not all(isinstance(key, str) for key in result):
            raise SubnetworkFileError(f"{self._prefix}{name}: expected a mapping of names to values, got {result!r}")
        return result

    def names(self, name: str) -> tuple[str, ...]:
        """The field, a list of strings."""
        values = self.take(name, list)
        if not all(isinstance(value, str) for value in values):
            raise SubnetworkFileError(f"{self._prefix}{name}: expected a list of strings, got {values!r}")
        return tuple(values)

    def holds(self, name: str, kind: type) -> bool:
        """True if the field has exactly this type."""
        return type(self._values.get(name)) is kind

    def optional(self, name: str, kind: type) -> Any:
        """The field, or None if it is missing or null."""
        return None if self._values.get(name) is None else self.take(name, kind)

    def count(self, name: str) -> int:
        """The field, a whole number of at least 1."""
        value: int = self.take(name, int)
        if value < 1:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected a whole number >= 1, got {value}")
        return value

    def shapes(self, name: str, *, single: bool = False) -> list[tuple[int, ...]]:
        """The field, a list of shapes; or a single one."""
        shapes = [self.take(name, list)] if single else self.take(name, list)
        for shape in shapes:
            if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
                raise SubnetworkFileError(f"{name}: expected lists of whole numbers >= 1, got {shape!r}")
        if not shapes:
            raise SubnetworkFileError(f"{name}: expected at least one layer, got none")
        return [tuple(shape) for shape in shapes]
