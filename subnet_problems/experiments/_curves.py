"""Plots of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ._outcomes import learning_curves
from ._tables import Row


def plot_learning_curves(
    rows: Sequence[Row],
    names: Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot test reward against environment steps: the median over seeds, with the interquartile range as a band.

    Args:
        rows: Tests, from ``experiments.perform`` or ``experiments.read_tests``.
        names: Names of the runs to plot. Default: all names, in the order of ``rows``.
        labels: Labels of the runs. Default: their names.
        threshold: The reward at which the task is solved, or None.
        ax: Matplotlib axes. Default: new axes.

    Returns:
        The axes.

    Raises:
        ValueError: There are no tests of one of the names, or the number of labels differs from that of names.
    """
    present = list(dict.fromkeys(row["name"] for row in rows))
    names = present if names is None else list(names)
    if not names or not set(names) <= set(present):
        raise ValueError(f"names: expected some of {present}, got {names}")
    labels = names if labels is None else labels
    if len(labels) != len(names):
        raise ValueError(f"labels: expected one per name of {names}, got {labels}")
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
