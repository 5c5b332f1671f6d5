"""Drawing of a small network from left to right, with the weight of each connection, and formulas below.

All positions are in inches from the lower left corner of the picture, which is then scaled to its axes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.patches import Circle
from numpy.typing import NDArray
from torch import nn

from ..subnetworks._formula import MAX_WEIGHTS, LatexWriter, Reading, TextWriter, centered

Points = NDArray[np.float64]

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Identity: "", nn.Tanh: "tanh", nn.ReLU: "ReLU"}
_INK, _POSITIVE, _NEGATIVE = "0.15", "#1f4e79", "#c0392b"
#: Distances in inches: between levels, around the picture, from a unit to its name.
_GAP, _MARGIN, _SPACE = 2.1, 0.25, 0.09
#: Radius of a unit with an activation, and of inputs and linear outputs.
_UNIT, _DOT = 0.19, 0.06
#: Minimum width of formulas, height of a line of them, height of the title.
_FORMULA_WIDTH, _LINE, _TITLE = 7.5, 0.27, 0.5
#: Maximum height of the graph, and maximum distance between the units of a level.
_HEIGHT, _PITCH = 12.0, 0.62
#: Font sizes in points.
_NAME_SIZE, _NUMBER_SIZE, _FORMULA_SIZE = 11.0, 8.0, 11.0
_FORMULA_FONT = "cm"
#: Candidate positions of a number along its line, the best first.
_PLACES = (0.5, 0.38, 0.62, 0.3, 0.7, 0.44, 0.56, 0.24, 0.76, 0.34, 0.66, 0.18, 0.82)


@dataclass(frozen=True)
class _Line:
    """A connection: its two end points, ``(2, 2)``, and its weight."""

    ends: Points
    weight: np.float32


def draw_network(reading: Reading, title: str, equations: Sequence[str], ax: Axes | None) -> Axes:
    """Draw the live part of a network, and equations below it; see ``plot_network``."""
    levels = _ordered(reading)
    rows = max(len(level) for level in levels)
    pitch = min(_PITCH, _HEIGHT / rows)
    size = min(1.0, pitch / (2.2 * _UNIT))  # all units shrink if there are very many
    entering, leaving = _input_labels(reading, levels[0]), _output_labels(reading)
    end = _DOT if reading.layers[-1].activation is nn.Identity else _UNIT
    left = _width(entering, size * _NAME_SIZE) + _DOT + _SPACE + _MARGIN
    right = _width(leaving, size * _NAME_SIZE) + end + _SPACE + _MARGIN
    width = max(left + _GAP * (len(levels) - 1) + right, _FORMULA_WIDTH + 2 * _MARGIN if equations else 4.0)
    lines = _wrapped(equations, width - 2 * _MARGIN)
    foot = _LINE * len(lines) + (2 * _MARGIN if lines else _MARGIN)
    height = foot + pitch * rows + _TITLE
    places: list[dict[int, Points]] = []
    for column, level in zip(np.linspace(left, width - right, len(levels)), levels, strict=True):
        rank = (np.arange(len(level)) + 0.5) / max(1, len(level))
        points = np.stack([np.full(len(level), column), foot + pitch * rows * (1.0 - rank)], axis=1)
        places.append(dict(zip(level, points, strict=True)))

    axes, scale = _canvas(ax, width, height)
    _draw_lines(axes, reading, places, scale)
    _draw_units(axes, reading, places, scale, size, named=bool(equations))
    _draw_names(axes, entering, places[0], -size * _DOT - _SPACE, scale * size)
    _draw_names(axes, leaving, places[-1], size * end + _SPACE, scale * size)
    style: dict[str, Any] = {"color": _INK, "size": scale * _FORMULA_SIZE, "va": "center"}
    axes.text(_MARGIN, height - _TITLE / 2, title, weight="bold", parse_math=False, **style)
    for number, line in enumerate(lines):
        y = foot - _MARGIN - _LINE * (number + 0.5)
        axes.text(_MARGIN, y, line, math_fontfamily=_FORMULA_FONT, **style)
    return axes


def _canvas(ax: Axes | None, width: float, height: float) -> tuple[Axes, float]:
    """Axes with inches as their units, and the scale of these inches in the figure."""
    scale = 1.0
    if ax is None:
        ax = plt.figure(figsize=(width, height)).add_axes((0.0, 0.0, 1.0, 1.0))
    else:
        figure = ax.get_figure(root=True)
        assert figure is not None
        box = ax.get_window_extent()
        scale = min(box.width / width, box.height / height) / figure.dpi
    ax.set(xlim=(0.0, width), ylim=(0.0, height), aspect="equal")
    ax.set_axis_off()
    return ax, scale


def _ordered(reading: Reading) -> list[list[int]]:
    """The units of each level from top to bottom, each near the units it is connected with, so that few lines cross."""
    levels = [np.flatnonzero(alive).tolist() for alive in reading.units[:-1]] + [list(range(len(reading.outputs)))]
    masks = [layer.mask for layer in reading.layers]
    for _ in range(8):  # from the outputs, which keep their order, to the inputs, and back
        for number in reversed(range(len(masks))):
            levels[number] = _sorted(levels[number], levels[number + 1], masks[number].T)
        for number in range(len(masks) - 1):
            levels[number + 1] = _sorted(levels[number + 1], levels[number], masks[number])
    levels[0] = _sorted(levels[0], levels[1], masks[0].T)
    return levels


def _sorted(level: list[int], other: list[int], mask: NDArray[np.bool_]) -> list[int]:
    """A level, sorted by the mean position of each unit's neighbors in ``other``; ``mask`` is (level, other)."""
    height = (np.arange(len(other)) + 0.5) / max(1, len(other))

    def place(unit: int) -> float:
        near = height[mask[unit, other]]
        return float(near.mean()) if near.size else 0.5

    return sorted(level, key=place)


def _input_labels(reading: Reading, level: list[int]) -> list[str]:
    """The observations' names. If the name is a symbol, such as that of an angle, its word precedes it."""
    labels = []
    for unit in level:
        name = reading.inputs[unit]
        symbol = len(name.text) > 2 and name.text.isalpha() and name.latex != rf"\mathrm{{{name.text}}}"
        word = rf"\mathrm{{{name.text}}}\;\ " if symbol else ""
        labels.append(f"${word}{centered(reading, unit, LatexWriter(3)).strip('()')}$")
    return labels


def _output_labels(reading: Reading) -> list[str]:
    alive = reading.units[-1]
    return [f"${name.latex}{'' if alive[i] else ' = 0'}$" for i, name in enumerate(reading.outputs)]


def _width(labels: Sequence[str], size: float, family: str | None = None) -> float:
    """Width of the widest formula, in inches."""
    parser, font = MathTextParser("path"), FontProperties(size=size, math_fontfamily=family)
    return max((parser.parse(label, dpi=72, prop=font).width / 72 for label in labels), default=0.0)


def _wrapped(equations: Sequence[str], width: float) -> list[str]:
    """Break equations into lines, where few parentheses are open."""
    lines: list[str] = []
    for equation in equations:
        # Lines may break before a sign, except that of an observation's mean, and after a comma, except in max(0, x).
        parts = re.split(r"(?= [+-] (?![\d.]+\)))|(?<=[^0], )", equation.strip("$"))
        indent = ""
        while parts:
            count = len(parts)
            while count > 1 and _width([f"${indent}{''.join(parts[:count])}$"], _FORMULA_SIZE, _FORMULA_FONT) > width:
                count -= 1
            if count < len(parts):
                # A line that is at least half full may end where fewer parentheses are open.
                ends = [
                    end for end in range(1, count + 1) if 2 * len("".join(parts[:end])) >= len("".join(parts[:count]))
                ]
                count = min(ends, key=lambda end: (_depth(parts[:end]), -end))
            lines.append(f"${indent}{''.join(parts[:count])}$")
            parts, indent = parts[count:], r"\qquad"
    return lines


def _depth(parts: Sequence[str]) -> int:
    text = "".join(parts)
    return text.count("(") - text.count(")")


def _color(weight: np.float32) -> str:
    return _POSITIVE if weight > 0.0 else _NEGATIVE


def _text(number: np.float32) -> str:
    return TextWriter(3).number(number).replace("-", "−")


def _draw_names(axes: Axes, names: Sequence[str], level: dict[int, Points], shift: float, scale: float) -> None:
    align = "left" if shift > 0.0 else "right"
    for name, (x, y) in zip(names, level.values(), strict=True):
        axes.text(x + shift, y, name, size=scale * _NAME_SIZE, color=_INK, ha=align, va="center_baseline")


def _draw_lines(axes: Axes, reading: Reading, places: Sequence[dict[int, Points]], scale: float) -> None:
    """Draw the connections, and their weights as numbers if these are at most ``MAX_WEIGHTS``."""
    lines = [
        _Line(np.array([before[i], after[unit]]), layer.weight[unit, i])
        for layer, before, after in zip(reading.layers, places[:-1], places[1:], strict=True)
        for unit in after
        for i in before
        if layer.mask[unit, i]
    ]
    largest = max((abs(line.weight) for line in lines), default=1.0)
    widths = [scale * (0.7 + 2.3 * float(abs(line.weight)) / float(largest)) for line in lines]
    colors = [_color(line.weight) for line in lines]
    axes.add_collection(
        LineCollection([line.ends for line in lines], colors=colors, linewidths=widths, alpha=0.75, zorder=1)
    )
    if reading.num_live > MAX_WEIGHTS:
        return
    boxes = _boxes(lines, [place for level in places for place in level.values()])
    for line, (x, y) in zip(lines, boxes, strict=True):
        _draw_number(axes, x, y, line.weight, scale)


def _boxes(lines: Sequence[_Line], units: Sequence[Points]) -> list[Points]:
    """Position of the number of each line: on the line, and if possible not on other numbers, lines or units."""
    placed: list[tuple[Points, Points]] = []
    steps = np.linspace(0.0, 1.0, 41)[:, None]
    ways = [line.ends[0] * (1.0 - steps) + line.ends[1] * steps for line in lines]
    for number, line in enumerate(lines):
        # The width of a digit is about 0.64 of the font size.
        half = np.array([0.32 * len(_text(line.weight)) + 0.2, 0.62]) * _NUMBER_SIZE / 72
        best, least = line.ends.mean(axis=0), np.inf
        for rank, place in enumerate(_PLACES):
            at = line.ends[0] * (1.0 - place) + line.ends[1] * place
            covered = sum(_covers(at, half, way) for i, way in enumerate(ways) if i != number)
            hidden = sum(bool((np.abs(at - other) < half + size).all()) for other, size in placed)
            near = sum(bool((np.abs(at - unit) < half + _UNIT).all()) for unit in units)
            cost = 100.0 * hidden + 100.0 * near + covered + 0.05 * rank
            if cost < least:
                best, least = at, cost
        placed.append((best, half))
    return [at for at, _ in placed]


def _covers(at: Points, half: Points, way: Points) -> bool:
    return bool((np.abs(way - at) < half).all(axis=1).any())


def _draw_units(
    axes: Axes, reading: Reading, places: Sequence[dict[int, Points]], scale: float, size: float, *, named: bool
) -> None:
    """Draw inputs and linear outputs as dots, all others as circles with their activation or their formula name."""
    for x, y in places[0].values():
        axes.add_patch(Circle((x, y), size * _DOT, color=_INK, zorder=3))
    for number, (layer, level) in enumerate(zip(reading.layers, places[1:], strict=True)):
        names = reading.hidden[number] if named and number < len(reading.hidden) else {}
        is_dot = layer is reading.layers[-1] and layer.activation is nn.Identity
        radius = size * (_DOT if is_dot else _UNIT)
        for unit, (x, y) in level.items():
            face = _INK if is_dot and reading.units[number + 1][unit] else "white"
            axes.add_patch(Circle((x, y), radius, facecolor=face, edgecolor=_INK, linewidth=scale, zorder=3))
            text, font = (f"${names[unit].latex}$", 9.5) if unit in names else (_ACTIVATIONS[layer.activation], 6.5)
            style: dict[str, Any] = {"color": _INK, "ha": "center", "va": "center_baseline", "zorder": 4}
            axes.text(x, y, text, size=scale * size * font, **style)
            if layer.bias_mask[unit] and reading.num_live <= MAX_WEIGHTS:
                sign = "+" if layer.bias[unit] > 0.0 else ""
                _draw_number(axes, x, y + radius + 0.1, layer.bias[unit], scale, sign=sign)


def _draw_number(axes: Axes, x: float, y: float, number: np.float32, scale: float, *, sign: str = "") -> None:
    """Draw a number on a white box, which hides the lines behind it."""
    axes.text(
        x, y, sign + _text(number), size=scale * _NUMBER_SIZE, color=_color(number), ha="center", va="center",
        zorder=2, bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip
