"""Parallel jobs whose rows are collected in one CSV file. Each job is saved when it ends, and none runs twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._checks import check_count, check_path
from .._cpus import num_cpus
from .._files import check_file
from ._processes import Processes, ProcessLostError, check_can_start_processes, ctrl_c_noted
from ._tables import Row, read_table, write_table


def collect(
    work: Callable[..., Sequence[Row]],
    jobs: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    num_jobs: int | None = None,
    quiet: bool = False,
) -> list[Row]:
    """Run jobs in new processes, and add the rows of each job to a file when it ends.

    After Ctrl-C, a kill or an error, the same call continues with the jobs that have no row yet. An unfinished job
    starts again. A script that calls this needs ``if __name__ == "__main__":``.

    Args:
        work: Called as ``work(**job)``; returns at least one row, a dict from columns to numbers, strings or None. It
            is pickled by its name.
        jobs: The arguments of each job: numbers and strings, with the same names for all jobs. They become the first
            columns of the rows and identify the job of a row.
        path: The CSV file.
        num_jobs: Number of jobs at a time. Default: the number of CPUs.
        quiet: Whether to hide the progress bar. Default: False.

    Returns:
        All rows of the file.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There are no jobs, one is listed twice, jobs have different names, the file is one of other jobs,
            or a job returned no row.
        OSError: The file cannot be written.
        ProcessLostError: A process ended before its job was finished.
        RuntimeError: This process may not start other processes.
        KeyboardInterrupt: Ctrl-C; ``read_rows`` then returns the rows of the finished jobs.
    """
    path = check_file("path", check_path("path", path))
    num_jobs = num_cpus() if num_jobs is None else check_count("num_jobs", num_jobs)
    if not jobs or len({tuple(job) for job in jobs}) > 1:
        raise ValueError(f"jobs: expected at least one, all with the same names, got {jobs!r}")
    names, keys = list(jobs[0]), [tuple(job.values()) for job in jobs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"jobs: expected no duplicates, got {jobs!r}")
    check_can_start_processes()
    texts = _texts(path, table="the rows of such jobs", columns=names)
    done = {tuple(row[name] for name in names) for row in texts}
    missing = [job for job in jobs if tuple("" if value is None else str(value) for value in job.values()) not in done]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ctrl_c_noted() as ctrl_c,
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
        Processes(_work, [(work, dict(job)) for job in missing], num_jobs) as processes,
    ):
        bar = progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(missing))
        left = len(missing)
        while left and not ctrl_c.came:
            # results first, because an error ends everything
            for message in sorted(processes.listen(timeout=0.2), key=lambda message: message.kind != "result"):
                job = missing[message.job]
                if message.kind == "result":
                    if not message.content:
                        raise ValueError(f"work: expected at least one row of each job, got none of {job!r}")
                    rows = [*_texts(path), *({**job, **row} for row in message.content)]
                    write_table(path, rows, list(dict.fromkeys(column for row in rows for column in row)))
                    progress.advance(bar)
                    left -= 1
                elif message.kind == "error":
                    raise message.content
                else:
                    raise ProcessLostError(f"the process of {job} {message.content}")
    if ctrl_c.came:
        raise KeyboardInterrupt
    return read_rows(path)


def read_rows(path: str | Path) -> list[Row]:
    """Read all rows of a file that ``collect`` wrote; the list is empty if there is no file yet.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: A line of the file has too many or too few cells.
        OSError: The file cannot be read.
    """
    rows = _texts(check_path("path", path))
    return [{column: _value(text) for column, text in row.items()} for row in rows]


def _texts(path: Path, **checks: Any) -> list[Row]:
    """The rows of the file, if there is one, with cells as they stand there."""
    return read_table(path, lambda _, text: text, **checks) if path.exists() else []


def _work(work: Callable[..., Sequence[Row]], job: dict[str, Any], _: Callable[[Any], None]) -> Sequence[Row]:
    return work(**job)


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
