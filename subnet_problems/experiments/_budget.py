"""Spend a budget of environment steps, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .._checks import check_count
from ._run import mean_eval

if TYPE_CHECKING:
    from evotorch.algorithms import SearchAlgorithm


def spend(searcher: SearchAlgorithm, budget: int, *, console: Console | None = None) -> None:
    """Run a search until its problem has counted ``budget`` environment steps, with a progress bar.

    Example:
        >>> from algorithms import ElitistGaussianResampling
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), seed=0)
        >>> spend(ElitistGaussianResampling(problem), 5_000)

    Args:
        searcher: A search on a problem of this package.
        budget: Environment steps, including those that the problem has counted before. The last generation may exceed
            it.
        console: Console for the bar. Default: stderr of the terminal, or the notebook.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``budget`` is below 1.
        KeyboardInterrupt: Ctrl-C; another call continues the search.
    """
    problem: Any = getattr(searcher, "problem", None)
    if not hasattr(problem, "interaction_count"):
        raise TypeError(f"searcher: expected a search on a problem that counts environment steps, got {searcher!r}")

    def count() -> int:  # a race changes its problem, and its status has the steps of all its searches
        steps = searcher.status.get("total_interaction_count")
        return int(problem.interaction_count if steps is None else steps)

    def describe() -> str:
        status = searcher.status
        parts = [f"generation {status['iter']}", f"mean return {mean_eval(status):.1f}"]
        if "mean_sparsity" in status:
            parts.append(f"sparsity {status['mean_sparsity']:.3f}")
        return ", ".join(parts)

    spend_steps(
        searcher.step, count, check_count("budget", budget), describe=describe,
        console=Console(stderr=True) if console is None else console,
    )  # fmt: skip


def spend_steps(
    step: Callable[[], Any], count: Callable[[], int], budget: int, *, describe: Callable[[], str], console: Console
) -> None:
    """Step until the count reaches the budget, with a progress bar.

    Args:
        step: Runs one generation.
        count: Returns the number of environment steps so far.
        budget: Number of environment steps to reach.
        describe: Returns the text of the bar after a generation.
        console: Console for the bar.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    first, start = count(), time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=budget, completed=min(first, budget))
        while count() < budget:
            step()
            rate = (count() - first) / (time.perf_counter() - start) / 1000
            text = f"{describe()}, {rate:.1f}k steps/s"
            progress.update(bar, completed=min(count(), budget), description=text)
