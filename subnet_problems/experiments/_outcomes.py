"""Results of experiments: tests in a CSV file, and their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from .._checks import check_path
from ._tables import Row, read_table

#: The columns of a file of tests, with one row per test. ``again_*`` is only in a run's last row: a second test of the
#: policy with the highest test reward, since the highest of many tests is biased upwards.
FIELDS = ["name", "seed", "generation", "steps", "episodes", "mean_eval", "sparsity"]
FIELDS += ["test_mean", "test_standard_error", "again_mean", "again_standard_error"]


def read_tests(path: str | Path) -> list[Row]:
    """Read the tests of finished runs; the list is empty if there is no file yet.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: The file is not a table of tests.
        OSError: The file cannot be read.
    """
    path = check_path("path", path)
    if not path.exists():
        return []
    return read_table(path, _number, table="a file of tests", row="a test", columns=FIELDS)


def by_run(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Group tests by run, with keys (name, seed); the tests of a run are ordered by environment steps."""
    runs: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])):
        runs.setdefault((row["name"], row["seed"]), []).append(row)
    return runs


@dataclass(frozen=True)
class Outcome:
    """Results of all runs of one name, with one number per seed.

    Attributes:
        highest: The highest test reward.
        again: The reward of that policy in a second test on other episodes.
        final: The last test reward.
        samples: Environment steps until the first test that reached the required reward; infinity if no test did.
        sparsity: Sparsity of the final policy; NaN for a search on the weights themselves.
    """

    highest: NDArray[np.float64]
    again: NDArray[np.float64]
    final: NDArray[np.float64]
    samples: NDArray[np.float64]
    sparsity: NDArray[np.float64]

    @property
    def num_seeds(self) -> int:
        """Number of runs."""
        return len(self.samples)

    @property
    def num_solved(self) -> int:
        """Number of runs that reached the required reward."""
        return int(np.isfinite(self.samples).sum())


def outcome(rows: Iterable[Row], name: str, *, solved: float) -> Outcome:
    """Summarize all runs of a name, in the order of seeds.

    Args:
        rows: Tests.
        name: Name of the runs.
        solved: The required test reward.

    Returns:
        The outcome; its arrays have length 0 if there are no runs of that name.
    """
    runs = _runs_of(rows, name)
    first = [next((row["steps"] for row in tests if row["test_mean"] >= solved), np.inf) for tests in runs]
    return Outcome(
        highest=np.array([max(row["test_mean"] for row in tests) for tests in runs]),
        again=np.array([tests[-1]["again_mean"] for tests in runs]),
        final=np.array([tests[-1]["test_mean"] for tests in runs]),
        samples=np.array(first),
        sparsity=np.array([np.nan if tests[-1]["sparsity"] == "" else tests[-1]["sparsity"] for tests in runs]),
    )


def learning_curves(rows: Iterable[Row], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interpolate the test reward of all seeds of a name linearly at common numbers of environment steps.

    Returns:
        ``(points,)`` environment steps, and ``(seeds, points)`` test rewards.

    Raises:
        ValueError: There are no runs of that name.
    """
    runs = _runs_of(rows, name)
    if not runs:
        raise ValueError(f"name: expected the name of a run, got {name!r}")
    at = np.linspace(max(tests[0]["steps"] for tests in runs), min(tests[-1]["steps"] for tests in runs), 201)
    return at, np.array([np.interp(at, [r["steps"] for r in t], [r["test_mean"] for r in t]) for t in runs])


def comparison(rows: Sequence[Row], names: Sequence[str], *, solved: float | None) -> Table:
    """Create a table that compares the runs of several names.

    Args:
        rows: Tests.
        names: Names of the runs.
        solved: The test reward that solves the task, or None.

    Raises:
        ValueError: There are no runs of one of these names.
    """
    goal = "" if solved is None else f"; solved: a test of at least {solved:g}"
    result = Table(title=f"Test reward on fresh episodes{goal}")
    for column in ("search", "seeds", "final, median", "least", "most", "seeds that solve", "steps to it, median"):
        result.add_column(column, justify="left" if column == "search" else "right", no_wrap=column == "search")
    for name in names:
        found = outcome(rows, name, solved=np.inf if solved is None else solved)
        if not found.num_seeds:
            raise ValueError(f"names: expected names of runs, got {name!r}")
        steps = float(np.median(found.samples))
        result.add_row(
            name, str(found.num_seeds), *(f"{f(found.final):.1f}" for f in (np.median, np.min, np.max)),
            "-" if solved is None else f"{found.num_solved} of {found.num_seeds}",
            f"{steps:,.0f}" if np.isfinite(steps) else "-",
        )  # fmt: skip
    return result


def _runs_of(rows: Iterable[Row], name: str) -> list[list[Row]]:
    """The tests of each run of a name, in the order of seeds."""
    return list(by_run(row for row in rows if row["name"] == name).values())


def _number(column: str, text: str) -> Any:
    if column == "name" or column not in FIELDS or not text:  # other columns belong to the caller
        return text
    return int(float(text)) if column in ("seed", "generation", "steps", "episodes") else float(text)
