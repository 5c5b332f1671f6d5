"""The two simulators have the same interface and, as far as EnvPool reproduces them, the same tasks."""

from contextlib import nullcontext

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import OddSpaces
from scipy.stats import ks_2samp

from subnet_problems import EvaluationError, FrozenNetwork
from subnet_problems.networks._philox import episode_seeds
from subnet_problems.tasks import GymTask
from subnet_problems.tasks._rollout import play
from subnet_problems.tasks.simulators._envpool import EnvPoolSimulator
from subnet_problems.tasks.simulators._simulator import SimulatorError

BOTH = pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
SEEDS = np.array([11, 12, 11, 13])


def rows_of(*rows):
    return np.array(rows, dtype=np.int32)


def random_actions(task, steps, episodes):
    rng = np.random.default_rng(0)
    return [task.actions(rng.normal(0, 2, (episodes, task.actions.length)).astype(np.float32)) for _ in range(steps)]


@BOTH
@pytest.mark.parametrize("env", ["CartPole-v1", "BipedalWalker-v3"])
def test_equal_seeds_start_equally_and_different_seeds_differently(env, backend):
    task = GymTask(env, backend=backend)
    simulator = task.simulator(SEEDS)
    obs = simulator.reset()
    simulator.close()
    assert obs.shape == (4, task.obs_length)
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs[0], obs[2])
    assert len({row.tobytes() for row in obs}) == 3


@BOTH
def test_stepping_some_rows_returns_them_in_order_and_does_not_affect_others(backend):
    task = GymTask("LunarLander-v3", env_config={"continuous": True}, backend=backend)
    actions = random_actions(task, 20, 4)

    def trajectory(*rows):
        """Results of the episodes ``rows`` if only they are stepped."""
        simulator, rows, seen = task.simulator(SEEDS), rows_of(*rows), []
        simulator.reset()
        for step in range(20):
            simulator.send(rows, actions[step][rows])
            obs, rewards, ended = simulator.recv()
            assert (obs.shape, rewards.shape, ended.shape) == ((len(rows), 8), (len(rows),), (len(rows),))
            seen.append(np.column_stack([obs, rewards, ended]))
        simulator.close()
        return np.array(seen)

    everything = trajectory(0, 1, 2, 3)
    np.testing.assert_array_equal(trajectory(1, 3), everything[:, [1, 3]])
    np.testing.assert_array_equal(trajectory(2), everything[:, [2]])


@BOTH
def test_an_episode_ends_when_the_environment_says_so(backend):
    task = GymTask("CartPole-v1", backend=backend)
    simulator, env = task.simulator(SEEDS), gym.make("CartPole-v1")
    env.reset()
    env.unwrapped.state = simulator.reset()[1].astype(np.float64)
    for _ in range(100):
        simulator.send(rows_of(1), np.array([1]))
        ended = simulator.recv()[2]
        assert ended[0] == env.step(1)[2]
        if ended[0]:
            break
    simulator.close()
    assert ended[0]


def test_envpool_results_do_not_depend_on_the_number_of_threads():
    results = []
    for num_threads in (1, 2, 3):
        task = GymTask("LunarLander-v3", num_threads=num_threads)
        network = FrozenNetwork((5,), obs_length=8, act_length=4)
        weights = torch.randn((6, network.num_weights), generator=torch.Generator().manual_seed(1))
        results.append(play(task, network, weights, np.arange(18).reshape(6, 3)))
    for other in results[1:]:
        np.testing.assert_array_equal(other.returns, results[0].returns)
        np.testing.assert_array_equal(other.lengths, results[0].lengths)


@pytest.mark.parametrize(
    ("rows", "actions"),
    [
        (rows_of(0, 1), np.zeros((1, 2), np.float32)),
        (rows_of(0), np.zeros((2, 2), np.float32)),
        (rows_of(), np.zeros((0, 2), np.float32)),
        (rows_of(4), np.zeros((1, 2), np.float32)),
        (rows_of(-1), np.zeros((1, 2), np.float32)),
        (rows_of(1, 0), np.zeros((2, 2), np.float32)),
        (rows_of(1, 1), np.zeros((2, 2), np.float32)),
        (np.array([0]), np.zeros((1, 2), np.float32)),
        (rows_of(0), np.zeros((1, 3), np.float32)),
        (rows_of(0), np.zeros(1, np.float32)),
        (rows_of(0), np.array([[0.0, np.nan]], np.float32)),
        (rows_of(0), np.array([[np.inf, np.nan]], np.float32)),
    ],
)
def test_inputs_that_would_crash_envpool_are_refused(rows, actions):
    task = GymTask("LunarLander-v3", env_config={"continuous": True}, backend="envpool")
    simulator = task.simulator(SEEDS)
    simulator.reset()
    with pytest.raises(ValueError, match="EnvPool might crash on"):
        simulator.send(rows, actions)
    simulator.send(rows_of(0, 2), np.zeros((2, 2), np.float32))
    assert simulator.recv()[0].shape == (2, 8)


@pytest.mark.parametrize("actions", [[4], [-1], [[0]]])
def test_out_of_range_discrete_actions_for_envpool_are_refused(actions):
    simulator = GymTask("LunarLander-v3", backend="envpool").simulator(SEEDS)
    simulator.reset()
    with pytest.raises(ValueError, match="EnvPool might crash on"):
        simulator.send(rows_of(0), np.array(actions))


class Counted(gym.Wrapper):
    """Records all instances, and how often each was closed; raises at step ``raise_at``."""

    made = []  # noqa: RUF012

    def __init__(self, *, raise_at=None):
        super().__init__(gym.make("CartPole-v1"))
        self.num_closings = 0
        self.made.append(self)
        self._countdown = raise_at

    def step(self, action):
        if self._countdown is not None:
            self._countdown -= 1
            if self._countdown == 0:
                raise RuntimeError("not today")
        return super().step(action)

    def close(self):
        self.num_closings += 1
        super().close()


@pytest.mark.parametrize("raise_at", [None, 4])
def test_every_environment_is_closed_once(raise_at):
    Counted.made.clear()
    task = GymTask(Counted, env_config={"raise_at": raise_at}, episode_length=12)
    made_before = len(Counted.made)  # to read the spaces
    assert [env.num_closings for env in Counted.made] == [1] * made_before
    network = FrozenNetwork((5,), obs_length=4, act_length=2)
    weights = torch.randn((6, network.num_weights))
    with nullcontext() if raise_at is None else pytest.raises(EvaluationError, match="not today"):
        play(task, network, weights, np.arange(18).reshape(6, 3))
    assert [env.num_closings for env in Counted.made] == [1] * (made_before + 18)


def test_an_exception_in_an_environment_is_reported_with_its_row():
    simulator = GymTask(OddSpaces, env_config={"discrete": True}, episode_length=9).simulator(SEEDS)
    simulator.reset()
    simulator.send(rows_of(0, 2, 3), np.array([5, 6, 8]))
    with pytest.raises(SimulatorError, match=r"the environment's step raised ValueError\('8 is not in") as caught:
        simulator.recv()
    assert caught.value.row == 3


def test_a_gymnasium_episode_does_not_depend_on_earlier_ones():
    task = GymTask("BipedalWalker-v3", backend="gymnasium", episode_length=120)
    network = FrozenNetwork((6,), obs_length=24, act_length=4)
    weights = torch.randn((3, network.num_weights), generator=torch.Generator().manual_seed(2))

    def returns(seeds):
        return play(task, network, weights, np.array(seeds)).returns

    first = returns([[5], [5], [5]])
    returns([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(returns([[5], [5], [5]]), first)
    np.testing.assert_array_equal(returns([[8, 5], [5, 5], [7, 5]])[:, 1:], first)


# EnvPool and Gymnasium. Classic control has the same equations in both: from equal states, an action leads to equal
# next states, up to the float32 precision of EnvPool's observations. Seeds are not comparable: EnvPool draws the first
# state with the generator of C++, so the same seed gives another state from the same distribution. (Pendulum-v1 and
# MountainCarContinuous-v0 happen to start equally.)


def state_of(env, obs):
    obs = obs.astype(np.float64)
    if env == "Acrobot-v1":
        return np.array([np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2]), obs[4], obs[5]])
    if env == "Pendulum-v1":
        return np.array([np.arctan2(obs[1], obs[0]), obs[2]])
    return obs


CLASSIC = ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


@pytest.mark.parametrize("env", CLASSIC)
def test_both_simulators_take_the_same_steps_in_classic_control(env):
    task = GymTask(env, backend="gymnasium")
    simulator = EnvPoolSimulator(env, np.arange(5), task.actions, task.obs_length, num_threads=1)
    rows, obs = np.arange(5, dtype=np.int32), simulator.reset()
    actions = random_actions(task, 150, 5)
    reference = gym.make(env)
    num_compared = 0
    for step in range(150):
        before = obs
        simulator.send(rows, actions[step][rows])
        obs, rewards, ended = simulator.recv()
        for i, row in enumerate(rows):
            reference.reset()
            reference.unwrapped.state = state_of(env, before[i])
            action = actions[step][row]
            want_obs, want_reward, want_ended, _, _ = reference.step(action if action.ndim else int(action))
            np.testing.assert_allclose(obs[i], want_obs, rtol=0, atol=5e-6)
            assert rewards[i] == pytest.approx(want_reward, abs=5e-6)
            assert ended[i] == want_ended
            num_compared += 1
        rows, obs = rows[~ended], obs[~ended]
        if not len(rows):
            break
    simulator.close()
    assert num_compared > 50


def first_observations(task, backend, seed, count=300):
    simulator = task.simulator(episode_seeds(seed, count, stream=0), backend=backend)
    obs = simulator.reset()
    simulator.close()
    return obs


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3", "BipedalWalker-v3"])
def test_both_simulators_have_the_same_distribution_of_first_observations(env):
    task, count = GymTask(env), 300 if env == "CartPole-v1" else 120
    envpool, gymnasium = (first_observations(task, b, seed, count) for b, seed in (("envpool", 1), ("gymnasium", 2)))
    for column in range(task.obs_length):
        a, b = envpool[:, column], gymnasium[:, column]
        if np.ptp(a) < 1e-4 and np.ptp(b) < 1e-4:
            assert a.mean() == pytest.approx(b.mean(), abs=2e-4)
        else:
            assert ks_2samp(a, b).pvalue > 1e-3


@pytest.mark.parametrize(
    ("env", "env_config", "shape"),
    [
        ("LunarLander-v3", {}, (1, 200)),
        ("LunarLander-v3", {"continuous": True}, (1, 200)),
        ("BipedalWalker-v3", {}, (80, 1)),
    ],
)
def test_both_simulators_have_the_same_distribution_of_returns_in_box2d(env, env_config, shape):
    """200 episodes of one random policy; for BipedalWalker, one episode of each of 80 random policies.

    The simulators use different versions of Box2D. Episodes of one policy in BipedalWalker hardly differ, and a policy
    may fall in one simulator and not in the other, equally often in both directions.
    """
    task = GymTask(env, env_config=env_config, episode_length=100 if env == "BipedalWalker-v3" else None)
    network = FrozenNetwork((16,), obs_length=task.obs_length, act_length=task.actions.length)
    weights = torch.randn((shape[0], network.num_weights), generator=torch.Generator().manual_seed(1))
    results = []
    for seed, backend in enumerate(("envpool", "gymnasium")):
        seeds = episode_seeds(seed, shape[0] * shape[1], stream=0).reshape(shape)
        results.append(play(task, network, weights, seeds, backend=backend))
    envpool, gymnasium = results
    assert ks_2samp(envpool.returns.ravel(), gymnasium.returns.ravel()).pvalue > 0.01
    assert ks_2samp(envpool.lengths.ravel(), gymnasium.lengths.ravel()).pvalue > 0.01
