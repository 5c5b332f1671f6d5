"""The masked and the dense problem: what their arguments mean, and what they count."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo, OddSpaces
from evaluations import fitness
from evotorch import Problem
from evotorch.neuroevolution import GymNE
from torch import nn

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, FrozenNetwork, MaskedGymProblem, Threshold, TopK
from subnet_problems.tasks._observation_stats import ObservationStats

LINEAR = "Linear(obs_length, act_length, bias=False)"
WEIGHTS = torch.tensor([[2.0], [-1.0], [0.5]])


class Seeded(Echo):
    """An episode takes 1 + seed % 10 steps; each reward is 1."""

    def reset(self, *, seed=None, options=None):
        self._steps = 1 + seed % 10
        return super().reset(seed=seed)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 1.0, *rest


def echo(env=Echo, *, steps=12, **options):
    """A problem with one weight w; each reward is w."""
    return DenseGymProblem(env, LINEAR, env_config={"steps": steps}, **{"num_episodes": 2, "seed": 3} | options)


def lander(**options):
    defaults = {"hidden_sizes": (6,), "num_episodes": 2, "episode_length": 40, "seed": 5}
    return MaskedGymProblem("LunarLander-v3", **defaults | options)


def a_solution(problem):
    return torch.randn(problem.solution_length, generator=torch.Generator().manual_seed(1))


# Arguments


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"episode_length": 7},
        {"episode_length": 70},
        {"decrease_rewards_by": 0.75},
        {"decrease_rewards_by": -2},
        {"alive_bonus_schedule": (5, 2.0)},
        {"alive_bonus_schedule": (0, 1)},
        {"alive_bonus_schedule": (3, 8, 2.0)},
        {"alive_bonus_schedule": (6, 6, -1.0)},
        {"alive_bonus_schedule": (20, 30, 5.0)},
        {"num_episodes": 5},
        {"decrease_rewards_by": 0.5, "alive_bonus_schedule": (2, 9, 3.0), "episode_length": 10},
    ],
    ids=str,
)
def test_arguments_have_the_same_effect_as_in_gymne(options):
    gymne = GymNE(Echo, LINEAR, env_config={"steps": 12}, **{"num_episodes": 2} | options)
    ours = echo(**options)
    torch.testing.assert_close(fitness(ours, WEIGHTS), fitness(gymne, WEIGHTS), check_dtype=False)
    for name in ("total_interaction_count", "total_episode_count"):
        assert ours.status[name] == gymne.status[name]


@pytest.mark.parametrize("risk_aversion", [0.0, 0.5, 2])
def test_risk_aversion_subtracts_a_multiple_of_the_standard_deviation(risk_aversion, echo_log):
    got = fitness(echo(Seeded, num_episodes=4, risk_aversion=risk_aversion), WEIGHTS[:1])
    returns = np.array([1 + episode[0] % 10 for episode in echo_log])
    assert returns.std() > 1
    assert got.item() == pytest.approx(returns.mean() - risk_aversion * returns.std(), rel=1e-6)


def test_all_solutions_of_a_round_share_episodes_and_each_round_has_new_ones(echo_log):
    fitness(echo(num_episodes=4), WEIGHTS, rounds=2)
    seeds = np.array([episode[0] for episode in echo_log]).reshape(2, 3, 4)
    assert (seeds == seeds[:, :1]).all()
    assert len(np.unique(seeds)) == 8
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_without_common_random_numbers_each_solution_has_its_own_episodes(echo_log):
    fitness(echo(num_episodes=4, common_random_numbers=False), WEIGHTS, rounds=2)
    assert len({episode[0] for episode in echo_log}) == 2 * 3 * 4


def test_action_noise_is_common_to_all_solutions_of_a_round_and_new_in_the_next(echo_log):
    problem = echo(steps=300, num_episodes=4, action_noise_stdev=0.2)
    got = fitness(problem, WEIGHTS, rounds=2)
    noise = np.array([episode[1:] for episode in echo_log]).reshape(2, 3, 4, 300) - WEIGHTS.numpy()[None, :, :, None]
    np.testing.assert_allclose(noise, np.broadcast_to(noise[:, :1], noise.shape), atol=1e-6)
    assert noise.std() == pytest.approx(0.2, rel=0.05)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert (noise[0] != noise[1]).all()
    np.testing.assert_allclose(got, 300 * (WEIGHTS[:, 0].numpy() + noise.mean(axis=(2, 3))), rtol=1e-4, atol=1e-3)


def test_episode_length_may_change_between_evaluations_up_to_the_limit_of_the_environment():
    problem = MaskedGymProblem("Pendulum-v1", hidden_sizes=(3,), num_episodes=2, episode_length=30, seed=0)
    values = problem.generate_batch(3).values
    whole = fitness(MaskedGymProblem("Pendulum-v1", hidden_sizes=(3,), num_episodes=2, seed=0), values, 3)
    counts = []
    for episode_length in (30, 50, None):
        problem.episode_length = episode_length
        last = fitness(problem, values)
        counts.append(problem.interaction_count)
    assert counts == [6 * 30, 6 * (30 + 50), 6 * (30 + 50 + 200)]
    assert problem.episode_length == 200
    assert torch.equal(last[0], whole[2])  # this round has the same episodes as without changes of length


def test_action_noise_of_stdev_0_has_no_effect():
    assert torch.equal(fitness(echo(action_noise_stdev=0.0), WEIGHTS), fitness(echo(), WEIGHTS))


def test_observations_are_normalized_with_statistics_of_earlier_rounds():
    first, second = fitness(echo(observation_normalization=True), WEIGHTS, rounds=2)
    torch.testing.assert_close(first, 12 * WEIGHTS[:, 0], check_dtype=False)
    assert (second == 0).all()  # each observation is 1, and so is their mean


class Watched(OddSpaces):
    """Records the observations of each episode."""

    episodes = []  # noqa: RUF012

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self._seen = [obs.ravel()]
        self.episodes.append(self._seen)
        return obs, info

    def step(self, action):
        result = super().step(action)
        self._seen.append(result[0].ravel())
        return result


@pytest.mark.parametrize("options", [{}, {"num_subbatches": 3}], ids=str)
def test_observation_statistics_include_all_observations_except_the_last_of_each_episode(options):
    env_config = {"discrete": True}
    problem = MaskedGymProblem(
        Watched, env_config=env_config, episode_length=20, observation_normalization=True, seed=2, **options
    )
    Watched.episodes.clear()
    fitness(problem, problem.generate_batch(4).values, rounds=2)
    seen = np.concatenate([episode[:-1] for episode in Watched.episodes]).astype(np.float32).astype(np.float64)
    stats = problem.get_observation_stats()
    assert stats.count == len(seen) == problem.interaction_count
    np.testing.assert_allclose(stats.mean, seen.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(stats.stdev, seen.std(axis=0), rtol=1e-6)


def test_the_simulator_may_change_between_evaluations():
    problem, gymnasium = lander(), lander(backend="gymnasium")
    assert problem.backend == "envpool"
    values = problem.generate_batch(3).values
    on_envpool, on_gymnasium = fitness(lander(), values, 3), fitness(gymnasium, values, 3)
    assert not torch.equal(on_envpool, on_gymnasium)
    played = []
    for backend in ("envpool", "gymnasium", "auto"):
        problem.backend = backend
        played.append(fitness(problem, values)[0])
    assert torch.equal(torch.stack(played), torch.stack([on_envpool[0], on_gymnasium[1], on_envpool[2]]))
    for backend, error in (("brax", ValueError), (3, TypeError)):
        with pytest.raises(error, match=r"^backend: expected"):
            problem.backend = backend
    with pytest.raises(ValueError, match=r"^backend: 'envpool' cannot serve"):
        MaskedGymProblem(OddSpaces, env_config={"discrete": True}, episode_length=20).backend = "envpool"


def test_given_observation_statistics_are_used_and_updated():
    first, second = (lander(observation_normalization=True, seed=seed) for seed in (1, 2))
    scores = first.generate_batch(2).values
    fitness(first, scores)
    stats = first.get_observation_stats()
    assert second.test(scores[0], num_episodes=3).tolist() != first.test(scores[0], num_episodes=3).tolist()
    second.set_observation_stats(stats)
    assert second.test(scores[0], num_episodes=3).tolist() == first.test(scores[0], num_episodes=3).tolist()
    fitness(second, scores)
    assert second.get_observation_stats().count == stats.count + second.interaction_count
    assert first.get_observation_stats() is stats


def test_invalid_observation_statistics_are_refused():
    problem = lander(observation_normalization=True)
    with pytest.raises(TypeError, match=r"^stats: expected ObservationStats, got 3"):
        problem.set_observation_stats(3)
    with pytest.raises(ValueError, match=r"^stats: expected those of observations of length 8, got 4"):
        problem.set_observation_stats(ObservationStats(4))
    with pytest.raises(ValueError, match=r"^observation_normalization: expected True"):
        lander().set_observation_stats(ObservationStats(8))


def test_a_problem_that_does_not_normalize_has_no_statistics():
    with pytest.raises(ValueError, match=r"^observation_normalization: expected True"):
        lander().get_observation_stats()
    assert not lander().observation_normalization


def test_initial_scores_are_normal_with_their_stdev():
    values = lander(hidden_sizes=(60,), score_stdev=0.3).generate_batch(100).values
    assert values.mean().item() == pytest.approx(0.0, abs=0.005)
    assert values.std().item() == pytest.approx(0.3, rel=0.01)


def test_dense_weights_are_initialized_like_linear_layers_of_pytorch():
    problem = DenseGymProblem("LunarLander-v3", hidden_sizes=(50,), seed=0)
    values = problem.generate_batch(200).values
    first, second = values[:, : 8 * 50], values[:, 8 * 50 :]
    for part, fan_in in ((first, 8), (second, 50)):
        assert part.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
        assert part.abs().max() <= fan_in**-0.5
        assert part.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.02)


def test_dense_weights_are_initialized_within_initial_bounds():
    values = DenseGymProblem("CartPole-v1", initial_bounds=(-0.5, 2.0), seed=0).generate_batch(20).values
    assert -0.5 <= values.min() < -0.49
    assert 1.99 < values.max() <= 2.0
    assert values.mean().item() == pytest.approx(0.75, abs=0.02)
    assert (DenseGymProblem("CartPole-v1", initial_bounds=[1, 1]).generate_batch(2).values == 1).all()


def test_a_network_without_hidden_layers_is_linear():
    assert MaskedGymProblem("CartPole-v1", hidden_sizes=()).solution_length == 4 * 2


def test_the_network_may_be_a_string_a_module_or_a_callable():
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert torch.equal(MaskedGymProblem("CartPole-v1", module).frozen_weights, weights)
    string = MaskedGymProblem("CartPole-v1", "Linear(obs_length, n) >> Linear(n, act_length)", network_args={"n": 3})
    assert string.solution_length == 4 * 3 + 3 + 3 * 2 + 2
    made = MaskedGymProblem("CartPole-v1", lambda width: nn.Linear(width, 2, bias=False), network_args={"width": 4})
    assert made.solution_length == 8


# Masks


@pytest.mark.parametrize("kind", [MaskedGymProblem, DenseGymProblem])
def test_an_existing_network_is_used_unchanged(kind):
    network = lander(hidden_sizes=(5,), bias=True, weight_init="kaiming_normal", network_seed=4).network
    arguments = {"hidden_sizes": (5,), "bias": True, "network_seed": 4}
    if kind is MaskedGymProblem:
        arguments["weight_init"] = "kaiming_normal"
    by_network, by_arguments = (
        kind("LunarLander-v3", episode_length=40, seed=5, **options) for options in ({"network": network}, arguments)
    )
    assert by_network.network is network
    copied = pickle.loads(pickle.dumps(by_network))
    assert torch.equal(copied.network.weights, network.weights)
    values = by_arguments.generate_batch(3).values
    expected = fitness(by_arguments, values)
    assert torch.equal(fitness(by_network, values), expected)
    assert torch.equal(fitness(copied, values), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs_length": 5, "act_length": 3}, "obs_length = 6, as in the environment, got 5"),
        ({"obs_length": 6, "act_length": 4}, "act_length = 3, as in the environment, got 4"),
        ({"obs_length": 6, "act_length": 3, "obs_shape": (3, 2)}, r"obs_shape = \(2, 3\), .*, got \(3, 2\)"),
        ({"obs_length": 6, "act_length": 3, "act_shape": (1, 3)}, r"act_shape = \(3,\), .*, got \(1, 3\)"),
    ],
    ids=str,
)
def test_a_network_for_another_task_is_refused(options, message):
    network = FrozenNetwork((4,), **options)
    with pytest.raises(ValueError, match=f"^network: expected one with {message}$"):
        MaskedGymProblem(OddSpaces, network, env_config={"discrete": True}, episode_length=9)


def test_a_network_for_flat_observations_accepts_every_observation_shape():
    network = FrozenNetwork((4,), obs_length=6, act_length=4)
    problem = MaskedGymProblem(OddSpaces, network, env_config={"discrete": False}, episode_length=9, seed=0)
    assert (problem.task.obs_shape, problem.task.actions.shape) == ((2, 3), (2, 2))
    assert fitness(problem, problem.generate_batch(2).values).isfinite().all()


@pytest.mark.parametrize(
    "option",
    [
        {"hidden_sizes": (8,)},
        {"network_args": {"width": 3}},
        {"bias": True},
        {"weight_init": "uniform"},
        {"weight_gain": 0.5},
        {"network_seed": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [MaskedGymProblem, DenseGymProblem])
def test_network_options_are_refused_with_an_existing_network(kind, option):
    network = FrozenNetwork((4,), obs_length=4, act_length=2)
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}: expected (None|no value) when network is "):
        kind("CartPole-v1", network, **option)


def test_masks_and_weights_follow_from_the_scores():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(5,), mask_rule=Threshold(0.1))
    scores = problem.generate_batch(6).values
    assert torch.equal(problem.mask(scores), scores > 0.1)
    assert torch.equal(problem.decode(scores), problem.frozen_weights * (scores > 0.1))
    assert torch.equal(problem.mask(scores[2]), scores[2] > 0.1)
    assert problem.decode(scores[2]).shape == (30,)
    assert problem.mask_rule.value == 0.1


def test_the_sparsity_argument_is_short_for_topk():
    short, long = (lander(**option) for option in ({"sparsity": 0.8}, {"mask_rule": TopK(0.8)}))
    scores = short.generate_batch(4).values
    assert torch.equal(short.decode(scores), long.decode(scores))
    assert (short.mask(scores).sum(dim=1) == round(0.2 * short.solution_length)).all()


def test_a_rule_may_rescale_with_given_factors():
    factors = (2.0, 0.5)
    problem = lander(mask_rule=TopK(0.8, rescale=factors))
    scores = a_solution(problem)
    first = problem.network.layers[0].slice
    expected = problem.frozen_weights * problem.mask(scores) * 0.5
    expected[first] *= 4.0
    assert torch.equal(problem.decode(scores), expected)
    assert problem.to_subnetwork(scores).rescale == factors
    assert torch.equal(problem.to_subnetwork(scores).weights, expected)


@pytest.mark.parametrize("make", [Threshold, lambda rescale: TopK(0.5, rescale=rescale)])
def test_a_wrong_number_of_factors_is_refused(make):
    with pytest.raises(
        ValueError, match=r"^mask_rule: expected a factor for each of 2 layers, got \(1\.0, 2\.0, 3\.0\)"
    ):
        lander(mask_rule=make(rescale=[1.0, 2.0, 3.0]))


def test_a_custom_mask_rule_works():
    class Every:
        rescale = False

        def __call__(self, scores, layers):
            return torch.ones_like(scores, dtype=torch.bool)

    problem = lander(mask_rule=Every())
    assert torch.equal(problem.decode(a_solution(problem)), problem.frozen_weights)
    assert len(fitness(problem, problem.generate_batch(3).values).unique()) == 1


RULES = [Threshold(0.0), Threshold(0.05), TopK(0.9), TopK(0.5, scope="layer"), TopK(0.7, scope="erdos_renyi")]


@pytest.mark.parametrize("mask", RULES, ids=repr)
def test_expected_solutions_have_the_same_masks(mask):
    problem = lander(mask_rule=mask)
    center = torch.linspace(-0.2, 0.2, problem.solution_length)
    values = center + 0.1 * torch.randn((20, problem.solution_length), generator=torch.Generator().manual_seed(0))
    for options in ({"center": center, "stdev": 0.1}, {"center": None, "stdev": 7.0}):
        expected = torch.stack([*problem.expected_solutions(values, **options)])
        assert torch.equal(problem.mask(expected), problem.mask(values))


@pytest.mark.parametrize("mask", RULES, ids=repr)
def test_expected_solutions_equal_means_of_many_solutions(mask):
    problem = lander(mask_rule=mask, score_stdev=0.2)
    values = problem.generate_batch(2000).values.as_subclass(torch.Tensor)
    kept = problem.mask(values)
    expected = torch.stack([*problem.expected_solutions(values, center=None, stdev=7.0)])
    exact = isinstance(mask, Threshold)  # the cutoff for few kept weights varies between rows
    for bit in (True, False):
        mean = values[kept == bit].mean().item()
        assert expected[kept == bit].mean().item() == pytest.approx(mean, rel=0.02 if exact else 0.08)


def test_expected_initial_solutions_use_center_0_and_score_stdev():
    problem = lander(score_stdev=0.3)
    values = problem.generate_batch(3).values
    around = torch.stack([*problem.expected_solutions(values, center=torch.zeros(problem.solution_length), stdev=0.3)])
    assert torch.equal(torch.stack([*problem.expected_solutions(values, center=None, stdev=9.0)]), around)
    torch.testing.assert_close(around.abs(), torch.full_like(around, 0.3 * (2 / np.pi) ** 0.5))  # half-normal


@pytest.mark.parametrize("mask", [*RULES, TopK(0.98, scope="layer")], ids=repr)
def test_confined_scores_have_the_same_mask_and_enough_of_them_are_near_the_cutoff(mask):
    problem = lander(mask_rule=mask, score_stdev=0.2)
    for factor in (0.5, 40.0):
        center = factor * problem.generate_batch(1).values.as_subclass(torch.Tensor)
        confined = problem.confined(center[0])
        kept = problem.mask(confined)
        assert torch.equal(kept, problem.mask(center[0]))
        num_near = (
            (confined - problem.mask_rule.cutoffs(confined[None], problem.network.layers)[0]).abs() < 0.1001
        ).sum()
        fewer = min(kept.sum(), (~kept).sum())
        assert num_near >= 0.6 * fewer
        if factor == 0.5:
            assert torch.equal(confined, center[0])
        else:
            assert num_near == pytest.approx(0.6 * fewer, abs=3)


def test_scores_are_not_confined_if_no_bit_can_change():
    problem = lander(mask_rule=TopK(0.0))
    center = 40.0 * problem.generate_batch(1).values.as_subclass(torch.Tensor)[0]
    assert problem.confined(center) is center


def test_scores_far_above_the_cutoff_are_confined_near_it():
    problem = lander()
    center = torch.linspace(3.0, 5.0, problem.solution_length)  # no weight is removed
    confined = problem.confined(center)
    assert confined.min().item() == pytest.approx(0.05)
    assert problem.mask(confined).all()


@pytest.mark.parametrize("scope", ["layer", "erdos_renyi"])
def test_the_first_center_of_a_search_with_enforced_sparsity_is_not_confined(scope):
    """In the first steps, both the center and the cutoff are closer to 0 than the children are."""
    problem = lander(hidden_sizes=(64, 64), mask_rule=TopK(0.9, scope=scope))
    values = problem.generate_batch(16).values.as_subclass(torch.Tensor)
    center = torch.stack([*problem.expected_solutions(values, center=None, stdev=0.1)]).mean(dim=0)
    assert problem.confined(center) is center


def test_confined_scores_do_not_depend_on_the_number_of_threads():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(300, 300), seed=0)
    center = 4.0 * problem.generate_batch(9).values.as_subclass(torch.Tensor)
    confined = []
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            confined.append(problem.confined(center[0]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*confined)


def test_rules_without_a_cutoff_do_not_change_solutions():
    class Every:
        rescale = False

        def __call__(self, scores, layers):
            return torch.ones_like(scores, dtype=torch.bool)

    problem = lander(mask_rule=Every())
    values = problem.generate_batch(3).values
    assert problem.expected_solutions(values, center=None, stdev=0.1) is values
    center = values[0] * 9
    assert problem.confined(center) is center


def test_frozen_weights_cannot_be_changed_from_outside():
    problem = lander()
    problem.frozen_weights.zero_()
    assert problem.frozen_weights.abs().min() > 0


# Counts and status


def test_the_status_counts_steps_and_episodes(echo_log):
    problem = echo(Seeded, num_episodes=4)
    for round_ in (1, 2):
        fitness(problem, WEIGHTS)
        steps = sum(len(episode) - 1 for episode in echo_log)
        assert problem.status["total_interaction_count"] == problem.interaction_count == steps
        assert problem.status["total_episode_count"] == problem.episode_count == 3 * 4 * round_
        assert problem.evaluation_round == round_


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_steps_are_counted_on_both_simulators(backend):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), backend=backend, num_episodes=2, seed=0)
    evals = fitness(problem, problem.generate_batch(6).values)
    assert problem.status["total_interaction_count"] == 2 * evals.sum() > 6 * 2 * 8  # CartPole's reward is 1 per step


def test_the_status_has_the_mean_sparsity_of_the_evaluated_solutions():
    problem = lander()
    scores = problem.generate_batch(5).values
    fitness(problem, scores)
    assert problem.status["mean_sparsity"] == pytest.approx(1 - (scores > 0).double().mean().item(), abs=1e-12)
    problem = lander(sparsity=0.75, hidden_sizes=(10,))
    fitness(problem, problem.generate_batch(5).values)
    assert problem.status["mean_sparsity"] == 0.75


@pytest.mark.parametrize(
    "options", [{}, {"observation_normalization": True, "common_random_numbers": False, "risk_aversion": 0.5}], ids=str
)
def test_masks_are_evaluated_like_solutions_with_these_masks(options):
    one, other = (lander(sparsity=0.5, **options) for _ in range(2))
    for popsize, as_array in ((5, False), (3, True)):
        scores = one.generate_batch(popsize).values
        mask = one.mask(scores)
        found = other.evaluate_masks(mask.numpy() if as_array else mask)
        assert found.dtype == np.float64
        assert found.tolist() == one.evaluate_array(scores).tolist()
        for name in ("total_interaction_count", "total_episode_count", "mean_sparsity"):
            assert other.status[name] == one.status[name]
        assert other.evaluation_round == one.evaluation_round
        if options:
            np.testing.assert_array_equal(other.get_observation_stats().sum, one.get_observation_stats().sum)


def test_evaluated_masks_may_differ_from_the_sparsity_of_the_rule():
    problem = MaskedGymProblem(Echo, LINEAR, env_config={"steps": 12}, num_episodes=3, sparsity=0.0, seed=3)
    weight = float(problem.frozen_weights[0])
    fitness = problem.evaluate_masks([[True], [False]])
    returns = problem.last_returns
    np.testing.assert_allclose(returns, [3 * [12 * weight], 3 * [0.0]], rtol=1e-6)
    np.testing.assert_array_equal(fitness, returns.mean(axis=1))
    assert problem.status == {"total_interaction_count": 72, "total_episode_count": 6, "mean_sparsity": 0.5}
    assert problem.num_episodes == 3


def test_a_single_solution_can_be_evaluated():
    problem, other = lander(), lander()
    solution = problem.generate_batch(3)[1]
    problem.evaluate(solution)
    assert solution.evals[0] == fitness(other, solution.values[None])[0, 0]
    assert problem.status["total_episode_count"] == 2


def test_the_status_has_the_best_solution_so_far():
    problem = echo()
    evals = fitness(problem, WEIGHTS)
    assert problem.status["best_eval"] == evals.max() == 24.0
    assert problem.status["best"].values.item() == 2.0


def test_get_env_returns_an_environment_of_the_task():
    env = lander(env_config={"gravity": -4.0}).get_env()
    assert isinstance(env, gym.Env)
    assert env.unwrapped.gravity == -4.0


def test_a_problem_is_an_evotorch_problem_with_sense_max():
    problem = lander()
    assert isinstance(problem, Problem)
    assert problem.senses == ["max"]
    assert problem.dtype == torch.float32
    assert problem.lower_bounds is None
    assert problem.solution_length == problem.network.num_weights == 8 * 6 + 6 * 4


@pytest.mark.parametrize("recombination", ["expected", "weighted", "uniform"])
def test_a_search_does_not_depend_on_the_number_of_threads(recombination):
    centers = []
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(300, 300), episode_length=20, seed=0)
            searcher = ElitistGaussianResampling(problem, popsize=16, recombination=recombination)
            searcher.run(5)
            assert torch.get_num_threads() == num_threads  # evaluations use one thread, and restore the number
            centers.append(searcher.population.values.as_subclass(torch.Tensor))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*centers)


def test_hooks_and_status_see_masks_that_are_evaluated():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(3,), mask_rule=TopK(0.5), seed=0)
    masks = torch.rand((4, problem.solution_length)) < 0.8  # more than the rule keeps
    seen = []
    problem.before_eval_hook.append(lambda batch: seen.append((batch.values > 0.0).clone()))
    problem.after_eval_hook.append(lambda batch: {"most": batch.evals[:, 0].max().item()})
    fitness = problem.evaluate_masks(masks)
    assert torch.equal(seen[0], masks)
    assert problem.status["most"] == fitness.max()
    assert problem.status["mean_sparsity"] == pytest.approx(1.0 - masks.double().mean().item())
    assert problem.status["total_episode_count"] == 4
    assert "best" not in problem.status
    assert problem.last_returns.mean(axis=1).tolist() == fitness.tolist()
