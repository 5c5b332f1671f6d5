"""The progress of single searches, drawn from their logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from .._checks import check_path
from ._tables import read_table

LogLike: TypeAlias = "str | Path"


def read_log(log: LogLike) -> list[dict[str, float]]:
    """Read the log of a search, as ``CSVLogger`` and the command ``search`` write it.

    Args:
        log: A CSV file, or a folder that has a ``log.csv``.

    Returns:
        One dict per logged generation: numbers by their names in the status. A number that a generation lacks is
        missing from its dict.

    Raises:
        TypeError: ``log`` is not a path.
        ValueError: The file is not a table of numbers, or it has no rows.
        OSError: The file cannot be read.
    """
    path = check_path("log", log)
    if path.is_dir():
        path = path / "log.csv"
    table = read_table(path, lambda _, text: float(text) if text else None, row="numbers", name="log")
    rows = [{column: number for column, number in row.items() if number is not None} for row in table]
    if not rows:
        raise ValueError(f"log: expected a table with a row for each generation, got {path}, which has no rows")
    return rows


def plot_log(
    logs: LogLike | Sequence[LogLike],
    *,
    quantity: str = "mean_eval",
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number of the status against environment steps, one line per search.

    Example:
        >>> from algorithms import ElitistGaussianResampling
        >>> from subnet_problems import MaskedGymProblem
        >>> from subnet_problems.experiments import CSVLogger
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), seed=0)
        >>> searcher = ElitistGaussianResampling(problem)
        >>> logger = CSVLogger(searcher, "log.csv")
        >>> searcher.run(3)
        >>> axes = plot_log("log.csv")
        >>> axes.get_figure().savefig("progress.png")

    Args:
        logs: A log, or several: CSV files, or folders that have a ``log.csv``. A search that is still running may be
            drawn too.
        quantity: The name of the number in the status. ``"mean_eval"`` is the mean fitness of each generation.
        labels: The names of the lines in the legend. Default: the paths.
        threshold: The reward at which the task is solved, drawn as a dotted line. Default: no such line.
        ax: The axes to draw on. Default: those of a new figure.

    Returns:
        The axes. The x axis is the status's ``total_interaction_count``, in millions; or ``iter``, the number of
        generations, if a log does not count environment steps.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A log is empty, is not a table of numbers or lacks ``quantity``, or there are not as many labels as
            logs.
        OSError: A log cannot be read.
    """
    logs = [logs] if isinstance(logs, str | Path) else list(logs)
    tables = [read_log(log) for log in logs]
    if not tables:
        raise ValueError("logs: expected one at least, got none")
    for log, rows in zip(logs, tables, strict=True):
        names = {name for row in rows for name in row}
        if quantity not in names:
            raise ValueError(f"quantity: expected one of {sorted(names)}, which {log} has, got {quantity!r}")
    labels = [str(log) for log in logs] if labels is None else list(labels)
    if len(labels) != len(logs):
        raise ValueError(f"labels: expected one for each of {len(logs)} logs, got {labels}")
    counted = all("total_interaction_count" in row for rows in tables for row in rows)
    step, unit = ("total_interaction_count", 1e6) if counted else ("iter", 1.0)
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    for rows, label in zip(tables, labels, strict=True):
        points = [(row[step] / unit, row[quantity]) for row in rows if quantity in row]
        axes.plot(*zip(*points, strict=True), label=label)
    if threshold is not None:
        axes.axhline(threshold, color="0.5", linewidth=1, linestyle=":", label=f"solved ({threshold:g})")
    axes.set(xlabel="environment steps (millions)" if counted else "generations", ylabel=quantity)
    axes.legend(frameon=False)
    return axes
