"""C code from outputs to actions, and the lines of a header's comment that explain its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...tasks._action_rules import Actions, BoxActions, DiscreteActions, MultiBinaryActions, MultiDiscreteActions
from ...tasks._observation_rules import Observations, OneHotObservations
from . import _c_source
from ._c_source import array


def in_comment(text: str) -> str:
    """A user's text, made safe for a C comment: on one line, and without the comment's end."""
    return text.encode("unicode_escape").decode().replace("*/", "* /").replace("/*", "/ *")


def what(actions: Actions) -> str:
    """Describe the numbers of an action."""
    match actions:
        case DiscreteActions():
            return "the number of the action"
        case MultiDiscreteActions():
            return "the number of each choice"
        case MultiBinaryActions():
            return "bits, 0 or 1"
        case BoxActions():
            return "numbers, each rounded and clipped as the task asks"
    return "the parts of the action one after another"


def places(observations: Observations | None, actions: Actions) -> list[str]:
    """A line for each part of the observation, if it is not a plain array, and of the action, if it has parts."""
    seen = [] if observations is None else [(place, leaf.length, _seen(leaf)) for place, leaf in observations.leaves()]
    done = [(place, leaf.count, what(leaf)) for place, leaf in actions.leaves()]
    return _lines("obs", seen) + (_lines("act", done) if len(done) > 1 else [])


def _seen(leaf: Observations) -> str:
    if not isinstance(leaf, OneHotObservations):
        return "as the task gives it"
    ranges = ", ".join(f"{start} to {start + n - 1}" for n, start in zip(leaf.nvec, leaf.start, strict=True))
    return f"one-hot, for numbers from {ranges}"


def _lines(name: str, parts: list[tuple[str, int, str]]) -> list[str]:
    lines, start = [], 0
    for place, length, what in parts:
        where = f"{name}[{start}]" if length == 1 else f"{name}[{start}] to {name}[{start + length - 1}]"
        lines.append(f"{where}:{in_comment(f' {place[1:]},' if place else '')} {what}.")
        start += length
    return lines


def action_rules(actions: Actions) -> tuple[str, list[str]]:
    """Data and lines of C that compute ``act`` from ``out``."""
    leaves = [leaf for _, leaf in actions.leaves()]
    data = _c_source.LARGEST if any(isinstance(leaf, DiscreteActions | MultiDiscreteActions) for leaf in leaves) else ""
    lines: list[str] = []
    out = act = 0
    for number, leaf in enumerate(leaves):
        more, rule = _action_rule(leaf, out, act, "" if len(leaves) == 1 else str(number))
        data, lines = data + more, lines + rule
        out, act = out + leaf.length, act + leaf.count
    return data, lines


def _action_rule(leaf: Actions, out: int, act: int, number: str) -> tuple[str, list[str]]:
    """Data and lines for a part of the action. ``out`` and ``act`` are the indices of its first output and number."""

    def at(array: str, start: int) -> str:
        return f"{array}[{start} + i]" if start else f"{array}[i]"

    loop = f"    for (int i = 0; i < {leaf.count}; ++i)"
    match leaf:
        case DiscreteActions() | MultiDiscreteActions():
            lines = []
            for n, start in leaf.choices:
                values = f"out + {out}" if out else "out"
                lines.append(f"    act[{act}] = (float)(policy_largest({values}, {n}) + {start});")
                out, act = out + n, act + 1
            return "", lines
        case MultiBinaryActions():
            return "", [loop, f"        {at('act', act)} = {at('out', out)} > 0.0f ? 1.0f : 0.0f;"]
        case BoxActions():
            dtype, value = np.dtype(leaf.dtype), at("out", out)
            lines = [f"{loop} {{", f"        float a = {value if dtype.kind == 'f' else f'rintf({value})'};"]
            if dtype in (np.float32, np.float64) and not np.isfinite(leaf.limits).any():
                return "", [*lines, f"        {at('act', act)} = a;", "    }"]
            bounds = (_inward(bound, up=up) for bound, up in zip(leaf.bounds[:2], (True, False), strict=True))
            low, high = (array("float", f"{name}{number}", b) for name, b in zip(("low", "high"), bounds, strict=True))
            lines += [f"        a = a > policy_low{number}[i] ? a : policy_low{number}[i];"]
            lines += [f"        {at('act', act)} = a < policy_high{number}[i] ? a : policy_high{number}[i];", "    }"]
            return low + high + "\n", lines
    raise TypeError(f"actions: expected a kind that the C export supports, got {leaf!r}")


def _inward(bounds: NDArray[Any], *, up: bool) -> NDArray[np.float32]:
    """The nearest float32 numbers within the bounds: lower bounds are rounded up, upper bounds down."""
    with np.errstate(over="ignore"):
        rounded = bounds.astype(np.float32)
    outside = rounded < bounds if up else rounded > bounds
    return np.where(outside, np.nextafter(rounded, np.float32(np.inf if up else -np.inf)), rounded)


def check_actions(actions: Actions) -> None:
    """Check that float32 can represent an action's numbers; it holds whole numbers up to 2^24.

    Raises:
        ValueError: Numbers are larger, or no float32 number lies between two bounds.
    """
    for _, leaf in actions.leaves():
        choices = leaf.choices if isinstance(leaf, DiscreteActions | MultiDiscreteActions) else ()
        if any(max(abs(start), abs(start + n)) > 2**24 for n, start in choices):
            raise ValueError(f"actions: expected numbers of at most 2**24, which float32 holds, got {leaf}")
        if isinstance(leaf, BoxActions):
            least, greatest, dtype = leaf.bounds
            none_between = _inward(least, up=True) > _inward(greatest, up=False)
            # For equal bounds of a real number, the nearest float32 is close enough. For whole numbers it is not.
            if (none_between & ((least < greatest) | (dtype.kind != "f"))).any():
                raise ValueError(f"actions: expected bounds with a float32 number between them, got {leaf}")
