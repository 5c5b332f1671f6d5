"""Plots of masks and networks."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .._checks import check_bool
from ..masks._live import Bools, live_units
from ..subnetworks._formula import MAX_WEIGHTS, read
from ..subnetworks._pruning import MaskedLayer, masked_layers, reached
from ..subnetworks._subnetwork import Subnetwork
from ._network_picture import draw_network

#: Colors of weights: removed; kept, but at a dead unit; kept and live.
_COLORS = ListedColormap(["#f4f4f4", "#f0b49e", "#1f4e79"])
#: The graph of a network with more live units would be unreadable, so it is not drawn.
_MAX_UNITS = 300


def plot_mask(subnet: Subnetwork, *, figure: Figure | None = None) -> list[Axes]:
    """Draw the mask of each weight matrix and, for a small chain of linear layers, the graph of its live units.

    In a mask, a row is a unit and a column is one of its inputs. Kept weights are dark; kept weights at a dead unit
    (see ``Subnetwork.live_units``) are pale red. The graph has the inputs at the bottom. Inputs that reach no output,
    and outputs that no input or bias reaches, are hollow. Positive weights are blue, negative weights are red.

    Args:
        subnet: The subnetwork to draw.
        figure: The figure to draw in. Default: a new figure.

    Returns:
        The axes of each weight matrix, then those of the graph if it is drawn.

    Raises:
        TypeError: ``subnet`` is not a Subnetwork.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    try:
        layers: list[MaskedLayer] | None = masked_layers(subnet)
    except ValueError:
        layers = None
    tensors = [layer for layer in subnet.network.layers if len(layer.shape) >= 2]
    alive = subnet.mask if layers is None else subnet.prune().mask
    units = [] if layers is None else live_units(layers)
    graph = layers is not None and sum(int(level.sum()) for level in units) <= _MAX_UNITS
    if figure is None:
        figure = plt.figure(figsize=(3.2 * len(tensors) + (5 if graph else 0), 4), layout="constrained")
    ratios = [1.0] * len(tensors) + [1.6] * graph
    all_axes: list[Axes] = list(figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0])
    for number, (axes, tensor) in enumerate(zip(all_axes, tensors, strict=False)):
        shape = (tensor.shape[0], -1)
        bits = (subnet.mask[tensor.slice].int() + alive[tensor.slice].int()).view(shape).numpy()
        axes.imshow(bits, cmap=_COLORS, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
        kept = int(subnet.mask[tensor.slice].sum())
        title = f"layer {number + 1}: {kept:,} of {tensor.size:,}"
        if layers is not None and number < len(layers) - 1:
            dead = int((~units[number + 1]).sum())
            title += f"\n{dead} of {tensor.shape[0]} units dead"
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="inputs", ylabel="units" if number == 0 else "")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if layers is not None:
        names = ("removed", "kept, unit dead", "kept, alive")
        patches = [Patch(facecolor=_COLORS(i), edgecolor="0.6", label=name) for i, name in enumerate(names)]
        figure.legend(handles=patches, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    if graph and layers is not None:
        _draw_graph(all_axes[-1], layers, units)
    return all_axes


def _draw_graph(axes: Axes, layers: Sequence[MaskedLayer], units: Sequence[Bools]) -> None:
    """Draw the live units of each layer on one level, and a line for each kept weight between live units."""
    shown = [np.ones_like(units[0]), *units[1:-1], np.ones_like(units[-1])]
    places = [np.cumsum(level) - 1 for level in shown]
    x = [(place + 0.5) / max(1, level.sum()) for place, level in zip(places, shown, strict=True)]
    largest = max((float(np.abs(layer.weight).max()) for layer in layers), default=1.0) or 1.0
    for number, layer in enumerate(layers):
        after, before = np.nonzero(layer.mask & units[number] & units[number + 1][:, None])
        lines = np.empty((len(after), 2, 2))
        lines[:, 0, 0], lines[:, 0, 1] = x[number][before], number
        lines[:, 1, 0], lines[:, 1, 1] = x[number + 1][after], number + 1
        weights = layer.weight[after, before]
        colors = np.where(weights[:, None] > 0, [[0.12, 0.31, 0.47, 0.6]], [[0.75, 0.22, 0.17, 0.6]])
        axes.add_collection(LineCollection(list(lines), colors=colors, linewidths=1.2 * np.abs(weights) / largest))
    for number, (level, alive) in enumerate(zip(shown, units, strict=True)):
        for hollow in (False, True):
            chosen = level & (alive != hollow)
            face = "white" if hollow else "0.15"
            axes.plot(x[number][chosen], np.full(chosen.sum(), number), "o", ms=4, mfc=face, mec="0.15", mew=0.8)
    paths = reached(layers)
    axes.set_yticks(range(len(units)), ["inputs", *(f"layer {n + 1}" for n in range(len(units) - 2)), "outputs"])
    axes.set(xticks=[], xlim=(0, 1), ylim=(-0.3, len(layers) + 0.3))
    axes.set_title(f"{paths.any(axis=0).sum()} of {paths.shape[1]} inputs reach an output", fontsize=10)
    for color, sign in (("C0", "positive"), ("C3", "negative")):
        axes.plot([], [], color=color, label=f"{sign} weight")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def plot_network(subnet: Subnetwork, *, formula: bool = False, ax: Axes | None = None) -> Axes:
    """Draw the live part of a small chain of linear layers from left to right, with its weights as numbers.

    A number is a weight in three digits, which includes all factors, as in ``Subnetwork.formula``. Biases are written
    above their units. Positive numbers are blue, negative numbers are red, and a line's width grows with its weight's
    magnitude. With more than 60 live weights, no numbers are written. Observations and outputs have the same names as
    in the formula. An output that nothing reaches is hollow.

    Args:
        subnet: The subnetwork to draw.
        formula: Whether to write the formula below the network and the formula's names in the units. Default: False.
        ax: The axes to draw in; the picture is scaled to fit. Default: new axes of the required size.

    Returns:
        The axes.

    Raises:
        TypeError: ``subnet`` is not a Subnetwork, or ``formula`` is not a bool.
        ValueError: The network is not a chain of linear layers, tanh and ReLU, more than 300 of its units are live, or
            the formula would have more than 60 live weights.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    reading = read(subnet)
    num_units = sum(int(level.sum()) for level in reading.units)
    if num_units > _MAX_UNITS:
        raise ValueError(f"subnet: expected a network of at most {_MAX_UNITS} live units, got {num_units}")
    if check_bool("formula", formula) and reading.num_live > MAX_WEIGHTS:
        raise ValueError(f"formula: expected False for more than {MAX_WEIGHTS} live weights, got {reading.num_live}")
    lines = subnet.formula("latex").splitlines() if formula else []
    task = f"{subnet.env}: " if subnet.env else ""
    return draw_network(reading, f"{task}{reading.num_live:,} of {subnet.num_weights:,} weights", lines, ax)
