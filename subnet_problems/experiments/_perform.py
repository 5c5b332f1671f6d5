"""Experiments: many seeded runs of searches in parallel, with tests along the way, resumable.

A run is one search with one seed. At equal shares of its budget, the policy that the search would return is tested on
fresh episodes in Gymnasium. The rows of a finished run are in a CSV file; a stopped run continues from its checkpoint
and gives identical results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from evotorch.algorithms import SearchAlgorithm
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from algorithms import Checkpointer, remove_checkpoint, resume

from .._checks import check_count, check_path
from .._cpus import num_cpus
from .._files import check_file
from ..subnetworks._subnetwork import summary
from ..tasks._observation_stats import ObservationStats
from ..tasks._registration import fingerprint, pickled_registrations, register_pickled
from ._outcomes import FIELDS, by_run, read_tests
from ._processes import CtrlC, Message, Processes, ProcessLostError, check_can_start_processes, ctrl_c_noted
from ._run import Run, hand_out, mean_eval
from ._tables import Row, write_table

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def perform(runs: Iterable[Run], path: str | Path, *, num_jobs: int | None = None, quiet: bool = False) -> list[Row]:
    """Perform the runs that are not finished yet, with a progress bar.

    An error in one run ends the call. After an error, Ctrl-C or a kill, the same call continues with identical results:
    finished runs are in the file, the others in checkpoints in a folder next to it. A checkpoint is deleted when its
    run ends. Runs take place in new processes, so a script that calls this needs ``if __name__ == "__main__":``.
    Environments that are registered in Gymnasium before the call are registered in the new processes too.

    Args:
        runs: The runs to perform. A run is finished if the file has its name and seed with at least its budget spent.
        path: The CSV file of all tests (see ``FIELDS``); it may contain other runs too.
        num_jobs: Number of runs at a time, each in its own process. Results do not depend on it. Default: the number of
            CPUs.
        quiet: Whether to hide the progress bar. Default: False.

    Returns:
        The rows of these runs.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A run is listed twice, ``num_jobs`` is below 1, or a checkpoint has different settings than its run.
        BlockingIOError: Another process is using this file.
        OSError: A file cannot be written.
        ProcessLostError: A process ended before its run was finished, for example for lack of memory, or before it
            started to work.
        RuntimeError: This process may not start other processes, or they cannot import its script.
        KeyboardInterrupt: Ctrl-C; ``finished`` then returns the rows of the finished runs.
    """
    path = check_file("path", check_path("path", path))
    if not isinstance(runs, Iterable):
        raise TypeError(f"runs: expected Runs, got {runs!r}")
    runs = list(runs)
    for run in runs:
        if not isinstance(run, Run):
            raise TypeError(f"runs: expected Runs, got {run!r}")
    num_jobs = num_cpus() if num_jobs is None else check_count("num_jobs", num_jobs)
    if len({(run.name, run.seed) for run in runs}) < len(runs):
        raise ValueError("runs: expected each name with each seed once, got a duplicate")
    if _missing(runs, path):  # report mistakes before minutes of work
        check_can_start_processes()
        for name, file in [("path", path), *(("keep", run.keep) for run in _missing(runs, path))]:
            if file is not None:
                check_file(name, file)
    _check_kept(runs, path)
    with ctrl_c_noted() as ctrl_c:
        _work(path).mkdir(parents=True, exist_ok=True)
        with _locked(_work(path)):
            missing = _missing(runs, path)
            for run in runs:
                if run not in missing:  # a kill may have prevented the removal of its checkpoint
                    remove_checkpoint(_checkpoint(path, run))
            if missing:
                _play_all(missing, path, num_jobs, quiet, ctrl_c)
    if ctrl_c.came:
        raise KeyboardInterrupt
    return finished(runs, path)


def finished(runs: Iterable[Run], path: str | Path) -> list[Row]:
    """The rows of those of these runs that are finished, which ``perform`` returns if none is missing.

    Args:
        runs: The runs.
        path: The CSV file of ``perform``; no run is finished if there is none yet.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: The file is not a table of tests.
        OSError: The file cannot be read.
    """
    done = by_run(read_tests(path))
    return [row for run in runs if _is_over(run, done) for row in done[run.name, run.seed]]


def _play_all(runs: Sequence[Run], path: Path, num_jobs: int, quiet: bool, ctrl_c: CtrlC) -> None:
    """Perform runs in parallel processes until Ctrl-C; write each to the file when it ends."""
    num_threads = max(1, num_cpus() // num_jobs)
    registrations = pickled_registrations()
    jobs = [(_pickled(run), registrations, _checkpoint(path, run), num_threads) for run in runs]
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    missing = set(range(len(runs)))
    with (
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet) as progress,
        Processes(_work_on, jobs, num_jobs) as processes,
    ):
        bar = progress.add_task("", total=sum(run.budget for run in runs))
        while missing and not ctrl_c.came:
            messages = processes.listen(timeout=0.2)
            for message in messages:  # save finished runs before errors are raised
                if message.kind == "report":
                    progress.advance(bar, message.content)
                elif message.kind == "result":
                    _add_tests(path, message.content)
                    remove_checkpoint(_checkpoint(path, runs[message.job]))
                    missing.remove(message.job)
            progress.update(bar, description=f"{path.stem}, {len(missing)} runs to go")
            for message in messages:
                if message.kind == "error":
                    raise message.content
                if message.kind == "lost":
                    raise _lost(runs, message, processes.at_work, path)
        if missing:
            progress.console.print("Stopped; finished runs and checkpoints are kept.")


def _check_kept(runs: Sequence[Run], path: Path) -> None:
    """Refuse ``keep`` files that would overwrite each other, or the file of tests."""
    taken = {path.absolute()}
    for run in runs:
        if run.keep is not None:
            keep = run.keep.absolute()
            if keep in taken or _work(path).absolute() in keep.parents:
                raise ValueError(
                    f"keep: expected a separate file for {run.name!r} with seed {run.seed}, got {run.keep}"
                )
            taken.add(keep)


def _pickled(run: Run) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(run)
    except Exception as error:
        raise ValueError(f"make: expected a callable that can be pickled, got {run.make!r}: {error}") from error
    return data


def _lost(runs: Sequence[Run], message: Message, others: Iterable[int], path: Path) -> ProcessLostError:
    """The error for a process that ended in the middle of a run."""
    lost, *rest = (f"{runs[job].name!r} with seed {runs[job].seed}" for job in (message.job, *sorted(others)))
    return ProcessLostError(
        f"the process of run {lost} {message.content}"
        + (", as the system does when memory runs out. " if "SIGKILL" in message.content else ". ")
        + (f"Also stopped: {', '.join(rest)}. " if rest else "")
        + f"Finished runs are in {path}; the same call continues the others from their last checkpoints."
    )


def has_begun(path: str | Path) -> bool:
    """Whether an experiment with this file of tests has been started or finished.

    Raises:
        TypeError: ``path`` is not a path.
    """
    path = check_path("path", path)
    return path.exists() or _work(path).exists()


@dataclass(frozen=True)
class _Best:
    """The policy with the highest test reward."""

    mean: float
    problem: Any
    solution: torch.Tensor
    stats: ObservationStats | None


class _Diary:
    """Collects a row for each test of a search. As a logger, it is part of the search's checkpoints."""

    def __init__(self, searcher: SearchAlgorithm, run: Run) -> None:
        self.searcher, self.run = searcher, run
        self.rows: list[Row] = []
        self.best: _Best | None = None
        searcher.log_hook.append(self)

    def __call__(self, status: Row) -> None:
        """Called by EvoTorch after each generation."""
        run, steps = self.run, status["total_interaction_count"]
        share = run.budget / run.num_tests if run.num_tests else 0.0
        if steps < min(share * (len(self.rows) + 1), run.budget):
            return
        problem, solution = self.searcher.problem, hand_out(self.searcher)
        tested = self.test(problem, solution, number=len(self.rows))
        row = {"name": run.name, "seed": run.seed, "generation": status["iter"], "steps": steps}
        row |= {"episodes": status["total_episode_count"], "mean_eval": mean_eval(status)}
        row |= {"test_mean": tested[0], "test_standard_error": tested[1], "sparsity": _sparsity(problem, solution)}
        self.rows.append(row)
        if self.best is None or tested[0] > self.best.mean:
            stats = problem.get_observation_stats() if problem.observation_normalization else None
            self.best = _Best(tested[0], problem, solution.clone(), stats)

    def test(self, problem: Any, solution: torch.Tensor, *, number: int) -> tuple[float, float]:
        """Mean return of fresh episodes and its standard error; each test of a run has different episodes."""
        seed = 100_000 * (self.run.seed + 1) + number
        returns = problem.test(solution, num_episodes=self.run.test_episodes, seed=seed)
        tests = summary(returns, seed=seed)
        return tests["mean"], tests["standard_error"]

    def close(self) -> list[Row]:
        """All rows; the last one has a second test of the policy with the highest test reward."""
        best = self.best
        assert best is not None
        if best.stats is not None:  # observation statistics are part of a policy
            best.problem.set_observation_stats(best.stats)
        again = self.test(best.problem, best.solution, number=99_999)
        if self.run.keep is not None:
            self.run.keep.parent.mkdir(parents=True, exist_ok=True)
            best.problem.to_subnetwork(best.solution).save(self.run.keep)
        self.rows[-1] |= {"again_mean": again[0], "again_standard_error": again[1]}
        return self.rows


def _sparsity(problem: Any, solution: torch.Tensor) -> float | str:
    """The sparsity of a policy; an empty string for a search on the weights themselves."""
    return 1.0 - float((problem.mask(solution) != 0).double().mean()) if hasattr(problem, "mask") else ""


def _work_on(
    pickled_run: bytes, registrations: bytes, checkpoint: Path, num_threads: int, advance: Callable[[int], None]
) -> list[Row]:
    """Perform a run in its own process, after registering the environments of the main process."""
    register_pickled(registrations)
    torch.set_num_threads(num_threads)
    logging.getLogger("evotorch").setLevel(logging.WARNING)  # it would print three lines per problem
    return _play(cloudpickle.loads(pickled_run), checkpoint, num_threads, advance)


def _play(run: Run, checkpoint: Path, num_threads: int, advance: Callable[[int], None]) -> list[Row]:
    """Perform a run from its start or checkpoint to its end; ``advance`` receives numbers of new steps."""
    try:
        searcher = resume(checkpoint, allow_pickle=True)
    except FileNotFoundError:
        torch.manual_seed(run.seed)  # some of EvoTorch's searches draw from the global generator
        searcher = run.make(run.seed, num_threads)
        if not isinstance(searcher, SearchAlgorithm) or not hasattr(searcher.problem, "interaction_count"):
            raise TypeError(
                f"make: expected a callable that returns a search on a problem that counts environment steps, got one "
                f"that returns {searcher!r}"
            ) from None
        if run.keep is not None and not hasattr(searcher.problem, "to_subnetwork"):
            raise ValueError(f"keep: expected None, since {searcher.problem!r} has no masks, got {run.keep}") from None
        _Diary(searcher, run)
        Checkpointer(searcher, checkpoint, every=20)
    diary = next(logger for logger in searcher.log_hook if isinstance(logger, _Diary))
    for name in ("budget", "num_tests", "test_episodes", "keep"):
        before, now = getattr(diary.run, name), getattr(run, name)
        if before != now:
            raise ValueError(f"{name}: expected {before!r} as in the checkpoint {checkpoint}, got {now!r}")
    if fingerprint(diary.run.make) != fingerprint(run.make):
        raise ValueError(
            f"make: expected that of the checkpoint {checkpoint}, got another: {fingerprint(run.make)} instead of "
            f"{fingerprint(diary.run.make)}. Remove the checkpoint to start again"
        )
    spent = searcher.status.get("total_interaction_count", 0)
    advance(spent)
    while spent < run.budget:
        searcher.step()
        before, spent = spent, searcher.status["total_interaction_count"]
        advance(spent - before)
    return diary.close()


def _work(path: Path) -> Path:
    """The folder of unfinished runs."""
    return path.with_name(path.name + ".unfinished")


def _checkpoint(path: Path, run: Run) -> Path:
    return _work(path) / f"{run.name} {run.seed}.checkpoint"


def _missing(runs: Iterable[Run], path: Path) -> list[Run]:
    """The runs that are not finished yet."""
    done = by_run(read_tests(path))
    return [run for run in runs if not _is_over(run, done)]


def _is_over(run: Run, done: dict[tuple[str, int], list[Row]]) -> bool:
    tests = done.get((run.name, run.seed))
    return tests is not None and tests[-1]["steps"] >= run.budget


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Context for one process at a time; a lock ends with its process. On exit, an empty folder is removed."""
    with open(work / "lock", "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BlockingIOError(f"another process performs runs in {work}") from error
        try:
            yield
        finally:  # only the owner of the lock comes here
            with suppress(OSError):  # the folder still has checkpoints
                (work / "lock").unlink()
                work.rmdir()


def _add_tests(path: Path, tests: list[Row]) -> None:
    """Write a finished run to the file, replacing one with its name and seed. The file is replaced atomically."""
    runs = {(row["name"], row["seed"]) for row in tests}
    rows = [row for row in read_tests(path) if (row["name"], row["seed"]) not in runs] + tests
    fields = list(dict.fromkeys([*FIELDS, *(key for row in rows for key in row)]))
    write_table(path, sorted(rows, key=lambda row: (row["name"], row["seed"], row["steps"])), fields)
