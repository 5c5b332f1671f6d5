"""GymProblem: search of policies for a Gymnasium task as an EvoTorch problem, and methods to use a found policy."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from evotorch import Solution
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .._checks import check_bool, check_count, check_matrix, check_numbers, check_path, check_seed
from .._files import write_whole
from ..networks._frozen_network import FrozenNetwork
from ..subnetworks._policy_module import PolicyModule
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._observation_stats import Normalizer
from ..tasks._reward_rule import RewardRule
from ..tasks._rollout import play_tests
from ..tasks._single_episode import play_episode
from ._genotypes import Genotype
from ._gym_rounds import GymRounds
from ._network_for import NetworkLike, network_for
from ._options import GymOptions, completed, signature_with_options
from ._rounds import check_actors


class GymProblem(GymRounds):
    """An EvoTorch problem that maximizes a policy's return on a Gymnasium task. Base of the masked and dense problem.

    Fitness is a pure function of the solution, the seed and the round. It does not depend on the number or order of
    actors, threads and sub-batches. Each call of ``evaluate`` is a round. In a round every solution plays the same
    ``num_episodes`` episodes (common random numbers); the next round has new ones.

    Args:
        env: A Gymnasium id, or a callable that makes an environment. Observations and actions may be Box, Discrete,
            MultiDiscrete, MultiBinary, or Dict and Tuple of these (see ``subnet_problems.tasks``).
        network: Instead of ``hidden_sizes``: an EvoTorch network string, an ``nn.Module``, or a callable that returns
            one. Or a ``FrozenNetwork``, such as another problem's or a policy's, which is used unchanged: its lengths
            and shapes must be those of the task (flat shapes fit every task). With a ``FrozenNetwork``,
            ``hidden_sizes``, ``network_args``, ``bias``, ``weight_init``, ``weight_gain`` and ``network_seed`` would
            have no effect, so they raise an error.
        **options: See ``GymOptions``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the environment or the network is not supported.
    """

    def __init__(self, env: EnvLike, network: NetworkLike | None = None, **options: Unpack[GymOptions]) -> None:
        values = completed(type(self), options)

        def take(*names: str) -> dict[str, Any]:
            return {name: values[name] for name in names}

        _check_together(network, values)
        rule = RewardRule.checked(**take("decrease_rewards_by", "alive_bonus_schedule", "action_noise_stdev"))
        actors = check_actors(**take("num_actors", "actor_config", "num_subbatches", "subbatch_size"))
        task = GymTask(env, **take("env_config", "episode_length", "backend", "num_threads"))
        frozen = network_for(
            task, network,
            **take("hidden_sizes", "network_args", "bias", "weight_init", "weight_gain", "network_seed"),
        )  # fmt: skip
        super().__init__(
            task, self._make_genotype(task, frozen, values["device"]), reward_rule=rule,
            **take("observation_normalization", "num_episodes", "risk_aversion", "common_random_numbers"),
            **take("seed", "device", "worker_timeout"), **actors,
        )  # fmt: skip

    def __init_subclass__(cls) -> None:
        """Replace ``**options`` by all options in the signature that Python shows for the constructor."""
        super().__init_subclass__()
        cls.__signature__ = signature_with_options(cls.__init__)

    @abstractmethod
    def _make_genotype(self, task: GymTask, network: FrozenNetwork, device: torch.device) -> Genotype:
        """The genotype: what decision vectors encode."""

    def _to_values(self, x: Solution | ArrayLike | Tensor, name: str = "x") -> Tensor:
        values = x.values if isinstance(x, Solution) else x
        values = check_numbers(name, values, dtype=self.dtype, device=self.device)
        if values.ndim != 1:
            raise ValueError(
                f"{name}: expected one solution of shape (D,) = ({self.solution_length},), got {tuple(values.shape)}"
            )
        return check_matrix(name, values[None], self.solution_length)

    def _weights_of(self, values: Tensor) -> Tensor:
        return self._genotype.weights_of(self._genotype.express(values)).dense()

    def _policy_of(self, values: Tensor, *, clip_actions: bool = True) -> PolicyModule:
        module = self.network.to_module(self._weights_of(values)[0].cpu())
        return PolicyModule(module, self._normalizer(), self._task.actions if clip_actions else None)

    def to_policy(self, x: Solution | ArrayLike | Tensor, *, clip_actions: bool = True) -> nn.Module:
        """A solution as a plain ``nn.Module``, like ``GymNE.to_policy``.

        The module maps a flat observation ``(..., obs_length)`` to the output ``(..., act_length)``. It normalizes the
        observation if the problem does. For Box, the output is an action, clipped to the space's bounds. For Discrete,
        it is a value for each action, and the action with the highest value is played. For other spaces, it holds the
        outputs from which the problem's ``task.actions`` makes an action.

        Args:
            x: One solution ``(D,)``.
            clip_actions: Whether Box actions are clipped. Default: True.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``x`` is not one solution: it has the wrong shape or contains NaN.
        """
        return self._policy_of(self._to_values(x), clip_actions=check_bool("clip_actions", clip_actions))

    def test(self, x: Solution | ArrayLike | Tensor, *, num_episodes: int = 100, seed: int = 0) -> NDArray[np.float64]:
        """Test a solution on fresh episodes and return their returns. Tests always run on Gymnasium itself.

        Rewards are the environment's own, without bonus, and actions have no noise. Episodes end at the environment's
        own limit: ``episode_length`` shortens only those of the search (and tests if the environment sets no limit).
        Tests draw episode seeds from another random stream than searches. The problem's counters do not change.

        Args:
            x: One solution ``(D,)``.
            num_episodes: Number of episodes. Default: 100.
            seed: Seed of the episodes. Default: 0.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            EvaluationError: An environment raised, or returned a value that is not finite.
            ValueError: ``x`` is not one solution: it has the wrong shape or contains NaN.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        weights = self._weights_of(self._to_values(x))
        task, normalizer = self._task.at_full_length(), self._normalizer()
        return play_tests(task, self.network, weights, num_episodes=count, seed=seed, normalizer=normalizer)

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
            policy: A module such as ``to_policy`` returns, or a solution ``(D,)``.
            visualize: Whether to show a window. Default: False.
            num_episodes: Number of episodes. Default: None, the problem's.
            seed: Seed of the first episode; each later episode adds 1. Default: None, the environment chooses.

        Returns:
            ``cumulative_reward``, the mean over the episodes, and ``interaction_count``, the total number of steps.

        Raises:
            EvaluationError: The environment raised, or returned a value that is not finite or otherwise invalid.
            TypeError: An argument has the wrong type.
            ValueError: ``policy`` is neither a solution nor a module for this task, or a number is out of range.
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
                steps -= 1  # the first reward of an episode is that of the reset
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
        """``run`` with a window. A callable that makes the environment must accept ``render_mode``."""
        return self.run(policy, visualize=True, num_episodes=num_episodes, seed=seed)

    def save_solution(self, solution: Solution | ArrayLike | Tensor, fname: str | Path) -> None:
        """Pickle a solution and its policy, under the keys of ``GymNE.save_solution``.

        The file is written atomically.

        Args:
            solution: One solution ``(D,)``.
            fname: The file to write.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``solution`` is not one solution: it has the wrong shape or contains NaN.
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


def _check_together(network: NetworkLike | None, values: dict[str, Any]) -> None:
    """Check arguments that depend on each other.

    Raises:
        TypeError: ``hidden_sizes`` has the wrong type.
        ValueError: ``network`` and ``hidden_sizes`` are both given, or ``risk_aversion`` is given for one episode.
    """
    hidden_sizes = values["hidden_sizes"]
    if network is not None and hidden_sizes is not None:
        if isinstance(network, FrozenNetwork):
            raise ValueError(f"hidden_sizes: expected None when network is given, got {hidden_sizes!r}")
        raise ValueError(f"network: expected None when hidden_sizes is given, got {network!r}")
    if not isinstance(hidden_sizes, list | tuple | None):
        raise TypeError(f"hidden_sizes: expected a tuple of whole numbers >= 1, got {hidden_sizes!r}")
    if values["risk_aversion"] and values["num_episodes"] == 1:
        raise ValueError(
            f"risk_aversion: expected 0 when num_episodes is 1, got {values['risk_aversion']!r}"
            " (a single return has no spread)"
        )
