"""Searches, tests and files use exactly the environment that was registered."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo
from gymnasium import wrappers
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.registration import WrapperSpec

from subnet_problems import MaskedGymProblem, Subnetwork, record_video
from subnet_problems.tasks import GymTask
from subnet_problems.tasks._registration import Registration, describe_shipped


class Penalized(CartPoleEnv):
    """CartPole with a reward of -7 per step."""

    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, -7.0, terminated, truncated, info


class Doubled(gym.RewardWrapper, gym.utils.RecordConstructorArgs):
    def __init__(self, env, factor=2.0):
        gym.utils.RecordConstructorArgs.__init__(self, factor=factor)
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


STOCK = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
DOUBLED = WrapperSpec("Doubled", f"{__name__}:Doubled", {"factor": 2.0})

#: Other environments under the id of a stock one: arguments of the registration, and the reward per step.
CHANGED = {
    "another class": ({"entry_point": Penalized, "max_episode_steps": 500}, -7.0),
    "another class, by its name": ({"entry_point": f"{__name__}:Penalized", "max_episode_steps": 500}, -7.0),
    "a function": ({"entry_point": lambda **options: Penalized(**options), "max_episode_steps": 500}, -7.0),
    "a wrapper": ({"entry_point": STOCK, "max_episode_steps": 500, "additional_wrappers": (DOUBLED,)}, 2.0),
    "a wrapper within": ({"entry_point": lambda **o: Doubled(CartPoleEnv(**o)), "max_episode_steps": 500}, 2.0),
    "a shorter limit": ({"entry_point": STOCK, "max_episode_steps": 7}, 1.0),
    "a longer limit": ({"entry_point": STOCK, "max_episode_steps": 501}, 1.0),
    "other options": ({"entry_point": STOCK, "max_episode_steps": 500, "kwargs": {"sutton_barto_reward": True}}, 0.0),
}
each_change = pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)


@pytest.fixture
def register():
    """Registers environments until the end of a test."""
    before = dict(gym.registry)

    def register(env_id, *args, **options):
        gym.registry.pop(env_id, None)  # Gymnasium warns if an id is registered twice
        gym.register(env_id, *args, **options)

    yield register
    gym.registry.clear()
    gym.registry.update(before)


def cartpole(env="CartPole-v1", **options):
    return MaskedGymProblem(env, hidden_sizes=(2,), **{"seed": 3, "network_seed": 1} | options)


@each_change
def test_a_search_uses_the_registered_environment(change, register):
    options, reward = change
    register("CartPole-v1", **options)
    problem = cartpole()
    assert problem.backend == "gymnasium"
    scores = torch.zeros((2, problem.solution_length))
    batch = problem.generate_batch(2)
    batch.set_values(scores)
    problem.evaluate(batch)
    steps = problem.interaction_count / 2
    # The reward of Sutton and Barto is -1 at the end of an episode and 0 before.
    assert batch.evals[0] == (-1.0 if reward == 0.0 else reward * steps)


@each_change
def test_the_error_of_the_envpool_backend_names_the_difference(change, register):
    register("CartPole-v1", **change[0])
    with pytest.raises(ValueError, match=r"^backend: 'envpool' cannot serve 'CartPole-v1': the environment is not "):
        GymTask("CartPole-v1", backend="envpool")


def test_irrelevant_registration_options_do_not_exclude_envpool(register):
    register(
        "CartPole-v1",
        STOCK,
        max_episode_steps=500,
        reward_threshold=3.0,
        disable_env_checker=True,
        nondeterministic=True,
    )
    assert GymTask("CartPole-v1").backend == "envpool"


def test_a_class_that_replaces_the_one_of_gymnasium_is_used(monkeypatch):
    monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv", Penalized)
    task = GymTask("CartPole-v1")
    assert task.backend == "gymnasium"
    with pytest.raises(ValueError, match=r"it is made by .*Penalized, not by gymnasium\.envs"):
        task.at_backend("envpool")


@pytest.mark.parametrize("env_config", [{}, {"gravity": -3.0, "enable_wind": True, "continuous": True}])
def test_a_lander_registered_with_other_options_uses_them(env_config, register):
    kwargs = {"gravity": -3.0, "enable_wind": True, "continuous": True}
    register("LunarLander-v3", "gymnasium.envs.box2d.lunar_lander:LunarLander", kwargs=kwargs, max_episode_steps=1000)
    task = GymTask("LunarLander-v3", env_config=env_config)
    env = task.make_env()
    assert (task.backend, env.unwrapped.gravity, env.unwrapped.enable_wind) == ("gymnasium", -3.0, True)


def test_stock_environments_are_recognized_as_shipped_with_gymnasium():
    for name in ("CartPole-v1", "LunarLander-v3", "BipedalWalkerHardcore-v3", "MountainCar-v0", "Acrobot-v1"):
        assert Registration(name).description == describe_shipped(name)
    shipped = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("gymnasium.envs.")]
    assert [name for name in shipped if Registration(name).description != describe_shipped(name)] == []
    assert len(shipped) > 40


def test_an_id_known_only_to_envpool_refers_to_the_registered_environment(register):
    register("AdroitHandDoor-v1", Echo, max_episode_steps=10)
    assert cartpole("AdroitHandDoor-v1").backend == "gymnasium"


def test_an_id_without_a_version_refers_to_the_latest_version_at_construction(register):
    with pytest.warns(UserWarning, match="latest versioned environment"):
        problem = cartpole("CartPole")
    register("CartPole-v2", Penalized, max_episode_steps=3)
    assert problem.test(torch.zeros(problem.solution_length), num_episodes=1)[0] > 0
    assert problem.backend == "envpool"


def test_a_problem_uses_the_environment_registered_at_its_construction(register):
    problem = cartpole(backend="gymnasium")
    before = problem.test(torch.zeros(problem.solution_length), num_episodes=2)
    register("CartPole-v1", Penalized, max_episode_steps=500)
    np.testing.assert_array_equal(problem.test(torch.zeros(problem.solution_length), num_episodes=2), before)
    assert problem.backend == problem.task.at_backend("auto").at_backend("gymnasium").backend


# Policies


@pytest.fixture
def penalized(register, tmp_path):
    """The file of a policy that was found while CartPole-v1 was another environment."""
    before = gym.registry["CartPole-v1"]
    register("CartPole-v1", Penalized, max_episode_steps=500)
    problem = cartpole()
    problem.to_subnetwork(torch.zeros(problem.solution_length)).save(tmp_path / "pole.safetensors")
    gym.registry["CartPole-v1"] = before
    return tmp_path / "pole.safetensors"


@pytest.mark.parametrize("play", ["test", "make_task", "record_video"])
def test_a_policy_is_refused_in_another_environment_under_the_same_id(penalized, register, play):
    subnet = Subnetwork.load(penalized)

    def go():
        if play == "record_video":
            return record_video(subnet, None, penalized.with_suffix(".gif"))
        return getattr(subnet, play)()

    message = (
        r"^env: expected 'CartPole-v1' to be registered as it was .* instead of '\w+:Penalized'; register it as before"
    )
    with pytest.raises(ValueError, match=message):
        go()
    assert not penalized.with_suffix(".gif").exists()
    assert subnet.test(env="CartPole-v1", num_episodes=1)[0] > 0  # an explicit env is accepted
    register("CartPole-v1", Penalized, max_episode_steps=500)
    assert subnet.test(num_episodes=1)[0] < 0


def test_a_policy_of_a_stock_environment_is_refused_in_another_one_under_its_id(register, tmp_path):
    problem = cartpole()
    subnet = problem.to_subnetwork(torch.zeros(problem.solution_length))
    assert subnet.registration is None
    register("CartPole-v1", Penalized, max_episode_steps=500)
    subnet.save(tmp_path / "a.safetensors")
    for policy in (subnet, Subnetwork.load(tmp_path / "a.safetensors"), subnet.prune()):
        with pytest.raises(ValueError, match=r"^env: expected 'CartPole-v1' to be registered as it was"):
            policy.test(num_episodes=1)


def paying(reward):
    return lambda **options: pay(reward, **options)


def pay(reward, **options):
    env = CartPoleEnv(**options)
    return wrappers.TransformReward(env, lambda r: reward * r)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda **o: pay(1, **o), lambda **o: pay(100, **o)),
        (partial(pay, 1), partial(pay, 100)),
        (partial(pay, 1), partial(Penalized)),
        (partial(lambda **o: pay(1, **o)), partial(lambda **o: pay(100, **o))),
        (paying(1), paying(100)),
        (lambda reward=1, **o: pay(reward, **o), lambda reward=100, **o: pay(reward, **o)),
    ],
    ids=["functions", "arguments of a function", "functions with arguments", "functions within", "bound", "defaults"],
)
def test_anonymous_entry_points_are_distinguished(before, after, register):
    register("CartPole-v1", before, max_episode_steps=20)
    problem = cartpole()
    subnet = problem.to_subnetwork(torch.zeros(problem.solution_length))
    expected = subnet.test(num_episodes=1)
    register("CartPole-v1", before, max_episode_steps=20)
    np.testing.assert_array_equal(subnet.test(num_episodes=1), expected)
    register("CartPole-v1", after, max_episode_steps=20)
    with pytest.raises(ValueError, match=r"^env: expected 'CartPole-v1' to be registered as it was"):
        subnet.test(num_episodes=1)
    with pytest.raises(ValueError, match=r"^env: expected the policy's own task"):
        subnet.tested(num_episodes=1, env="CartPole-v1")  # a test in another environment is not recorded


def test_the_description_of_a_function_is_the_same_in_every_process():
    code = "from subnet_problems.tasks._registration import describe_callable; "
    code += "print(describe_callable(lambda k: k in {'a', 'b', 'c'}))"
    names = set()
    code += "; print(list({'a', 'b', 'c'}))"
    orders = set()
    for seed in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        name, order = run.stdout.splitlines()
        names.add(name)
        orders.add(order)
    assert len(orders) == 2
    assert len(names) == 1
    assert "#" in names.pop()


def test_only_tests_in_the_callable_of_the_search_are_recorded():
    problem = windy()
    subnet = problem.to_subnetwork(torch.zeros(problem.solution_length))
    assert subnet.tested(env=Windy, num_episodes=2).tests["mean"] == subnet.test(env=Windy, num_episodes=2).mean()
    with pytest.raises(ValueError, match=r"^env: expected the policy's own task"):
        subnet.tested(env=lambda wind: Windy(wind=wind + 1.0), num_episodes=2)


def test_a_class_of_gymnasium_with_a_replaced_method_is_used(monkeypatch):
    step = CartPoleEnv.step
    monkeypatch.setattr(CartPoleEnv, "step", lambda self, action: step(self, action))
    with pytest.raises(ValueError, match=r"it has other methods \['CartPoleEnv\.step'\]"):
        GymTask("CartPole-v1", backend="envpool")
    assert GymTask("CartPole-v1").backend == "gymnasium"


def test_an_unpicklable_entry_point_is_looked_up_in_the_registry(register):
    lock = threading.Lock()
    register("MyPole-v0", lambda **options: Penalized(**options) if lock else None, max_episode_steps=20)
    problem = cartpole("MyPole-v0")
    x = torch.zeros(problem.solution_length)
    before = problem.test(x, num_episodes=1)
    data = cloudpickle.dumps(problem)
    for copied in (copy.deepcopy(problem), problem.clone(), cloudpickle.loads(data)):
        np.testing.assert_array_equal(copied.test(x, num_episodes=1), before)
    register("MyPole-v0", Penalized, max_episode_steps=20)
    with pytest.raises(ValueError, match=r"^env: expected 'MyPole-v0' to be registered in this process as it was"):
        cloudpickle.loads(data)


# The configuration


class Restless(Echo):
    """Changes its own options at each step."""

    def __init__(self, *, start, moves):
        super().__init__()
        self.start, self.moves = start, moves

    def step(self, action):
        self.start += 1.0
        self.moves.append(1)
        obs, _, *rest = super().step(action)
        return obs, float(self.start.sum()) + len(self.moves), *rest


def test_an_environment_can_change_only_its_own_copy_of_the_options():
    env_config = {"start": np.zeros(2), "moves": []}
    problem = MaskedGymProblem(Restless, env_config=env_config, hidden_sizes=(2,), seed=0)
    x = torch.zeros(problem.solution_length)
    expected = sum(3.0 * step for step in range(1, 11))
    for _ in range(2):
        assert problem.test(x, num_episodes=3).tolist() == [expected] * 3
        assert problem.evaluate_array(x) == expected
    assert problem.to_subnetwork(x).env_config["moves"] == []
    assert problem.task.env_config["start"].tolist() == [0.0, 0.0]


def test_large_options_are_shared():
    env_config = {"wind": np.zeros(2**18)}
    task = GymTask(lambda wind: Windy(wind=wind), env_config=env_config)
    assert task.make_env().wind is task.make_env().wind is not env_config["wind"]


@pytest.mark.parametrize("wrapper", [lambda env: env, wrappers.RecordEpisodeStatistics])
def test_a_shared_environment_in_new_wrappers_is_refused(wrapper):
    env = Echo()
    with pytest.raises(ValueError, match=r"^env: expected a callable that makes a new environment each time"):
        GymTask(lambda: wrapper(env))


class Windy(Echo):
    """The reward of each of ten steps is the option ``wind``."""

    def __init__(self, *, wind=0.0, **kwargs):
        super().__init__(**kwargs)
        self.wind = wind

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, self.wind, *rest

    def render(self):
        return np.full((2, 2, 3), int(self.wind), np.uint8)


def windy(**options):
    return MaskedGymProblem(Windy, hidden_sizes=(2,), env_config={"wind": 3.0}, **options)


@pytest.mark.parametrize("saved", [False, True])
def test_a_policy_keeps_the_configuration_of_its_search(saved, tmp_path):
    problem = windy()
    scores = torch.zeros(problem.solution_length)
    assert problem.evaluate_array(scores) == 30.0
    assert problem.test(scores, num_episodes=1) == [30.0]
    assert problem.run(scores)["cumulative_reward"] == 30.0
    subnet = problem.to_subnetwork(scores)
    if saved:
        subnet.save(tmp_path / "a.safetensors")
        subnet = Subnetwork.load(tmp_path / "a.safetensors")
    assert subnet.make_task(Windy).env_config == {"wind": 3.0}
    assert subnet.test(env=Windy, num_episodes=2).tolist() == [30.0, 30.0]
    assert subnet.tested(env=Windy, num_episodes=2).tests["mean"] == 30.0
    assert subnet.test(env=problem.task, num_episodes=2).tolist() == [30.0, 30.0]
    assert subnet.test(env=Windy, env_config={"wind": 5.0}, num_episodes=2).tolist() == [50.0, 50.0]
    assert subnet.make_task(Windy, env_config={"steps": 3}).env_config == {"wind": 3.0, "steps": 3}
    assert subnet.test(env=GymTask(Windy), num_episodes=2).tolist() == [0.0, 0.0]
    assert subnet.test(env=Windy, episode_length=4, num_episodes=2).tolist() == [12.0, 12.0]
    with pytest.raises(
        ValueError, match=r"^env: expected the policy's own task, None with {'wind': 3.0}, got None with {}"
    ):
        subnet.tested(env=GymTask(Windy), num_episodes=2)  # a test with another configuration is not recorded
    with pytest.raises(ValueError, match=r"^env_config: expected None when env is a GymTask"):
        subnet.test(env=problem.task, env_config={})


# Other processes

MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Pole(CartPoleEnv):
    def step(self, action):
        return (*super().step(action)[:1], -7.0, *super().step(action)[2:])

gym.register("Pole-v0", "pole_module:Pole", max_episode_steps=20)
"""

SCRIPT = """
import sys
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
import numpy as np

from subnet_problems import MaskedGymProblem

class MyPole(CartPoleEnv):
    def step(self, action):
        assert "cma.evolution_strategy" not in sys.modules  # neither here nor in an actor
        obs, _, *rest = super().step(action)
        return obs, -7.0, *rest

if __name__ == "__main__":
    gym.register("MyPole-v0", MyPole, max_episode_steps=20)
    sys.path.insert(0, sys.argv[1])
    for env in ("MyPole-v0", "pole_module:Pole-v0"):
        results = []
        for num_actors in (None, 2):
            problem = MaskedGymProblem(env, hidden_sizes=(2,), seed=1, num_actors=num_actors)
            results.append(problem.evaluate_array(np.zeros((3, problem.solution_length))))
            problem.kill_actors()
        np.testing.assert_array_equal(*results)
        print(env, results[0].max() < 0)
    sys.path.remove(sys.argv[1])
    problem = MaskedGymProblem("pole_module:Pole-v0", hidden_sizes=(2,), num_actors=2)
    try:
        problem.evaluate(problem.generate_batch(2))
    except ValueError as error:
        print(problem.episode_count, str(error)[:61])
"""


def test_actors_use_environments_registered_in_the_main_process(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "pole_module.py").write_text(MODULE)
    root = os.getcwd()  # noqa: PTH109
    environ = {name: value for name, value in os.environ.items() if name != "RAY_preload_python_modules"}
    environ["RAY_ADDRESS"] = "local"  # a new cluster, even beside one of another process
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "modules"],
        env={**environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert [line for line in run.stdout.splitlines() if line.startswith(("MyPole", "pole_module", "0 "))] == [
        "MyPole-v0 True",
        "pole_module:Pole-v0 True",
        "0 env: cannot be made in an actor: No module named 'pole_module",
    ], run.stderr


def test_a_problem_is_pickled_with_its_environment(register):
    register("MyPole-v0", lambda **options: Penalized(**options), max_episode_steps=20)
    problem = cartpole("MyPole-v0")
    before = problem.test(torch.zeros(problem.solution_length), num_episodes=2)
    for copied in (pickle.loads(pickle.dumps(problem)), cloudpickle.loads(cloudpickle.dumps(problem)), problem.clone()):
        del gym.registry["MyPole-v0"]
        np.testing.assert_array_equal(copied.test(torch.zeros(problem.solution_length), num_episodes=2), before)
        register("MyPole-v0", Penalized, max_episode_steps=20)
