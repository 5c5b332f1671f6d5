"""A small network drawn from left to right, with the number of each connection, and lines of formulas beneath.

All places are in inches from the lower left corner of the picture, which is then scaled into its axes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.patches import Circle
from numpy.typing import NDArray
from torch import nn

from ._formula import MAX_WEIGHTS, LatexWriter, Reading, TextWriter, centered

Points = NDArray[np.float64]

_INK, _POSITIVE, _NEGATIVE = "0.15", "#1f4e79", "#c0392b"
#: Between levels, from margin to names, radius of a unit, of an input and an output without an activation; inches.
_GAP, _MARGIN, _UNIT, _DOT = 2.1, 0.25, 0.19, 0.06
#: The least width of formulas, and how high their lines are, title included.
_FORMULA_WIDTH, _LINE, _TITLE = 7.5, 0.27, 0.4
#: The most that the graph is high, and units are from each other.
_HEIGHT, _PITCH = 8.0, 0.62
#: Font sizes in points.
_NAME_SIZE, _NUMBER_SIZE, _FORMULA_SIZE = 11.0, 8.0, 11.0
#: Where along its line a number may stand, the better places first.
_PLACES = (0.5, 0.38, 0.62, 0.3, 0.7, 0.44, 0.56, 0.24, 0.76, 0.34, 0.66, 0.18, 0.82)


@dataclass(frozen=True)
class _Line:
    """A connection: where it begins and ends, ``(2, 2)``, and its weight."""

    ends: Points
    weight: np.float32


def draw_network(reading: Reading, title: str, equations: Sequence[str], ax: Axes | None) -> Axes:
    """Draw what is alive, and these equations beneath; see ``subnet_problems.plots.plot_network``."""
    levels = _ordered(reading)
    rows = max(len(level) for level in levels)
    pitch = min(_PITCH, _HEIGHT / rows)
    size = min(1.0, pitch / 0.2)  # where there are very many units, names are smaller
    entering, leaving = _input_labels(reading, levels[0]), _output_labels(reading)
    left, right = (_width(labels, size * _NAME_SIZE) + _MARGIN + 0.15 for labels in (entering, leaving))
    width = max(left + _GAP * (len(levels) - 1) + right, _FORMULA_WIDTH + 2 * _MARGIN if equations else 4.0)
    wrapped = _wrapped(equations, width - 2 * _MARGIN)
    foot = _LINE * len(wrapped) + (2 * _MARGIN if wrapped else _MARGIN)
    height = foot + pitch * rows + _TITLE + 0.1
    x = np.linspace(left, width - right, len(levels))
    places: list[dict[int, Points]] = []
    for column, level in zip(x, levels, strict=True):
        y = foot + pitch * rows * (1.0 - (np.arange(len(level)) + 0.5) / max(1, len(level)))
        places.append({unit: np.array([column, at]) for unit, at in zip(level, y, strict=True)})

    axes, scale = _canvas(ax, width, height)
    axes.text(_MARGIN, height - _TITLE / 2, title, size=scale * 11, weight="bold", color=_INK, va="center")
    _draw_lines(axes, reading, places, scale)
    _draw_units(axes, reading, places, scale, named=bool(equations))
    for labels, level, place, shift, align in (
        (entering, levels[0], places[0], -0.14, "right"),
        (leaving, levels[-1], places[-1], _DOT + 0.1 if _is_linear(reading) else _UNIT + 0.08, "left"),
    ):
        for label, unit in zip(labels, level, strict=True):
            at, y = place[unit]
            axes.text(at + shift, y, label, size=scale * size * _NAME_SIZE, color=_INK, ha=align, va="center_baseline")
    for number, line in enumerate(wrapped):
        y = foot - _MARGIN - _LINE * (number + 0.5)
        axes.text(_MARGIN, y, line, size=scale * _FORMULA_SIZE, color=_INK, va="center", math_fontfamily="cm")
    return axes


def _canvas(ax: Axes | None, width: float, height: float) -> tuple[Axes, float]:
    """Axes in inches, and how large an inch is in them."""
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
    """The units of each level from top to bottom: where those are that they are connected with, so that few cross."""
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
    """A level by the mean place of a unit's neighbors in the other one; ``mask`` is (level, other)."""
    height = (np.arange(len(other)) + 0.5) / max(1, len(other))

    def place(unit: int) -> float:
        near = height[mask[unit, other]]
        return float(near.mean()) if near.size else 0.5

    return sorted(level, key=place)


def _is_linear(reading: Reading) -> bool:
    return reading.layers[-1].activation is nn.Identity


def _input_labels(reading: Reading, level: list[int]) -> list[str]:
    return [f"${centered(reading, unit, LatexWriter(3)).strip('()')}$" for unit in level]


def _output_labels(reading: Reading) -> list[str]:
    alive = reading.units[-1]
    return [f"${name.latex}{'' if alive[i] else ' = 0'}$" for i, name in enumerate(reading.outputs)]


def _width(labels: Sequence[str], size: float) -> float:
    """How wide the widest of these formulas is, in inches."""
    parser, font = MathTextParser("path"), FontProperties(size=size)
    return max((parser.parse(label, dpi=72, prop=font).width / 72 for label in labels), default=0.0)


def _wrapped(equations: Sequence[str], width: float) -> list[str]:
    """Equations in as many lines as they need."""
    lines: list[str] = []
    for equation in equations:
        # Before a sign, but not that of an observation's mean; after a comma, but not that of a maximum.
        first, *rest = re.split(r"(?= [+-] (?![\d.]+\)))|(?<=[^0], )", equation.strip("$"))
        line = first
        for part in rest:
            if _width([f"${line}{part}$"], _FORMULA_SIZE) > width:
                lines.append(f"${line}$")
                line = r"\qquad" + part
            else:
                line += part
        lines.append(f"${line}$")
    return lines


def _color(weight: np.float32) -> str:
    return _POSITIVE if weight > 0.0 else _NEGATIVE


def _text(number: np.float32) -> str:
    return TextWriter(3).number(number).replace("-", "−")


def _draw_lines(axes: Axes, reading: Reading, places: Sequence[dict[int, Points]], scale: float) -> None:
    """The connections, and their numbers where these are few."""
    lines = [
        _Line(np.array([before[i], after[unit]]), layer.weight[unit, i])
        for layer, before, after in zip(reading.layers, places[:-1], places[1:], strict=True)
        for unit in after
        for i in before
        if layer.mask[unit, i]
    ]
    largest = max((abs(line.weight) for line in lines), default=1.0)
    for line in lines:
        width = scale * (0.7 + 2.3 * float(abs(line.weight)) / float(largest))
        axes.plot(*line.ends.T, color=_color(line.weight), linewidth=width, alpha=0.75, zorder=1)
    if reading.num_live > MAX_WEIGHTS:
        return
    boxes = _boxes(lines, [place for level in places for place in level.values()])
    for line, (x, y) in zip(lines, boxes, strict=True):
        axes.text(
            x, y, _text(line.weight), size=scale * _NUMBER_SIZE, color=_color(line.weight), ha="center", va="center",
            zorder=2, bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip


def _boxes(lines: Sequence[_Line], units: Sequence[Points]) -> list[Points]:
    """Where the number of each line stands: on it, and as far as possible not on other numbers, lines and units."""
    placed: list[tuple[Points, Points]] = []
    steps = np.linspace(0.0, 1.0, 41)[:, None]
    ways = [line.ends[0] * (1.0 - steps) + line.ends[1] * steps for line in lines]
    for number, line in enumerate(lines):
        # A digit is some 0.64 of the font's size wide.
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
    axes: Axes, reading: Reading, places: Sequence[dict[int, Points]], scale: float, *, named: bool
) -> None:
    for place in places[0].values():
        axes.add_patch(Circle((place[0], place[1]), _DOT, facecolor=_INK, edgecolor=_INK, zorder=3))
    for number, (layer, level) in enumerate(zip(reading.layers, places[1:], strict=True)):
        last = number == len(reading.layers) - 1
        for unit, (x, y) in level.items():
            alive = bool(reading.units[number + 1][unit])
            text = "" if layer.activation is nn.Identity else "tanh" if layer.activation is nn.Tanh else "ReLU"
            radius = _UNIT if text or not last else _DOT
            if named and not last and unit in reading.hidden[number]:
                text = f"${reading.hidden[number][unit].latex}$"
            face = _INK if radius == _DOT and alive else "white"
            edge = scale * (1.0 if alive else 0.7)
            axes.add_patch(Circle((x, y), radius, facecolor=face, edgecolor=_INK, linewidth=edge, zorder=3))
            font = 9.5 if text.startswith("$") else 6.5
            axes.text(x, y, text, size=scale * font, color=_INK, ha="center", va="center_baseline", zorder=4)
            if layer.bias_mask[unit] and alive:
                bias = ("+" if layer.bias[unit] > 0.0 else "") + _text(layer.bias[unit])
                color = _color(layer.bias[unit])
                axes.text(
                    x, y + radius + 0.03, bias, size=scale * _NUMBER_SIZE, color=color, ha="center", va="bottom",
                    zorder=4, bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
                )  # fmt: skip
