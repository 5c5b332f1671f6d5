"""Action rules for Tuple and Dict spaces, and the reader of action rules from JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._action_rules import (
    Actions,
    BoxActions,
    DiscreteActions,
    FloatArray,
    Limits,
    MultiBinaryActions,
    MultiDiscreteActions,
    check_outputs,
    slices_of,
)
from ._rules import KeyedParts, Parts, check_keys, check_parts, read_rule


@dataclass(frozen=True)
class TupleActions(Parts, Actions):
    """The action is a tuple. The outputs for its parts are concatenated.

    Attributes:
        parts: The rules of the parts, in order.

    Raises:
        TypeError: ``parts`` is not a tuple of rules.
        ValueError: ``parts`` is empty.
    """

    parts: tuple[Actions, ...]

    def __post_init__(self) -> None:
        check_parts(self.parts, Actions)

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Actions``."""
        return (self.length,)

    @property
    def count(self) -> int:
        """See ``Actions``."""
        return sum(part.count for part in self.parts)

    @property
    def limits(self) -> Limits | None:
        """See ``Actions``."""
        parts = [part.limits for part in self.parts]
        if all(limits is None for limits in parts):
            return None
        low: tuple[float, ...] = ()
        high: tuple[float, ...] = ()
        for part, limits in zip(self.parts, parts, strict=True):
            free = (np.inf,) * part.length
            low += tuple(-bound for bound in free) if limits is None else limits[0]
            high += free if limits is None else limits[1]
        return low, high

    def __call__(self, outputs: FloatArray) -> list[Any]:
        """Return a list of n actions. See ``Actions``."""
        check_outputs(outputs, self.length)
        slices = slices_of([part.length for part in self.parts])
        columns = [part.one_by_one(part(outputs[:, where])) for part, where in zip(self.parts, slices, strict=True)]
        return [self._join(values) for values in zip(*columns, strict=True)]

    def _join(self, values: tuple[Any, ...]) -> Any:
        return values

    def one_by_one(self, actions: Any) -> list[Any]:
        """See ``Actions``."""
        return list(actions)

    def like(self, other: Actions) -> bool:
        """See ``Actions``."""
        if not isinstance(other, TupleActions) or type(self) is not type(other) or self.names != other.names:
            return False
        return all(mine.like(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True))


@dataclass(frozen=True)
class DictActions(KeyedParts, TupleActions):
    """The action is a dict. The outputs for its parts are concatenated.

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

    def _join(self, values: tuple[Any, ...]) -> Any:
        return dict(zip(self.keys, values, strict=True))


def actions_from_json(data: dict[str, Any]) -> Actions:
    """Make the rule whose ``to_json`` returned ``data``.

    Raises:
        ValueError: ``data`` does not describe a rule.
    """
    return read_rule("action", data, _KINDS)


def _read_box(data: dict[str, Any]) -> Actions:
    low = tuple(-np.inf if v is None else float(v) for v in data["low"])
    high = tuple(np.inf if v is None else float(v) for v in data["high"])
    return BoxActions(low=low, high=high, shape=tuple(data["shape"]), dtype=data["dtype"])


_KINDS: dict[str, Callable[[dict[str, Any]], Actions]] = {
    "discrete": lambda data: DiscreteActions(n=data["n"], start=data["start"]),
    "multi_discrete": lambda data: MultiDiscreteActions(
        nvec=tuple(data["nvec"]), start=tuple(data["start"]), shape_of_action=tuple(data["shape"]), dtype=data["dtype"]
    ),
    "multi_binary": lambda data: MultiBinaryActions(shape=tuple(data["shape"])),
    "box": _read_box,
    "tuple": lambda data: TupleActions(tuple(map(actions_from_json, data["parts"]))),
    "dict": lambda data: DictActions(tuple(map(actions_from_json, data["parts"])), keys=tuple(data["keys"])),
}
