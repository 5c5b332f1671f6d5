"""Pictures of a policy's masks, a Pareto front and learning curves: as Axes, which ``save_figure`` writes to a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ._checks import check_bool, check_path, naming
from ._files import check_file, write_whole
from ._formula import MAX_WEIGHTS, read
from ._network_picture import draw_network
from .fronts import attainment
from .outcomes import Row, learning_curves
from .pruning import Bools, MaskedLayer, live_units, masked_layers, reached
from .subnetwork import Subnetwork

#: Removed; kept, but at a dead unit; kept and alive.
_COLORS = ListedColormap(["#f4f4f4", "#f0b49e", "#1f4e79"])
#: Ticks of an axis of shares of weights, in percent: those of a wide range, and those in between of a narrow one.
_SHARES = (100, 50, 30, 20, 10, 5, 3, 2, 1, 0.5, 0.3, 0.2, 0.1)
_FINE_SHARES = (100, 70, 50, 30, 20, 15, 10, 7, 5, 4, 3, 2, 1.5, 1, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
#: Networks of more live units have no graph: nobody could follow its lines.
_MAX_UNITS = 300


def plot_mask(subnet: Subnetwork, *, figure: Figure | None = None) -> list[Axes]:
    """Draw the mask of each weight matrix, and of a small chain of linear layers the graph of what is alive.

    In a mask a row is a unit and a column one of its inputs: dark where a weight is kept, pale red where it is kept but
    its unit is dead (see ``Subnetwork.live_units``). In the graph, inputs are at the bottom; those that reach no
    output are hollow, as are outputs that nothing reaches. Positive weights are blue, negative ones red.

    Args:
        subnet: What is drawn.
        figure: Where; a new one by default.

    Returns:
        One for each weight matrix, then that of the graph if there is one.

    Raises:
        TypeError: ``subnet`` is none.
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
    """Live units, a level for each layer, and a line for each kept weight between them."""
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
    """Draw what is alive of a small chain of linear layers from left to right, each connection with its number.

    Numbers are the weights in three digits, with all factors in them as in ``Subnetwork.formula``; biases stand above
    their units. Positive ones are blue, negative ones red, and lines are as wide as weights are large. Of more than 60
    live weights the numbers are left out. Observations and outputs have the names that they have in the formula; an
    output that nothing reaches is hollow.

    Args:
        subnet: What is drawn.
        formula: Whether the formula stands beneath, and units have the names that they have in it.
        ax: Where: the picture is scaled so that it fits. By default new ones of the size that it needs.

    Raises:
        TypeError: ``subnet`` is none, or ``formula`` no bool.
        ValueError: The network is no chain of linear layers, tanh and ReLU, more than 300 of its units are alive, or
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


def plot_front(
    subnets: Iterable[Subnetwork],
    *,
    threshold: float | None = None,
    seen: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw test reward, with its standard error, against the share of weights that is kept.

    Args:
        subnets: Tested policies (``Subnetwork.test``) with networks of one size.
        threshold: The reward at which the task is solved, or None.
        seen: The mean reward by which each was chosen, before its test, or None.
        ax: Where; a new one by default.

    Raises:
        TypeError: Something among ``subnets`` is none.
        ValueError: There is no policy, one was never tested, or ``seen`` has another length.
    """
    subnets = list(subnets)
    if not all(isinstance(subnet, Subnetwork) for subnet in subnets):
        raise TypeError(f"subnets: expected Subnetworks, got {subnets}")
    if not subnets or any("mean" not in subnet.tests for subnet in subnets):
        raise ValueError(f"subnets: expected at least one, each of them tested, got {subnets}")
    if seen is not None and len(seen) != len(subnets):
        raise ValueError(f"seen: expected a reward for each of {len(subnets)} subnetworks, got {len(seen)}")
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    order = sorted(range(len(subnets)), key=lambda i: subnets[i].sparsity)
    shares = [100.0 * (1.0 - subnets[i].sparsity) for i in order]
    kept = [share or _place_of_nothing(shares) for share in shares]
    if seen is not None:
        axes.plot(kept, [seen[i] for i in order], "o", mfc="none", color="0.6", label="when chosen")
    axes.errorbar(
        kept, [subnets[i].tests["mean"] for i in order],
        yerr=[subnets[i].tests.get("standard_error") or 0.0 for i in order],
        fmt="o-", color="C0", capsize=3, label="in its test: mean and standard error",
    )  # fmt: skip
    if threshold is not None:
        axes.axhline(threshold, color="C2", linewidth=1, linestyle="--", label=f"solved ({threshold:g})")
    _share_axis(axes, shares, num_weights=subnets[0].num_weights)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False, fontsize=9)
    return axes


def plot_attainment(
    groups: Mapping[str, Sequence[Any]], *, threshold: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw what searches attain over seeds: the median surface as steps, the worst one dotted, and a band between.

    See ``fronts.attainment``: at each share of weights, half of a search's seeds found a policy with at most so many
    weights and at least the reward of the solid line, and all of them one with at least that of the dotted line. A
    line that ends says that beyond it fewer seeds, or not all of them, found a policy at all.

    Args:
        groups: For each search by name its fronts, one for each seed, as ``fronts.attainment`` takes them.
        threshold: The reward at which the task is solved, or None.
        ax: Where; a new one by default.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There is no group, a group is not one of fronts, or no group has a median surface.
    """
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups: expected a mapping of names to fronts, got {groups!r}")
    surfaces = {}
    for name, fronts in groups.items():
        with naming(fronts=f"groups[{name!r}]"):
            surfaces[name] = attainment(fronts, percentiles=[50, 100])
    drawn = np.concatenate([points for both in surfaces.values() for points in both.values()] or [np.empty((0, 2))])
    if not len(drawn):
        raise ValueError(f"groups: expected one that half of its seeds attain something of, got {groups!r}")
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    shares = (100.0 * drawn[:, 1]).tolist()
    densest = min(1.25 * max(shares), 100.0)  # who attains a reward attains it with more weights, too
    at = np.unique([*(share or _place_of_nothing(shares) for share in shares), densest])
    for number, (name, both) in enumerate(surfaces.items()):
        style: dict[str, Any] = {"color": f"C{number % 10}"}
        median, worst = (_steps(both[percentile], at) for percentile in (50, 100))
        seeds = f"{len(groups[name])} seed{'s' * (len(groups[name]) > 1)}"
        axes.plot(at, median, "-" if number < 10 else "--", drawstyle="steps-post", label=f"{name} ({seeds})", **style)
        axes.plot(at, worst, ":", drawstyle="steps-post", linewidth=1, **style)
        axes.fill_between(at, worst, median, step="post", alpha=0.1, linewidth=0, **style)
    axes.plot([], [], "-", color="0.3", label="at least half of the seeds")
    axes.plot([], [], ":", color="0.3", linewidth=1, label="all seeds")
    if threshold is not None:
        axes.axhline(threshold, color="0.5", linewidth=1, linestyle="--", label=f"solved ({threshold:g})")
    _share_axis(axes, shares)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False, fontsize=9)
    return axes


def _steps(surface: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reward of a surface at ascending shares of weights, in percent; NaN where there is none."""
    last = np.searchsorted(100.0 * surface[:, 1], at, side="right") - 1
    return np.where(last >= 0, np.append(surface[:, 0], np.nan)[last], np.nan)


def _place_of_nothing(shares: Sequence[float]) -> float:
    """Where a policy without a weight is on a logarithmic axis of shares, which has no place for 0."""
    return min((share for share in shares if share > 0.0), default=1.0) / 2


def _share_axis(axes: Axes, shares: Sequence[float], *, num_weights: int | None = None) -> None:
    """Make the x axis one of shares of weights in percent, sparser to the right, with numbers of weights if known."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    nothing = _place_of_nothing(shares)
    least, most = 2 * nothing, max(shares)
    candidates = _SHARES if most > 20 * least else _FINE_SHARES
    if min(shares) == most > 0.0:  # matplotlib would give a single one ten times its room on one side
        axes.set_xlim(1.5 * most, most / 1.5)
    low, high = sorted(axes.get_xlim())
    ticks = _apart([tick for tick in candidates if low <= tick <= high], span=high / low)
    if len(ticks) < 2:  # of a narrow range, the ends
        ticks = [float(f"{share:.3g}") for share in sorted({least, most}, reverse=True)]
    labels = [f"{t:g} %" + ("" if num_weights is None else f"\n{round(num_weights * t / 100):,}") for t in ticks]
    if 0.0 in shares:
        ticks, labels = [*ticks, nothing], [*labels, "0 %" + ("" if num_weights is None else "\n0")]
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.set(xlabel="weights kept (sparser to the right)", ylabel="reward of an episode")


def _apart(ticks: Sequence[float], *, span: float) -> list[float]:
    """Those of descending ticks of a logarithmic axis whose labels have room: a twelfth of the axis each."""
    apart: list[float] = []
    for tick in ticks:
        if not apart or apart[-1] / tick >= span ** (1 / 12):
            apart.append(tick)
    return apart


def plot_learning_curves(
    rows: Sequence[Row],
    names: Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw test reward against environment steps: the median over seeds, and the interquartile range as a band.

    Args:
        rows: Tests, from ``experiments.perform`` or ``outcomes.read_tests``.
        names: Whose runs; all of them, in order, by default.
        labels: How they are called in the picture; by default by their names.
        threshold: The reward at which the task is solved, or None.
        ax: Where; a new one by default.

    Raises:
        ValueError: There are no tests of one of the names, or not as many labels as names.
    """
    present = list(dict.fromkeys(row["name"] for row in rows))
    names = present if names is None else list(names)
    if not names or not set(names) <= set(present):
        raise ValueError(f"names: expected some of {present}, got {names}")
    labels = names if labels is None else labels
    if len(labels) != len(names):
        raise ValueError(f"labels: expected one for each of {names}, got {labels}")
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        at, lines = learning_curves(rows, name)
        low, median, high = np.percentile(lines, [25, 50, 75], axis=0)
        style: dict[str, Any] = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        axes.plot(at / 1e6, median, label=f"{label} ({len(lines)} seed{'s' * (len(lines) > 1)})", **style)
        axes.fill_between(at / 1e6, low, high, color=style["color"], alpha=0.15, linewidth=0)
    if threshold is not None:
        axes.axhline(threshold, color="0.5", linewidth=1, linestyle=":", label=f"solved ({threshold:g})")
    axes.set(xlabel="environment steps (millions)", ylabel="test reward: median and interquartile range")
    axes.legend(frameon=False)
    return axes


def check_picture(name: str, path: str | Path) -> Path:
    """Return the path of a picture that is yet to be drawn if it can be written there.

    Args:
        name: What the caller calls it.
        path: Where.

    Raises:
        TypeError: It is no path.
        ValueError: Its suffix is none that matplotlib writes.
        OSError: It is a folder, or in one that cannot be written to.
    """
    path, suffixes = check_path(name, path), sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{name}: expected a name that ends in one of {', '.join(suffixes)}, got {str(path)!r}")
    return check_file(name, path)


def save_figure(figure: Figure | Axes, path: str | Path, *, dpi: float = 150) -> None:
    """Write a figure, and close it. The file appears whole or not at all.

    Args:
        figure: The figure, or any of its axes.
        path: Where; its suffix says in which format.
        dpi: Dots an inch.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The suffix is none that matplotlib writes.
        OSError: The file cannot be written.
    """
    if not isinstance(figure, Figure | Axes):
        raise TypeError(f"figure: expected one of matplotlib, or its Axes, got {figure!r}")
    path = check_picture("path", path)
    if isinstance(figure, Axes):
        whole = figure.get_figure(root=True)
        assert whole is not None
        figure = whole
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=dpi)
    finally:
        plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())


@contextmanager
def drawn_if_possible(path: Path) -> Iterator[None]:
    """Draws a picture of what is kept elsewhere: where that fails, it is a warning that names ``path``."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{path} could not be drawn: {error!r}", stacklevel=3)
