"""Fitness equals the rewards of the environment, for EvoTorch's batches and for arrays of other libraries."""

from functools import reduce
from operator import add

import cma
import numpy as np
import pytest
from environments import Echo
from evaluations import fitness
from test_gym_problem import LINEAR, WEIGHTS, echo

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, EvaluationError, MaskedGymProblem

# Numbers beyond float32


class Rich(Echo):
    """Each of ten steps has the reward ``base`` plus the action."""

    def __init__(self, *, base, **kwargs):
        super().__init__(**kwargs)
        self._base = base

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, self._base + reward, *rest


@pytest.mark.parametrize("base", [0.0, 1e8, -1e12, 1e300])
def test_fitness_equals_the_rewards_of_the_environment(base):
    problem = DenseGymProblem(Rich, LINEAR, env_config={"base": base}, seed=0)
    weights = np.array([[0.25], [0.5], [0.75], [1.0]], dtype=np.float32)
    expected = [reduce(add, [base + w] * 10) for w in weights[:, 0].tolist()]
    assert problem.evaluate_array(weights).tolist() == expected
    tests = [problem.test(w, num_episodes=1)[0] for w in weights]
    assert tests == expected
    if abs(base) < 1e15:
        assert len(set(expected)) == 4


@pytest.mark.parametrize("base", [1e308, -1e308])
def test_an_overflow_of_the_sum_of_rewards_is_reported_with_solution_and_episode(base):
    problem = DenseGymProblem(Rich, LINEAR, env_config={"base": base}, seed=0, num_episodes=2)
    with pytest.raises(EvaluationError, match=r"^solution 0, episode 0, step 10: expected a sum of rewards"):
        problem.evaluate(problem.generate_batch(2))
    assert (problem.episode_count, problem.evaluation_round) == (0, 0)


class Swinging(Echo):
    """Rewards are huge and positive in half of the episodes, and huge and negative in the others."""

    def reset(self, *, seed=None, options=None):
        self._reward = 1e200 if seed % 2 else -1e200
        return super().reset(seed=seed)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self._reward, *rest


def test_an_overflow_of_the_standard_deviation_of_returns_is_reported():
    problem = DenseGymProblem(Swinging, LINEAR, num_episodes=8, risk_aversion=1.0, seed=0)
    with pytest.raises(
        EvaluationError,
        match=r"^solution 0, episode \d, step 10: expected returns with a finite mean and spread in float64",
    ):
        problem.evaluate_array(np.ones((2, 1)))
    assert (problem.episode_count, problem.evaluation_round) == (0, 0)


def test_a_search_uses_fitness_differences_below_float32_resolution():
    problem = DenseGymProblem(Rich, LINEAR, env_config={"base": 1e8}, initial_bounds=(0, 1e-3), seed=0)
    searcher = ElitistGaussianResampling(problem, popsize=8, stdev=0.1)
    searcher.run(20)
    assert searcher.status["center"] > 0.3


# Arrays in, arrays out


def test_evaluate_array_equals_a_round_of_evaluate():
    problem, other = echo(), echo()
    values = WEIGHTS.numpy().astype(np.float64)
    seen = []
    problem.after_eval_hook.append(lambda batch: seen.append(len(batch)))
    first, second = problem.evaluate_array(values), problem.evaluate_array(values.tolist())
    assert (first.dtype, first.shape) == (np.float64, (len(values),))
    np.testing.assert_array_equal(np.stack([first, second]), fitness(other, WEIGHTS, 2).numpy())
    assert problem.interaction_count == other.interaction_count
    assert (problem.evaluation_round, seen) == (2, [len(values)] * 2)
    one = problem.evaluate_array(values[0])
    assert one.shape == ()
    assert one == first[0]
    assert problem.status["total_episode_count"] == problem.episode_count


def test_an_ask_and_tell_library_solves_a_task():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), seed=0)
    es = cma.CMAEvolutionStrategy(problem.solution_length * [0.0], 0.1, {"seed": 1, "maxiter": 20, "verbose": -9})
    while not es.stop():
        solutions = es.ask()
        es.tell(solutions, -problem.evaluate_array(solutions))
    assert problem.to_subnetwork(es.result.xfavorite).test(num_episodes=20).mean() > 100


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.ones((2, 2)), ValueError),
        (np.ones((0, 1)), ValueError),
        (np.ones((1, 2, 1)), ValueError),
        (3.0, ValueError),
        ([[np.nan]], ValueError),
        ([["a"]], TypeError),
        (None, TypeError),
    ],
    ids=str,
)
def test_invalid_arrays_are_refused(values, error):
    problem = echo()
    with pytest.raises(error, match=r"^values: expected "):
        problem.evaluate_array(values)
    assert problem.episode_count == 0


def test_kill_actors_without_actors_does_nothing():
    problem = echo(num_actors=2)
    problem.kill_actors()
    assert problem.actors is None
