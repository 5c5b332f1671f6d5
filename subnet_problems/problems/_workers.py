"""Workers: Ray actors that share an evaluation, where any of them may be lost in the middle of it."""

from __future__ import annotations

import logging
import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from .._checks import reason_of
from ._errors import WorkersLostError

#: How many workers a share may take with it before it is the share that is suspected.
MAX_LOSSES = 5
#: Options of the actors, under those of the user. Ray restarts a lost actor, on another machine if need be. The trifle
#: of a CPU makes Ray spread actors evenly over machines (it places those that ask for nothing at random), and
#: lets none wait for a free one.
ACTOR_OPTIONS = {"max_restarts": -1, "max_task_retries": 0, "num_cpus": 0.01, "scheduling_strategy": "SPREAD"}

_log = logging.getLogger(__name__)


def unpack_in_actor(reference: Any, path: Sequence[str]) -> Any:
    """What the main process put into Ray's store, in an actor, which looks for modules where the main process does."""
    sys.path.extend(folder for folder in path if folder not in sys.path)
    return ray.get(reference)


class Workers:
    """EvoTorch's actors as workers that take shares of an evaluation when they are free.

    A worker is given a share once it has answered a ping: when it was made, and again after it was lost. So those that
    are still waiting for a place on the cluster, or on their way back, hold nobody up.

    Args:
        actors: Handles of EvoTorch's ``EvaluationActor``.
        timeout: How many seconds an evaluation waits for a worker when it has none.
        source: Ray's reference to what they are made of, kept so that they can be made again.
    """

    def __init__(self, actors: Sequence[Any], *, timeout: float = 300.0, source: Any = None) -> None:
        self._source, self._timeout = source, timeout
        self._free: list[Any] = []
        self._pings: dict[Any, Any] = {}
        self._last_error: RayError | None = None
        self._ping(actors)

    def count(self) -> int:
        """How many workers are free to take a share now."""
        if self._pings:
            self._hear(ray.wait([*self._pings], num_returns=len(self._pings), timeout=0)[0])
        return len(self._free)

    def map(self, method: str, tasks: Sequence[list[Any]]) -> list[Any]:
        """Call a method of the workers' problems, which must be a pure function, once for each task.

        A task whose worker is lost goes to another.

        Args:
            method: The method's name.
            tasks: Its arguments.

        Returns:
            What it returned, in the order of the tasks.

        Raises:
            ValueError: A worker cannot make an environment.
            WorkersLostError: There was no worker for ``timeout`` seconds, or one task took ``MAX_LOSSES`` workers
                with it.
        """
        results: dict[int, Any] = {}
        waiting = deque(range(len(tasks)))
        running: dict[Any, tuple[Any, int]] = {}
        losses: Counter[int] = Counter()
        try:
            while len(results) < len(tasks):
                while waiting and self._free:
                    actor, index = self._free.pop(), waiting.popleft()
                    running[actor.call.remote(method, tasks[index], {})] = actor, index
                ready = self._wait(running)
                for ref in [ref for ref in ready if ref in running]:
                    actor, index = running[ref]
                    try:
                        results[index] = ray.get(ref)
                    except RayTaskError:  # the method itself raised
                        raise
                    except RayError as error:
                        waiting.append(index)
                        losses[index] += 1
                        self._lost(actor, error)
                    else:
                        self._free.append(actor)
                    del running[ref]
                    if losses[index] >= MAX_LOSSES:
                        raise WorkersLostError(
                            f"share {index + 1} of {len(tasks)} of the population took {MAX_LOSSES} workers with it, "
                            "one after another: does the environment crash its process, or run out of memory?"
                        ) from self._last_error
                self._hear(ref for ref in ready if ref in self._pings)
        finally:
            self._ping(actor for actor, _ in running.values())  # of an evaluation that failed: free when it is through
        return [results[index] for index in range(len(tasks))]

    def _wait(self, running: dict[Any, tuple[Any, int]]) -> list[Any]:
        """The first calls that have ended."""
        if running:
            return ray.wait([*running, *self._pings])[0]
        _log.info("no worker is there; waiting %g seconds for one", self._timeout)
        ready = ray.wait([*self._pings], timeout=self._timeout)[0] if self._pings else []
        if not ready:
            reason = f"none came within {self._timeout:g} seconds" if self._pings else "all of them are lost for good"
            last = "" if self._last_error is None else f" (the last was lost by: {reason_of(self._last_error)})"
            raise WorkersLostError(
                f"expected a worker for the evaluation, but {reason}; nothing of it was counted, and the next "
                f"evaluation starts new workers{last}"
            ) from self._last_error
        return ready

    def _ping(self, actors: Iterable[Any]) -> None:
        # Ray repeats this call until the actor is back; it fails when the actor is lost for good.
        self._pings |= {actor.get.options(max_task_retries=-1).remote("_ready"): actor for actor in actors}

    def _hear(self, answers: Iterable[Any]) -> None:
        for ref in answers:
            actor = self._pings.pop(ref)
            try:
                ray.get(ref)
            except RayTaskError as error:  # it is there, but cannot make an environment
                raise ValueError(
                    f"env: cannot be made in an actor: {reason_of(error.cause)}. Actors are other processes: what the "
                    "environment needs must be installed, or in a folder of PYTHONPATH, on every machine"
                ) from error
            except RayError as error:
                _log.warning("a worker is lost for good: %s", error)
                self._last_error = error
            else:
                self._free.append(actor)

    def _lost(self, actor: Any, error: RayError) -> None:
        _log.warning("a worker was lost, and its share is evaluated again: %s", error)
        self._last_error = error
        self._ping([actor, *self._free])  # those that are free may have gone with it
        self._free.clear()
