"""Evaluating a population is bit-identical to evaluating one solution in one environment at a time."""

import pickle
from functools import partial
from itertools import count

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo, OddSpaces
from evotorch.neuroevolution.net.rl import AliveBonusScheduleWrapper
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful

from subnet_problems import EvaluationError, FrozenNetwork
from subnet_problems.tasks import DiscreteActions, GymTask, Normalizer
from subnet_problems.tasks._reward_rule import RewardRule
from subnet_problems.tasks._rollout import play, play_tests

SEEDS = np.array([[3, 1, 4], [1, 5, 9], [2, 6, 5], [3, 5, 8], [9, 7, 9]])

TASKS = {
    "CartPole": {"env": "CartPole-v1"},
    "Acrobot": {"env": "Acrobot-v1", "episode_length": 40},
    "Pendulum": {"env": "Pendulum-v1", "episode_length": 30},
    "LunarLander": {"env": "LunarLander-v3"},
    "LunarLanderContinuous": {"env": "LunarLander-v3", "env_config": {"continuous": True}},
    "BipedalWalker": {"env": "BipedalWalker-v3", "episode_length": 50},
    "odd discrete": {"env": OddSpaces, "env_config": {"discrete": True}, "episode_length": 20},
    "odd box": {"env": OddSpaces, "env_config": {"discrete": False}, "episode_length": 20},
}
ENVPOOL_NAMES = {
    "CartPole": "CartPole-v1",
    "Acrobot": "Acrobot-v1",
    "LunarLander": "LunarLander-v3",
    "LunarLanderContinuous": "LunarLanderContinuous-v3",
    "BipedalWalker": "BipedalWalker-v3",
}


def network_for(task, hidden=(7,), **options):
    return FrozenNetwork(hidden, obs_length=task.obs_length, act_length=task.actions.length, **options)


def random_weights(network, popsize=5):
    return torch.randn((popsize, network.num_weights), generator=torch.Generator().manual_seed(1))


def gymnasium_episode(task, seed):
    """An episode as a generator: receives an action, yields (observation, reward, whether it ended)."""
    env = task.make_env()
    result = env.reset(seed=int(seed))[0], 0.0, False
    while True:
        action = yield result
        action = int(action) if isinstance(task.actions, DiscreteActions) else action
        obs, reward, terminated, truncated, _ = env.step(action)
        result = obs, float(reward), terminated or truncated


def envpool_episode(name, task, seed):
    """The same in a pool of one environment, with the public methods of EnvPool."""
    import envpool

    pool = envpool.make(name, env_type="gymnasium", num_envs=1, seed=[int(seed)])
    result = pool.reset()[0][0], 0.0, False
    while True:
        action = yield result
        action = np.array([action], np.int32 if isinstance(task.actions, DiscreteActions) else np.float32)
        obs, reward, terminated, truncated, _ = pool.step(action)
        result = obs[0], float(reward[0]), bool(terminated[0] or truncated[0])


def reference(task, network, weights, seeds, episode_of, normalizer=None):
    """Returns, lengths, sums and sums of squares of observations, computed step by step for each episode."""
    shape = seeds.shape
    returns, lengths = np.zeros(shape), np.zeros(shape, np.int64)
    sums, squares = np.zeros((*shape, task.obs_length)), np.zeros((*shape, task.obs_length))
    for n, e in np.ndindex(shape):
        policy = network.population(weights[n : n + 1], num_episodes=1)
        episode = episode_of(task, seeds[n, e])
        obs, _, _ = next(episode)
        for step in count(1):
            flat = np.asarray(obs, np.float32).reshape(1, -1)
            sums[n, e] += flat[0].astype(np.float64)
            squares[n, e] += flat[0].astype(np.float64) ** 2
            if normalizer is not None:
                flat = (flat - normalizer.mean) * normalizer.scale
            obs, reward, ended = episode.send(task.actions(policy.act(np.zeros(1, np.int32), flat))[0])
            returns[n, e] += reward
            if ended or step == task.max_steps:
                lengths[n, e] = step
                break
    return returns, lengths, sums, squares


def assert_same_bits(episodes, expected):
    for got, want in zip(episodes, expected, strict=True):
        np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("name", TASKS)
def test_a_population_on_gymnasium_equals_solutions_evaluated_one_by_one(name):
    task = GymTask(**TASKS[name], backend="gymnasium")
    network = network_for(task)
    weights = random_weights(network)
    episodes = play(task, network, weights, SEEDS, collect_obs=True)
    assert_same_bits(episodes, reference(task, network, weights, SEEDS, gymnasium_episode))


@pytest.mark.filterwarnings("ignore:.*precision lowered by casting to float32:UserWarning")  # EnvPool's own spaces
@pytest.mark.parametrize("name", ENVPOOL_NAMES)
def test_a_population_on_envpool_equals_solutions_evaluated_one_by_one(name):
    task = GymTask(**TASKS[name], backend="envpool")
    network = network_for(task)
    weights = random_weights(network)
    episodes = play(task, network, weights, SEEDS, collect_obs=True)
    episode_of = partial(envpool_episode, ENVPOOL_NAMES[name])
    assert_same_bits(episodes, reference(task, network, weights, SEEDS, episode_of))


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_a_population_with_normalization_equals_solutions_evaluated_one_by_one(backend):
    task = GymTask("LunarLander-v3", episode_length=60, backend=backend)
    network = network_for(task)
    weights = random_weights(network)
    normalizer = Normalizer(np.linspace(-0.5, 0.5, 8, dtype=np.float32), np.linspace(0.5, 3.0, 8, dtype=np.float32))
    episodes = play(task, network, weights, SEEDS, collect_obs=True, normalizer=normalizer)
    episode_of = gymnasium_episode if backend == "gymnasium" else partial(envpool_episode, "LunarLander-v3")
    assert_same_bits(episodes, reference(task, network, weights, SEEDS, episode_of, normalizer))


@pytest.mark.parametrize("hidden", ["Linear(obs_length, 40) >> ELU()", "RNN(obs_length, 40)", "LSTM(obs_length, 40)"])
def test_networks_without_a_kernel_equal_their_module_stepped_by_hand(hidden):
    task = GymTask(OddSpaces, env_config={"discrete": False}, episode_length=20)
    network = network_for(task, f"{hidden} >> Linear(40, act_length)")
    weights = 0.3 * random_weights(network)
    expected = np.zeros(SEEDS.shape)
    for n, e in np.ndindex(SEEDS.shape):
        policy = ensure_stateful(network.to_module(weights[n]))
        episode = gymnasium_episode(task, SEEDS[n, e])
        obs, _, ended = next(episode)
        for _ in range(20):
            output = policy(torch.as_tensor(obs, dtype=torch.float32).flatten()).detach().numpy()
            obs, reward, ended = episode.send(task.actions(output[None])[0])
            expected[n, e] += reward
            if ended:
                break
    got = play(task, network, weights, SEEDS)
    assert len(np.unique(got.lengths)) > 3
    np.testing.assert_allclose(got.returns, expected, rtol=1e-4)


@pytest.mark.parametrize("popsize", [1, 2, 16, 17, 35])
def test_decoding_weights_in_parts_does_not_change_results(popsize):
    task = GymTask("CartPole-v1", episode_length=30)
    network = network_for(task)
    weights, seeds = random_weights(network, popsize), np.arange(2 * popsize).reshape(popsize, 2)
    together = play(task, network, weights, seeds)
    for n in range(popsize):
        alone = play(task, network, weights[n : n + 1], seeds[n : n + 1])
        np.testing.assert_array_equal(together.returns[n], alone.returns[0])
        np.testing.assert_array_equal(together.lengths[n], alone.lengths[0])


def test_observations_are_summed_only_on_request():
    task = GymTask("CartPole-v1", episode_length=5)
    network = network_for(task)
    episodes = play(task, network, random_weights(network), SEEDS)
    assert episodes.obs_sum is None
    assert episodes.obs_sum_of_squares is None


@pytest.mark.parametrize("schedule", [(4, 2.5), (0, 1.0), (3, 8, -2.0), (5, 5, 3.0), (0, 9, 1.5), (50, 9.0)])
def test_the_alive_bonus_equals_that_of_evotorch(schedule):
    env = AliveBonusScheduleWrapper(Echo(steps=20), schedule)
    env.reset()
    steps = schedule[:-1]
    rule = RewardRule(alive_bonus_schedule=(steps[0], steps[-1], schedule[-1]))
    for step in range(1, 21):
        assert rule.bonus(step) == env.step(np.zeros(1, np.float32))[1]


def test_a_bonus_and_a_decrease_are_added_to_each_reward():
    task = GymTask(Echo, env_config={"steps": 6})
    network = network_for(task, ())
    rule = RewardRule(decrease_rewards_by=0.25, alive_bonus_schedule=(2, 4, 1.0))
    episodes = play(task, network, torch.tensor([[2.0]]), np.array([[0]]), rule=rule)
    assert episodes.returns[0, 0] == 6 * (2.0 - 0.25) + 0.5 + 3 * 1.0


@pytest.mark.parametrize("backend", ["gymnasium", "envpool"])
def test_a_bonus_is_exact_on_both_simulators(backend):
    task = GymTask("CartPole-v1", backend=backend, episode_length=50)
    network = network_for(task)
    weights, rule = random_weights(network), RewardRule(decrease_rewards_by=0.1)
    episodes = play(task, network, weights, SEEDS, rule=rule)
    np.testing.assert_allclose(episodes.returns, 0.9 * episodes.lengths, rtol=1e-12)


def noise_of(task, seeds, noise_seeds, stdev, echo_log):
    """The actions ``(N, E, steps, act_length)`` of networks with all weights 0."""
    network = network_for(task, ())
    weights = torch.zeros((len(seeds), network.num_weights))
    rule = RewardRule(action_noise_stdev=stdev)
    play(task, network, weights, seeds, rule=rule, noise_seeds=noise_seeds)
    return np.array([episode[1:] for episode in echo_log]).reshape(*seeds.shape, -1, task.actions.length)


def test_action_noise_has_its_stdev_and_is_independent_between_steps_outputs_and_episodes(echo_log):
    task = GymTask(Echo, env_config={"steps": 500, "act_length": 2})
    seeds = np.arange(10)[None]
    noise = noise_of(task, seeds, 100 + seeds, 0.3, echo_log)[0]
    assert noise.mean() == pytest.approx(0.0, abs=5 * 0.3 / 100)
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    outputs = noise.reshape(-1, 2).T
    assert abs(np.corrcoef(outputs)[0, 1]) < 0.06
    assert abs(np.corrcoef(noise[:, :-1, 0].ravel(), noise[:, 1:, 0].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(noise[:, :, 0])[~np.eye(10, dtype=bool)]).max() < 0.25
    lag_of_a_block = np.corrcoef(noise[:, :-64, 0].ravel(), noise[:, 64:, 0].ravel())[0, 1]
    assert abs(lag_of_a_block) < 0.06


def test_episodes_with_equal_noise_seeds_have_equal_noise(echo_log):
    task = GymTask(Echo, env_config={"steps": 100})
    seeds = np.arange(6).reshape(3, 2)
    noise = noise_of(task, seeds, np.array([[7, 8], [7, 8], [8, 9]]), 1.0, echo_log)
    np.testing.assert_array_equal(noise[0], noise[1])
    np.testing.assert_array_equal(noise[0, 1], noise[2, 0])
    assert (noise[0, 0] != noise[0, 1]).all()


def test_action_noise_does_not_depend_on_the_end_of_other_episodes():
    task = GymTask("CartPole-v1", backend="gymnasium", episode_length=150)
    network = network_for(task)
    weights, rule = random_weights(network), RewardRule(action_noise_stdev=0.5)
    options = {"rule": rule, "noise_seeds": SEEDS + 1}
    together = play(task, network, weights, SEEDS, **options)
    alone = play(task, network, weights[2:3], SEEDS[2:3], rule=rule, noise_seeds=SEEDS[2:3] + 1)
    np.testing.assert_array_equal(together.returns[2], alone.returns[0])


class NotFinite(gym.Env):
    """Observations are ``obs``, except zeros after a reset with seed 0; episodes do not end."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, *, obs, reward=1.0):
        self._obs, self._reward = np.array(obs), reward

    def reset(self, *, seed=None, options=None):
        return self._obs if seed else np.zeros(2), {}

    def step(self, action):
        return self._obs, self._reward, False, False, {}


@pytest.mark.parametrize("obs", [(np.nan, 0.0), (0.0, -np.inf), (np.inf, -np.inf), (1e300, 0.0)])
def test_a_nonfinite_observation_is_reported_with_its_location(obs):
    task = GymTask(NotFinite, env_config={"obs": obs}, episode_length=3)
    network = network_for(task)
    weights = random_weights(network)
    with pytest.raises(EvaluationError, match="solution 1, episode 2, step 0: expected a finite observation") as caught:
        play(task, network, weights, np.array([[0, 0, 0], [0, 0, 1]]))
    assert (caught.value.solution, caught.value.episode, caught.value.step) == (1, 2, 0)
    with pytest.raises(EvaluationError, match="solution 0, episode 0, step 1: expected a finite observation"):
        play(task, network, weights, np.array([[0, 0, 0], [0, 0, 1]]) * 0)


def test_large_observations_and_rewards_are_valid():
    obs, reward = (3e38, 3e38), 1e308
    task = GymTask(NotFinite, env_config={"obs": obs, "reward": reward}, episode_length=1)
    network = network_for(task)
    weights = torch.zeros((3, network.num_weights))
    episodes = play(task, network, weights, np.ones((3, 1), np.int64))
    assert (episodes.returns == 1e308).all()


def test_a_nonfinite_output_is_an_error_before_the_simulator_steps():
    task = GymTask("LunarLander-v3", env_config={"continuous": True})
    network = network_for(task)
    weights = random_weights(network)
    weights[3] = torch.inf
    with pytest.raises(EvaluationError, match="solution 3, episode 0, step 0: expected a finite output of the policy"):
        play(task, network, weights, SEEDS)


def test_an_evaluation_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(EvaluationError(3, 1, 7, "it raised")))
    assert (error.solution, error.episode, error.step, error.reason) == (3, 1, 7, "it raised")
    assert str(error) == "solution 3, episode 1, step 7: it raised"


def test_test_episodes_use_gymnasium_regardless_of_the_backend():
    options = {"env": "LunarLander-v3", "env_config": {"continuous": True}, "episode_length": 40}
    envpool, gymnasium = GymTask(**options, backend="envpool"), GymTask(**options, backend="gymnasium")
    network = network_for(envpool)
    weights = random_weights(network)[:1]
    results = [play_tests(task, network, weights, num_episodes=6, seed=3) for task in (envpool, gymnasium)]
    np.testing.assert_array_equal(*results)
    assert len(set(results[0].tolist())) == 6


def test_test_episodes_do_not_depend_on_their_number():
    task = GymTask("CartPole-v1")
    network = network_for(task)
    weights = random_weights(network)[:1]
    few, many = (play_tests(task, network, weights, num_episodes=n, seed=3) for n in (4, 9))
    np.testing.assert_array_equal(few, many[:4])
