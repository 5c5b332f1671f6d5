"""Play the parts of a population to their ends: in a thread each while turns are long, then in turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    if len(players) == 1 or not _play_in_threads(players):
        for player in players:
            player.begin()
    live = players
    while live:
        live = [player for player in live if player.play()]
    found = [error for error in errors if error is not None]
    if found:
        raise min(found, key=lambda error: error.step)


class _Player:
    """Plays a part, as far as the errors of all parts leave a question open."""

    def __init__(self, part: Part, errors: list[EvaluationError | None], place: int) -> None:
        self._part, self._errors, self._place = part, errors, place
        self._step = 0
        self._is_live = True
        self.is_stopped = False

    def begin(self) -> None:
        """Begin the part."""
        self._try(self._part.begin)

    def play(self) -> bool:
        """Play a step. Return False if no step is left."""
        if any(error is not None and error.step <= self._step for error in self._errors):
            self._is_live = False
        if self._is_live:
            self._step += 1
            self._is_live = bool(self._try(self._part.advance))
        return self._is_live and not self.is_stopped

    def play_while_long(self, became_short: threading.Event) -> None:
        """Begin, and play until turns have become short, those of this part or of another one."""
        with one_torch_thread():
            self.begin()
            while not became_short.is_set():
                start = time.perf_counter()
                for _ in range(_MEASURED):
                    if not self.play():
                        return
                if time.perf_counter() - start < _SHORT * _MEASURED:
                    became_short.set()

    def _try(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except EvaluationError as error:
            self._errors[self._place] = error


def _play_in_threads(players: Sequence[_Player]) -> bool:
    """Play each part in its own thread while its turns are long. Return False if no thread can be started."""
    first, *others = players
    became_short = threading.Event()
    with ThreadPoolExecutor(len(others)) as pool:
        try:
            results = [pool.submit(player.play_while_long, became_short) for player in others]
        except RuntimeError:
            pool.shutdown(cancel_futures=True)
            return False
        try:
            first.play_while_long(became_short)
            for result in results:
                result.result()
        except BaseException:  # such as Ctrl-C: threads end after their step
            for player in players:
                player.is_stopped = True
            raise
    return True
