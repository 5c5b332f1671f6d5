"""Experiments: many seeded runs of searches, several at a time, tested as they go, kept as they end, and resumable.

A run is one search with one seed. Each time it has spent another share of its budget, the policy that the search would
hand out at that moment is tested on fresh episodes, on Gymnasium itself. The rows of a run that is over are in a CSV
file; one that was stopped goes on from its checkpoint, to the same bits.
"""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from evotorch.algorithms import SearchAlgorithm
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from algorithms import Checkpointer, remove_checkpoint, resume

from ._checks import check_count, check_path, check_seed
from .task import num_processors

Row = dict[str, Any]

#: The columns of a file of tests, a row for each test. ``again_*`` are only in a run's last row: the policy of the
#: highest test, tested once more, since the highest of many is lucky.
FIELDS = ["name", "seed", "generation", "steps", "episodes", "mean_eval", "sparsity"]
FIELDS += ["test_mean", "test_standard_error", "again_mean", "again_standard_error"]


@dataclass(frozen=True)
class Run:
    """One search with one seed.

    Attributes:
        name: What it is a run of; with the seed it says which run.
        seed: The seed of the network, the search and the tests.
        make: Makes the search from the seed and the number of threads that it may use.
        budget: Environment steps of the search.
        num_tests: How often it is tested, at equal distances (less often where a generation takes more steps); 0 for
            after every generation.
        test_episodes: Fresh episodes a test.
        keep: A file for the policy of the highest test, or None.

    Raises:
        TypeError: An attribute has the wrong type.
        ValueError: A number is out of range, or the name is not fit for a file's name.
    """

    name: str
    seed: int
    make: Callable[[int, int], SearchAlgorithm]
    budget: int
    num_tests: int = 20
    test_episodes: int = 100
    keep: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected a string, got {self.name!r}")
        if not self.name or "/" in self.name or os.sep in self.name:
            raise ValueError(f"name: expected one fit for a file's name, got {self.name!r}")
        check_seed("seed", self.seed)
        if not callable(self.make):
            raise TypeError(f"make: expected a callable that makes a search, got {self.make!r}")
        check_count("budget", self.budget)
        check_count("num_tests", self.num_tests, minimum=0)
        check_count("test_episodes", self.test_episodes, minimum=2)  # a standard error needs two


def hand_out(searcher: SearchAlgorithm) -> torch.Tensor:
    """What a search would hand out now: the centre of its distribution if it has one, else its best solution.

    Returns:
        ``(solution_length,)``.
    """
    status = searcher.status
    solution = status["center"] if "center" in status else status["pop_best"].values
    return torch.as_tensor(solution)


def perform(runs: Sequence[Run], path: str | Path, *, num_jobs: int | None = None, quiet: bool = False) -> list[Row]:
    """Play the runs that have not been played yet, and show how far they are.

    After Ctrl-C or a kill the same call goes on, to the same bits: runs that are over are in the file, the others in
    checkpoints in a folder beside it, which are deleted as their runs end.

    Args:
        runs: What is asked for.
        path: The CSV file of all tests (see ``FIELDS``); it may hold other runs, too.
        num_jobs: How many runs at a time, each in a process of its own; None takes the number of processors. Results
            do not depend on it.
        quiet: Whether no progress is shown.

    Returns:
        The rows of these runs; after Ctrl-C of those that are over.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A run is there twice, or ``num_jobs`` is below 1.
    """
    path = check_path("path", path)
    num_jobs = num_processors() if num_jobs is None else check_count("num_jobs", num_jobs)
    if len({(run.name, run.seed) for run in runs}) < len(runs):
        raise ValueError("runs: expected each name with each seed once, got one twice")
    work = path.with_suffix(".unfinished")
    work.mkdir(parents=True, exist_ok=True)
    rows = read_tests(path)
    done = {(row["name"], row["seed"]) for row in rows}
    missing = [run for run in runs if (run.name, run.seed) not in done]
    context = multiprocessing.get_context("spawn")
    steps = context.Value("q", 0)
    num_threads = max(1, num_processors() // num_jobs)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
    ]
    columns += [TimeElapsedColumn(), TimeRemainingColumn()]
    with (
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
        ProcessPoolExecutor(num_jobs, context, initializer=_begin_worker, initargs=(steps, num_threads)) as pool,
    ):
        bar = progress.add_task("", total=sum(run.budget for run in missing))
        pending: dict[Future[list[Row]], Run] = {
            pool.submit(_play, cloudpickle.dumps(run), _checkpoint(work, run), num_threads): run for run in missing
        }
        try:
            while pending:
                for future in wait(pending, timeout=0.5).done:
                    run = pending.pop(future)
                    rows += future.result()
                    _write_tests(path, rows)
                    remove_checkpoint(_checkpoint(work, run))
                progress.update(bar, completed=steps.value, description=f"{path.stem}, {len(pending)} runs to go")
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            if not isinstance(error, KeyboardInterrupt):
                raise
            progress.console.print("Stopped; what was played is kept.")
    if not any(work.iterdir()):
        work.rmdir()
    wanted = {(run.name, run.seed) for run in runs}
    return [row for row in read_tests(path) if (row["name"], row["seed"]) in wanted]


def has_begun(path: str | Path) -> bool:
    """Whether there is something of an experiment with this file of tests, finished or not."""
    return Path(path).exists() or Path(path).with_suffix(".unfinished").exists()


def read_tests(path: str | Path) -> list[Row]:
    """The tests of the runs that are over, numbers as floats; none where there is no file yet."""
    if not Path(path).exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value if key == "name" or value == "" else float(value) for key, value in row.items()} for row in rows
    ]


def by_run(rows: Iterable[Row]) -> dict[tuple[str, float], list[Row]]:
    """The tests of each run, in order; runs by name and seed."""
    runs: dict[tuple[str, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])):
        runs.setdefault((row["name"], row["seed"]), []).append(row)
    return runs


@dataclass(frozen=True)
class Outcome:
    """What the runs of one name came to, a number for each seed.

    Attributes:
        highest: The highest test reward.
        again: The reward of that policy in other episodes.
        final: The last test reward.
        samples: Environment steps until the first test that reached what is asked for; infinity where none did.
        sparsity: Of the policy handed out at the end; NaN for a search on the weights themselves.
    """

    highest: NDArray[np.float64]
    again: NDArray[np.float64]
    final: NDArray[np.float64]
    samples: NDArray[np.float64]
    sparsity: NDArray[np.float64]

    @property
    def num_seeds(self) -> int:
        """How many runs."""
        return len(self.samples)

    @property
    def num_solved(self) -> int:
        """How many of them reached it."""
        return int(np.isfinite(self.samples).sum())


def outcome(rows: Iterable[Row], name: str, *, solved: float) -> Outcome:
    """What the runs of a name came to, by the order of seeds.

    Args:
        rows: Tests.
        name: Of the runs.
        solved: The test reward that is asked for.
    """
    runs = [tests for (run, _), tests in by_run(rows).items() if run == name]
    first = [next((row["steps"] for row in tests if row["test_mean"] >= solved), np.inf) for tests in runs]
    return Outcome(
        highest=np.array([max(row["test_mean"] for row in tests) for tests in runs]),
        again=np.array([tests[-1]["again_mean"] for tests in runs]),
        final=np.array([tests[-1]["test_mean"] for tests in runs]),
        samples=np.array(first),
        sparsity=np.array([np.nan if tests[-1]["sparsity"] == "" else tests[-1]["sparsity"] for tests in runs]),
    )


def learning_curves(rows: Iterable[Row], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test reward of all seeds of a name at common numbers of environment steps, between tests on a straight line.

    Returns:
        ``(points,)`` environment steps, and ``(seeds, points)`` test rewards.
    """
    runs = [tests for (run, _), tests in by_run(rows).items() if run == name]
    at = np.linspace(max(tests[0]["steps"] for tests in runs), min(tests[-1]["steps"] for tests in runs), 201)
    return at, np.array([np.interp(at, [r["steps"] for r in t], [r["test_mean"] for r in t]) for t in runs])


class _Diary:
    """A row for each test of a search. As a logger it is part of the search's checkpoints."""

    def __init__(self, searcher: SearchAlgorithm, run: Run) -> None:
        self.searcher, self.run = searcher, run
        self.rows: list[Row] = []
        self.best: tuple[float, torch.Tensor] | None = None
        searcher.log_hook.append(self)

    def __call__(self, status: Row) -> None:
        """What EvoTorch asks of a logger, after each generation."""
        run, steps = self.run, self.searcher.problem.interaction_count
        share = run.budget / run.num_tests if run.num_tests else 0.0
        if steps < min(share * (len(self.rows) + 1), run.budget):
            return
        solution = hand_out(self.searcher)
        tested = self.test(solution, number=len(self.rows))
        row = {"name": run.name, "seed": run.seed, "generation": status["iter"], "steps": steps}
        row |= {"episodes": self.searcher.problem.episode_count, "mean_eval": status["mean_eval"]}
        row |= {"test_mean": tested[0], "test_standard_error": tested[1], "sparsity": self.sparsity(solution)}
        self.rows.append(row)
        if self.best is None or tested[0] > self.best[0]:
            self.best = (tested[0], solution.clone())

    def test(self, solution: torch.Tensor, *, number: int) -> tuple[float, float]:
        """Mean return of fresh episodes and its standard error; each test of a run has episodes of its own."""
        seed = 100_000 * (self.run.seed + 1) + number
        returns = self.searcher.problem.test(solution, num_episodes=self.run.test_episodes, seed=seed)
        return float(returns.mean()), float(returns.std(ddof=1) / len(returns) ** 0.5)

    def sparsity(self, solution: torch.Tensor) -> float | str:
        """Share of the weights that the policy does without; empty for a search on the weights themselves."""
        problem = self.searcher.problem
        return 1.0 - float(problem.mask(solution).double().mean()) if hasattr(problem, "mask") else ""

    def close(self) -> list[Row]:
        """All rows, the last with one more test of the policy whose test was the highest."""
        assert self.best is not None
        again = self.test(self.best[1], number=99_999)
        if self.run.keep is not None:
            self.run.keep.parent.mkdir(parents=True, exist_ok=True)
            self.searcher.problem.to_subnetwork(self.best[1]).save(self.run.keep)
        self.rows[-1] |= {"again_mean": again[0], "again_standard_error": again[1]}
        return self.rows


def _play(pickled_run: bytes, checkpoint: Path, num_threads: int) -> list[Row]:
    """One run from its beginning, or from where it was stopped, to its end."""
    run: Run = cloudpickle.loads(pickled_run)
    try:
        searcher = resume(checkpoint, allow_pickle=True)
    except FileNotFoundError:
        torch.manual_seed(run.seed)  # some of EvoTorch's searches draw from the global generator
        searcher = run.make(run.seed, num_threads)
        _Diary(searcher, run)
        Checkpointer(searcher, checkpoint, every=20)
    diary: _Diary = searcher.log_hook[0]
    _advance(searcher.problem.interaction_count)
    while searcher.problem.interaction_count < run.budget:
        before = searcher.problem.interaction_count
        searcher.step()
        _advance(searcher.problem.interaction_count - before)
    return diary.close()


_steps: Any = None  # of all processes together


def _begin_worker(steps: Any, num_threads: int) -> None:
    global _steps
    _steps = steps
    torch.set_num_threads(num_threads)
    logging.getLogger("evotorch").setLevel(logging.WARNING)  # of each problem it tells three lines


def _advance(steps: int) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # nobody is left to take what this would come to
    with _steps.get_lock():
        _steps.value += steps


def _checkpoint(work: Path, run: Run) -> Path:
    return work / f"{run.name} {run.seed}.checkpoint"


def _write_tests(path: Path, rows: Iterable[Row]) -> None:
    """All rows, in the place of what was there; at every instant there is a whole file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])))
    unfinished.replace(path)
