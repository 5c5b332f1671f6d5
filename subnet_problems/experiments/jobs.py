"""Jobs whose rows are collected in one CSV file: several at a time, each kept as it ends, and none played twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._checks import check_count, check_path
from .._cpus import num_cpus
from .._files import check_file
from ._outcomes import Row, write_table
from ._processes import Processes, ProcessLostError, check_can_start_processes, heard_ctrl_c


def collect(
    work: Callable[..., Sequence[Row]],
    jobs: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    num_jobs: int | None = None,
    quiet: bool = False,
) -> list[Row]:
    """Do jobs in new processes, and add the rows of each to a file as it ends.

    The same call goes on with the jobs that have no row yet: after Ctrl-C, a kill or a fault. A job that was not over
    begins anew. A script that calls this needs ``if __name__ == "__main__":``.

    Args:
        work: Called as ``work(**job)``; returns one row at least, from columns to numbers, strings or None. Pickled by
            its name.
        jobs: The arguments: numbers and strings under the same names for all. They are the first columns of the rows,
            and say which job a row is of.
        path: The CSV file.
        num_jobs: How many jobs at a time; None takes the number of CPUs.
        quiet: Whether no progress is shown.

    Returns:
        All rows of the file; after Ctrl-C of the jobs that are over.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There is no job, one is there twice, jobs have different names, or one has no row.
        OSError: The file cannot be written.
        ProcessLostError: A process ended before its job did.
        RuntimeError: This process may not start others.
    """
    path = check_file("path", check_path("path", path))
    num_jobs = num_cpus() if num_jobs is None else check_count("num_jobs", num_jobs)
    if not jobs or len({tuple(job) for job in jobs}) > 1:
        raise ValueError(f"jobs: expected one at least, all with the same names, got {jobs!r}")
    names, keys = list(jobs[0]), [tuple(job.values()) for job in jobs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"jobs: expected each once, got {jobs!r}")
    check_can_start_processes()
    done = {tuple(row.get(name) for name in names) for row in _texts(path)}
    missing = [job for job in jobs if tuple("" if value is None else str(value) for value in job.values()) not in done]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        heard_ctrl_c() as ctrl_c,
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
        Processes(_work, [(work, dict(job)) for job in missing], num_jobs) as processes,
    ):
        bar = progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(missing))
        left = len(missing)
        while left and not ctrl_c.came:
            # results first: an error ends all
            for message in sorted(processes.listen(timeout=0.2), key=lambda message: message.kind != "result"):
                job = missing[message.job]
                if message.kind == "result":
                    if not message.content:
                        raise ValueError(f"work: expected a row at least of each job, got none of {job!r}")
                    rows = [*read_rows(path), *({**job, **row} for row in message.content)]
                    write_table(path, rows)
                    progress.advance(bar)
                    left -= 1
                elif message.kind == "error":
                    raise message.content
                else:
                    raise ProcessLostError(f"the process of {job} {message.content}")
    return read_rows(path)


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file that ``collect`` wrote; none where there is no file yet.

    Raises:
        TypeError: ``path`` is no path.
        OSError: It cannot be read.
    """
    return [{name: _value(text) for name, text in row.items()} for row in _texts(check_path("path", path))]


def _texts(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _work(work: Callable[..., Sequence[Row]], job: dict[str, Any], _: Callable[[Any], None]) -> Sequence[Row]:
    return work(**job)


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
