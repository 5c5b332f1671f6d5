"""GymRounds: rounds of episodes of a Gymnasium task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..networks._frozen_network import FrozenNetwork
from ..networks._philox import episode_seeds
from ..tasks._episodes import Episodes, EvaluationError
from ..tasks._gym_task import GymTask
from ..tasks._observation_stats import ObservationStats
from ..tasks._reward_rule import RewardRule
from ..tasks._rollout import play
from ._genotypes import Genotype
from ._rounds import Rounds


class GymRounds(Rounds):
    """In a round all solutions play the same ``num_episodes`` episodes, or each plays episodes of its own.

    Args:
        task: What is played.
        genotype: What decision vectors stand for.
        reward_rule: What is done to rewards and actions.
        observation_normalization: See ``GymProblem``, as for all arguments not named here.
        num_episodes: Likewise.
        risk_aversion: Likewise.
        common_random_numbers: Likewise.
        **options: What ``Rounds`` takes.
    """

    def __init__(
        self,
        task: GymTask,
        genotype: Genotype,
        *,
        reward_rule: RewardRule,
        observation_normalization: bool,
        num_episodes: int,
        risk_aversion: float,
        common_random_numbers: bool,
        **options: Any,
    ) -> None:
        self._task = task
        self._reward_rule = reward_rule
        self._stats = ObservationStats(task.obs_length) if observation_normalization else None
        self._synced_stats = self._stats  # what the main process knew when it last told an actor
        self._num_episodes = num_episodes
        self._risk_aversion = risk_aversion
        self._common_random_numbers = common_random_numbers
        self._interaction_count = 0
        self._episode_count = 0
        self._local_counts = (0, 0)  # what an actor has counted since it last reported
        super().__init__(genotype, **options)

    def _evaluate_share(self, payload: Tensor) -> Episodes | EvaluationError:
        """See ``Rounds``."""
        stats = self._stats
        seeds, noise_seeds = self._episode_seeds(payload)
        try:
            return play(
                self._task,
                self._genotype.network,
                lambda part: self._genotype.weights_of(payload[part]),
                seeds,
                rule=self._reward_rule,
                noise_seeds=noise_seeds,
                normalizer=None if stats is None else stats.normalizer(),
                collect_obs=stats is not None,
                device=self.device,
            )
        except EvaluationError as error:
            return error

    def _episode_seeds(self, payload: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Seeds of this round's episodes and of their noise, both ``(N, E)``."""
        if self._common_random_numbers:
            substreams = [0]
        else:
            digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in self._genotype.pack(payload))
            substreams = [int.from_bytes(digest, "little") for digest in digests]
        count = 2 * self._num_episodes
        rows = [episode_seeds(self._problem_seed, count, stream=self._round, substream=s) for s in substreams]
        seeds = np.broadcast_to(np.stack(rows), (len(payload), count))
        return np.ascontiguousarray(seeds[:, 0::2]), np.ascontiguousarray(seeds[:, 1::2])

    def _merged(self, shares: Sequence[Episodes]) -> Episodes:
        """See ``Rounds``."""
        return Episodes.concatenate(shares)

    def _fitness_of(self, outcome: Episodes) -> Tensor:
        """See ``Rounds``."""
        returns = outcome.returns
        with np.errstate(over="ignore", invalid="ignore"):
            fitness = returns.mean(axis=1)
            if self._risk_aversion:
                fitness -= self._risk_aversion * returns.std(axis=1)
        if not np.isfinite(fitness).all():
            solution = int(np.argmin(np.isfinite(fitness)))
            episode = int(np.abs(returns[solution]).argmax())
            reason = f"expected returns of which float64 holds mean and spread, got {returns[solution].tolist()}"
            raise EvaluationError(solution, episode, int(outcome.lengths[solution, episode]), reason)
        return torch.from_numpy(fitness).to(self.eval_dtype)

    def _count(self, outcome: Episodes) -> None:
        """See ``Rounds``."""
        self.add_counts(int(outcome.lengths.sum()), outcome.lengths.size)
        if self._stats is not None:
            self._stats = self._stats.merged(outcome)

    def add_counts(self, steps: int, episodes: int) -> None:
        """Count episodes, also those that were played for this problem outside of its evaluations.

        Args:
            steps: Their environment steps.
            episodes: How many they are.
        """
        self._interaction_count += steps
        self._episode_count += episodes
        self._local_counts = (self._local_counts[0] + steps, self._local_counts[1] + episodes)

    def _counts(self) -> dict[str, Any]:
        """See ``Rounds``."""
        return {"total_interaction_count": self._interaction_count, "total_episode_count": self._episode_count}

    # What actors are told, and what they report

    def _told(self) -> tuple[Any, ...]:
        """See ``Rounds``: the observations' statistics, the length of episodes, the simulator."""
        return self._stats, self.episode_length, self.backend

    def _use_told(self, told: tuple[Any, ...]) -> None:
        """See ``Rounds``."""
        self._stats, episode_length, backend = told
        if (episode_length, backend) != (self.episode_length, self.backend):
            self.episode_length, self.backend = episode_length, backend
        self._synced_stats = self._stats
        self._local_counts = (0, 0)

    def _report(self) -> Any:
        """See ``Rounds``: counts, and statistics of new observations."""
        if self._stats is None or self._synced_stats is None:
            return self._local_counts, None
        return self._local_counts, self._stats - self._synced_stats

    def _use_report(self, report: Any) -> None:
        """See ``Rounds``."""
        (steps, episodes), new_stats = report
        self.add_counts(steps, episodes)
        if self._stats is not None:
            self._stats = self._stats + new_stats

    def _get_local_interaction_count(self) -> int:
        return self._interaction_count

    def _get_local_episode_count(self) -> int:
        return self._episode_count

    @property
    def _ready(self) -> bool:
        """See ``Rounds``."""
        self._task.make_env().close()
        return True

    # What is known of the problem

    @property
    def network(self) -> FrozenNetwork:
        """The network whose weights are frozen (its architecture alone, for the dense problem)."""
        return self._genotype.network

    @property
    def task(self) -> GymTask:
        """The environment and its simulator."""
        return self._task

    @property
    def backend(self) -> str:
        """The simulator that evaluates: ``"envpool"`` or ``"gymnasium"``. It may be set between evaluations."""
        return self._task.backend

    @backend.setter
    def backend(self, backend: str) -> None:
        self._task = self._task.at_backend(backend)

    @property
    def episode_length(self) -> int:
        """The most steps of an episode. It may be set between evaluations; None leaves it to the environment."""
        return self._task.max_steps

    @episode_length.setter
    def episode_length(self, episode_length: int | None) -> None:
        self._task = self._task.at_length(episode_length)

    @property
    def num_episodes(self) -> int:
        """E, how many episodes each solution plays in a round."""
        return self._num_episodes

    @property
    def fitness_is_return(self) -> bool:
        """Whether fitness is the mean return of the episodes, with nothing added to rewards or subtracted."""
        return self._reward_rule == RewardRule() and self._risk_aversion == 0.0

    @property
    def interaction_count(self) -> int:
        """Environment steps of all evaluations, in all processes."""
        return self._interaction_count

    @property
    def episode_count(self) -> int:
        """Episodes of all evaluations, in all processes."""
        return self._episode_count

    @property
    def last_returns(self) -> NDArray[np.float64]:
        """``(N, E)`` returns of the episodes that the last evaluation's fitness was made from.

        Raises:
            ValueError: Nothing has been evaluated since the problem was made or loaded.
        """
        if self._outcome is None:
            raise ValueError("last_returns: expected a problem that has evaluated solutions, got one that has not")
        returns: NDArray[np.float64] = self._outcome.returns
        return returns

    @property
    def observation_normalization(self) -> bool:
        """Whether observations are normalized."""
        return self._stats is not None

    def get_observation_stats(self) -> ObservationStats:
        """The observations' count, mean and standard deviation.

        Raises:
            ValueError: The problem was made without ``observation_normalization=True``.
        """
        if self._stats is None:
            raise ValueError("observation_normalization: expected True for a problem that has statistics, got False")
        return self._stats

    def set_observation_stats(self, stats: ObservationStats) -> None:
        """Put other statistics in the place of the problem's: another problem's, or those of an earlier time.

        Args:
            stats: What ``get_observation_stats`` gave. Observations to come are added to them.

        Raises:
            TypeError: ``stats`` is something else.
            ValueError: They are of observations of another length, or the problem was made without
                ``observation_normalization=True``.
        """
        if not isinstance(stats, ObservationStats):
            raise TypeError(f"stats: expected ObservationStats, got {stats!r}")
        expected = len(self.get_observation_stats().sum)
        if len(stats.sum) != expected:
            raise ValueError(f"stats: expected those of observations of length {expected}, got {len(stats.sum)}")
        self._stats = stats

    def get_env(self) -> gym.Env[Any, Any]:
        """A new environment of this task."""
        return self._task.make_env()
