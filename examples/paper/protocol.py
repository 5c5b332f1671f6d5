"""Shared by all scripts in this folder: how a search is run, when and how it is tested, and how runs are saved.

Runs are performed by ``subnet_problems.experiments``. They are tested 20 times, at equal intervals, on 100 fresh
episodes each, unless a script says otherwise.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
from evotorch.algorithms import SearchAlgorithm

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem, experiments
from subnet_problems.experiments import Outcome, Row, Run, learning_curves, make_search, read_tests
from subnet_problems.pictures import drawn_if_possible


@dataclass(frozen=True)
class Setting:
    """The settings of a search.

    Attributes:
        name: Its name in tables and plots.
        problem: Options of the problem.
        search: Options of ``algorithms.ElitistGaussianResampling``.
    """

    name: str
    problem: Mapping[str, Any]
    search: Mapping[str, Any]


#: This package's default search with weights U(-0.7, 0.7); no ablation found a difference to U(-1, 1).
OURS = Setting("ours", {"num_episodes": 1, "weight_gain": 0.7}, {})
#: The default search before it learned from the expected scores of masks; its steps are shorter.
WEIGHTED = Setting("weighted", OURS.problem, {"recombination": "weighted"})
#: One setting within the ranges that the paper gives for its own search (section 5: populations of 32 to 64, fewer than
#: 6 elites, sigma between 0.01 and 0.2, uniform weights; section 4.1: 3 to 10 episodes).
PLAIN = Setting(
    "plain", {"num_episodes": 3}, {"popsize": 32, "num_elites": 3, "stdev": 0.05, "recombination": "uniform"}
)

TASKS: dict[str, dict[str, Any]] = {
    "LunarLanderContinuous": {"env": "LunarLander-v3", "env_config": {"continuous": True}},
    "LunarLander": {"env": "LunarLander-v3"},
    "BipedalWalker": {"env": "BipedalWalker-v3"},
    "CartPole": {"env": "CartPole-v1"},
    "Acrobot": {"env": "Acrobot-v1"},
    "MountainCar": {"env": "MountainCar-v0"},
    "MountainCarContinuous": {"env": "MountainCarContinuous-v0"},
    "Pendulum": {"env": "Pendulum-v1"},
}


def masked(
    seed: int, num_threads: int, *, task: str, setting: Setting = OURS, **options: Any
) -> ElitistGaussianResampling:
    """A search for masks; the seed determines the network, the scores and the episodes."""
    options = {**setting.problem, **options}
    problem = MaskedGymProblem(**TASKS[task], **options, network_seed=seed, seed=seed, num_threads=num_threads)
    return ElitistGaussianResampling(problem, **setting.search)


def dense(
    seed: int, num_threads: int, *, task: str, setting: Setting = OURS, **options: Any
) -> ElitistGaussianResampling:
    """The same search on the weights themselves, the paper's "ES benchmark (weights could be changed)"."""
    return ElitistGaussianResampling(_dense_problem(seed, num_threads, task, options), stdev=0.1, **setting.search)


def dense_pgpe(seed: int, num_threads: int, *, task: str, **options: Any) -> SearchAlgorithm:
    """EvoTorch's PGPE on the weights themselves."""
    return make_search("pgpe", _dense_problem(seed, num_threads, task, options))


def _dense_problem(seed: int, num_threads: int, task: str, options: Mapping[str, Any]) -> DenseGymProblem:
    options = {name: value for name, value in options.items() if name != "weight_gain"}  # it is of frozen weights
    return DenseGymProblem(**TASKS[task], num_episodes=1, seed=seed, num_threads=num_threads, **options)


def perform(runs: Sequence[Run], args: argparse.Namespace, stem: str) -> list[Row]:
    """Perform the missing runs. Return all tests in ``<output>/<stem>.csv``, including those of other runs.

    Args:
        runs: The runs to perform.
        args: ``output``, ``resume``, ``quick`` and ``jobs``, see ``parser``.
        stem: The file's name without suffix.
    """
    if args.quick:
        first = min(run.seed for run in runs)
        runs = [replace(run, budget=3_000, num_tests=1, test_episodes=2) for run in runs if run.seed == first]
    path = args.output / f"{stem}.csv"
    if experiments.has_begun(path) and not args.resume:
        raise SystemExit(f"{args.output} has results of {stem}: --resume continues them, --output selects another")
    with suppress(KeyboardInterrupt):  # the results are then those of finished runs
        experiments.perform(runs, path, num_jobs=args.jobs)
    return read_tests(path)


def draw_curves(axes: Any, rows: Iterable[Row], name: str, *, label: str, color: str) -> None:
    """Draw the median and interquartile range over seeds, and the mean as a dashed line."""
    at, lines = learning_curves(rows, name)
    low, median, high = np.percentile(lines, [25, 50, 75], axis=0)
    axes.plot(at / 1e6, median, color=color, label=label)
    axes.plot(at / 1e6, lines.mean(axis=0), color=color, linestyle="--", linewidth=1)
    axes.fill_between(at / 1e6, low, high, color=color, alpha=0.15, linewidth=0)


def millions(steps: float) -> str:
    """Steps in millions, as in the paper's table; a dash for infinity."""
    return f"{steps / 1e6:.2f}" if np.isfinite(steps) else "–"


#: The columns of ``solving``.
SOLVING = ["seeds that solve", "samples to it: best seed", "median"]


def solving(found: Outcome) -> list[str]:
    """Table cells: seeds that solve the task, and how many samples (in millions) they need."""
    samples = found.samples.min(), float(np.median(found.samples))
    return [f"{found.num_solved} of {found.num_seeds}", *map(millions, samples)]


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def report(
    rows: list[Row], stem: Path, table: Callable[[list[Row]], str], plot: Callable[[list[Row], Path], None]
) -> None:
    """Print the table, write it to ``<stem>.md`` and the plot to ``<stem>.png``; do nothing without rows."""
    if rows:
        text = table(rows)
        stem.with_suffix(".md").write_text(text)
        print(text)
        with drawn_if_possible(stem.with_suffix(".png")):
            plot(rows, stem.with_suffix(".png"))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {number}")
    return number


def parser(description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--seeds", type=_positive, default=seeds, help="number of seeds, starting at 0 (%(default)s)")
    result.add_argument("--budget", type=_positive, help="environment steps of each run (default: that of its setting)")
    result.add_argument("--jobs", type=_positive, help="runs at a time (default: one per CPU)")
    result.add_argument("--output", type=Path, default=Path("results/paper"), help="folder (%(default)s)")
    result.add_argument("--quick", action="store_true", help="short runs to check that everything works")
    result.add_argument("--resume", action="store_true", help="continue stopped runs, or draw finished ones again")
    return result
