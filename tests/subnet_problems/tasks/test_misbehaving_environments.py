"""Faults of an environment are reported with their location; nothing is counted, and the search can continue."""

import os
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import FAULTS, FaultyEnv
from evaluations import batch_of, fitness

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, EvaluationError, MaskedGymProblem, record_video
from subnet_problems.tasks.simulators._pools import destroy_closed_pools

REASONS = {
    "reset raises": r"the environment's reset raised RuntimeError\('not today'\)",
    "step raises": r"the environment's step raised RuntimeError\('not today'\)",
    "NaN reward": "expected a finite reward, got nan",
    "inf observation": r"expected a finite observation, got \[.*inf.*\]",
    "wrong shape": r"expected an observation of shape \(2,\), got \(3,\)",
    "no reward": "expected a reward that is one number, got None",
    "four values": r"expected the environment's step to return \(observation, reward, .*\), got 4 values",
}
#: Kind and step of a fault. An observation can already be wrong at the reset (step 0).
CASES = [
    (kind, step)
    for kind in FAULTS
    for step in {"reset raises": [0], "inf observation": [0, 3], "wrong shape": [0, 3]}.get(kind, [1, 3, 5])
]


def faulty_problem(fault_file, **options):
    """Each solution has its own episodes, so that a seed identifies a solution and an episode."""
    defaults = {"num_episodes": 3, "common_random_numbers": False, "observation_normalization": True, "seed": 4}
    return DenseGymProblem(
        FaultyEnv, hidden_sizes=(3,), env_config={"folder": str(fault_file.path)}, **defaults | options
    )


def state_of(problem):
    stats = problem.get_observation_stats()
    counts = (problem.interaction_count, problem.episode_count, problem.evaluation_round, stats.count)
    return counts, stats.sum.tolist(), problem.generator.get_state().tolist()


@pytest.mark.parametrize("options", [{}, {"subbatch_size": 2}], ids=str)
@pytest.mark.parametrize(("kind", "step"), CASES)
def test_errors_name_the_solution_episode_and_step(kind, step, options, fault_file):
    problem = faulty_problem(fault_file, **options)
    values = problem.generate_batch(5).values
    expected = fitness(faulty_problem(fault_file), values)
    fault_file.inject(kind, seed=fault_file.seeds()[3 * 3 + 1], step=step)
    before = state_of(problem)
    with pytest.raises(EvaluationError, match=f"^solution 3, episode 1, step {step}: {REASONS[kind]}") as caught:
        problem.evaluate(batch_of(problem, values))
    assert (caught.value.solution, caught.value.episode, caught.value.step) == (3, 1, step)
    assert state_of(problem) == before
    fault_file.clear()
    assert torch.equal(fitness(problem, values), expected)


@pytest.mark.parametrize("failing_step", [1, 2, 3])
@pytest.mark.parametrize("recombination", ["uniform", "weighted", "expected"])
def test_a_failed_step_does_not_change_a_search(failing_step, recombination, fault_file):
    def search():
        options = {"popsize": 6, "num_elites": 2, "recombination": recombination}
        return ElitistGaussianResampling(faulty_problem(fault_file), **options)

    whole, disturbed = search(), search()
    whole.run(failing_step - 1)
    num_resets = len(fault_file.seeds()) if failing_step > 1 else 0
    whole.run(1)
    seed = fault_file.seeds()[num_resets + 3 * 4 + 2]
    disturbed.run(failing_step - 1)
    fault_file.inject("NaN reward", seed=seed, step=2)
    population = disturbed.population.clone()
    before = state_of(disturbed.problem)
    for _ in range(2):
        with pytest.raises(EvaluationError, match=r"^solution 4, episode 2, step 2: expected a finite reward"):
            disturbed.step()
        assert state_of(disturbed.problem) == before
        assert disturbed.step_count == failing_step - 1
        assert torch.equal(disturbed.population.values, population.values)
        torch.testing.assert_close(disturbed.population.evals, population.evals, rtol=0, atol=0, equal_nan=True)
    fault_file.clear()
    disturbed.run(1)
    whole.run(2)
    disturbed.run(2)
    assert torch.equal(disturbed.population.values, whole.population.values)
    assert torch.equal(disturbed.population.evals, whole.population.evals)
    assert state_of(disturbed.problem) == state_of(whole.problem)


def test_errors_of_a_test_name_the_episode_and_step(fault_file):
    problem = faulty_problem(fault_file)
    x = torch.zeros(problem.solution_length)
    problem.test(x, num_episodes=4, seed=1)
    fault_file.inject("step raises", seed=fault_file.seeds()[2], step=4)
    with pytest.raises(EvaluationError, match=r"^solution 0, episode 2, step 4: "):
        problem.test(x, num_episodes=4, seed=1)


class Endless(gym.Env):
    """Never ends, and raises at step ``raise_at``."""

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


def test_an_endless_environment_requires_an_episode_length():
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


def test_an_exception_in_an_environment_is_reported_with_its_step():
    problem = DenseGymProblem(Endless, env_config={"raise_at": 17}, hidden_sizes=(3,), episode_length=40)
    with pytest.raises(EvaluationError, match=r"^solution 0, episode 0, step 17: the environment's step raised"):
        problem.evaluate(problem.generate_batch(4))
    assert problem.interaction_count == problem.evaluation_round == 0


def threads():
    return set(os.listdir("/proc/self/task"))  # noqa: PTH208


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")  # noqa: PTH112
@pytest.mark.parametrize("failing", [1, 6], ids=["in the first half", "in the second half"])
def test_a_failed_evaluation_leaves_no_threads_of_envpool(failing):
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
        assert not threads() - before  # threads of an earlier test may end meanwhile
    assert problem.interaction_count == problem.episode_count == problem.evaluation_round == 0
    assert torch.equal(fitness(problem, sound), expected)


class Scripted(gym.Env):
    """An episode has two steps, and returns the given values from step ``at`` on."""

    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, space, *, at=0, obs=None, reward=1.0, end=True, reset=None, step=None, render_mode=None):
        self.observation_space, self.render_mode = space, render_mode
        self.spec = gym.envs.registration.EnvSpec("Told-v0", max_episode_steps=2)
        self._sound = gym.spaces.utils.unflatten(space, np.eye(gym.spaces.utils.flatdim(space))[0])
        self._at, self._returned = at, {"obs": obs, "reward": reward, "end": end, "reset": reset, "step": step}

    def reset(self, *, seed=None, options=None):
        self._step = 0
        return self._value("reset", (self._value("obs", self._sound), {}))

    def step(self, action):
        self._step += 1
        obs, reward, end = self._value("obs", self._sound), self._value("reward", 1.0), self._value("end", False)
        return self._value("step", (obs, reward, end, False, {}))

    def _value(self, what, sound):
        returned = self._returned[what]
        return sound if returned is None or self._step < self._at else returned() if callable(returned) else returned

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


PLANE = gym.spaces.Box(-1.0, 1.0, (2,))
NESTED = gym.spaces.Dict(a=gym.spaces.Discrete(3), b=PLANE)


def nothing():
    return None


BAD_VALUES = {
    "a reset that gives an observation alone": (
        PLANE,
        {"reset": np.zeros(2)},
        r"expected the environment's reset to return \(observation, info\), got array\(\[0., 0.\]\)",
    ),
    "a reset of three": (PLANE, {"reset": (np.zeros(2), {}, 1)}, r"expected .* reset to return .*, got 3 values"),
    "a step of four": (PLANE, {"step": (np.zeros(2), 1.0, False, {})}, r"expected .* step to return .*, got 4 values"),
    "a step of nothing": (PLANE, {"step": nothing}, r"expected .* step to return .*, got None"),
    "None": (PLANE, {"obs": nothing}, r"expected an observation of real numbers and shape \(2,\), got None"),
    "a text": (PLANE, {"obs": "up"}, r"expected an observation of real numbers .*, got 'up'"),
    "rows of two lengths": (
        PLANE,
        {"obs": [[1], [1, 2]]},
        r"expected an observation of real .*, got \[\[1\], \[1, 2\]\]",
    ),
    "complex numbers": (PLANE, {"obs": np.zeros(2, complex)}, r"expected an observation of real numbers .*, got array"),
    "another shape": (PLANE, {"obs": np.zeros((1, 2))}, r"expected an observation of shape \(2,\), got \(1, 2\)"),
    "no finite observation": (PLANE, {"obs": [np.nan, 0.0]}, r"expected a finite observation, got \[nan +0"),
    "a number out of range": (gym.spaces.Discrete(3), {"obs": 3}, "expected an observation of 0 to 2, got 3"),
    "no whole number": (gym.spaces.Discrete(3), {"obs": 1.5}, "expected an observation of whole numbers, got 1.5"),
    "a missing key": (NESTED, {"obs": {"a": 1}}, r"expected an observation that is a dict with \['a', 'b'\], got {'a'"),
    "a bad part": (NESTED, {"obs": {"a": 5, "b": [0, 0]}}, "expected an observation 'a' of 0 to 2, got 5"),
    "two rewards": (PLANE, {"reward": np.ones(2)}, r"expected a reward that is one number, got array\(\[1., 1.\]\)"),
    "a reward in words": (PLANE, {"reward": "1.5"}, "expected a reward that is one number, got '1.5'"),
    "a complex reward": (PLANE, {"reward": 1 + 1j}, r"expected a reward that is one number, got \(1\+1j\)"),
    "no finite reward": (PLANE, {"reward": float("inf")}, "expected a finite reward, got inf"),
    "two ends": (
        PLANE,
        {"end": np.array([True, False])},
        r"expected terminated and truncated .*, got array\(\[ True, F",
    ),
}


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", BAD_VALUES)
def test_search_test_run_and_film_report_the_same_error(name, at, tmp_path):
    space, returned, reason = BAD_VALUES[name]
    if "reset" in returned and at:
        return
    step = at if at or "obs" in returned or "reset" in returned else 1

    def make_env(*, at=at, **options):
        return Scripted(space, at=at, **returned, **options)

    problem = MaskedGymProblem(make_env, hidden_sizes=(3,), seed=0)
    batch = problem.generate_batch(1)
    subnet = problem.to_subnetwork(batch[0])
    ways = [
        lambda: problem.evaluate(batch),
        lambda: problem.test(batch[0], num_episodes=1),
        lambda: subnet.test(num_episodes=1, env=problem.task),
        lambda: problem.run(batch[0], num_episodes=1),
        lambda: record_video(subnet, problem.task, tmp_path / "film.gif"),
    ]
    for way in ways:
        with pytest.raises(EvaluationError, match=f"^solution 0, episode 0, step {step}: {reason}") as caught:
            way()
        assert (caught.value.episode, caught.value.step) == (0, step)
    assert problem.interaction_count == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "returned",
    [
        {"reward": np.ones(1)},
        {"reward": np.float32(1)},
        {"reward": np.array(1)},
        {"reward": np.ones((1, 1), np.float16)},
        {"reward": torch.tensor(1.0)},
        {"reward": torch.tensor([1.0], requires_grad=True)},
        {"reward": 1},
        {"reward": True},
        {"end": np.array([False])},
        {"end": np.bool_(False)},
        {"end": torch.tensor(False)},
        {"end": 0},
        {"obs": torch.tensor([1.0, 0.0])},
        {"obs": torch.tensor([1.0, 0.0], requires_grad=True)},
        {"obs": torch.tensor([1, 0])},
        {"obs": [1, 0]},
        {"obs": (np.float64(1), 0.0)},
        {"obs": np.array([1, 0], np.uint8)},
        {"step": [np.array([1.0, 0.0]), 1.0, False, False, None]},
    ],
    ids=str,
)
def test_values_may_be_arrays_and_tensors(returned):
    plain, other = (
        MaskedGymProblem(partial(Scripted, PLANE, **options), hidden_sizes=(3,), seed=0)
        for options in ({"end": False}, {"end": False} | returned)
    )
    values = plain.generate_batch(4).values
    assert torch.equal(fitness(other, values), fitness(plain, values))
    assert fitness(other, values).tolist() == [[2.0] * 4]
    assert other.run(values[0], num_episodes=2) == {"cumulative_reward": 2.0, "interaction_count": 4}
    assert other.test(values[0], num_episodes=3).tolist() == [2.0] * 3


def test_rewards_keep_double_precision():
    for reward in (np.array([0.1]), torch.tensor([0.1], dtype=torch.float64, requires_grad=True), np.longdouble(0.1)):
        make_env = partial(Scripted, PLANE, reward=reward, end=False)
        problem = MaskedGymProblem(make_env, hidden_sizes=(3,), seed=0)
        assert problem.test(problem.generate_batch(1)[0], num_episodes=1).tolist() == [0.1 + 0.1]
