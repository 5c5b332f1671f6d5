"""Bad input is refused, before a simulator sees it, by an error that begins with the argument's name."""

import re

import numpy as np
import pytest
import torch
from conftest import Echo, OddSpaces, batch_of
from torch import nn

from subnet_problems import DenseGymProblem, MaskedGymProblem, Threshold, TopK

NAN, INF = float("nan"), float("inf")

BAD_OPTIONS = [
    ("hidden_sizes", (0,), ValueError),
    ("hidden_sizes", (8, -1), ValueError),
    ("hidden_sizes", (2.5,), TypeError),
    ("hidden_sizes", (True,), TypeError),
    ("hidden_sizes", 64, TypeError),
    ("hidden_sizes", "64", TypeError),
    ("network", 3.5, TypeError),
    ("network", "Linear(obs_length", ValueError),
    ("network", "Linear(obs_length, 3)", ValueError),
    ("network", "Linear(7, act_length)", ValueError),
    ("network", "Linear(3, act_length)", ValueError),
    ("network", "Linear(obs_length, 5) >> Linear(6, act_length)", ValueError),
    ("network", "Tanh()", ValueError),
    ("network", nn.Linear(4, 3), ValueError),
    ("network", lambda: 3, TypeError),
    ("network_args", 3, TypeError),
    ("bias", 1, TypeError),
    ("weight_init", "gaussian", ValueError),
    ("weight_init", 1, TypeError),
    ("weight_gain", 0.0, ValueError),
    ("weight_gain", NAN, ValueError),
    ("weight_gain", "1", TypeError),
    ("network_seed", -1, ValueError),
    ("network_seed", 2**63, ValueError),
    ("network_seed", 1.0, TypeError),
    ("sparsity", 1.0, ValueError),
    ("sparsity", -0.1, ValueError),
    ("sparsity", NAN, ValueError),
    ("sparsity", "0.5", TypeError),
    ("mask", 0.5, TypeError),
    ("mask", "top", TypeError),
    ("mask", TopK, TypeError),
    ("score_stdev", 0.0, ValueError),
    ("score_stdev", -1.0, ValueError),
    ("score_stdev", NAN, ValueError),
    ("score_stdev", INF, ValueError),
    ("score_stdev", None, TypeError),
    ("num_episodes", 0, ValueError),
    ("num_episodes", -1, ValueError),
    ("num_episodes", 2.5, TypeError),
    ("num_episodes", True, TypeError),
    ("num_episodes", None, TypeError),
    ("episode_length", 0, ValueError),
    ("episode_length", 1.5, TypeError),
    ("decrease_rewards_by", NAN, ValueError),
    ("decrease_rewards_by", "1", TypeError),
    ("alive_bonus_schedule", 5, ValueError),
    ("alive_bonus_schedule", (5,), ValueError),
    ("alive_bonus_schedule", (1, 2, 3, 4.0), ValueError),
    ("alive_bonus_schedule", (-1, 1.0), ValueError),
    ("alive_bonus_schedule", (8, 3, 1.0), ValueError),
    ("alive_bonus_schedule", (2.5, 1.0), TypeError),
    ("alive_bonus_schedule", (3, NAN), ValueError),
    ("alive_bonus_schedule", (3, "1"), TypeError),
    ("action_noise_stdev", -0.1, ValueError),
    ("action_noise_stdev", INF, ValueError),
    ("action_noise_stdev", "0.1", TypeError),
    ("risk_aversion", -1.0, ValueError),
    ("risk_aversion", NAN, ValueError),
    ("risk_aversion", None, TypeError),
    ("common_random_numbers", 1, TypeError),
    ("observation_normalization", "yes", TypeError),
    ("num_actors", -1, ValueError),
    ("num_actors", 1.5, TypeError),
    ("num_actors", "many", ValueError),
    ("num_subbatches", 0, ValueError),
    ("num_subbatches", 2.0, TypeError),
    ("subbatch_size", 0, ValueError),
    ("subbatch_size", "2", TypeError),
    ("seed", -1, ValueError),
    ("seed", 2**63, ValueError),
    ("seed", 1.5, TypeError),
    ("seed", True, TypeError),
    ("backend", "brax", ValueError),
    ("num_threads", 0, ValueError),
    ("env_config", 3, TypeError),
    ("env_config", {"no_such_option": 1}, ValueError),
    ("device", "abacus", ValueError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_a_bad_argument_is_refused_by_name(name, value, error):
    said_of = {"env_config": "env"}.get(name, name) if error is ValueError else name
    with pytest.raises(error, match=rf"^{said_of}\b"):
        MaskedGymProblem("CartPole-v1", **{name: value})


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        (3, ValueError),
        ((1.0,), ValueError),
        ((1.0, 0.0), ValueError),
        ((0.0, NAN), ValueError),
        ((-INF, 0.0), ValueError),
        (("0", 1.0), TypeError),
    ],
    ids=str,
)
def test_bad_initial_bounds_are_refused_by_name(bounds, error):
    with pytest.raises(error, match=r"^initial_bounds: expected"):
        DenseGymProblem("CartPole-v1", initial_bounds=bounds)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mask": Threshold(0.0), "sparsity": 0.5}, "sparsity"),
        ({"network": "Linear(obs_length, act_length)", "hidden_sizes": (8,)}, "network"),
        ({"num_subbatches": 2, "subbatch_size": 2}, "subbatch_size"),
    ],
    ids=str,
)
def test_two_arguments_for_one_thing_are_refused(options, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected None where .* is given"):
        MaskedGymProblem("CartPole-v1", **options)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ("NoSuchTask-v0", {}, "env: 'NoSuchTask-v0' .*cannot be made"),
        ("Blackjack-v1", {}, "env: expected an observation space Box"),
        ("Taxi-v4", {}, "env: expected an observation space Box"),
        (OddSpaces, {"env_config": {"discrete": True}}, "episode_length: expected a whole number >= 1"),
        ("LunarLander-v3", {"env_config": {"gravity": -5.0}, "backend": "envpool"}, "backend: 'envpool' cannot serve"),
        (Echo, {"backend": "envpool"}, "backend: 'envpool' cannot serve .*made by a callable"),
    ],
)
def test_an_environment_that_cannot_be_served_is_refused_at_construction(env, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        MaskedGymProblem(env, **options)


@pytest.mark.parametrize("make", [MaskedGymProblem, DenseGymProblem])
@pytest.mark.parametrize("misspelt", ["num_episode", "sparcity", "Seed", "popsize"])
def test_a_misspelt_argument_is_refused(make, misspelt):
    with pytest.raises(TypeError, match=misspelt):
        make("CartPole-v1", **{misspelt: 1})


def test_arguments_after_the_network_go_by_name():
    with pytest.raises(TypeError):
        MaskedGymProblem("CartPole-v1", None, Threshold(0.0))


def test_a_nan_among_the_scores_is_refused_before_anything_is_played(echo_log):
    problem = MaskedGymProblem(Echo, hidden_sizes=(4,))
    values = problem.generate_batch(5).values.clone()
    values[2, 3] = NAN
    with pytest.raises(ValueError, match=r"^solutions: expected no NaN, got one at row 2, column 3"):
        problem.evaluate(batch_of(problem, values))
    assert not echo_log
    assert problem.interaction_count == problem.evaluation_round == 0
    with pytest.raises(ValueError, match=r"^scores: expected no NaN"):
        problem.mask(values)
    with pytest.raises(ValueError, match=r"^x: expected no NaN, got one at row 0, column 3"):
        problem.to_policy(values[2])


def test_infinite_scores_are_scores():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    values = problem.generate_batch(2).values.clone()
    values[0], values[1, ::2] = -INF, INF
    assert problem.mask(values).sum(dim=1).tolist() == [0, 12 + int((values[1, 1::2] > 0).sum())]


@pytest.mark.parametrize("method", ["to_policy", "to_subnetwork", "test", "run"])
@pytest.mark.parametrize("shape", [(23,), (25,), (1, 24), (2, 24), ()])
def test_a_solution_of_another_shape_is_refused_with_both_shapes(method, shape):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    with pytest.raises(ValueError, match=rf"^x: expected .*24.* got {re.escape(str(shape))}|got \(1, 2[35]\)"):
        getattr(problem, method)(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 23), (24, 2), (3, 2, 24), ()])
def test_scores_of_another_shape_are_refused(shape):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    with pytest.raises(ValueError, match=r"^scores: expected shape \(N, D\) = \(N, 24\)"):
        problem.decode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("method", "option", "value", "error"),
    [
        ("test", "num_episodes", 0, ValueError),
        ("test", "num_episodes", 2.0, TypeError),
        ("test", "seed", -1, ValueError),
        ("test", "seed", None, TypeError),
        ("run", "num_episodes", 0, ValueError),
        ("run", "seed", -1, ValueError),
        ("run", "seed", 0.5, TypeError),
    ],
)
def test_a_bad_argument_of_a_test_or_a_run_is_refused_by_name(method, option, value, error):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    with pytest.raises(error, match=rf"^{option}: expected .* got {value!r}"):
        getattr(problem, method)(torch.zeros(24), **{option: value})


@pytest.mark.parametrize(
    "rule",
    [
        lambda scores: scores,
        lambda scores: scores[:, :-1] > 0,
        lambda scores: (scores > 0).numpy(),
        lambda scores: None,
    ],
)
def test_a_mask_rule_that_returns_no_mask_is_refused(rule):
    class Rule:
        rescale = False

        def __call__(self, scores, layers):
            return rule(scores)

    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), mask=Rule())
    with pytest.raises(TypeError, match=r"^mask: expected the rule to return a bool tensor \(3, 24\)"):
        problem.evaluate(problem.generate_batch(3))
