"""What all results on this page share: how a search is run, when and how it is tested, and how runs are kept.

A run is one search with one seed. Each time it has spent another share of its budget, the policy that the search would
hand out at that moment is tested on 100 fresh episodes, on Gymnasium itself. The rows of a run that is over are in
a CSV file; one that was stopped goes on from its checkpoint, to the same bits.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the processors to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from evotorch.algorithms import PGPE, SearchAlgorithm
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from algorithms import Checkpointer, ElitistGaussianResampling, remove_checkpoint, resume
from subnet_problems import DenseGymProblem, MaskedGymProblem

FIELDS = ["name", "seed", "generation", "steps", "episodes", "mean_eval", "sparsity"]
FIELDS += ["test_mean", "test_standard_error", "again_mean", "again_standard_error"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One search with one seed.

    Attributes:
        name: What it is a run of; with the seed it says which run.
        seed: The seed of the network, the search and the tests.
        make: Makes the search from the seed and the number of threads.
        budget: Environment steps of the search.
        num_tests: How often it is tested, at equal distances; 0 for after every generation.
        test_episodes: Fresh episodes a test.
        keep: A file for the policy of the highest test, or None.
    """

    name: str
    seed: int
    make: Callable[[int, int], SearchAlgorithm]
    budget: int
    num_tests: int = 20
    test_episodes: int = 100
    keep: Path | None = None


@dataclass(frozen=True)
class Setting:
    """How a search is set.

    Attributes:
        name: Its name in tables and plots.
        problem: Options of the problem.
        search: Options of :class:`algorithms.ElitistGaussianResampling`.
    """

    name: str
    problem: Mapping[str, Any]
    search: Mapping[str, Any]


#: What won here: this package's default search, with weights U(-0.7, 0.7).
OURS = Setting("ours", {"num_episodes": 1, "weight_gain": 0.7}, {})
#: What the paper says of its own search (section 5: populations of 32 to 64, fewer than 6 elites, sigma between 0.01
#: and 0.2, uniform weights; section 4.1: 3 to 10 episodes).
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


def masked(seed: int, num_threads: int, *, task: str, setting: Setting = OURS, **options: Any) -> SearchAlgorithm:
    """A search for masks; the seed draws the network, the scores and the episodes."""
    problem = MaskedGymProblem(
        **TASKS[task], **setting.problem, **options, network_seed=seed, seed=seed, num_threads=num_threads
    )
    return ElitistGaussianResampling(problem, **setting.search)


def dense(seed: int, num_threads: int, *, task: str, **options: Any) -> SearchAlgorithm:
    """The same search on the weights themselves, the paper's "ES benchmark (weights could be changed)"."""
    return ElitistGaussianResampling(_dense_problem(seed, num_threads, task, options), stdev=0.1)


def dense_pgpe(seed: int, num_threads: int, *, task: str, **options: Any) -> SearchAlgorithm:
    """EvoTorch's PGPE on the weights."""
    return PGPE(
        _dense_problem(seed, num_threads, task, options), popsize=64, center_learning_rate=0.3,
        stdev_learning_rate=0.1, stdev_init=0.1, optimizer="clipup", optimizer_config={"max_speed": 0.6},
        ranking_method="centered",
    )  # fmt: skip


def _dense_problem(seed: int, num_threads: int, task: str, options: Mapping[str, Any]) -> DenseGymProblem:
    return DenseGymProblem(**TASKS[task], num_episodes=1, seed=seed, num_threads=num_threads, **options)


def hand_out(searcher: SearchAlgorithm) -> torch.Tensor:
    """What a search would hand out now: the centre of its distribution if it has one, else its best solution."""
    status = searcher.status
    solution = status["center"] if "center" in status else status["pop_best"].values
    return torch.as_tensor(solution)


class Diary:
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
        return 1.0 - float(problem.mask(solution).float().mean()) if hasattr(problem, "mask") else ""

    def close(self) -> list[Row]:
        """All rows; the highest test is the luckiest of many, so that policy is tested once more."""
        assert self.best is not None
        again = self.test(self.best[1], number=99_999)
        if self.run.keep is not None:
            self.run.keep.parent.mkdir(parents=True, exist_ok=True)
            self.searcher.problem.to_subnetwork(self.best[1]).save(self.run.keep)
        self.rows[-1] |= {"again_mean": again[0], "again_standard_error": again[1]}
        return self.rows


def play(run: Run, checkpoint: Path, num_threads: int) -> list[Row]:
    """One run from its beginning, or from where it was stopped, to its end."""
    try:
        searcher = resume(checkpoint, allow_pickle=True)
    except FileNotFoundError:
        torch.manual_seed(run.seed)  # some of EvoTorch's searches draw from the global generator
        searcher = run.make(run.seed, num_threads)
        Diary(searcher, run)
        Checkpointer(searcher, checkpoint, every=20)
    diary: Diary = searcher.log_hook[0]
    _advance(searcher.problem.interaction_count)
    while searcher.problem.interaction_count < run.budget:
        before = searcher.problem.interaction_count
        searcher.step()
        _advance(searcher.problem.interaction_count - before)
    return diary.close()


def perform(runs: Sequence[Run], args: argparse.Namespace, stem: str) -> list[Row]:
    """Play what has not been played yet, several runs at a time; all rows of these runs.

    Args:
        runs: What is asked for.
        args: ``output``, ``resume`` and ``jobs``, see :func:`parser`.
        stem: The rows are kept in ``<output>/<stem>.csv``.
    """
    if args.quick:
        first = min(run.seed for run in runs)
        runs = [replace(run, budget=3_000, num_tests=1, test_episodes=2) for run in runs if run.seed == first]
    path, work = args.output / f"{stem}.csv", args.output / f"{stem}.unfinished"
    if (path.exists() or work.exists()) and not args.resume:
        raise SystemExit(f"{args.output} holds results of {stem}: --resume goes on with them, --output takes another")
    work.mkdir(parents=True, exist_ok=True)
    rows = read(path)
    done = {(row["name"], row["seed"]) for row in rows}

    def checkpoint_of(run: Run) -> Path:
        return work / f"{run.name} {run.seed}.checkpoint"

    missing = [run for run in runs if (run.name, run.seed) not in done]
    steps = multiprocessing.get_context("spawn").Value("q", 0)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    columns += (TimeElapsedColumn(), TimeRemainingColumn())
    num_threads = max(1, (os.cpu_count() or 1) // args.jobs)
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(
            args.jobs, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(steps, num_threads)
        ) as pool,
    ):
        bar = progress.add_task(stem, total=sum(run.budget for run in missing))
        pending: dict[Future[list[Row]], Run] = {
            pool.submit(play, run, checkpoint_of(run), num_threads): run for run in missing
        }
        try:
            while pending:
                for future in wait(pending, timeout=0.5).done:
                    run = pending.pop(future)
                    rows += future.result()
                    write(path, rows)
                    remove_checkpoint(checkpoint_of(run))
                progress.update(bar, completed=steps.value, description=f"{stem}, {len(pending)} runs to go")
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            if not isinstance(error, KeyboardInterrupt):
                raise
            progress.console.print("Stopped; what was played is kept, and --resume goes on.")
    if not any(work.iterdir()):
        work.rmdir()
    wanted = {(run.name, run.seed) for run in runs}
    return [row for row in rows if (row["name"], row["seed"]) in wanted]


_steps: Any = None


def _begin_worker(steps: Any, num_threads: int) -> None:
    global _steps
    _steps = steps
    torch.set_num_threads(num_threads)


def _advance(steps: int) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # nobody is left to take what this would come to
    with _steps.get_lock():
        _steps.value += steps


# What is kept


def read(path: Path) -> list[Row]:
    """The rows of the runs that are over."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value if key == "name" or value == "" else float(value) for key, value in row.items()} for row in rows
    ]


def write(path: Path, rows: Iterable[Row]) -> None:
    """All rows, in the place of what was there; at every instant there is a whole file."""
    unfinished = path.with_name(path.name + ".unfinished")
    with open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])))
    unfinished.replace(path)


# What came out


@dataclass(frozen=True)
class Outcome:
    """What the runs of one name came to, a number for each seed.

    Attributes:
        highest: The highest test reward.
        again: The reward of that policy in 100 other episodes.
        final: The last test reward.
        samples: Environment steps until the first test that reached what is asked for; infinity where none did.
        sparsity: Of the policy handed out at the end.
    """

    highest: np.ndarray
    again: np.ndarray
    final: np.ndarray
    samples: np.ndarray
    sparsity: np.ndarray

    @property
    def num_seeds(self) -> int:
        """How many runs."""
        return len(self.samples)

    @property
    def num_solved(self) -> int:
        """How many of them reached it."""
        return int(np.isfinite(self.samples).sum())


def outcome(rows: Iterable[Row], name: str, *, solved: float) -> Outcome:
    """What the runs of a name came to, by the order of seeds."""
    runs = [tests for (run, _), tests in by_run(rows).items() if run == name]
    first = [next((row["steps"] for row in tests if row["test_mean"] >= solved), np.inf) for tests in runs]
    return Outcome(
        highest=np.array([max(row["test_mean"] for row in tests) for tests in runs]),
        again=np.array([tests[-1]["again_mean"] for tests in runs]),
        final=np.array([tests[-1]["test_mean"] for tests in runs]),
        samples=np.array(first),
        sparsity=np.array([tests[-1]["sparsity"] for tests in runs]),
    )


def by_run(rows: Iterable[Row]) -> dict[tuple[str, float], list[Row]]:
    """The tests of each run, in order."""
    runs: dict[tuple[str, float], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])):
        runs.setdefault((row["name"], row["seed"]), []).append(row)
    return runs


def curves(rows: Iterable[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Test reward of each seed ``(seeds, points)`` at common numbers of steps ``(points,)``."""
    runs = [tests for (run, _), tests in by_run(rows).items() if run == name]
    at = np.linspace(max(tests[0]["steps"] for tests in runs), min(tests[-1]["steps"] for tests in runs), 201)
    return at, np.array([np.interp(at, [r["steps"] for r in t], [r["test_mean"] for r in t]) for t in runs])


def draw_curves(axes: Any, rows: Iterable[Row], name: str, *, label: str, color: str) -> None:
    """Median and interquartile range over seeds, and the mean as a dashed line."""
    at, lines = curves(rows, name)
    low, median, high = np.percentile(lines, [25, 50, 75], axis=0)
    axes.plot(at / 1e6, median, color=color, label=label)
    axes.plot(at / 1e6, lines.mean(axis=0), color=color, linestyle="--", linewidth=1)
    axes.fill_between(at / 1e6, low, high, color=color, alpha=0.15, linewidth=0)


def millions(steps: float) -> str:
    """Steps in millions, as the paper's table has them; a dash where it never came to that."""
    return f"{steps / 1e6:.2f}" if np.isfinite(steps) else "–"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def report(
    rows: list[Row], stem: Path, table: Callable[[list[Row]], str], plot: Callable[[list[Row], Path], None]
) -> None:
    """Print the table, write it to ``<stem>.md`` and the plot to ``<stem>.png``; nothing where nothing was played."""
    if rows:
        text = table(rows)
        stem.with_suffix(".md").write_text(text)
        print(text)
        plot(rows, stem.with_suffix(".png"))


def parser(description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--seeds", type=int, default=seeds, help="how many seeds, from 0 (%(default)s)")
    result.add_argument("--budget", type=int, help="environment steps of each run, in place of each one's own")
    result.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (%(default)s)")
    result.add_argument("--output", type=Path, default=Path("results/paper"), help="folder (%(default)s)")
    result.add_argument("--quick", action="store_true", help="short runs that only show that everything works")
    result.add_argument("--resume", action="store_true", help="go on with what was stopped, or draw it again")
    return result
