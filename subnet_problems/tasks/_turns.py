"""Play the parts of a population to their ends: in turn, or in a thread each while their turns are long."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from .._torch_threads import one_torch_thread
from ._episodes import EvaluationError

#: Mean seconds of a turn below which threads cost more than they gain: only one of them can run Python at a time.
_SHORT = 2e-4
#: Number of turns over which the mean is taken.
_MEASURED = 4


class Part(Protocol):
    """A part of a population, which shares neither episodes nor simulators with other parts."""

    def begin(self) -> None:
        """Begin the first step of all episodes."""
        ...

    def advance(self) -> bool:
        """End the current step and begin the next one. Return False when no episode is left."""
        ...


def play_out(parts: Sequence[Part]) -> None:
    """Play all parts to their ends. The results do not depend on which part is played when.

    Raises:
        EvaluationError: That of the earliest step; of the first part, if several parts fail at the same step.
    """
    errors: list[EvaluationError | None] = [None] * len(parts)
    players = [_Player(part, errors, place) for place, part in enumerate(parts)]
    for player in players:
        player.begin()
    start = time.perf_counter()
    live = _in_turn(players, _MEASURED)
    if len(live) > 1 and time.perf_counter() - start > _SHORT * _MEASURED:
        live = _in_threads(live)
    _in_turn(live)
    found = [error for error in errors if error is not None]
    if found:
        raise min(found, key=lambda error: error.step)


class _Player:
    """Plays a part, as far as the errors of all parts leave a question open."""

    def __init__(self, part: Part, errors: list[EvaluationError | None], place: int) -> None:
        self._part, self._errors, self._place = part, errors, place
        self._step = 0
        self.is_live = True

    def begin(self) -> None:
        """Begin the part."""
        self._try(self._part.begin)

    def play(self) -> bool:
        """Play a step. Return False if no step is left."""
        if any(error is not None and error.step <= self._step for error in self._errors):
            self.is_live = False
        if self.is_live:
            self._step += 1
            self.is_live = bool(self._try(self._part.advance))
        return self.is_live

    def _try(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except EvaluationError as error:
            self._errors[self._place] = error


def _in_turn(live: list[_Player], most: float = math.inf) -> list[_Player]:
    """Play a step of each part, and again, ``most`` times at most. Return those with steps left."""
    while live and most > 0:
        live = [player for player in live if player.play()]
        most -= 1
    return live


def _in_threads(players: list[_Player]) -> list[_Player]:
    """Play each part in its own thread until turns become short. Return the parts with steps left."""
    leave = threading.Event()  # all threads leave after their current step

    def play_while_long(player: _Player) -> None:
        try:
            with one_torch_thread():
                while player.is_live and not leave.is_set():
                    start = time.perf_counter()
                    for _ in range(_MEASURED):
                        if leave.is_set() or not player.play():
                            return
                    if time.perf_counter() - start < _SHORT * _MEASURED:
                        leave.set()
        except BaseException:
            leave.set()
            raise

    results: list[Future[None]] = []
    with ThreadPoolExecutor(len(players)) as pool:
        try:
            try:
                for player in players[1:]:
                    results.append(pool.submit(play_while_long, player))
            except RuntimeError:  # no thread can be started
                leave.set()
            play_while_long(players[0])
            for result in results:
                result.result()
        finally:
            leave.set()  # in case of Ctrl-C
    return [player for player in players if player.is_live]
