"""Workers: Ray actors that share an evaluation. Any of them may be lost during it."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from evotorch.tools.misc import ensure_ray
from ray.exceptions import RayError, RayTaskError

from .._checks import reason_of
from ._errors import WorkersLostError

#: After this many workers were lost while evaluating one share, the share itself is taken for the cause.
MAX_LOSSES = 5
#: Default options of the actors, which the user's options override. Ray restarts a lost actor, if necessary on another
#: machine. Ray spreads actors evenly over machines only if they request some CPU; it places the others at random. The
#: request is so small that no actor waits for a free CPU.
ACTOR_OPTIONS = {"max_restarts": -1, "max_task_retries": 0, "num_cpus": 0.01, "scheduling_strategy": "SPREAD"}

_log = logging.getLogger(__name__)


def start_ray() -> None:
    """Connect to Ray, or start it, unless this process is connected.

    The workers of a cluster that is started here import ``subnet_problems`` before EvoTorch, and so do not load pycma.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_preload_python_modules", "subnet_problems")
    ensure_ray()


def unpack_in_actor(reference: Any, path: Sequence[str]) -> Any:
    """In an actor, extend ``sys.path`` by the main process's and get an object from Ray's object store."""
    sys.path.extend(folder for folder in path if folder not in sys.path)
    return ray.get(reference)


class Workers:
    """A pool of EvoTorch's actors; each free worker evaluates the next share.

    A new or restarted worker gets a share only after it has answered a ping. So an evaluation does not wait for workers
    that the cluster has not placed or restarted yet.

    Args:
        actors: Handles of EvoTorch's ``EvaluationActor``.
        timeout: Seconds that an evaluation waits for a worker when none is available. Default: 300.
        source: Ray's reference to the object from which actors are made. It is kept alive so that Ray can restart them.
    """

    def __init__(self, actors: Sequence[Any], *, timeout: float = 300.0, source: Any = None) -> None:
        self._source, self._timeout = source, timeout
        self._free: list[Any] = []
        self._pings: dict[Any, Any] = {}
        self._last_error: RayError | None = None
        self._ping(actors)

    def count(self) -> int:
        """Number of workers that are free now."""
        if self._pings:
            self._receive(ray.wait([*self._pings], num_returns=len(self._pings), timeout=0)[0])
        return len(self._free)

    def map(self, method: str, tasks: Sequence[list[Any]]) -> list[Any]:
        """Call a method of the workers' problems once for each task. The method must be a pure function.

        If a task's worker is lost, another worker does the task.

        Args:
            method: The method's name.
            tasks: The method's arguments for each task.

        Returns:
            The method's results, in the order of the tasks.

        Raises:
            ValueError: A worker cannot make an environment.
            WorkersLostError: No worker was available for ``timeout`` seconds, or ``MAX_LOSSES`` workers were lost
                during one task.
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
                            f"share {index + 1} of {len(tasks)} of the population lost {MAX_LOSSES} workers, one after "
                            "another: does the environment crash its process, or run out of memory?"
                        ) from self._last_error
                self._receive(ref for ref in ready if ref in self._pings)
        finally:
            self._ping(actor for actor, _ in running.values())  # if the evaluation failed, free after their call
        return [results[index] for index in range(len(tasks))]

    def _wait(self, running: dict[Any, tuple[Any, int]]) -> list[Any]:
        """Wait until a call or ping ends; return those that have ended."""
        if running:
            return ray.wait([*running, *self._pings])[0]
        _log.info("no worker is available; waiting %g seconds for one", self._timeout)
        ready = ray.wait([*self._pings], timeout=self._timeout)[0] if self._pings else []
        if not ready:
            reason = f"none was ready within {self._timeout:g} seconds" if self._pings else "all are permanently lost"
            last = "" if self._last_error is None else f" (the last loss: {reason_of(self._last_error)})"
            raise WorkersLostError(
                f"expected a worker for the evaluation, but {reason}; the evaluation was not counted, and the next "
                f"one starts new workers{last}"
            ) from self._last_error
        return ready

    def _ping(self, actors: Iterable[Any]) -> None:
        # Ray repeats this call until the actor is back; it fails if the actor is permanently lost.
        self._pings |= {actor.get.options(max_task_retries=-1).remote("_ready"): actor for actor in actors}

    def _receive(self, answers: Iterable[Any]) -> None:
        for ref in answers:
            actor = self._pings.pop(ref)
            try:
                ray.get(ref)
            except RayTaskError as error:  # the actor runs, but cannot make an environment
                raise ValueError(
                    f"env: cannot be made in an actor: {reason_of(error.cause)}. Actors are separate processes: the "
                    "environment's packages must be installed, or in a folder of PYTHONPATH, on every machine"
                ) from error
            except RayError as error:
                _log.warning("a worker is permanently lost: %s", error)
                self._last_error = error
            else:
                self._free.append(actor)

    def _lost(self, actor: Any, error: RayError) -> None:
        _log.warning("a worker was lost, and its share is evaluated again: %s", error)
        self._last_error = error
        self._ping([actor, *self._free])  # free workers may have been lost with it
        self._free.clear()
