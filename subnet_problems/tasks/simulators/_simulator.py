"""Simulator, the interface of all simulators, and SimulatorKind, which makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .._action_rules import Actions
from .._observation_rules import Observations
from .._registration import Registration


class Simulator(Protocol):
    """B episodes, each with its own seed, that are stepped together. Episodes that have ended are no longer stepped."""

    def reset(self) -> NDArray[np.float32]:
        """Begin all episodes, and return their first observations ``(B, obs_length)``."""
        ...

    def send(self, rows: NDArray[np.int32], actions: NDArray[Any]) -> None:
        """Begin one step of the episodes ``rows``, ``(n,)``, with ``actions``, ``(n, ...)``."""
        ...

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """End the step. Return observations ``(n, obs_length)``, rewards ``(n,)`` and bools ``(n,)``, True if ended.

        Raises:
            SimulatorError: An environment raised.
        """
        ...

    def close(self) -> None:
        """Free the simulator's resources."""
        ...


@dataclass(frozen=True)
class Playground:
    """The environment that a simulator is made for.

    Attributes:
        registration: The registration of the environment's id; None if a callable makes the environment.
        env_config: The options that the environment is made with.
        make_env: Makes a Gymnasium environment.
        actions: The rule that turns outputs into actions.
        observations: The rule that turns an observation into a flat vector.
        num_threads: The number of threads of one simulator; None leaves it to the simulator.
    """

    registration: Registration | None
    env_config: dict[str, Any]
    make_env: Callable[[], gym.Env[Any, Any]]
    actions: Actions
    observations: Observations
    num_threads: int | None


class SimulatorKind(Protocol):
    """A kind of simulator, such as EnvPool.

    Attributes:
        num_parts: The number of parts of a population that are played at the same time, each in its own simulator: 2 if
            stepping does not block. Several threads may then step different simulators at once.
    """

    num_parts: int

    def serves(self, playground: Playground, probe: Callable[[], gym.Env[Any, Any]]) -> Any:
        """Return what ``make`` needs to step environments like the one that ``probe`` returns for inspection.

        Raises:
            ValueError: The simulator would play another environment. The message says what differs.
        """
        ...

    def make(self, playground: Playground, served: Any, seeds: NDArray[np.int64]) -> Simulator:
        """Make a simulator with one episode for each seed in ``seeds`` ``(B,)``, in [0, 2**31)."""
        ...


class SimulatorError(RuntimeError):
    """An environment raised or returned something invalid; ``row`` is its row in the simulator."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row
