"""One episode of one policy, one step at a time: for the eye, and by the same rules as a search's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from ._action_rules import Actions
from ._episodes import EvaluationError
from ._observation_rules import Observations
from .simulators._gymnasium import reset, step
from .simulators._simulator import SimulatorError


def play_episode(
    env: gym.Env[Any, Any],
    policy: nn.Module,
    *,
    observations: Observations,
    actions: Actions,
    max_steps: int,
    seed: int | None,
    number: int = 0,
) -> Iterator[float]:
    """Play one episode, and pause after the reset and after each step.

    Args:
        env: The environment.
        policy: From an observation ``(obs_length,)`` to outputs ``(act_length,)``; it keeps its own state.
        observations: How an observation becomes a flat vector.
        actions: How outputs become an action.
        max_steps: The most steps.
        seed: The seed that the environment is reset with; None leaves it to the environment.
        number: The episode's, for errors.

    Yields:
        The reward of the step; 0 after the reset.

    Raises:
        EvaluationError: The environment raised, or returned something that is not finite or not what it should be.
    """

    def check_finite(what: str, value: Any) -> None:
        if not np.isfinite(value).all():
            raise EvaluationError(0, number, count, f"expected a finite {what}, got {value}")

    count = 0
    try:
        obs, reward, ended = reset(env, observations, seed=seed), 0.0, False
        while True:
            check_finite("reward", reward)
            check_finite("observation", obs)
            yield float(reward)
            if ended or count == max_steps:
                return
            with torch.no_grad():
                outputs = policy(torch.from_numpy(np.array(obs))).numpy()
            check_finite("output of the policy", outputs)
            action = actions.one_by_one(actions(outputs[None]))[0]
            count += 1
            obs, reward, ended = step(env, action, observations)
    except SimulatorError as error:
        raise EvaluationError(0, number, count, str(error)) from error
