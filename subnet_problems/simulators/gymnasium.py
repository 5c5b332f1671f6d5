"""The Gymnasium simulator: any environment, in this process."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..spaces import Actions, DiscreteActions
from . import SimulatorError


class GymnasiumSimulator:
    """One environment object an episode.

    An object is made anew for each episode and never reset twice: an environment may keep state over a reset that
    its seed does not cover (BipedalWalker's physics world does: the same seed then gives other rewards), and fitness
    must not depend on what was played before.

    Args:
        make_env: Makes an environment.
        seeds: ``(B,)`` one for each episode.
        actions: How outputs become actions.
        obs_shape: Shape of an observation.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        seeds: NDArray[np.int64],
        actions: Actions,
        obs_shape: tuple[int, ...],
    ) -> None:
        self._make_env = make_env
        self._seeds = seeds
        self._discrete = isinstance(actions, DiscreteActions)
        self._obs_shape = obs_shape
        self._envs: list[gym.Env[Any, Any] | None] = [None] * len(seeds)
        self._rows: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._actions: NDArray[Any] = np.empty(0)

    def reset(self) -> NDArray[np.float32]:
        """See ``Simulator``."""
        obs = np.empty((len(self._seeds), prod(self._obs_shape)), dtype=np.float32)
        for row, seed in enumerate(self._seeds):
            try:
                env = self._envs[row] = self._make_env()
                first = env.reset(seed=int(seed))[0]
            except Exception as error:
                raise SimulatorError(row, f"the environment's reset raised {error!r}") from error
            obs[row] = self._flat(row, first)
        return obs

    def send(self, rows: NDArray[np.int32], actions: NDArray[Any]) -> None:
        """See ``Simulator``."""
        self._rows, self._actions = rows, actions

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """See ``Simulator``."""
        count = len(self._rows)
        obs = np.empty((count, prod(self._obs_shape)), dtype=np.float32)
        rewards = np.empty(count, dtype=np.float64)
        ended = np.empty(count, dtype=np.bool_)
        actions = self._actions.tolist() if self._discrete else self._actions
        for i, row in enumerate(self._rows.tolist()):
            env = self._envs[row]
            assert env is not None, "an episode that ended is not stepped again"
            try:
                next_obs, reward, terminated, truncated, _ = env.step(actions[i])
                rewards[i] = reward
            except Exception as error:
                raise SimulatorError(row, f"the environment's step raised {error!r}") from error
            obs[i] = self._flat(row, next_obs)
            ended[i] = terminated or truncated
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

    def _flat(self, row: int, raw: Any) -> NDArray[Any]:
        obs: NDArray[Any] = np.asarray(raw)
        if obs.shape != self._obs_shape:
            raise SimulatorError(row, f"expected an observation of shape {self._obs_shape}, got {obs.shape}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and found by the rollout
            return obs.reshape(-1).astype(np.float32, copy=False)
