"""Formulas of a small policy for human readers, in Python's syntax or in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from .._checks import check_choice, check_count
from ..masks._live import Bools, live_units, live_weights
from ..tasks._action_rules import (
    Actions,
    BoxActions,
    DiscreteActions,
    MultiBinaryActions,
    MultiDiscreteActions,
    slices_of,
)
from ._names import Name, names_of
from ._parts import PolicyParts
from ._pruning import MaskedLayer, masked_layers
from .export._c_actions import in_comment, places

#: Default maximum number of live weights of a policy that is small enough to read.
MAX_WEIGHTS = 60
#: Numbers in this range, low <= number < high, are written without an exponent.
_PLAIN = (1e-4, 1e6)


@dataclass(frozen=True)
class Reading:
    """The contents of a policy's formulas and pictures: its live units and weights, and their names.

    Attributes:
        inputs: Names of the observations.
        means: ``(obs_length,)`` float32, subtracted from the observations.
        scales: ``(obs_length,)`` float32, factors on the differences. The weights of ``layers`` already include these
            factors.
        layers: The layers. Weights that are 0 are masked, and all others include all factors.
        units: For the inputs, each hidden layer and the outputs: which units are live.
        hidden: For each hidden layer, a name for each unit that is used more than once, by the unit's index.
        outputs: Names of the outputs.
        num_live: Number of live weights.
    """

    inputs: list[Name]
    means: NDArray[np.float32]
    scales: NDArray[np.float32]
    layers: list[MaskedLayer]
    units: list[Bools]
    hidden: list[dict[int, Name]]
    outputs: list[Name]
    num_live: int


def read(subnet: PolicyParts) -> Reading:
    """Collect the contents of a policy's formulas and pictures.

    Raises:
        ValueError: The network is not a chain of linear layers, tanh and ReLU.
    """
    layers = masked_layers(subnet)
    num_live = int(live_weights(layers, subnet.num_weights).sum())
    means, scales = np.zeros_like(layers[0].weight[0]), np.ones_like(layers[0].weight[0])
    if subnet.normalizer is not None:
        means, scales = subnet.normalizer.mean, subnet.normalizer.scale
        layers[0] = replace(layers[0], weight=layers[0].weight * scales)
    # A weight of a user's module may be 0; the formula is shorter without it.
    layers = [replace(x, mask=x.mask & (x.weight != 0.0), bias_mask=x.bias_mask & (x.bias != 0.0)) for x in layers]
    units = live_units(layers)
    inputs, outputs = names_of(subnet)
    return Reading(inputs, means, scales, layers, units, _named_units(layers, units), outputs, num_live)


def _named_units(layers: Sequence[MaskedLayer], units: Sequence[Bools]) -> list[dict[int, Name]]:
    named: list[dict[int, Name]] = []
    count = 0
    for layer, alive, after in zip(layers[1:], units[1:-1], units[2:], strict=True):
        uses = layer.mask[after].sum(axis=0)
        named.append({})
        for unit in np.flatnonzero(alive & (uses > 1)).tolist():
            count += 1
            named[-1][unit] = Name(f"h{count}", f"h_{{{count}}}")
    return named


def formula(subnet: PolicyParts, style: str = "text", *, digits: int | None = 3, max_weights: int = MAX_WEIGHTS) -> str:
    """See ``subnet_problems.Subnetwork.formula``."""
    check_choice("style", style, _WRITERS)
    digits = None if digits is None else check_count("digits", digits, maximum=9)
    max_weights = check_count("max_weights", max_weights)
    reading = read(subnet)
    if reading.num_live > max_weights:
        raise ValueError(
            f"max_weights: expected a policy with at most {max_weights} live weights, small enough to read, got "
            f"one with {reading.num_live}; pass max_weights={reading.num_live} to write it anyway"
        )
    written = _WRITERS[style](digits)
    lines = written.observed(subnet) + _equations(reading, written)
    return "\n".join(lines + [written.rule(rule) for rule in _rules(subnet.actions, reading.outputs, written)])


class TextWriter:
    """Writes formulas as Python code, and explanations in words as comments."""

    times, infinity = "*", "inf"

    def __init__(self, digits: int | None) -> None:
        self.digits = digits

    def number(self, value: Any, *, exact: bool = False) -> str:
        """A number with ``digits`` significant digits, without trailing zeros; or exactly, in the fewest digits."""
        sign, value, digits = "-" if value < 0.0 else "", np.abs(value), None if exact else self.digits
        if np.isinf(value):
            return sign + self.infinity
        if value == 0.0 or _PLAIN[0] <= value < _PLAIN[1]:
            return sign + np.format_float_positional(
                value, precision=digits, unique=digits is None, fractional=False, trim="-"
            )
        precision = None if digits is None else digits - 1
        text = np.format_float_scientific(value, precision=precision, unique=digits is None, trim="-", exp_digits=1)
        return sign + self.exponent(*text.replace("+", "").split("e"))

    def exponent(self, mantissa: str, exponent: str) -> str:
        """A number with an exponent."""
        return f"{mantissa}e{exponent}"

    def name(self, name: Name) -> str:
        """A name."""
        return name.text

    def call(self, activation: type[nn.Module], inner: str) -> str:
        """An activation function of an expression."""
        return f"tanh({inner})" if activation is nn.Tanh else f"max(0, {inner})"

    def words(self, text: str) -> str:
        """Words in a rule."""
        return text

    def place(self, text: str) -> str:
        """The place of a part of the action, with the user's own keys."""
        return in_comment(text)

    def equation(self, name: Name, expression: str) -> str:
        """A line that defines a name."""
        return f"{self.name(name)} = {expression}"

    def rule(self, text: str) -> str:
        """A line with the rule from outputs to an action."""
        return f"# {text}"

    def observed(self, subnet: PolicyParts) -> list[str]:
        """Lines that explain the flat observation, if observations are not plain arrays."""
        return [f"# {line}" for line in places(subnet.observations, subnet.actions) if line.startswith("obs")]


class LatexWriter(TextWriter):
    """Writes formulas in LaTeX, each line between ``$``, in the subset that Matplotlib's mathtext supports."""

    times, infinity = r"\,", r"\infty"

    def exponent(self, mantissa: str, exponent: str) -> str:
        """See ``TextWriter``."""
        return rf"{mantissa} \times 10^{{{exponent}}}"

    def name(self, name: Name) -> str:
        """See ``TextWriter``."""
        return name.latex

    def call(self, activation: type[nn.Module], inner: str) -> str:
        """See ``TextWriter``."""
        return "\\" + super().call(activation, inner)

    def words(self, text: str) -> str:
        """See ``TextWriter``."""
        return rf"\mathrm{{{text}}}".replace(" ", r"\ ")

    def place(self, text: str) -> str:
        """See ``TextWriter``. Characters that LaTeX may not accept become ``_``."""
        return re.sub(r"[^A-Za-z0-9.]", r"\\_", text)

    def equation(self, name: Name, expression: str) -> str:
        """See ``TextWriter``."""
        return f"${super().equation(name, expression)}$"

    def rule(self, text: str) -> str:
        """See ``TextWriter``."""
        return f"${text}$"

    def observed(self, subnet: PolicyParts) -> list[str]:
        """Empty: a LaTeX formula has no comments."""
        return []


_WRITERS = {"text": TextWriter, "latex": LatexWriter}


def _equations(reading: Reading, written: TextWriter) -> list[str]:
    """A line for each named hidden unit, then a line for each output."""
    lines: list[str] = []
    values = {i: centered(reading, i, written) for i in np.flatnonzero(reading.units[0]).tolist()}
    levels = [np.flatnonzero(alive).tolist() for alive in reading.units[1:-1]] + [range(len(reading.outputs))]
    named = [*reading.hidden, dict(enumerate(reading.outputs))]
    for layer, level, names in zip(reading.layers, levels, named, strict=True):
        expressions = {unit: _unit(layer, unit, values, written) for unit in level}
        lines += [written.equation(name, expressions[unit]) for unit, name in names.items()]
        values = {
            unit: written.name(names[unit])
            if unit in names
            else f"({expression})"
            if layer.activation is nn.Identity
            else expression
            for unit, expression in expressions.items()
        }
    return lines


def centered(reading: Reading, i: int, written: TextWriter) -> str:
    """An observation minus its mean, in the digits that matter relative to the standard deviation."""
    name, mean, scale = written.name(reading.inputs[i]), reading.means[i], abs(float(reading.scales[i]))
    if written.digits is not None:
        mean = np.float64(round(float(mean), written.digits + ceil(log10(scale))))
    if mean == 0.0:
        return name
    return f"({name} {'-' if mean > 0.0 else '+'} {written.number(abs(mean), exact=True)})"


def _unit(layer: MaskedLayer, unit: int, values: Mapping[int, str], written: TextWriter) -> str:
    """The expression of a unit, in terms of the values of the layer before it."""
    text = ""
    for i in np.flatnonzero(layer.mask[unit]).tolist():
        if i in values:
            number = written.number(abs(layer.weight[unit, i]))
            term = values[i] if number == "1" else f"{number}{written.times}{values[i]}"
            text += _signed(layer.weight[unit, i], term, first=not text)
    if layer.bias_mask[unit]:
        text += _signed(layer.bias[unit], written.number(abs(layer.bias[unit])), first=not text)
    if not text or layer.activation is nn.Identity:  # tanh and ReLU map 0 to 0
        return text or "0"
    return written.call(layer.activation, text)


def _signed(value: np.float32, text: str, *, first: bool) -> str:
    if first:
        return f"-{text}" if value < 0.0 else text
    return f" - {text}" if value < 0.0 else f" + {text}"


def _rules(actions: Actions, outputs: Sequence[Name], written: TextWriter) -> list[str]:
    """The rules from outputs to actions: one for each part of the action, and for each choice of MultiDiscrete."""
    rules: list[str] = []
    start = 0
    for place, leaf in actions.leaves():
        action = written.words(f"action{written.place(place)}")
        names = outputs[start : start + leaf.length]
        start += leaf.length
        match leaf:
            case DiscreteActions():
                rules.append(f"{action} = {_choice(names, leaf.start, written)}")
            case MultiDiscreteActions():
                parts = zip(slices_of(leaf.nvec), leaf.start, strict=True)
                choices = [_choice(names[where], first, written) for where, first in parts]
                rules += [f"{action}[{i}] = {choice}" for i, choice in enumerate(choices)]
            case MultiBinaryActions():
                rules.append(
                    f"{action} = {written.words('1 where ')}{_vector(names, written)} > 0{written.words(', else 0')}"
                )
            case BoxActions():
                rules.append(f"{action} = {_vector(names, written)}{_clipping(leaf, written)}")
            case _:
                raise TypeError(f"actions: expected a kind that formulas support, got {leaf!r}")
    return rules


def _vector(names: Sequence[Name], written: TextWriter) -> str:
    """One name, or several in parentheses."""
    return written.name(names[0]) if len(names) == 1 else f"({_list(names, written)})"


def _list(names: Sequence[Name], written: TextWriter) -> str:
    """Names separated by commas. Of more than four numbered names, only the first and the last are written."""
    if len(names) > 4 and "[" in names[0].text:
        return f"{written.name(names[0])}{written.words(' to ')}{written.name(names[-1])}"
    return ", ".join(written.name(name) for name in names)


def _choice(names: Sequence[Name], start: int, written: TextWriter) -> str:
    argmax = f"{written.words('argmax')}({_list(names, written)})"
    return f"{argmax}{written.words(f', counted from {start}, the first of equal ones')}"


def _clipping(actions: BoxActions, written: TextWriter) -> str:
    """Rounding and clipping of the numbers of a Box action, in words."""
    low, high, dtype = actions.bounds
    bounds = list(zip(low, high, strict=True))
    if dtype.kind == "f":  # a missing bound is the largest number of the dtype
        none = np.finfo(dtype).max
        bounds = [(-np.inf if b <= -none else b, np.inf if t >= none else t) for b, t in bounds]
    intervals = [f"[{written.number(b, exact=True)}, {written.number(t, exact=True)}]" for b, t in bounds]
    each = ", each " if len(bounds) > 1 else ", "
    text = each + ("rounded to a whole number, then " if dtype.kind != "f" else "")
    if not np.isfinite(bounds).any():
        return ""
    if len(set(intervals)) == 1:
        return written.words(f"{text}clipped to ") + intervals[0]
    return written.words(f"{text}clipped to its own of ") + ", ".join(intervals)
