"""The environment of a task, its maximum number of steps, and its simulator."""

import pickle
import re
import sys

import gymnasium as gym
import numpy as np
import pytest
from environments import Echo, FaultyEnv, OddSpaces

from subnet_problems import EvaluationError, MaskedGymProblem
from subnet_problems.tasks import BoxActions, DiscreteActions, GymTask, TupleActions
from subnet_problems.tasks._registration import Registration
from subnet_problems.tasks.simulators._envpool import envpool_task_name


def test_a_task_knows_its_spaces():
    task = GymTask(OddSpaces, env_config={"discrete": True}, episode_length=20)
    assert (task.obs_shape, task.obs_length) == ((2, 3), 6)
    assert task.actions == DiscreteActions(n=3, start=5)
    task = GymTask(OddSpaces, env_config={"discrete": False}, episode_length=20)
    low, high = (-0.25, -np.inf, 0.5, -3.0), (0.75, 0.125, np.inf, -1.0)
    assert task.actions == BoxActions(low=low, high=high, shape=(2, 2), dtype="float32")


@pytest.mark.parametrize(
    ("options", "max_steps"),
    [
        ({}, 500),
        ({"episode_length": 20}, 20),
        ({"episode_length": 2000}, 500),
        ({"env_config": {"max_episode_steps": 30}}, 30),
        ({"env_config": {"max_episode_steps": 30}, "episode_length": 10}, 10),
        ({"env": lambda: gym.make("CartPole-v1")}, 500),
        ({"env": lambda: gym.make("CartPole-v1").unwrapped, "episode_length": 5}, 5),
    ],
)
def test_the_shorter_of_the_two_limits_holds(options, max_steps):
    assert GymTask(**{"env": "CartPole-v1"} | options).max_steps == max_steps


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Blackjack-v1", "CliffWalking-v1", "Taxi-v4"])
def test_envpool_is_not_used_for_discrete_observations(env):
    """EnvPool has such environments, but their observations have another format."""
    task = GymTask(env, episode_length=10)
    assert task.backend == "gymnasium"
    assert task.obs_shape == (task.obs_length,) == (gym.spaces.utils.flatdim(gym.make(env).observation_space),)
    with pytest.raises(
        ValueError, match=rf"^backend: 'envpool' cannot serve '{env}': (its observations are not|it has no)"
    ):
        GymTask(env, episode_length=10, backend="envpool")


def test_envpool_is_used_only_for_box_and_discrete_actions():
    probe, registration = gym.make("CartPole-v1"), Registration("CartPole-v1")
    assert envpool_task_name(registration, {}, probe, DiscreteActions(2)) == "CartPole-v1"
    with pytest.raises(ValueError, match="its actions are not those of Gymnasium"):
        envpool_task_name(registration, {}, probe, TupleActions((DiscreteActions(2),)))


def test_an_environment_without_a_step_limit_requires_an_episode_length():
    with pytest.raises(ValueError, match=r"^episode_length: expected a whole number >= 1, since .* got None"):
        GymTask(OddSpaces, env_config={"discrete": True})


@pytest.mark.parametrize(
    ("env", "env_config", "backend"),
    [
        ("CartPole-v1", {}, "envpool"),
        ("Acrobot-v1", {}, "envpool"),
        ("MountainCar-v0", {}, "envpool"),
        ("Pendulum-v1", {}, "envpool"),
        ("MountainCarContinuous-v0", {}, "envpool"),
        ("LunarLander-v3", {}, "envpool"),
        ("LunarLander-v3", {"continuous": True}, "envpool"),
        ("LunarLanderContinuous-v3", {}, "envpool"),
        ("BipedalWalker-v3", {}, "envpool"),
        ("BipedalWalkerHardcore-v3", {}, "envpool"),
        ("BipedalWalker-v3", {"hardcore": True}, "envpool"),
        ("LunarLander-v3", {"gravity": -5.0}, "gymnasium"),
        ("LunarLander-v3", {"enable_wind": True}, "gymnasium"),
        ("CartPole-v1", {"max_episode_steps": 30}, "gymnasium"),
        (lambda: gym.make("CartPole-v1"), {}, "gymnasium"),
        (Echo, {}, "gymnasium"),
    ],
)
def test_backend_auto_selects_envpool_if_it_has_the_same_environment(env, env_config, backend):
    assert GymTask(env, env_config=env_config).backend == backend


def test_a_given_backend_is_used():
    assert GymTask("CartPole-v1", backend="gymnasium").backend == "gymnasium"
    assert GymTask("CartPole-v1", backend="envpool").backend == "envpool"


@pytest.fixture
def registered():
    """Registers an id that EnvPool does not have, and one that it uses for another environment."""
    gym.register("Echo-v7", Echo, max_episode_steps=10)
    gym.register("Catch-v0", Echo, max_episode_steps=10)
    yield
    del gym.registry["Echo-v7"], gym.registry["Catch-v0"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("env", "env_config", "reason"),
    [
        (Echo, {}, "a callable makes the environment"),
        ("LunarLander-v3", {"gravity": -5.0}, "no option ['gravity']"),
        ("LunarLander-v3", {"continuous": 1}, "no option ['continuous']"),
        ("CartPole-v1", {"max_episode_steps": 30}, "no option ['max_episode_steps']"),
        ("Echo-v7", {}, "not one of them"),
        ("Catch-v0", {}, "not one of them"),
    ],
)
def test_the_error_of_the_envpool_backend_gives_the_reason(env, env_config, reason):
    with pytest.raises(ValueError, match=rf"^backend: 'envpool' cannot serve .*{re.escape(reason)}"):
        GymTask(env, env_config=env_config, backend="envpool")


def test_options_are_passed_to_the_environment():
    env = GymTask("LunarLander-v3", env_config={"continuous": True, "gravity": -3.0}).make_env(render_mode="rgb_array")
    assert (env.unwrapped.continuous, env.unwrapped.gravity, env.render_mode) == (True, -3.0, "rgb_array")
    env.close()


def test_later_changes_of_env_config_do_not_affect_the_task():
    env_config = {"steps": 3, "nested": [1]}
    task = GymTask(lambda *, steps, nested: Echo(steps=steps + nested[0]), env_config=env_config)
    env_config["steps"] = 8
    env_config["nested"][0] = 9
    env = task.make_env()
    env.reset()
    assert [env.step(np.zeros(1))[2] for _ in range(4)] == [False, False, False, True]


def test_a_task_has_a_name_if_its_environment_has_an_id():
    assert GymTask("CartPole-v1").name == "CartPole-v1"
    assert GymTask(Echo).name is None


class Spaces(gym.Env):
    """An environment with the given spaces."""

    def __init__(self, *, obs=None, act=None):
        box = gym.spaces.Box(-1.0, 1.0, (2,))
        self.observation_space, self.action_space = obs or box, act or box


BOX = gym.spaces.Box(-1.0, 1.0, (2,))


def asserts():
    raise AssertionError


@pytest.mark.parametrize(
    ("env", "env_config", "error", "message"),
    [
        ("NoSuchTask-v0", None, ValueError, "env: 'NoSuchTask-v0' .* cannot be made"),
        ("CartPole-v99", None, ValueError, "env: 'CartPole-v99' .* cannot be made"),
        ("", None, ValueError, "env: '' .* cannot be made"),
        (3, None, TypeError, "env: expected a Gymnasium id or a callable"),
        (None, None, TypeError, "env: expected a Gymnasium id or a callable"),
        (lambda: 3, None, TypeError, "env: expected the callable to return a gymnasium.Env, got 3"),
        (FaultyEnv, None, ValueError, "env: .* cannot be made: .*'folder'"),
        (asserts, None, ValueError, r"env: .* cannot be made: AssertionError\(\)"),
        (Echo, {"generator": (n for n in "ab")}, ValueError, "env_config: expected values that can be copied, got "),
        ("CartPole-v1", {"no_such_option": 1}, ValueError, "env: .*no_such_option.* cannot be made"),
        ("CartPole-v1", "continuous", TypeError, "env_config: expected a mapping"),
        ("CartPole-v1", ["continuous"], TypeError, "env_config: expected a mapping"),
        (Spaces, {"obs": gym.spaces.Text(4)}, ValueError, "env: expected an observation space Box"),
        (
            Spaces,
            {"obs": gym.spaces.Dict(a=BOX, b=gym.spaces.Text(4))},
            ValueError,
            "env: expected an observation space",
        ),
        (Spaces, {"obs": gym.spaces.Sequence(BOX)}, ValueError, "env: expected an observation space Box"),
        (Spaces, {"obs": gym.spaces.Box(-1.0, 1.0, (0,))}, ValueError, "env: expected an observation space Box"),
        (Spaces, {"act": gym.spaces.Text(4)}, ValueError, "env: expected an action space Box, Discrete, Multi"),
        (Spaces, {"act": gym.spaces.Tuple([BOX, gym.spaces.Text(4)])}, ValueError, "env: expected an action space Box"),
        (Spaces, {"act": gym.spaces.OneOf([BOX])}, ValueError, "env: expected an action space Box, Discrete, Multi"),
        (Spaces, {"act": gym.spaces.Box(-1.0, 1.0, (3, 0))}, ValueError, "env: expected an action space Box, Discrete"),
    ],
)
def test_an_unsupported_environment_is_refused(env, env_config, error, message):
    with pytest.raises(error, match=f"^{message}"):
        GymTask(env, env_config=env_config, episode_length=10)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("backend", "brax", ValueError),
        ("backend", None, TypeError),
        ("episode_length", 0, ValueError),
        ("episode_length", -1, ValueError),
        ("episode_length", 2.5, TypeError),
        ("episode_length", True, TypeError),
        ("num_threads", 0, ValueError),
        ("num_threads", 1.0, TypeError),
    ],
)
def test_errors_name_the_invalid_option(option, value, error):
    with pytest.raises(error, match=rf"^{option}: expected .* got {value!r}"):
        GymTask("CartPole-v1", **{option: value})


def test_a_callable_that_returns_the_same_environment_twice_is_refused():
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"^env: expected a callable that makes a new environment each time"):
        GymTask(lambda: env)


def test_without_envpool_gymnasium_is_used(monkeypatch):
    monkeypatch.setattr("subnet_problems.tasks.simulators._envpool.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "envpool", None)  # importing it raises
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(3,), seed=0)
    assert problem.backend == "gymnasium"
    problem.evaluate(problem.generate_batch(2))
    assert problem.episode_count == 2
    with pytest.raises(ValueError, match=r"backend: 'envpool' cannot serve 'CartPole-v1': envpool is not installed"):
        MaskedGymProblem("CartPole-v1", hidden_sizes=(3,), backend="envpool")


class Counted(Echo):
    """Counts the environments that are made and closed; making the ``number``-th one raises."""

    made, closed = 0, 0

    def __init__(self, *, number):
        type(self).made += 1
        if type(self).made == number:
            type(self).made -= 1
            raise RuntimeError("no more")
        super().__init__()

    def close(self):
        type(self).closed += 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_probed_environments_are_closed_even_after_an_exception(number):
    Counted.made = Counted.closed = 0
    if number < 3:
        with pytest.raises(ValueError, match="cannot be made: no more"):
            GymTask(Counted, env_config={"number": number})
    else:
        GymTask(Counted, env_config={"number": number})
    assert Counted.closed == Counted.made == number - 1


def test_the_backend_of_a_task_can_be_changed():
    task = GymTask("CartPole-v1", backend="gymnasium")
    assert task.at_backend("auto").backend == "envpool"
    assert task.at_backend("envpool").simulator(np.array([1, 2])).reset().shape == (2, 4)
    assert task.backend == "gymnasium"


def test_copies_of_a_task_do_not_query_envpool_again(monkeypatch):
    envpool = pytest.importorskip("envpool")
    task = GymTask("CartPole-v1")
    monkeypatch.setattr(envpool, "list_all_envs", None)
    for copied in (task, pickle.loads(pickle.dumps(task)), task.at_length(3)):
        assert copied.at_backend("gymnasium").at_backend("envpool").backend == "envpool"


@pytest.mark.parametrize("other", [gym.spaces.Discrete(3), gym.spaces.Discrete(2, start=1), BOX])
def test_environments_with_different_action_spaces_are_refused(other):
    made = []

    def make_env():
        env = gym.make("CartPole-v1")
        made.append(env)
        if len(made) > 3:
            env.action_space = other
        return env

    problem = MaskedGymProblem(make_env, hidden_sizes=(2,), seed=0)
    with pytest.raises(EvaluationError, match=r"env: expected environments with one action space, Discrete\(2\), got "):
        problem.evaluate(problem.generate_batch(4))
    assert problem.episode_count == 0
