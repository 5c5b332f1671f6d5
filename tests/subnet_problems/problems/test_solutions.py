"""Uses of a solution: policies, subnetworks, tests, runs and files."""

import pickle

import numpy as np
import pytest
import torch
from disks import full_disk
from environments import Echo, OddSpaces
from evaluations import fitness
from evotorch.neuroevolution import GymNE
from torch import nn

from subnet_problems import DenseGymProblem, MaskedGymProblem

LINEAR = "Linear(obs_length, act_length, bias=False)"
WEIGHTS = torch.tensor([[2.0], [-1.0], [0.5]])


def echo(**options):
    """A problem with one weight w; each of the 12 rewards of an episode is w."""
    return DenseGymProblem(Echo, LINEAR, env_config={"steps": 12}, **{"num_episodes": 2, "seed": 3} | options)


def lander(**options):
    defaults = {"hidden_sizes": (6,), "num_episodes": 2, "episode_length": 40, "seed": 5}
    return MaskedGymProblem("LunarLander-v3", **defaults | options)


def a_solution(problem):
    return torch.randn(problem.solution_length, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("env_config", [{}, {"continuous": True}], ids=str)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_policy_computes_the_same_outputs_as_the_population(env_config, normalize):
    problem = lander(env_config=env_config, observation_normalization=normalize, sparsity=0.5)
    x, observations = a_solution(problem), np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    fitness(problem, x[None], 2)
    seen = observations
    if normalize:
        stats = problem.get_observation_stats()
        seen = ((observations - stats.mean) / stats.stdev).astype(np.float32)
    population = problem.network.population(problem.decode(x)[None], num_episodes=20)
    expected = population.act(np.arange(20, dtype=np.int32), seen)
    raw = problem.to_policy(x, clip_actions=False)(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(raw, expected, rtol=1e-5, atol=1e-5)
    one = problem.to_policy(x)(torch.from_numpy(observations[7])).detach().numpy()
    np.testing.assert_allclose(one, np.clip(expected[7], -1, 1) if env_config else expected[7], rtol=1e-5, atol=1e-5)
    assert np.abs(expected).max() > 1


def test_a_policy_is_a_plain_module_that_can_be_pickled():
    problem = lander(observation_normalization=True)
    fitness(problem, problem.generate_batch(2).values)
    policy, obs = problem.to_policy(a_solution(problem)), torch.ones(8)
    assert isinstance(policy, nn.Module)
    assert torch.equal(pickle.loads(pickle.dumps(policy))(obs), policy(obs))


def test_a_solution_may_be_a_tensor_an_array_a_list_or_an_evotorch_solution():
    problem = lander()
    solution = problem.generate_batch(2)[0]
    obs, x = torch.ones(8), solution.values.clone()
    expected = problem.to_policy(solution)(obs)
    for same in (x, x.numpy(), x.tolist(), x.double()):
        assert torch.equal(problem.to_policy(same)(obs), expected)


def test_a_subnetwork_is_the_same_policy_with_its_task():
    problem = lander(env_config={"continuous": True}, sparsity=0.8, observation_normalization=True)
    fitness(problem, problem.generate_batch(2).values)
    x, obs = a_solution(problem), torch.linspace(-1, 1, 8)
    subnet = problem.to_subnetwork(x)
    assert torch.equal(subnet.to_policy()(obs), problem.to_policy(x)(obs))
    assert torch.equal(subnet.mask, problem.mask(x))
    assert torch.equal(subnet.weights, problem.decode(x))
    assert (subnet.env, subnet.env_config) == ("LunarLander-v3", {"continuous": True})
    assert subnet.num_active == round(0.2 * problem.solution_length)
    returns = problem.test(x, num_episodes=3, seed=8)
    np.testing.assert_array_equal(subnet.test(num_episodes=3, seed=8), returns)


def test_tests_are_reproducible_and_depend_on_the_seed():
    problem = lander()
    x = a_solution(problem)
    first = problem.test(x, num_episodes=6, seed=1)
    fitness(problem, x[None], 2)
    np.testing.assert_array_equal(problem.test(x, num_episodes=6, seed=1), first)
    assert not set(problem.test(x, num_episodes=6, seed=2)) & set(first)
    assert first.shape == (6,)
    assert len(set(first)) == 6


def test_tests_run_on_gymnasium_regardless_of_the_backend():
    problems = [lander(backend=backend) for backend in ("envpool", "gymnasium")]
    np.testing.assert_array_equal(*(problem.test(a_solution(problem), num_episodes=5) for problem in problems))


def test_tests_use_other_episodes_than_the_search(echo_log):
    problem = echo(seed=3)
    fitness(problem, WEIGHTS, rounds=30)
    searched = {episode[0] for episode in echo_log}
    echo_log.clear()
    problem.test(WEIGHTS[0], num_episodes=300, seed=3)
    tested = {episode[0] for episode in echo_log}
    assert len(tested) == 300
    assert not tested & searched


def test_tests_use_the_unmodified_rewards_of_the_environment():
    options = {"decrease_rewards_by": 5.0, "alive_bonus_schedule": (0, 1.0), "action_noise_stdev": 1.0}
    assert (echo(**options, risk_aversion=1.0).test(WEIGHTS[0], num_episodes=3) == 24.0).all()


def test_tests_run_full_episodes_regardless_of_episode_length():
    short, whole = (
        DenseGymProblem("CartPole-v1", LINEAR, episode_length=n, num_episodes=3, seed=0) for n in (10, None)
    )
    balancing = torch.tensor([[0.0, 0.0, -1.0, -1.0], [0.0, 0.0, 1.0, 1.0]]).flatten()  # pushes toward the falling side
    assert (fitness(short, balancing[None]) == 10.0).all()
    returns = short.test(balancing, num_episodes=4)
    assert (returns > 100.0).all()
    np.testing.assert_array_equal(returns, whole.test(balancing, num_episodes=4))


def test_tests_and_runs_do_not_change_counters_statistics_or_generators():
    problem = lander(observation_normalization=True)
    x = a_solution(problem)
    fitness(problem, x[None])
    generator, torch_state = problem.generator.get_state(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = (problem.interaction_count, problem.episode_count, problem.evaluation_round)
    count = problem.get_observation_stats().count
    problem.test(x, num_episodes=3)
    problem.run(x, seed=0)
    problem.to_subnetwork(x).test(num_episodes=2)
    assert (problem.interaction_count, problem.episode_count, problem.evaluation_round) == before
    assert problem.get_observation_stats().count == count
    assert torch.equal(problem.generator.get_state(), generator)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("discrete", [True, False])
def test_a_run_equals_an_episode_stepped_by_hand(discrete):
    problem = MaskedGymProblem(OddSpaces, env_config={"discrete": discrete}, episode_length=20, num_episodes=4)
    x = a_solution(problem)
    policy = problem.to_policy(x)
    rewards = []
    for episode in range(3):
        env = OddSpaces(discrete=discrete)
        obs = env.reset(seed=7 + episode)[0]
        for _ in range(20):
            output = policy(torch.as_tensor(obs, dtype=torch.float32).flatten()).detach().numpy()
            obs, reward, terminated, truncated, _ = env.step(5 + output.argmax() if discrete else output.reshape(2, 2))
            rewards.append(reward)
            if terminated or truncated:
                break
    result = problem.run(policy, num_episodes=3, seed=7)
    assert result["cumulative_reward"] == pytest.approx(sum(rewards) / 3, rel=1e-9)
    assert result["interaction_count"] == len(rewards)
    assert problem.run(x, num_episodes=3, seed=7) == result


def test_a_recurrent_policy_is_reset_before_each_episode_of_a_run():
    network = "RNN(obs_length, 8) >> Linear(8, act_length)"
    problem = MaskedGymProblem(OddSpaces, network, env_config={"discrete": False}, episode_length=20)
    x = a_solution(problem)
    both, first, second = (problem.run(x, num_episodes=n, seed=seed) for n, seed in ((2, 7), (1, 7), (1, 8)))
    assert both["interaction_count"] == first["interaction_count"] + second["interaction_count"]
    assert 2 * both["cumulative_reward"] == pytest.approx(first["cumulative_reward"] + second["cumulative_reward"])


def test_by_default_a_run_uses_num_episodes_of_the_problem():
    assert echo(num_episodes=3).run(WEIGHTS[0]) == {"cumulative_reward": 24.0, "interaction_count": 36}


def test_visualize_opens_a_window_and_run_does_not(echo_log):
    problem = echo()
    Echo.made_with.clear()
    assert problem.run(WEIGHTS[0], num_episodes=2) == {"cumulative_reward": 24.0, "interaction_count": 24}
    assert Echo.made_with == [{}]
    assert problem.visualize(WEIGHTS[0])["interaction_count"] == 12
    assert Echo.made_with == [{}, {"render_mode": "human"}]


@pytest.mark.parametrize("normalize", [False, True])
def test_a_saved_solution_has_the_keys_of_gymne(normalize, tmp_path):
    ours = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), observation_normalization=normalize, num_episodes=2)
    gymne = GymNE("CartPole-v1", LINEAR, observation_normalization=normalize)
    saved = []
    for name, problem in (("ours", ours), ("gymne", gymne)):
        batch = problem.generate_batch(2) if name == "ours" else problem.generate_batch(2, center=0.0, stdev=1.0)
        problem.evaluate(batch)
        problem.save_solution(batch[0], tmp_path / name)
        saved.append(pickle.loads((tmp_path / name).read_bytes()))
    assert saved[0].keys() == saved[1].keys()
    for key, value in saved[1].items():
        assert type(saved[0][key]) is type(value) or key == "policy"
        assert getattr(saved[0][key], "shape", None) == getattr(value, "shape", None) or key == "solution"
    assert saved[0]["env"] == "CartPole-v1"
    assert saved[0]["interaction_count"] == ours.interaction_count
    obs = torch.ones(4)
    assert torch.equal(saved[0]["policy"](obs), ours.to_policy(saved[0]["solution"])(obs))


def test_a_full_disk_leaves_the_older_saved_solution(tmp_path):
    problem = echo()
    problem.save_solution([2.0], tmp_path / "best.pickle")
    before = (tmp_path / "best.pickle").read_bytes()
    with full_disk(), pytest.raises(OSError, match="File too large"):
        problem.save_solution([3.0], tmp_path / "best.pickle")
    assert (tmp_path / "best.pickle").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", [torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.clone])
def test_a_mask_may_be_a_tensor_an_array_or_a_list(kind):
    problem = lander(sparsity=0.5)
    mask = problem.mask(torch.linspace(-1, 1, problem.solution_length))
    assert torch.equal(problem.mask_to_subnetwork(kind(mask)).mask, mask)
