"""What a problem does with one solution: to a policy, test, play, show, save; under the names ``GymNE`` has."""

from __future__ import annotations

import pickle
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from evotorch import Solution
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .._checks import check_bool, check_count, check_matrix, check_numbers, check_path, check_seed
from .._files import write_whole
from ..subnetworks._policy_module import PolicyModule
from ..tasks._observation_stats import Normalizer, ObservationStats
from ..tasks._rollout import play_tests
from ..tasks._single_episode import play_episode

if TYPE_CHECKING:
    from ..networks._frozen_network import FrozenNetwork
    from ..tasks._gym_task import GymTask


class SolutionMethods:
    """Methods of a problem that take one solution. The problem gives the attributes below."""

    solution_length: int
    dtype: torch.dtype
    device: torch.device
    _task: GymTask
    _network: FrozenNetwork
    _stats: ObservationStats | None
    _num_episodes: int
    _interaction_count: int
    _episode_count: int

    def _express(self, values: Tensor) -> Tensor:
        """The part of solutions ``(N, D)`` that evaluation needs: the payload, ``(N, D)``."""
        raise TypeError(f"{type(self).__name__} does not say what its solutions express")

    def _weights_of(self, payload: Tensor) -> Tensor:
        """The weights ``(n, D)`` of a payload."""
        raise TypeError(f"{type(self).__name__} does not say what its solutions express")

    def _to_values(self, x: Solution | ArrayLike | Tensor, name: str = "x") -> Tensor:
        values = x.values if isinstance(x, Solution) else x
        values = check_numbers(name, values, dtype=self.dtype, device=self.device)
        if values.ndim != 1:
            raise ValueError(
                f"{name}: expected one solution of shape (D,) = ({self.solution_length},), got {tuple(values.shape)}"
            )
        return check_matrix(name, values[None], self.solution_length)

    def _policy_of(self, values: Tensor, *, clip_actions: bool = True) -> PolicyModule:
        module = self._network.to_module(self._weights_of(self._express(values))[0].cpu())
        return PolicyModule(module, self._normalizer(), self._task.actions if clip_actions else None)

    def to_policy(self, x: Solution | ArrayLike | Tensor, *, clip_actions: bool = True) -> nn.Module:
        """A solution as a plain ``nn.Module``, as ``GymNE.to_policy`` gives it.

        It takes a flat observation ``(..., obs_length)``, normalises it if the problem does, and returns the output
        ``(..., act_length)``: an action, clipped to the space's bounds, for Box; a value for each action, of which
        the highest is played, for Discrete; the outputs of the problem's ``task.actions`` for other spaces.

        Args:
            x: One solution ``(D,)``.
            clip_actions: Whether Box actions are clipped.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``x`` is no solution.
        """
        return self._policy_of(self._to_values(x), clip_actions=check_bool("clip_actions", clip_actions))

    def test(self, x: Solution | ArrayLike | Tensor, *, num_episodes: int = 100, seed: int = 0) -> NDArray[np.float64]:
        """Returns of fresh episodes on Gymnasium itself, whatever simulator the search uses.

        Rewards are the environment's own, without bonus or noise, and so is the length of episodes: ``episode_length``
        shortens those of the search alone (where the environment sets no limit, tests too). The episodes' seeds come
        from another stream than those of a search, and the problem's counters do not move.

        Args:
            x: One solution ``(D,)``.
            num_episodes: How many episodes.
            seed: Seed of the episodes.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            EvaluationError: An environment raised, or returned something that is not finite.
            ValueError: ``x`` is no solution.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        weights = self._weights_of(self._express(self._to_values(x)))
        task, normalizer = self._task.at_full_length(), self._normalizer()
        return play_tests(task, self._network, weights, num_episodes=count, seed=seed, normalizer=normalizer)

    def _normalizer(self) -> Normalizer | None:
        return None if self._stats is None else self._stats.normalizer()

    def run(
        self,
        policy: nn.Module | Solution | ArrayLike | Tensor,
        *,
        visualize: bool = False,
        num_episodes: int | None = None,
        seed: int | None = None,
    ) -> dict[str, float]:
        """Play with one policy on Gymnasium, one step at a time; the rewards are the environment's own.

        Args:
            policy: A module as ``to_policy`` gives it, or a solution ``(D,)``.
            visualize: Whether to show a window.
            num_episodes: How many episodes; None takes the problem's.
            seed: Seed of the first episode; those that follow have the next ones. None leaves it to the environment.

        Returns:
            ``cumulative_reward``, the mean over the episodes, and ``interaction_count``, their steps in all.

        Raises:
            EvaluationError: The environment raised, or returned something that is not finite or not what it should be.
            TypeError: An argument has the wrong type.
            ValueError: ``policy`` is no solution, nor a module for this task; or a number is out of range.
        """
        module = policy if isinstance(policy, nn.Module) else self._policy_of(self._to_values(policy, "policy"))
        module = ensure_stateful(module)
        self._check_policy(module)
        count = self._num_episodes if num_episodes is None else check_count("num_episodes", num_episodes)
        if seed is not None:
            check_seed("seed", seed)
        env = self._task.make_env(**({"render_mode": "human"} if check_bool("visualize", visualize) else {}))
        total, steps = 0.0, 0
        try:
            for episode in range(count):
                module.reset()
                rewards = play_episode(
                    env, module, observations=self._task.observations, actions=self._task.actions,
                    max_steps=self._task.max_steps, seed=None if seed is None else seed + episode, number=episode,
                )  # fmt: skip
                for reward in rewards:
                    total, steps = total + reward, steps + 1
                steps -= 1  # the reset
        finally:
            env.close()
        return {"cumulative_reward": total / count, "interaction_count": steps}

    def _check_policy(self, module: nn.Module) -> None:
        expected = f"({self._task.obs_length},) to outputs of shape ({self._task.actions.length},)"
        try:
            with torch.no_grad():
                shape = tuple(module(torch.zeros(self._task.obs_length, dtype=torch.float32)).shape)
        except Exception as error:
            raise ValueError(
                f"policy: expected a module from observations of shape {expected}, got {error!r}"
            ) from error
        if shape != (self._task.actions.length,):
            raise ValueError(f"policy: expected a module from observations of shape {expected}, got {shape}")

    def visualize(
        self, policy: nn.Module | Solution | ArrayLike | Tensor, *, num_episodes: int = 1, seed: int | None = None
    ) -> dict[str, float]:
        """``run`` with a window; an environment made by a callable must take ``render_mode``."""
        return self.run(policy, visualize=True, num_episodes=num_episodes, seed=seed)

    def save_solution(self, solution: Solution | ArrayLike | Tensor, fname: str | Path) -> None:
        """Pickle a solution with its policy, under the keys ``GymNE.save_solution`` uses.

        The file appears whole or not at all.

        Args:
            solution: One solution ``(D,)``.
            fname: The file to write.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``solution`` is no solution.
            OSError: The file cannot be written.
        """
        values, path = self._to_values(solution, "solution"), check_path("fname", fname)
        result: dict[str, Any] = {"solution": values[0].cpu(), "policy": self._policy_of(values)}
        if self._stats is not None and self._stats.count:
            result["obs_mean"] = torch.from_numpy(self._stats.mean)
            result["obs_stdev"] = torch.from_numpy(self._stats.stdev)
            result["obs_sum"] = torch.from_numpy(self._stats.sum)
            result["obs_sum_of_squares"] = torch.from_numpy(self._stats.sum_of_squares)
        result |= {"interaction_count": self._interaction_count, "episode_count": self._episode_count}
        result["time"] = datetime.now()
        if self._task.name is not None:
            result["env"] = self._task.name
        write_whole(path, pickle.dumps(result))
