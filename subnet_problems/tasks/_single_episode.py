"""Play one episode of one policy step by step, as for a video, by the same rules as in a search."""

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
        policy: Turns an observation ``(obs_length,)`` into outputs ``(act_length,)``; it keeps its own state.
        observations: The rule that turns an observation into a flat vector.
        actions: The rule that turns outputs into an action.
        max_steps: The maximum number of steps.
        seed: The seed for the environment's reset; None resets without a seed.
        number: The index of the episode, for error messages. Default: 0.

    Yields:
        The reward of the step; 0 after the reset.

    Raises:
        EvaluationError: The environment raised or returned something invalid, or an observation, a reward or an output
            of the policy is not finite.
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
