"""Simulator: the four methods that every simulator has, and SimulatorKind, which makes them."""

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
    """B episodes, each with its own seed, that are stepped together; those that ended are stepped no more."""

    def reset(self) -> NDArray[np.float32]:
        """Begin all episodes; their first observations ``(B, obs_length)``."""
        ...

    def send(self, rows: NDArray[np.int32], actions: NDArray[Any]) -> None:
        """Begin one step of the episodes ``rows``, ``(n,)``, with ``actions``, ``(n, ...)``."""
        ...

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """End it: observations ``(n, obs_length)``, rewards ``(n,)`` and whether each episode ended ``(n,)``.

        Raises:
            SimulatorError: An environment raised.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Playground:
    """What a simulator is made for.

    Attributes:
        registration: What the environment's id stands for; None where a callable makes the environment.
        env_config: The options it is made with.
        make_env: Makes a Gymnasium environment.
        actions: How outputs become actions.
        observations: How an observation becomes a flat vector.
        num_threads: How many threads the simulator may have for all its parts; None leaves it to the simulator.
    """

    registration: Registration | None
    env_config: dict[str, Any]
    make_env: Callable[[], gym.Env[Any, Any]]
    actions: Actions
    observations: Observations
    num_threads: int | None


class SimulatorKind(Protocol):
    """A simulator that environments can be stepped by.

    Attributes:
        turns: Into how many parts a population is split, which take turns, each in a simulator of its own: 2 where
            stepping does not block.
    """

    turns: int

    def serves(self, playground: Playground, probe: Callable[[], gym.Env[Any, Any]]) -> Any:
        """What ``make`` needs to step environments like the one that ``probe`` gives to look at.

        Raises:
            ValueError: It would not be the same environment. The message says what differs.
        """
        ...

    def make(self, playground: Playground, served: Any, seeds: NDArray[np.int64]) -> Simulator:
        """A simulator with one episode for each seed ``(B,)``, in [0, 2**31)."""
        ...


class SimulatorError(RuntimeError):
    """An environment raised; ``row`` says which."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row
