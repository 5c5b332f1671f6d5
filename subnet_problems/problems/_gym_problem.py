"""GymProblem: what the masked and the dense problem share: rounds of episodes, actors, counters, GymNE's methods."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from evotorch import Problem, Solution, SolutionBatch
from evotorch.tools.misc import ensure_ray
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import (
    check_bool,
    check_choice,
    check_count,
    check_mapping,
    check_matrix,
    check_numbers,
    check_real,
    check_seed,
)
from ..networks._frozen_network import FrozenNetwork
from ..networks._philox import episode_seeds
from ..tasks._episodes import Episodes, EvaluationError
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._observation_stats import ObservationStats
from ..tasks._reward_rule import RewardRule
from ..tasks._rollout import play
from ..tasks._torch_threads import one_torch_thread
from ._network_for import NetworkLike, network_for
from ._solutions import SolutionMethods
from ._workers import ACTOR_OPTIONS, Workers, WorkersLostError, unpack_in_actor

#: What an actor is told: the round, the observations' statistics, the length of episodes, the simulator.
_SyncData = tuple[int, ObservationStats | None, int, str]


class GymProblem(SolutionMethods, Problem):
    """Policies for a Gymnasium task as an EvoTorch problem, maximised. Base of the masked and the dense problem.

    Fitness is a pure function of the solution, the seed and the evaluation round: it is the same for any number of
    actors, threads and sub-batches, in any order. Each call of ``evaluate`` is a round. Within it every solution
    plays the same ``num_episodes`` episodes (common random numbers), and the next round has new ones.

    Arguments that ``GymNE`` has mean here what they mean there.

    Args:
        env: A Gymnasium id, or a callable that makes an environment. Observations and actions Box, Discrete,
            MultiDiscrete, MultiBinary, or Dict and Tuple of these (see ``subnet_problems.tasks``).
        network: An EvoTorch network string, an ``nn.Module``, or a callable that returns one, instead of
            ``hidden_sizes``. Or a ``FrozenNetwork``, such as another problem's or a policy's, which is taken as it is:
            its lengths and shapes must be the task's (flat shapes fit all), and the next six arguments, which
            would have no effect on it, are refused.
        hidden_sizes: Sizes of the hidden layers of a fully connected tanh network. Default (64, 64).
        network_args: Keyword arguments for a network that is a callable, or constants for a string.
        bias: Whether the network of ``hidden_sizes`` has biases. Without them it is an odd function (tanh is): its
            outputs at -x are the opposite of those at x, which suits tasks that are the same in a mirror.
        weight_init: How weights are drawn; see ``FrozenNetwork``. Default ``"uniform"``, U(-1, 1); an ``nn.Module``
            keeps the weights it has.
        weight_gain: A factor on the drawn weights.
        network_seed: Seed of the weights.
        env_config: Keyword arguments for the environment's maker.
        observation_normalization: Normalise observations by the mean and standard deviation of all that were acted
            upon in earlier rounds. They are fixed within a round.
        num_episodes: Episodes each solution plays in a round (3 to 10 in the paper).
        episode_length: The most steps of an episode; None leaves it to the environment. Tests play whole episodes. It
            may be changed between evaluations, by ``problem.episode_length = 1600``.
        decrease_rewards_by: Subtracted from each reward.
        alive_bonus_schedule: ``(t, b)`` or ``(t0, t1, b)``: b added to each reward from step t (t1) on, and a growing
            share of it between t0 and t1.
        action_noise_stdev: Standard deviation of Gaussian noise on the policy's outputs.
        risk_aversion: Fitness is the mean of the episodes' returns minus this times their standard deviation: the
            paper's rewards that are "weighted and scored" (section 4.1). Default 0, the mean.
        common_random_numbers: Whether all solutions of a round play the same episodes. Off, the episodes follow from
            the solution itself, so that fitness stays a pure function.
        num_actors: Ray actors that share an evaluation, or ``"max"``, on this machine or on the Ray cluster it belongs
            to. When one is lost its share is evaluated again by another, so that results and counts are what they
            would have been (but not where a search samples in the actors, with ``distributed=True``).
        actor_config: Options of the Ray actors. Default: restarted when lost, spread evenly over machines.
        num_subbatches: Into how many pieces a population is split.
        subbatch_size: Or, how large a piece is.
        seed: Seed of the initial solutions, of the search's own random numbers and of the episodes. None draws one
            (``problem_seed`` tells it).
        backend: ``"auto"``, ``"envpool"`` or ``"gymnasium"``; see ``GymTask``. It may be changed between evaluations,
            by ``problem.backend = "gymnasium"``.
        num_threads: EnvPool's threads for each half of the population; see ``GymTask``.
        device: Where solutions are held and the forward pass runs. A GPU is slower at 100,000 weights, and faster at a
            million; random numbers drawn there are others than those of a processor.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the environment or the network cannot be served.
    """

    _actors: list[Any] | None

    def __init__(
        self,
        env: EnvLike,
        network: NetworkLike | None = None,
        *,
        hidden_sizes: tuple[int, ...] | None = None,
        network_args: Mapping[str, Any] | None = None,
        bias: bool = False,
        weight_init: str | None = None,
        weight_gain: float = 1.0,
        network_seed: int = 0,
        env_config: Mapping[str, Any] | None = None,
        observation_normalization: bool = False,
        num_episodes: int = 1,
        episode_length: int | None = None,
        decrease_rewards_by: float | None = None,
        alive_bonus_schedule: tuple[int, float] | tuple[int, int, float] | None = None,
        action_noise_stdev: float | None = None,
        risk_aversion: float = 0.0,
        common_random_numbers: bool = True,
        num_actors: int | str | None = None,
        actor_config: dict[str, Any] | None = None,
        num_subbatches: int | None = None,
        subbatch_size: int | None = None,
        seed: int | None = None,
        backend: str = "auto",
        num_threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(network, FrozenNetwork) and hidden_sizes is not None:
            raise ValueError(f"hidden_sizes: expected None where network is given, got {hidden_sizes!r}")
        if network is not None and hidden_sizes is not None:
            raise ValueError(f"network: expected None where hidden_sizes is given, got {network!r}")
        if not isinstance(hidden_sizes, list | tuple | None):
            raise TypeError(f"hidden_sizes: expected a tuple of whole numbers >= 1, got {hidden_sizes!r}")
        self._num_episodes = check_count("num_episodes", num_episodes)
        self._rule = RewardRule.checked(decrease_rewards_by, alive_bonus_schedule, action_noise_stdev)
        self._risk_aversion = check_real("risk_aversion", risk_aversion, minimum=0.0)
        if self._risk_aversion and self._num_episodes == 1:
            raise ValueError(
                f"risk_aversion: expected 0 where num_episodes is 1, got {risk_aversion!r}"
                " (a single return has no spread)"
            )
        self._common_random_numbers = check_bool("common_random_numbers", common_random_numbers)
        self._problem_seed = int.from_bytes(os.urandom(6), "little") if seed is None else check_seed("seed", seed)
        normalize = check_bool("observation_normalization", observation_normalization)
        if isinstance(num_actors, str):
            check_choice("num_actors", num_actors, ("max", "num_cpus", "num_gpus", "num_devices"))
        elif num_actors is not None:
            check_count("num_actors", num_actors, minimum=0)
        try:
            torch.empty(0, device=device)
            device = torch.device(device)
        except (AssertionError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"device: expected a torch device that is there, such as 'cpu' or 'cuda', got {device!r}: {error}"
            ) from error
        actor_options = {**ACTOR_OPTIONS, **check_mapping("actor_config", actor_config)}
        pieces = {"num_subbatches": num_subbatches, "subbatch_size": subbatch_size}
        for name, value in pieces.items():
            if value is not None:
                check_count(name, value)
        if None not in pieces.values():
            raise ValueError(f"subbatch_size: expected None where num_subbatches is given, got {subbatch_size!r}")

        self._task = GymTask(
            env, env_config=env_config, episode_length=episode_length, backend=backend, num_threads=num_threads
        )
        self._network = network_for(
            self._task,
            network,
            hidden_sizes=hidden_sizes,
            network_args=network_args,
            bias=bias,
            weight_init=weight_init,
            weight_gain=weight_gain,
            network_seed=network_seed,
        )
        self._stats = ObservationStats(self._task.obs_length) if normalize else None
        self._synced_stats = self._stats  # what the main process knew when it last told an actor
        self._round = 0
        self._interaction_count = 0
        self._episode_count = 0
        self._local_counts = (0, 0)  # what an actor has counted since it last told the main process
        self._workers: Workers | None = None
        self._parcel: Any = None  # of a problem that is being sent to actors
        self._in_evaluate: bool | None = False
        super().__init__(
            objective_sense="max",
            solution_length=self._network.num_weights,
            dtype=torch.float32,
            eval_dtype=torch.float64,  # sums of rewards are kept as they are
            device=device,
            seed=self._problem_seed,
            num_actors=num_actors,
            actor_config=actor_options,
            num_subbatches=num_subbatches,
            subbatch_size=subbatch_size,
        )
        self._status: dict[str, Any] = {}
        self.after_eval_hook.append(self._evaluation_status)
        self.after_grad_hook.append(self._evaluation_status)

    def _express_in_search(self, values: Tensor) -> Tensor:
        """The payload of solutions that are evaluated."""
        return self._express(values)

    def _pack(self, payload: Tensor) -> NDArray[Any]:
        """A payload as what is sent to an actor."""
        return payload.cpu().numpy()

    def _unpack(self, packed: NDArray[Any]) -> Tensor:
        """The payload that was packed."""
        return torch.from_numpy(packed).to(self.device)

    # Evaluation

    def evaluate(self, x: SolutionBatch | Solution) -> None:
        """Evaluate a solution or a batch: one round of episodes.

        Raises:
            EvaluationError: An environment raised, or returned something that is not finite. Nothing was counted.
            ValueError: A solution has a NaN, or an actor cannot make the environment.
            WorkersLostError: All actors were lost and none came back in time, or one share took actor after actor with
                it. Nothing was counted; the next evaluation makes new actors.
        """
        self._in_evaluate = True
        try:
            with one_torch_thread():
                super().evaluate(x)
        finally:
            self._in_evaluate = False

    def _evaluate_all(self, batch: SolutionBatch) -> None:
        payload = self._express_in_search(check_matrix("solutions", batch.values, self.solution_length))
        fitness, _ = self._play_round(payload)
        batch.set_evals(fitness.to(batch.device))

    def evaluate_array(self, values: Tensor | ArrayLike) -> NDArray[np.float64]:
        """Evaluate solutions that come as an array: for searches of other libraries, which ask and tell.

        It is a round of episodes like any other, counted and seeded, and hooks see it.

        Args:
            values: ``(N, D)``, or one solution ``(D,)``.

        Returns:
            ``(N,)`` fitness, the higher the better; ``()`` for one solution.

        Raises:
            EvaluationError: See ``evaluate``.
            TypeError: The values are not real numbers.
            ValueError: The shape is wrong, or a value is NaN.
        """
        matrix = check_numbers("values", values, dtype=self.dtype, device=self.device)
        shape = matrix.shape[:-1]
        if len(shape) not in (0, 1) or matrix.shape[-1:] != (self.solution_length,) or not matrix.numel():
            length = self.solution_length
            raise ValueError(f"values: expected shape (N, D) = (N, {length}) or (D,), got {tuple(matrix.shape)}")
        matrix = check_matrix("values", matrix.reshape(-1, self.solution_length), self.solution_length)
        batch = SolutionBatch(self, popsize=len(matrix), device=self.device, empty=True)
        batch.set_values(matrix)
        self.evaluate(batch)
        fitness: NDArray[np.float64] = batch.evals[:, 0].as_subclass(Tensor).cpu().numpy()
        return fitness.reshape(shape)

    def _play_round(self, payload: Tensor) -> tuple[Tensor, Episodes]:
        """Play one round and count it. The problem changes only once every episode has ended well.

        Args:
            payload: ``(N, D)``: bits for the masked problem, weights for the dense one.

        Returns:
            ``(N,)`` fitness, and the episodes that it was made from.

        Raises:
            EvaluationError: An environment raised, or returned something that is not finite.
        """
        episodes = self._play_all(payload)
        fitness = self._fitness(episodes)
        self._round += 1
        self._add_counts(int(episodes.lengths.sum()), episodes.lengths.size)
        if self._stats is not None:
            self._stats = self._stats.merged(episodes)
        self._status = self._describe(payload)
        return fitness, episodes

    def _describe(self, payload: Tensor) -> dict[str, Any]:
        """What the status says of the solutions that were evaluated."""
        return {}

    def _play_all(self, payload: Tensor) -> Episodes:
        self._parallelize()
        try:
            size = self._share_size(len(payload))
            starts = range(0, len(payload), size)
            shares: list[Episodes | EvaluationError]
            if self._workers is None:
                shares = [self._play_share(payload[i : i + size]) for i in starts]
            else:
                tasks = [[self._pack(payload[i : i + size]), self._make_sync_data()] for i in starts]
                shares = self._workers.map("_play_remote_share", tasks)
        except (ValueError, WorkersLostError):
            self.kill_actors()
            raise
        for start, share in zip(starts, shares, strict=True):
            if isinstance(share, EvaluationError):
                raise EvaluationError(start + share.solution, share.episode, share.step, share.reason) from share
        return Episodes.concatenate([share for share in shares if isinstance(share, Episodes)])

    def _share_size(self, popsize: int) -> int:
        """How many solutions are played together."""
        if self._subbatch_size is not None:
            return int(self._subbatch_size)
        num_shares = self._num_subbatches
        if num_shares is None:
            num_shares = 1 if self._workers is None else self._workers.count() or self._num_actors
        return math.ceil(popsize / int(num_shares))

    def _play_remote_share(self, packed: NDArray[Any], sync_data: _SyncData) -> Episodes | EvaluationError:
        self._use_sync_data_from_main(sync_data)
        return self._play_share(self._unpack(packed))

    def _play_share(self, payload: Tensor) -> Episodes | EvaluationError:
        """Some solutions' episodes of this round. An error is a value, so that it crosses processes."""
        stats = self._stats
        seeds, noise_seeds = self._episode_seeds(payload)
        try:
            return play(
                self._task,
                self._network,
                lambda part: self._weights_of(payload[part]),
                seeds,
                rule=self._rule,
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
            digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in self._pack(payload))
            substreams = [int.from_bytes(digest, "little") for digest in digests]
        count = 2 * self._num_episodes
        rows = [episode_seeds(self._problem_seed, count, stream=self._round, substream=s) for s in substreams]
        seeds = np.broadcast_to(np.stack(rows), (len(payload), count))
        return np.ascontiguousarray(seeds[:, 0::2]), np.ascontiguousarray(seeds[:, 1::2])

    def _fitness(self, episodes: Episodes) -> Tensor:
        returns = episodes.returns
        with np.errstate(over="ignore", invalid="ignore"):
            fitness = returns.mean(axis=1)
            if self._risk_aversion:
                fitness -= self._risk_aversion * returns.std(axis=1)
        if not np.isfinite(fitness).all():
            solution = int(np.argmin(np.isfinite(fitness)))
            episode = int(np.abs(returns[solution]).argmax())
            reason = f"expected returns of which float64 holds mean and spread, got {returns[solution].tolist()}"
            raise EvaluationError(solution, episode, int(episodes.lengths[solution, episode]), reason)
        return torch.from_numpy(fitness).to(self.eval_dtype)

    def _add_counts(self, steps: int, episodes: int) -> None:
        self._interaction_count += steps
        self._episode_count += episodes
        self._local_counts = (self._local_counts[0] + steps, self._local_counts[1] + episodes)

    def as_tensor(self, x: Any, dtype: Any = None, device: Any = None, use_eval_dtype: bool = False) -> Tensor:
        """What EvoTorch's method gives. Its ``MAPElites`` asks it for the grid of features, ``(N, F, 2)``.

        Raises:
            ValueError: Solutions do not have the grid's features: this package's problems have none.
        """
        tensor: Tensor = super().as_tensor(x, dtype, device, use_eval_dtype)
        if use_eval_dtype and tensor.ndim == 3 and tensor.shape[1] != self.eval_data_length:
            raise ValueError(
                f"problem: expected one whose solutions have as many features as feature_grid, {tensor.shape[1]}, got "
                f"{type(self).__name__}, whose solutions have {self.eval_data_length}: MAPElites cannot search it"
            )
        return tensor

    def _evaluation_status(self, *_: Any) -> dict[str, Any]:
        counts = {"total_interaction_count": self._interaction_count, "total_episode_count": self._episode_count}
        return {**counts, **self._status}

    # What EvoTorch asks of a problem that lives in several processes. Actors keep nothing: with each share, or, where a
    # search samples in them (``distributed=True``), before each generation, they are told all that may change; and in
    # the latter case they tell what they counted.

    def seed(self, seed: int) -> None:
        """Seed the generator: EvoTorch calls this in each actor."""
        self.manual_seed(seed)

    def _parallelize(self) -> None:
        """Make the actors. EvoTorch draws their seeds from the problem's generator, which must not move by that."""
        if self._actors is not None or self._num_actors == 0 or self.is_remote:
            return
        ensure_ray()
        state, parcel = self.generator.get_state(), ray.put(self)
        self._parcel = parcel
        try:
            super()._parallelize()
        finally:
            self._parcel = None
            self.generator.set_state(state)
        self._workers = Workers(self._actors or [], parcel=parcel)

    def kill_actors(self) -> None:
        """Kill the actors, if there are any; the next evaluation makes new ones."""
        if self._actors is not None:
            super().kill_actors()
        self._workers = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Actors are made of a reference: what Ray itself puts into its store it drops, and then restarts none."""
        return super().__reduce_ex__(protocol) if self._parcel is None else (unpack_in_actor, (self._parcel, sys.path))

    @property
    def _ready(self) -> bool:
        """What an actor answers to show that it can play."""
        self._task.make_env().close()
        return True

    def _get_cloned_state(self, *, memo: dict[int, Any]) -> dict[str, Any]:
        """What is copied and pickled: nothing that EvoTorch would ask of actors, some of which may be lost."""
        actors, self._actors = self._actors, None
        try:
            return dict(super()._get_cloned_state(memo=memo))
        finally:
            self._actors = actors

    @property
    def _nonserialized_attribs(self) -> list[str]:
        return ["_workers", "_parcel", "_in_evaluate"]

    def _make_sync_data(self) -> _SyncData:
        return self._round, self._stats, self.episode_length, self.backend

    def _make_sync_data_for_actors(self) -> Any:
        return NotImplemented if self._in_evaluate else self._make_sync_data()

    def _use_sync_data_from_main(self, received: _SyncData) -> None:
        self._round, self._stats, episode_length, backend = received
        if (episode_length, backend) != (self.episode_length, self.backend):
            self.episode_length, self.backend = episode_length, backend
        self._synced_stats = self._stats
        self._local_counts = (0, 0)

    def _make_sync_data_for_main(self) -> Any:
        if self._stats is None or self._synced_stats is None:
            return self._local_counts, self._round, None
        return self._local_counts, self._round, self._stats - self._synced_stats

    def _use_sync_data_from_actors(self, received: list[Any]) -> None:
        for (steps, episodes), round_, new_stats in received:
            self._add_counts(steps, episodes)
            self._round = max(self._round, round_)
            if self._stats is not None:
                self._stats = self._stats + new_stats

    def _get_local_interaction_count(self) -> int:
        return self._interaction_count

    def _get_local_episode_count(self) -> int:
        return self._episode_count

    # What is known of the problem

    @property
    def network(self) -> FrozenNetwork:
        """The network whose weights are frozen (its architecture alone, for the dense problem)."""
        return self._network

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
    def problem_seed(self) -> int:
        """The seed of everything random but the frozen weights."""
        return self._problem_seed

    @property
    def evaluation_round(self) -> int:
        """How many rounds of episodes have been played; the number of the next one."""
        return self._round

    @property
    def num_episodes(self) -> int:
        """E, how many episodes each solution plays in a round."""
        return self._num_episodes

    @property
    def fitness_is_return(self) -> bool:
        """Whether fitness is the mean return of the episodes, with nothing added to rewards or subtracted."""
        return self._rule == RewardRule() and self._risk_aversion == 0.0

    @property
    def interaction_count(self) -> int:
        """Environment steps of all evaluations, in all processes."""
        return self._interaction_count

    @property
    def episode_count(self) -> int:
        """Episodes of all evaluations, in all processes."""
        return self._episode_count

    @property
    def observation_normalization(self) -> bool:
        """Whether observations are normalised."""
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
