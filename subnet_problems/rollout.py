"""Playing a population: all episodes of all solutions together, in lockstep, those that ended dropped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._kernel import all_finite, settle
from ._philox import episode_seeds
from .networks import FrozenNetwork
from .policies import PopulationPolicy
from .reward_rule import RewardRule
from .simulators import Simulator, SimulatorError
from .task import GymTask

FloatArray = NDArray[np.float32]

#: How many weights are decoded at a time (or those of one solution).
_CHUNK = 2**18
#: How many steps of action noise are drawn at a time.
_NOISE_BLOCK = 64
#: The stream of test episodes: no evaluation round ever has this number.
_TEST_STREAM = 2**64 - 1


class EvaluationError(RuntimeError):
    """An evaluation that could not be finished; nothing of it was counted.

    Attributes:
        solution: Index of the solution in the population.
        episode: Index of its episode.
        step: The step at which it went wrong, from 1; 0 is the reset.
    """

    def __init__(self, solution: int, episode: int, step: int, reason: str) -> None:
        super().__init__(f"solution {solution}, episode {episode}, step {step}: {reason}")
        self.solution, self.episode, self.step, self.reason = solution, episode, step, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.solution, self.episode, self.step, self.reason)


class Episodes(NamedTuple):
    """What N solutions did in E episodes each.

    Attributes:
        returns: ``(N, E)`` float64, the sum of an episode's rewards.
        lengths: ``(N, E)`` int64, its steps.
        obs_sum: ``(N, E, obs_length)`` float64, the sum of the observations the policy acted upon, or None.
        obs_sum_of_squares: Likewise, of their squares.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    obs_sum: NDArray[np.float64] | None
    obs_sum_of_squares: NDArray[np.float64] | None

    @classmethod
    def concatenate(cls, shares: Sequence[Episodes]) -> Episodes:
        """The episodes of several shares of a population, in order."""
        merged: list[Any] = [None if p[0] is None else np.concatenate(p) for p in zip(*shares, strict=True)]
        return cls(*merged)


@dataclass(frozen=True)
class Normalizer:
    """Observations to ``(obs - mean) * scale``.

    Attributes:
        mean: ``(obs_length,)`` float32.
        scale: ``(obs_length,)`` float32, 1 / standard deviation.

    Raises:
        TypeError: One is not a float32 array.
        ValueError: One is not of this shape, or not finite.
    """

    mean: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if not isinstance(values, np.ndarray) or values.dtype != np.float32:
                raise TypeError(f"{name}: expected a float32 array of shape (obs_length,), got {values!r}")
            if values.ndim != 1 or values.shape != self.mean.shape or not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite numbers of shape (obs_length,), got {values!r}")


def play(
    task: GymTask,
    network: FrozenNetwork,
    weights_of: Callable[[slice], Tensor],
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
        task: What is played.
        network: The architecture.
        weights_of: Gives the weights ``(n, D)`` of a slice of the solutions.
        seeds: ``(N, E)`` the episodes' seeds.
        rule: What is done to rewards and actions. Default nothing.
        noise_seeds: ``(N, E)`` seeds of the action noise; needed with ``action_noise_stdev``.
        normalizer: Applied to the observations.
        collect_obs: Whether the observations' sums are collected.
        device: Where the forward pass runs.
        backend: Another simulator than the task's own.

    Raises:
        EvaluationError: An environment raised, or returned a NaN or infinite observation or reward.
    """
    rule = rule or RewardRule()
    popsize, num_episodes = seeds.shape
    # Simulators that step in the background serve two halves of the population in turn: while one half is stepped,
    # the actions of the other are computed.
    num_parts = min(popsize, task.turns(backend))
    bounds = [popsize * i // num_parts for i in range(num_parts + 1)]
    chunk = max(1, _CHUNK // network.num_weights)
    simulators: list[Simulator] = []
    parts: list[_Part] = []
    with one_torch_thread(), ExitStack() as stack:
        for start, stop in pairwise(bounds):  # environments reset in the background while weights are decoded
            simulators.append(task.simulator(seeds[start:stop].reshape(-1), backend=backend))
            stack.callback(simulators[-1].close)
        for (start, stop), simulator in zip(pairwise(bounds), simulators, strict=True):
            chunks = (weights_of(slice(i, min(i + chunk, stop))) for i in range(start, stop, chunk))
            part = _Part(
                simulator,
                network.population(chunks, popsize=stop - start, num_episodes=num_episodes, device=device),
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
        for part in parts:
            part.begin()
        live = parts
        while live:
            live = [part for part in live if part.advance()]
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
    """Returns ``(num_episodes,)`` of fresh episodes with one network's weights ``(1, D)``, always on Gymnasium.

    Their seeds come from another stream than those of evaluation rounds, even of a search with the same seed.
    """
    seeds = episode_seeds(seed, num_episodes, stream=_TEST_STREAM)
    episodes = play(
        task, network, lambda part: weights[part].cpu(), seeds[None], normalizer=normalizer, backend="gymnasium"
    )
    returns: NDArray[np.float64] = episodes.returns[0]
    return returns


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on one thread, in the calling thread of Python; other threads keep their numbers.

    Its idle threads spin for about 8 ms after every parallel operation, on processors that the simulator needs; and
    with one thread alone no operation is split, so that its bits do not depend on how many processors there are.

    It may be nested and used by several threads of Python at once. At its end the calling thread has the number that it
    had at the beginning, whatever was set in between; new threads begin with this number, too, as after any call of
    ``torch.set_num_threads``.
    """
    with _torch_lock:
        number = torch.get_num_threads()
    try:
        if number > 1:
            _set_to_one(number)
        yield
    finally:
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)


def _set_to_one(number: int) -> None:
    """One thread of PyTorch for the calling thread of Python, and still ``number`` for those that begin now.

    Each thread of Python has a number of its own. It begins with the one that any thread has set last, and keeps it: a
    thread that began now would keep our 1 for good. So another thread sets the old number at once.
    """
    with _torch_lock:
        torch.set_num_threads(1)
        if threading.active_count() == 1:  # no other thread is there to begin a new one
            return
        setter = threading.Thread(target=torch.set_num_threads, args=(number,), daemon=True)
        with suppress(RuntimeError):  # no thread can be started: new ones begin with 1 until the end
            setter.start()
            setter.join()
        if torch.get_num_threads() > 1:  # a build of PyTorch, not from PyPI, with one number for the whole process
            torch.set_num_threads(1)


#: Held while new threads would begin with 1; and during a fork, or the child could never take it.
_torch_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_torch_lock.acquire, after_in_parent=_torch_lock.release, after_in_child=_torch_lock.release
    )


class _Part:
    """Some solutions of a population, in a simulator of their own. All their live episodes are at the same step."""

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
        """End the step that was begun and begin the next; False when no episode is left."""
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
        """What was played.

        Raises:
            EvaluationError: A sum of rewards is beyond float64.
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
    """Gaussian noise for each output, episode and step; equal seeds share their noise."""

    def __init__(self, seeds: NDArray[np.int64], stdev: float, length: int) -> None:
        distinct, self._stream_of_row = np.unique(seeds, return_inverse=True)
        self._generators = [np.random.Generator(np.random.Philox(key=int(seed))) for seed in distinct]
        self._stdev = np.float32(stdev)
        self._block = np.empty((len(distinct), _NOISE_BLOCK, length), dtype=np.float32)

    def __call__(self, rows: NDArray[np.int32], step: int) -> FloatArray:
        """``(n, length)`` for the episodes ``rows`` at a step; steps come in order, from 0."""
        if step % _NOISE_BLOCK == 0:
            for generator, out in zip(self._generators, self._block, strict=True):
                generator.standard_normal(out=out, dtype=np.float32)
        return np.asarray(self._block[self._stream_of_row[rows], step % _NOISE_BLOCK] * self._stdev)
