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


def spend(searcher: SearchAlgorithm, budget: int, *, console: Console | None = None) -> bool:
    """Run a search until its problem has taken so many environment steps. A progress bar shows how it goes.

    Example:
        >>> from algorithms import ElitistGaussianResampling
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), seed=0)
        >>> spend(ElitistGaussianResampling(problem), 5_000)
        False

    Args:
        searcher: A search on a problem of this package.
        budget: Environment steps, counted from the beginning of the problem. The last generation may exceed it.
        console: Where the bar is drawn. Default: a terminal's stderr, or a notebook.

    Returns:
        Whether Ctrl-C came first. The search can go on then.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``budget`` is below 1.
    """
    problem: Any = getattr(searcher, "problem", None)
    if not hasattr(problem, "interaction_count"):
        raise TypeError(f"searcher: expected a search on a problem that counts environment steps, got {searcher!r}")

    def describe() -> str:
        status = searcher.status
        parts = [f"generation {status['iter']}", f"mean return {mean_eval(status):.1f}"]
        if "mean_sparsity" in status:
            parts.append(f"sparsity {status['mean_sparsity']:.3f}")
        return ", ".join(parts)

    return spend_steps(
        searcher.step, lambda: int(problem.interaction_count), check_count("budget", budget), describe=describe,
        console=Console(stderr=True) if console is None else console,
    )  # fmt: skip


def spend_steps(
    step: Callable[[], Any], count: Callable[[], int], budget: int, *, describe: Callable[[], str], console: Console
) -> bool:
    """Step until the count has come to the budget, with a bar; whether Ctrl-C came first.

    Args:
        step: One generation.
        count: How many environment steps were taken so far.
        budget: How many there may be.
        describe: What the bar says after a generation.
        console: Where it is drawn.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    first, start = count(), time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=budget, completed=min(first, budget))
        try:
            while count() < budget:
                step()
                rate = (count() - first) / (time.perf_counter() - start) / 1000
                text = f"{describe()}, {rate:.1f}k steps/s"
                progress.update(bar, completed=min(count(), budget), description=text)
        except KeyboardInterrupt:
            return True
    return False
