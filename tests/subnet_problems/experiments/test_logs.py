"""Logs of a resumed search equal the logs of an uninterrupted one."""

import csv
import os
from functools import partial
from pathlib import Path

import pytest
from disks import full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import CSVLogger, TensorBoardLogger


def search(folder):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0, num_threads=1)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    folder.mkdir()
    CSVLogger(searcher, folder / "log.csv")
    TensorBoardLogger(searcher, folder / "board")
    Checkpointer(searcher, folder / "checkpoint", every=2)
    return searcher


def scalars(folder, name):
    events = EventAccumulator(str(folder / "board"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_row_has_the_status_of_a_generation(tmp_path):
    searcher = search(tmp_path / "run")
    searcher.run(3)
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iter"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert float(rows[-1]["mean_eval"]) == searcher.status["mean_eval"]
    assert float(rows[-1]["mean_sparsity"]) == searcher.status["mean_sparsity"]
    assert "center" not in rows[0]
    steps = [int(float(row["total_interaction_count"])) for row in rows]
    logged = scalars(tmp_path / "run", "mean_eval")
    assert [step for step, _ in logged] == steps
    assert logged[1][1] == pytest.approx(float(rows[1]["mean_eval"]))


def test_logs_stay_in_place_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    searcher = search(Path("run"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    searcher.run(2)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + 2
    assert len(scalars(tmp_path / "run", "mean_eval")) == 2


@pytest.mark.parametrize("killed_after", [1, 4])  # after 1 generation, the only checkpoint is from before the first row
def test_logs_of_a_killed_and_resumed_search_equal_those_of_an_uninterrupted_one(killed_after, tmp_path):
    whole = search(tmp_path / "whole")
    whole.run(7)
    killed = search(tmp_path / "killed")
    for _ in range(killed_after):  # the checkpoint is older than the last row
        killed.step()
    resumed = resume(tmp_path / "killed" / "checkpoint", allow_pickle=True)
    assert resumed.step_count < killed_after
    resumed.run(7 - resumed.step_count)
    assert (tmp_path / "killed" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    assert scalars(tmp_path / "killed", "mean_eval") == scalars(tmp_path / "whole", "mean_eval")


def test_events_after_a_resume_within_the_same_second_are_read_last(tmp_path, monkeypatch):
    # TensorBoard reads files in the order of their names, in which process 10 precedes process 9.
    monkeypatch.setattr(os, "getpid", lambda: 9)
    killed = search(tmp_path / "run")
    killed.run(2)
    monkeypatch.setattr(os, "getpid", lambda: 10)
    resume(tmp_path / "run" / "checkpoint", allow_pickle=True).run(2)
    assert len(scalars(tmp_path / "run", "mean_eval")) == 4


@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_log_with_lost_rows_continues_with_a_warning(left, tmp_path):
    search(tmp_path / "run").run(4)
    log = tmp_path / "run" / "log.csv"
    header, first, *_, last = log.read_bytes().splitlines(keepends=True)
    if left is None:
        log.unlink()
    elif left:
        log.write_bytes(header + first + last[:-5])  # as after a power failure
    else:
        log.write_bytes(b"")
    resumed = resume(tmp_path / "run" / "checkpoint", allow_pickle=True)
    with pytest.warns(UserWarning, match=r"log\.csv has lost rows"):
        resumed.run(1)
    resumed.run(1)
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iter"] for row in rows] == (["1.0"] if left else []) + ["5.0", "6.0"]


def third(searcher):
    """Entries that the status has only in every third generation."""
    return {"third": float("nan"), "also": float("inf")} if searcher.step_count % 3 == 0 else {}


def test_a_status_entry_that_appears_later_adds_a_column_also_after_a_resume(tmp_path):
    for name in ("whole", "killed"):
        searcher = search(tmp_path / name)
        searcher.after_step_hook.append(partial(third, searcher))
        searcher.run(7 if name == "whole" else 4)
    with open(tmp_path / "whole" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iter"] for row in rows] == [f"{number}.0" for number in range(1, 8)]
    assert [row["third"] for row in rows] == ["", "", "nan", "", "", "nan", ""]
    assert [row["also"] for row in rows] == ["", "", "inf", "", "", "inf", ""]
    resumed = resume(tmp_path / "killed" / "checkpoint.previous", allow_pickle=True)
    assert resumed.step_count == 2
    resumed.run(5)
    assert (tmp_path / "killed" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


def test_a_row_that_does_not_fit_on_the_disk_is_skipped_with_a_warning(tmp_path):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0, num_threads=1)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    log = tmp_path / "new" / "log.csv"
    CSVLogger(searcher, log)
    searcher.run(2)
    with full_disk(room=log.stat().st_size + 10), pytest.warns(UserWarning, match=r"log\.csv lacks a row"):
        searcher.step()
    searcher.step()
    with open(log, newline="") as file:
        assert [row["iter"] for row in csv.DictReader(file)] == ["1.0", "2.0", "4.0"]


def test_an_invalid_path_is_refused_at_once(tmp_path):
    searcher = search(tmp_path / "run")
    with pytest.raises(IsADirectoryError, match=r"^path: expected a file, got the folder"):
        CSVLogger(searcher, tmp_path)
    with pytest.raises(NotADirectoryError, match=r"^path: "):
        CSVLogger(searcher, tmp_path / "run" / "checkpoint" / "log.csv")
    with pytest.raises(NotADirectoryError, match=r"^folder: "):
        TensorBoardLogger(searcher, tmp_path / "run" / "checkpoint")


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
@pytest.mark.parametrize(
    ("path", "interval", "error"),
    [(3, 1, TypeError), ("", 1, ValueError), ("log", 0, ValueError), ("log", 2.5, TypeError)],
)
def test_a_logger_with_invalid_arguments_is_not_attached(logger, path, interval, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0, num_threads=1)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    with pytest.raises(error, match="expected"):
        logger(searcher, path, interval=interval)
    assert len(searcher.log_hook) == 0
