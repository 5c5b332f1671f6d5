"""Play a population: all episodes of all solutions in lockstep, without those that have ended."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._torch_threads import one_torch_thread
from ..networks._frozen_network import FrozenNetwork
from ..networks._philox import episode_seeds
from ..networks._weights import PopulationWeights
from ..networks.forward._way import PopulationPolicy
from ._episodes import Episodes, EvaluationError
from ._gym_task import GymTask
from ._observation_stats import Normalizer
from ._reward_rule import RewardRule
from ._step_kernel import all_finite, settle
from ._turns import play_out
from .simulators._simulator import Simulator, SimulatorError

FloatArray = NDArray[np.float32]

#: The number of steps of action noise that are drawn at a time.
_NOISE_BLOCK = 64
#: The random stream of test episodes. No evaluation round has this number.
_TEST_STREAM = 2**64 - 1


def play(
    task: GymTask,
    network: FrozenNetwork,
    weights: PopulationWeights | Tensor,
    seeds: NDArray[np.int64],
    *,
    rule: RewardRule | None = None,
    noise_seeds: NDArray[np.int64] | None = None,
    normalizer: Normalizer | None = None,
    collect_obs: bool = False,
    device: torch.device | str = "cpu",
    backend: str | None = None,
) -> Episodes:
    """Play E episodes with each of N solutions.

    Args:
        task: The task to play.
        network: The architecture.
        weights: The weights of the solutions; or a tensor ``(N, D)``.
        seeds: ``(N, E)`` seeds of the episodes.
        rule: Changes of rewards and actions. Default: None, no changes.
        noise_seeds: ``(N, E)`` seeds of the action noise; needed with ``action_noise_stdev``.
        normalizer: Observation normalization. Default: None.
        collect_obs: True collects the sums of the observations and of their squares. Default: False.
        device: Device of the forward pass. Default: the CPU.
        backend: The simulator. Default: None, that of the task.

    Raises:
        EvaluationError: An environment raised, or returned a NaN or infinite observation or reward.
    """
    rule = rule or RewardRule()
    popsize, num_episodes = seeds.shape
    # With a simulator that steps in the background, two halves of the population are played at the same time: while one
    # half is stepped, the actions of the other are computed.
    num_parts = min(popsize, task.num_parts(backend))
    bounds = [popsize * i // num_parts for i in range(num_parts + 1)]
    simulators: list[Simulator] = []
    parts: list[_Part] = []
    with one_torch_thread(), ExitStack() as stack:
        for start, stop in pairwise(bounds):  # environments reset in the background while weights are decoded
            simulators.append(task.simulator(seeds[start:stop].reshape(-1), backend=backend))
            stack.callback(simulators[-1].close)
        for (start, stop), simulator in zip(pairwise(bounds), simulators, strict=True):
            part = _Part(
                simulator,
                network.population(weights[start:stop], num_episodes=num_episodes, device=device),
                task,
                first_solution=start,
                shape=(stop - start, num_episodes),
                rule=rule,
                normalizer=normalizer,
                collect_obs=collect_obs,
            )
            parts.append(part)
            if rule.action_noise_stdev is not None:
                assert noise_seeds is not None
                part.noise = _Noise(noise_seeds[start:stop].reshape(-1), rule.action_noise_stdev, task.actions.length)
        play_out(parts)
    return Episodes.concatenate([part.episodes() for part in parts])


def play_tests(
    task: GymTask,
    network: FrozenNetwork,
    weights: Tensor,
    *,
    num_episodes: int,
    seed: int,
    normalizer: Normalizer | None = None,
) -> NDArray[np.float64]:
    """Play new episodes with the weights ``(1, D)`` of one network, always on Gymnasium.

    The seeds come from another random stream than those of evaluation rounds, even with the same ``seed``.

    Returns:
        ``(num_episodes,)`` returns of the episodes.
    """
    seeds = episode_seeds(seed, num_episodes, stream=_TEST_STREAM)
    episodes = play(task, network, weights.cpu(), seeds[None], normalizer=normalizer, backend="gymnasium")
    returns: NDArray[np.float64] = episodes.returns[0]
    return returns


class _Part:
    """A part of a population, in its own simulator. All live episodes of a part are at the same step."""

    def __init__(
        self,
        simulator: Simulator,
        policy: PopulationPolicy,
        task: GymTask,
        *,
        first_solution: int,
        shape: tuple[int, int],
        rule: RewardRule,
        normalizer: Normalizer | None,
        collect_obs: bool,
    ) -> None:
        num_rows = shape[0] * shape[1]
        self.simulator = simulator
        self.shape = shape
        self.noise: _Noise | None = None
        self.returns = np.zeros(num_rows, dtype=np.float64)
        self.lengths = np.zeros(num_rows, dtype=np.int64)
        self.obs_sum = np.zeros((num_rows if collect_obs else 0, task.obs_length), dtype=np.float64)
        self.obs_sum_of_squares = np.zeros_like(self.obs_sum)
        self._policy = policy
        self._actions = task.actions
        self._max_steps = task.max_steps
        self._first_solution = first_solution
        self._rule = rule
        self._normalizer = normalizer
        self._collect_obs = collect_obs
        self._rows = np.arange(num_rows, dtype=np.int32)
        self._step = 0

    def begin(self) -> None:
        """Reset all episodes and begin their first step."""
        try:
            obs = self.simulator.reset()
        except SimulatorError as error:
            raise self._error(error.row, str(error)) from error
        self._check_finite("observation", obs)
        self._act(obs)

    def advance(self) -> bool:
        """End the current step and begin the next one. Return False when no episode is left."""
        self._step += 1
        try:
            obs, rewards, ended = self.simulator.recv()
        except SimulatorError as error:
            raise self._error(error.row, str(error)) from error
        last, bonus = self._step == self._max_steps, self._rule.bonus(self._step)
        live_rows, live_obs = np.empty_like(self._rows), np.empty_like(obs)
        count = settle(
            self._step, last, bonus, self._rows, obs, rewards, ended, self.returns, self.lengths, live_rows, live_obs
        )
        if count < 0:
            self._check_finite("reward", rewards)
            self._check_finite("observation", obs)
        self._rows = live_rows[:count]
        if count:
            self._act(live_obs[:count])
        return bool(count > 0)

    def episodes(self) -> Episodes:
        """Return the results of the episodes.

        Raises:
            EvaluationError: A sum of rewards is too large for float64.
        """
        if not np.isfinite(self.returns).all():
            row = int(np.argmin(np.isfinite(self.returns)))
            self._step = int(self.lengths[row])
            raise self._error(row, f"expected a sum of rewards that float64 can hold, got {self.returns[row]}")
        sums = (self.obs_sum, self.obs_sum_of_squares) if self._collect_obs else (None, None)
        return Episodes(
            self.returns.reshape(self.shape),
            self.lengths.reshape(self.shape),
            *(None if values is None else values.reshape(*self.shape, -1) for values in sums),
        )

    def _act(self, obs: FloatArray) -> None:
        rows = self._rows
        if self._collect_obs:
            wide = obs.astype(np.float64)
            self.obs_sum[rows] += wide
            self.obs_sum_of_squares[rows] += wide * wide
        if self._normalizer is not None:
            obs = (obs - self._normalizer.mean) * self._normalizer.scale
        outputs = self._policy.act(rows, obs)
        if self.noise is not None:
            outputs += self.noise(rows, self._step)
        self._check_finite("output of the policy", outputs)
        self.simulator.send(rows, self._actions(outputs))

    def _check_finite(self, what: str, values: NDArray[Any]) -> None:
        matrix = values.reshape(len(values), -1)
        if not all_finite(matrix):
            row = int(np.argmin(np.isfinite(matrix).all(axis=1)))
            raise self._error(int(self._rows[row]), f"expected a finite {what}, got {values[row]}")

    def _error(self, row: int, reason: str) -> EvaluationError:
        solution, episode = divmod(row, self.shape[1])
        return EvaluationError(self._first_solution + solution, episode, self._step, reason)


class _Noise:
    """Gaussian noise for each output, episode and step. Equal seeds give equal noise."""

    def __init__(self, seeds: NDArray[np.int64], stdev: float, length: int) -> None:
        distinct, self._stream_of_row = np.unique(seeds, return_inverse=True)
        self._generators = [np.random.Generator(np.random.Philox(key=int(seed))) for seed in distinct]
        self._stdev = np.float32(stdev)
        self._block = np.empty((len(distinct), _NOISE_BLOCK, length), dtype=np.float32)

    def __call__(self, rows: NDArray[np.int32], step: int) -> FloatArray:
        """Return noise ``(n, length)`` for the episodes ``rows``. ``step`` must rise by 1 from call to call, from 0."""
        if step % _NOISE_BLOCK == 0:
            for generator, out in zip(self._generators, self._block, strict=True):
                generator.standard_normal(out=out, dtype=np.float32)
        return np.asarray(self._block[self._stream_of_row[rows], step % _NOISE_BLOCK] * self._stdev)
