"""Parts of a population are played to their ends, in threads or in turn, with the same results and errors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from subnet_problems.tasks._episodes import EvaluationError
from subnet_problems.tasks._turns import play_out


class Part:
    """A part that plays ``steps`` steps, of ``seconds`` each, and fails at the step ``fails_at`` with ``error``."""

    def __init__(self, steps, *, seconds=0.0, fails_at=None, error=None):
        self.steps, self.seconds, self.fails_at, self.step = steps, seconds, fails_at, 0
        self.error = error
        self.threads = []

    def begin(self):
        self._play()

    def advance(self):
        self.step += 1
        self._play()
        return self.step < self.steps

    def _play(self):
        self.threads.append(threading.current_thread())
        if self.step == self.fails_at:
            raise self.error or EvaluationError(0, 0, self.step, f"of {self.steps}")
        time.sleep(self.seconds)


SECONDS = (0.0, 1e-3)  # short turns end in one thread, long ones in a thread for each part


@pytest.mark.parametrize("first", SECONDS)
@pytest.mark.parametrize("second", SECONDS)
def test_all_parts_play_all_of_their_steps(first, second):
    parts = [Part(60, seconds=first), Part(25, seconds=second), Part(1)]
    play_out(parts)
    assert [part.step for part in parts] == [60, 25, 1]


def test_one_thread_may_be_refused_and_no_part_begins_twice(monkeypatch):
    submit, calls = ThreadPoolExecutor.submit, []

    def refuse_second(pool, *args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("can't start new thread")
        return submit(pool, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse_second)
    parts = [Part(30, seconds=1e-3) for _ in range(3)]
    play_out(parts)
    assert len(calls) == 2
    assert [(part.step, len(part.threads)) for part in parts] == [(30, 31)] * 3  # one begin and 30 steps each


def test_ctrl_c_while_threads_are_started_ends_all_parts(monkeypatch):
    submit, calls = ThreadPoolExecutor.submit, []

    def interrupt_second(pool, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return submit(pool, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupt_second)
    parts = [Part(10**9, seconds=1e-3) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        play_out(parts)
    assert all(part.step < 100 for part in parts)


def test_long_turns_are_played_at_the_same_time_and_short_ones_by_one_thread():
    long, short = [Part(50, seconds=2e-3) for _ in range(2)], [Part(200) for _ in range(2)]
    for parts in (long, short):
        play_out(parts)
    assert {part.threads[-1] is threading.main_thread() for part in long} == {True, False}
    assert all(part.threads[-1] is threading.main_thread() for part in short)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize(
    ("fails_at", "expected"), [((30, 7), 1), ((7, 30), 0), ((9, 9), 0), ((0, 0), 0), ((None, 20), 1), ((3, 0), 1)]
)
def test_the_error_of_the_earliest_step_is_raised_and_then_that_of_the_first_part(seconds, fails_at, expected):
    for slower in (0, 1):
        parts = [Part(40 + i, fails_at=step, seconds=seconds * (i == slower)) for i, step in enumerate(fails_at)]
        with pytest.raises(EvaluationError, match=rf"step {fails_at[expected]}: of {40 + expected}$"):
            play_out(parts)
        assert max(part.step for part in parts) <= 40


def test_a_part_is_not_played_beyond_the_error_of_another_one():
    endless = Part(10**9, seconds=1e-3)
    with pytest.raises(EvaluationError, match="step 5"):
        play_out([endless, Part(40, fails_at=5)])
    assert endless.step >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("full")])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("fails_at", [2, 40])  # in turn, and in threads
def test_any_other_error_ends_all_parts(error, place, fails_at):
    before = threading.active_count()
    parts = [Part(10**9, seconds=1e-3) for _ in range(2)]
    parts[place] = Part(10**9, seconds=1e-3, fails_at=fails_at, error=error)
    with pytest.raises(type(error)):
        play_out(parts)
    assert all(part.step < 100 for part in parts)
    assert threading.active_count() <= before


def test_parts_are_played_in_turn_where_no_thread_can_be_started(monkeypatch):
    def refuse(*_args, **_options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.thread.ThreadPoolExecutor.submit", refuse)
    parts = [Part(20, seconds=1e-3), Part(30, seconds=1e-3), Part(25, seconds=1e-3)]
    play_out(parts)
    assert [part.step for part in parts] == [20, 30, 25]
    assert {thread for part in parts for thread in part.threads} == {threading.main_thread()}
