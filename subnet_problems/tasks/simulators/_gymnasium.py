"""The Gymnasium simulator, which steps any environment in this process, and checks what an environment returns."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .._action_rules import Actions
from .._observation_rules import Observations, as_array
from ._simulator import Playground, SimulatorError


class GymnasiumSimulator:
    """One environment object for each episode.

    An object is never reset twice, because an environment may keep state across a reset in spite of the seed, and
    fitness must not depend on earlier episodes. (BipedalWalker keeps its physics world: the same seed then gives other
    rewards.)

    Args:
        make_env: Makes an environment.
        seeds: ``(B,)`` seeds, one for each episode.
        actions: The rule that turns outputs into actions.
        observations: The rule that turns observations into flat vectors.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        seeds: NDArray[np.int64],
        actions: Actions,
        observations: Observations,
    ) -> None:
        self._make_env = make_env
        self._seeds = seeds
        self._one_by_one = actions.one_by_one
        self._observations = observations
        self._envs: list[gym.Env[Any, Any] | None] = [None] * len(seeds)
        self._rows: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._actions: list[Any] = []

    def reset(self) -> NDArray[np.float32]:
        """See ``Simulator``."""
        obs = np.empty((len(self._seeds), self._observations.length), dtype=np.float32)
        for row, seed in enumerate(self._seeds):
            try:
                env = self._envs[row] = self._make_env()
            except Exception as error:
                raise SimulatorError(row, f"the environment could not be made: {error!r}") from error
            obs[row] = reset(env, self._observations, seed=int(seed), row=row)
        return obs

    def send(self, rows: NDArray[np.int32], actions: Any) -> None:
        """See ``Simulator``."""
        self._rows, self._actions = rows, self._one_by_one(actions)

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """See ``Simulator``."""
        count = len(self._rows)
        obs = np.empty((count, self._observations.length), dtype=np.float32)
        rewards = np.empty(count, dtype=np.float64)
        ended = np.empty(count, dtype=np.bool_)
        for i, row in enumerate(self._rows.tolist()):
            env = self._envs[row]
            assert env is not None, "an episode that ended is not stepped again"
            obs[i], rewards[i], ended[i] = step(env, self._actions[i], self._observations, row=row)
            if ended[i]:
                env.close()
                self._envs[row] = None
        return obs, rewards, ended

    def close(self) -> None:
        """See ``Simulator``."""
        for env in self._envs:
            if env is not None:
                env.close()
        self._envs = [None] * len(self._envs)


def reset(env: gym.Env[Any, Any], observations: Observations, *, seed: int | None, row: int = 0) -> NDArray[np.float32]:
    """Begin an episode.

    Returns:
        The first observation, flat, ``(obs_length,)``.

    Raises:
        SimulatorError: The environment raised, or returned something that Gymnasium's interface does not allow.
    """
    try:
        result = env.reset() if seed is None else env.reset(seed=seed)
    except Exception as error:
        raise SimulatorError(row, f"the environment's reset raised {error!r}") from error
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise _unlike("reset", "(observation, info)", result, row)
    return _flat(result[0], observations, row)


def step(
    env: gym.Env[Any, Any], action: Any, observations: Observations, *, row: int = 0
) -> tuple[NDArray[np.float32], float, bool]:
    """Do one step of an episode.

    Returns:
        The flat observation ``(obs_length,)``, the reward, and True if the episode ended.

    Raises:
        SimulatorError: The environment raised, or returned something that Gymnasium's interface does not allow.
    """
    try:
        result: Any = env.step(action)
    except Exception as error:
        raise SimulatorError(row, f"the environment's step raised {error!r}") from error
    try:
        raw, reward, terminated, truncated, _ = result
    except (TypeError, ValueError):
        raise _unlike("step", "(observation, reward, terminated, truncated, info)", result, row) from None
    if not isinstance(reward, float):
        reward = _number(reward, row)
    try:
        ended = bool(terminated) or bool(truncated)
    except Exception as error:  # such as an array of several elements
        came = f"{reprlib.repr(terminated)} and {reprlib.repr(truncated)}"
        raise SimulatorError(row, f"expected terminated and truncated to be True or False, got {came}") from error
    return _flat(raw, observations, row), reward, ended


def _flat(raw: Any, observations: Observations, row: int) -> NDArray[np.float32]:
    try:
        return observations.flatten(raw, "")
    except (TypeError, ValueError, LookupError) as error:
        raise SimulatorError(row, str(error)) from error


def _number(reward: Any, row: int) -> float:
    """Convert a reward, which may be an array or tensor with one element, into a float."""
    array = as_array(reward)
    if array is None or array.size != 1:
        raise SimulatorError(row, f"expected a reward that is one number, got {reprlib.repr(reward)}")
    return float(array.reshape(-1)[0])


def _unlike(method: str, expected: str, result: Any, row: int) -> SimulatorError:
    came = f"{len(result)} values" if isinstance(result, tuple | list) else reprlib.repr(result)
    return SimulatorError(row, f"expected the environment's {method} to return {expected}, got {came}")


class GymnasiumKind:
    """See ``SimulatorKind``. Gymnasium steps every environment."""

    num_parts = 1

    def serves(self, playground: Playground, probe: Callable[[], gym.Env[Any, Any]]) -> None:
        """See ``SimulatorKind``."""

    def make(self, playground: Playground, served: None, seeds: NDArray[np.int64]) -> GymnasiumSimulator:
        """See ``SimulatorKind``."""
        return GymnasiumSimulator(playground.make_env, seeds, playground.actions, playground.observations)
