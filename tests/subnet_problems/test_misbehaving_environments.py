"""An environment that misbehaves is an error that says where; nothing is counted, and the search can go on."""

import os

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import FAULTS, Moody, batch_of, fitness

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, EvaluationError
from subnet_problems.simulators.envpool import destroy_closed_pools

REASONS = {
    "reset raises": r"the environment's reset raised RuntimeError\('not today'\)",
    "step raises": r"the environment's step raised RuntimeError\('not today'\)",
    "NaN reward": "expected a finite reward, got nan",
    "inf observation": r"expected a finite observation, got \[.*inf.*\]",
    "wrong shape": r"expected an observation of shape \(2,\), got \(3,\)",
    "no reward": "expected a finite reward, got nan",
    "four values": "the environment's step raised ValueError",
}
#: Kind and step of a fault. An observation can be wrong from the reset (step 0) on.
CASES = [
    (kind, step)
    for kind in FAULTS
    for step in {"reset raises": [0], "inf observation": [0, 3], "wrong shape": [0, 3]}.get(kind, [1, 3, 5])
]


def temper(moody, **options):
    """Each solution plays episodes of its own, so that a seed names a solution and an episode."""
    defaults = {"num_episodes": 3, "common_random_numbers": False, "observation_normalization": True, "seed": 4}
    return DenseGymProblem(Moody, hidden_sizes=(3,), env_config={"folder": str(moody.path)}, **defaults | options)


def state_of(problem):
    stats = problem.get_observation_stats()
    counts = (problem.interaction_count, problem.episode_count, problem.evaluation_round, stats.count)
    return counts, stats.sum.tolist(), problem.generator.get_state().tolist()


@pytest.mark.parametrize("options", [{}, {"subbatch_size": 2}], ids=str)
@pytest.mark.parametrize(("kind", "step"), CASES)
def test_the_error_says_which_solution_episode_and_step(kind, step, options, moody):
    problem = temper(moody, **options)
    values = problem.generate_batch(5).values
    expected = fitness(temper(moody), values)
    moody.break_it(kind, seed=moody.seeds()[3 * 3 + 1], step=step)
    before = state_of(problem)
    with pytest.raises(EvaluationError, match=f"^solution 3, episode 1, step {step}: {REASONS[kind]}") as caught:
        problem.evaluate(batch_of(problem, values))
    assert (caught.value.solution, caught.value.episode, caught.value.step) == (3, 1, step)
    assert state_of(problem) == before
    moody.mend()
    assert torch.equal(fitness(problem, values), expected)


@pytest.mark.parametrize("failing_step", [1, 2, 3])
@pytest.mark.parametrize("recombination", ["uniform", "weighted", "expected"])
def test_a_search_goes_on_after_a_failed_step_as_if_nothing_had_been(failing_step, recombination, moody):
    def search():
        options = {"popsize": 6, "num_elites": 2, "recombination": recombination}
        return ElitistGaussianResampling(temper(moody), **options)

    whole, disturbed = search(), search()
    whole.run(failing_step - 1)
    num_resets = len(moody.seeds()) if failing_step > 1 else 0
    whole.run(1)
    seed = moody.seeds()[num_resets + 3 * 4 + 2]
    disturbed.run(failing_step - 1)
    moody.break_it("NaN reward", seed=seed, step=2)
    population = disturbed.population.clone()
    before = state_of(disturbed.problem)
    for _ in range(2):
        with pytest.raises(EvaluationError, match=r"^solution 4, episode 2, step 2: expected a finite reward"):
            disturbed.step()
        assert state_of(disturbed.problem) == before
        assert disturbed.step_count == failing_step - 1
        assert torch.equal(disturbed.population.values, population.values)
        torch.testing.assert_close(disturbed.population.evals, population.evals, rtol=0, atol=0, equal_nan=True)
    moody.mend()
    disturbed.run(1)
    whole.run(2)
    disturbed.run(2)
    assert torch.equal(disturbed.population.values, whole.population.values)
    assert torch.equal(disturbed.population.evals, whole.population.evals)
    assert state_of(disturbed.problem) == state_of(whole.problem)


def test_a_test_of_a_misbehaving_environment_says_where_too(moody):
    problem = temper(moody)
    x = torch.zeros(problem.solution_length)
    problem.test(x, num_episodes=4, seed=1)
    moody.break_it("step raises", seed=moody.seeds()[2], step=4)
    with pytest.raises(EvaluationError, match=r"^solution 0, episode 2, step 4: "):
        problem.test(x, num_episodes=4, seed=1)


class Endless(gym.Env):
    """Never ends, and raises at a step if it is told to."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, *, raise_at=None):
        self._raise_at = raise_at

    def reset(self, *, seed=None, options=None):
        self._step = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self._step += 1
        if self._step == self._raise_at:
            raise RuntimeError("not today")
        return np.zeros(2, np.float32), 1.0, False, False, {}


def test_an_environment_that_never_ends_is_refused_unless_its_episodes_are_bounded():
    with pytest.raises(ValueError, match=r"^episode_length: expected .* an episode might never end, got None"):
        DenseGymProblem(Endless, hidden_sizes=(3,))
    problem = DenseGymProblem(Endless, hidden_sizes=(3,), episode_length=23)
    assert fitness(problem, problem.generate_batch(4).values).tolist() == [[23.0] * 4]
    assert problem.interaction_count == 4 * 23
    for value, error in ((None, ValueError), (0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=rf"^episode_length: expected .* got {value}$"):
            problem.episode_length = value
    assert problem.episode_length == 23
    problem.episode_length = 31
    assert fitness(problem, problem.generate_batch(4).values).tolist() == [[31.0] * 4]


def test_an_environment_that_raises_at_step_17_is_an_error_that_says_so():
    problem = DenseGymProblem(Endless, env_config={"raise_at": 17}, hidden_sizes=(3,), episode_length=40)
    with pytest.raises(EvaluationError, match=r"^solution 0, episode 0, step 17: the environment's step raised"):
        problem.evaluate(problem.generate_batch(4))
    assert problem.interaction_count == problem.evaluation_round == 0


def threads():
    return set(os.listdir("/proc/self/task"))  # noqa: PTH208


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")  # noqa: PTH112
@pytest.mark.parametrize("failing", [1, 6], ids=["in the first half", "in the second half"])
def test_an_evaluation_that_fails_in_mid_episode_leaves_no_threads_of_envpool_behind(failing):
    """The state of one recurrent policy overflows after some steps, while EnvPool steps the other half."""
    network = "RNN(obs_length, 3, nonlinearity='relu') >> Linear(3, act_length)"
    options = {"network": network, "seed": 3, "backend": "envpool", "num_threads": 3, "initial_bounds": (0.0, 0.1)}
    problem = DenseGymProblem("CartPole-v1", **options)
    sound = problem.generate_batch(8).values.clone()
    expected = fitness(DenseGymProblem("CartPole-v1", **options), sound)
    wild = sound.clone()
    wild[failing] = 1e9
    destroy_closed_pools()
    before = threads()
    for _ in range(5):
        with pytest.raises(EvaluationError, match=rf"^solution {failing}, .*: expected a finite output") as caught:
            problem.evaluate(batch_of(problem, wild))
        assert caught.value.step >= 2
        destroy_closed_pools()
        assert not threads() - before  # those of an earlier test may end meanwhile
    assert problem.interaction_count == problem.episode_count == problem.evaluation_round == 0
    assert torch.equal(fitness(problem, sound), expected)
