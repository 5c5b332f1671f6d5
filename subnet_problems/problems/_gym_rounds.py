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
    """Rounds in which each solution plays ``num_episodes`` episodes, the same for all solutions or its own.

    Args:
        task: The task to play.
        genotype: What decision vectors encode.
        reward_rule: How rewards and actions are modified.
        observation_normalization: See ``GymOptions``.
        num_episodes: See ``GymOptions``.
        risk_aversion: See ``GymOptions``.
        common_random_numbers: See ``GymOptions``.
        **options: See ``Rounds``.
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
        self._synced_stats = self._stats  # in an actor, the statistics last received from the main process
        self._num_episodes = num_episodes
        self._risk_aversion = risk_aversion
        self._common_random_numbers = common_random_numbers
        self._interaction_count = 0
        self._episode_count = 0
        self._local_counts = (0, 0)  # in an actor, the steps and episodes since it last received state
        super().__init__(genotype, **options)

    def _evaluate_share(self, payload: Tensor) -> Episodes | EvaluationError:
        """See ``Rounds``."""
        stats = self._stats
        seeds, noise_seeds = self._episode_seeds(payload)
        try:
            return play(
                self._task,
                self._genotype.network,
                self._genotype.weights_of(payload),
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
            reason = f"expected returns with a finite mean and spread in float64, got {returns[solution].tolist()}"
            raise EvaluationError(solution, episode, int(outcome.lengths[solution, episode]), reason)
        return torch.from_numpy(fitness).to(self.eval_dtype)

    def _count(self, outcome: Episodes) -> None:
        """See ``Rounds``."""
        self.add_counts(int(outcome.lengths.sum()), outcome.lengths.size)
        if self._stats is not None:
            self._stats = self._stats.merged(outcome)

    def add_counts(self, steps: int, episodes: int) -> None:
        """Add to the counters, for example episodes that were played outside of this problem's evaluations.

        Args:
            steps: Number of environment steps.
            episodes: Number of episodes.
        """
        self._interaction_count += steps
        self._episode_count += episodes
        self._local_counts = (self._local_counts[0] + steps, self._local_counts[1] + episodes)

    def _counts(self) -> dict[str, Any]:
        """See ``Rounds``."""
        return {"total_interaction_count": self._interaction_count, "total_episode_count": self._episode_count}

    # State that is sent to actors, and counts that they report

    def _shared_state(self) -> tuple[Any, ...]:
        """See ``Rounds``: observation statistics, maximum episode length, simulator."""
        return self._stats, self.episode_length, self.backend

    def _use_shared_state(self, state: tuple[Any, ...]) -> None:
        """See ``Rounds``."""
        self._stats, episode_length, backend = state
        if (episode_length, backend) != (self.episode_length, self.backend):
            self.episode_length, self.backend = episode_length, backend
        self._synced_stats = self._stats
        self._local_counts = (0, 0)

    def _report(self) -> Any:
        """See ``Rounds``: steps and episodes, and statistics of new observations."""
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

    # Properties of the problem

    @property
    def network(self) -> FrozenNetwork:
        """The network with frozen weights. The dense problem uses only its architecture."""
        return self._genotype.network

    @property
    def task(self) -> GymTask:
        """The environment and its simulator."""
        return self._task

    @property
    def backend(self) -> str:
        """The simulator of evaluations: ``"envpool"`` or ``"gymnasium"``. It may be set between evaluations."""
        return self._task.backend

    @backend.setter
    def backend(self, backend: str) -> None:
        self._task = self._task.at_backend(backend)

    @property
    def episode_length(self) -> int:
        """Maximum steps of an episode. It may be set between evaluations; None means the environment's own limit."""
        return self._task.max_steps

    @episode_length.setter
    def episode_length(self, episode_length: int | None) -> None:
        self._task = self._task.at_length(episode_length)

    @property
    def num_episodes(self) -> int:
        """Number of episodes E that each solution plays in a round."""
        return self._num_episodes

    @property
    def fitness_is_return(self) -> bool:
        """True if fitness is the mean return: rewards and actions are not modified, and ``risk_aversion`` is 0."""
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
        """``(N, E)`` returns of the last evaluation's episodes.

        Raises:
            ValueError: No solution has been evaluated since the problem was made or loaded.
        """
        if self._outcome is None:
            raise ValueError("last_returns: expected a problem that has evaluated solutions, got one that has not")
        returns: NDArray[np.float64] = self._outcome.returns
        return returns

    @property
    def observation_normalization(self) -> bool:
        """True if observations are normalized."""
        return self._stats is not None

    def get_observation_stats(self) -> ObservationStats:
        """The observations' count, mean and standard deviation.

        Raises:
            ValueError: The problem was made without ``observation_normalization=True``.
        """
        if self._stats is None:
            raise ValueError("observation_normalization: expected True for a problem with statistics, got False")
        return self._stats

    def set_observation_stats(self, stats: ObservationStats) -> None:
        """Replace the problem's observation statistics, by another problem's or by earlier ones.

        Args:
            stats: A result of ``get_observation_stats``. Later observations are added to them.

        Raises:
            TypeError: ``stats`` is not ``ObservationStats``.
            ValueError: The statistics are of observations of another length, or the problem was made without
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
