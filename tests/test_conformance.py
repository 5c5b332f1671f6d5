"""The conformance list: for every environment and network, all ways to run a policy give the same results.

Each case is searched, tested, saved, loaded, exported to ONNX and C, and filmed. An environment, a space, a wrapper or
a network that users ask for is one more line in a table below.
"""

import ctypes
import pickle
import shutil
import subprocess
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from evotorch.decorators import pass_info
from gymnasium import spaces, wrappers
from PIL import Image
from torch import nn

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem, Subnetwork, record_video
from subnet_problems.networks._philox import episode_seeds

FLOAT = partial(spaces.Box, dtype=np.float32)
LOW, HIGH = np.float32([[-0.25], [-np.inf]]), np.float32([[0.75], [2.0]])
PARTS = {"a": FLOAT(-1, 1, (2,)), "b": spaces.Discrete(3, start=1)}

#: Observations and actions.
SPACES = {
    "boxes": (FLOAT(-1, 1, (3,)), FLOAT(-1, 1, (2,))),
    "odd boxes": (spaces.Box(-np.inf, np.inf, (2, 3), np.float64), FLOAT(LOW, HIGH)),
    "whole numbers": (spaces.Box(0, 255, (2, 2), np.uint8), spaces.Box(-3, 3, (2,), np.int32)),
    "discrete": (spaces.Discrete(4, start=1), spaces.Discrete(3, start=-1)),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([[2, 3], [4, 2]])),
    "bits": (spaces.MultiBinary(3), spaces.MultiBinary([1, 2])),
    "dicts": (spaces.Dict(PARTS), spaces.Dict(PARTS | {"c": spaces.Dict(PARTS)})),
    "tuples": (spaces.Tuple(PARTS.values()), spaces.Tuple([*PARTS.values(), spaces.MultiBinary(2)])),
}


class Sampler(gym.Env):
    """Observations depend on the seed, rewards on the actions, which must be in the space.

    Attributes:
        log: In this process, the actions of each episode, as numbers.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    log = []  # noqa: RUF012

    def __init__(self, *, kind="boxes", factor=(1.0,), steps=5, render_mode=None):
        self.observation_space, self.action_space = SPACES[kind]
        self.render_mode, self._factor, self._steps = render_mode, factor[0], steps
        self.spec = gym.envs.registration.EnvSpec("Sampler-v0", max_episode_steps=100)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.log.append([])
        return self.observation_space.sample(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self.log[-1].append(numbers_of(action))
        done = numbers_of(action) @ np.arange(1.0, 1.0 + len(numbers_of(action)))
        ended = len(self.log[-1]) == self._steps
        return self.observation_space.sample(), float(self._factor * done), ended, False, {}

    def render(self):
        return np.full((4, 4, 3), 40 * len(self.log[-1]), np.uint8)


def wrapped(wrapper, **options):
    return wrapper(Sampler(**options))


def cartpole(**options):
    return wrappers.FrameStackObservation(gym.make("CartPole-v1", **options), 3)


#: Environments: an id or a callable, with its configuration.
ENVIRONMENTS = {
    **{name: (Sampler, {"kind": name}) for name in SPACES},
    "odd configuration": (Sampler, {"factor": (np.float32(0.3), {1: np.arange(3)}, float("inf"))}),
    "CartPole": ("CartPole-v1", {}),
    "LunarLander, continuous": ("LunarLander-v3", {"continuous": True, "gravity": -5.0}),
    "FrozenLake": ("FrozenLake-v1", {"is_slippery": False}),
    "registered": ("Sampler-v7", {"steps": 7}),
    "registered anew": ("MountainCarContinuous-v0", {}),
    "flattened": (partial(wrapped, wrappers.FlattenObservation), {"kind": "dicts"}),
    "a stack of frames": (partial(wrapped, lambda env: wrappers.FrameStackObservation(env, 2)), {}),
    "a stack of CartPole's frames": (cartpole, {}),
    "a time limit": (partial(wrapped, lambda env: wrappers.TimeLimit(env, 3)), {}),
    "scaled actions": (partial(wrapped, lambda env: wrappers.RescaleAction(env, np.float32(-2), np.float32(3))), {}),
    "transformed rewards": (partial(wrapped, lambda env: wrappers.TransformReward(env, lambda r: 7.0 - r)), {}),
    "normalized observations": (partial(wrapped, wrappers.NormalizeObservation), {}),
    "statistics": (partial(wrapped, wrappers.RecordEpisodeStatistics), {"kind": "tuples"}),
}


@pass_info
class Grid(nn.Module):
    """A convolution over observations that are not flattened, with a random buffer and running statistics."""

    def __init__(self, obs_shape, act_length, channels=2, **_):
        super().__init__()
        self.shape = obs_shape
        self.register_buffer("offset", torch.randn(obs_shape))
        self.conv, self.norm = nn.Conv1d(obs_shape[0], channels, 2), nn.BatchNorm1d(channels)
        self.out = nn.Linear(channels * (obs_shape[1] - 1), act_length)

    def forward(self, obs):
        hidden = self.conv(obs.reshape(-1, *self.shape) + self.offset)
        return self.out(torch.tanh(self.norm(hidden)).flatten(1)).reshape(*obs.shape[:-1], -1)


#: Arguments of the network, and whether the network must be given at loading.
NETWORKS = {
    "hidden layers": ({"hidden_sizes": (7, 5)}, False),
    "biases, sparse, normalized": (
        {"hidden_sizes": (7,), "bias": True, "sparsity": 0.5, "observation_normalization": True}, False,
    ),
    "no hidden layer": ({"hidden_sizes": (), "weight_init": "signed_constant", "weight_gain": 0.3}, False),
    "a string": ({"network": "Linear(obs_length, w) >> Sigmoid() >> Linear(w, 2)", "network_args": {"w": 4}}, False),
    "recurrent": ({"network": "LSTM(obs_length, 4) >> Linear(4, act_length)"}, False),
    "a module": ({"network": nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))}, True),
    "a lazy module": ({"network": nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))}, True),
    "a callable with arguments": ({"network": Grid, "network_args": {"channels": 3}}, True),
}  # fmt: skip

CASES = {
    **{f"{env}": (*found, *NETWORKS["hidden layers"]) for env, found in ENVIRONMENTS.items()},
    **{network: (*ENVIRONMENTS["odd boxes"], *found) for network, found in NETWORKS.items()},
    "sparse parts": (*ENVIRONMENTS["dicts"], *NETWORKS["biases, sparse, normalized"]),
    "recurrent parts": (*ENVIRONMENTS["tuples"], *NETWORKS["recurrent"]),
}


def numbers_of(action):
    """An action as flat numbers, its parts one after another."""
    if isinstance(action, dict | tuple):
        parts = action.values() if isinstance(action, dict) else action
        return np.concatenate([numbers_of(part) for part in parts])
    return np.asarray(action, dtype=np.float64).reshape(-1)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    before = dict(gym.registry)
    gym.register("Sampler-v7", Sampler, kwargs={"kind": "dicts"}, max_episode_steps=6)
    del gym.registry["MountainCarContinuous-v0"]
    entry_point = "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv"
    gym.register("MountainCarContinuous-v0", entry_point, kwargs={"goal_velocity": 0.02}, max_episode_steps=25)
    yield
    gym.registry.clear()
    gym.registry.update(before)


@pytest.fixture(params=CASES.values(), ids=CASES, scope="module")
def case(request, tmp_path_factory, _registered):
    """A problem, the result of a short search on it, that result as a policy, and the same policy from its file."""
    env, env_config, options, needs_network = request.param
    torch.manual_seed(0)
    problem = MaskedGymProblem(env, env_config=env_config, seed=1, network_seed=2, **options)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    searcher.run(2)
    found = torch.as_tensor(searcher.status["center"])
    subnet = problem.to_subnetwork(found).tested(num_episodes=3, seed=5, env=problem.task)
    path = tmp_path_factory.mktemp("case") / "policy.safetensors"
    subnet.save(path)
    return problem, found, subnet, Subnetwork.load(path, network=options["network"] if needs_network else None)


def env_of(problem):
    """The ``env`` argument that a policy needs: None if it knows an id."""
    return None if problem.task.name else problem.task.env


def play(problem, policy, seed):
    """One episode with ``act``: its return, its observations and its actions."""
    env = problem.get_env()
    obs, total, met, done = env.reset(seed=seed)[0], 0.0, [], []
    for _ in range(problem.task.max_steps):
        met.append(problem.task.observations(obs))
        done.append(policy.act(obs))
        obs, reward, terminated, truncated, _ = env.step(done[-1])
        total += reward
        if terminated or truncated:
            break
    env.close()
    return total, np.stack(met), done


def is_recurrent(subnet):
    return isinstance(subnet.network.architecture, str) and "LSTM" in subnet.network.architecture


def test_all_ways_to_run_a_policy_give_the_same_returns(case):
    problem, found, subnet, loaded = case
    expected = problem.test(found, num_episodes=3, seed=5)
    copied = pickle.loads(pickle.dumps(problem)) if isinstance(problem.task.env, str) else problem.clone()
    np.testing.assert_array_equal(copied.test(found, num_episodes=3, seed=5), expected)
    for policy in (subnet, loaded):
        np.testing.assert_array_equal(policy.test(env=env_of(problem), num_episodes=3, seed=5), expected)
        np.testing.assert_array_equal(policy.test(env=problem.task, num_episodes=3, seed=5), expected)
    assert loaded.tests == subnet.tests != {}
    assert (loaded.env, repr(loaded.env_config)) == (subnet.env, repr(subnet.env_config))
    problem.backend = "gymnasium"
    seeds = episode_seeds(problem.problem_seed, 2, stream=problem.evaluation_round)
    fitness = problem.evaluate_array(found)
    run = problem.run(loaded.to_policy(), num_episodes=1, seed=int(seeds[0]))["cumulative_reward"]
    assert run == pytest.approx(fitness, rel=1e-3, abs=1e-3)
    if not is_recurrent(subnet):  # ``act`` does not keep the state
        assert play(problem, loaded, int(seeds[0]))[0] == pytest.approx(run)


def test_all_implementations_of_a_policy_give_the_same_actions(case, tmp_path):
    problem, _, subnet, loaded = case
    _, obs, acts = play(problem, loaded, seed=3)
    expected = np.stack([numbers_of(action) for action in acts])
    outputs = population_outputs(loaded, obs)
    np.testing.assert_allclose(subnet_numbers(loaded, outputs), expected, rtol=1e-4, atol=1e-5)
    if is_recurrent(subnet):
        with pytest.raises(ValueError, match=r"^network: expected one without a state"):
            loaded.export_onnx(tmp_path / "policy.onnx")
    else:
        np.testing.assert_allclose(onnx_numbers(loaded, obs, tmp_path), expected, rtol=1e-4, atol=1e-5)
    try:
        loaded.live_units()
    except ValueError:
        with pytest.raises(ValueError, match=r"^network: expected a chain of linear layers"):
            loaded.export_c(tmp_path / "policy")
        return
    np.testing.assert_allclose(subnet_numbers(loaded.prune(), population_outputs(loaded.prune(), obs)), expected,
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    for form in ("rows", "seed") if loaded.network.weight_init else ("rows",):
        np.testing.assert_allclose(c_numbers(loaded, obs, tmp_path, form), expected, rtol=1e-4, atol=1e-5)


def population_outputs(subnet, obs):
    """The outputs in the search, with each observation in a separate episode."""
    policy = subnet.network.population(subnet.weights[None], num_episodes=len(obs))
    if subnet.normalizer is not None:
        obs = (obs - subnet.normalizer.mean) * subnet.normalizer.scale
    return policy.act(np.arange(len(obs), dtype=np.int32), np.ascontiguousarray(obs, dtype=np.float32))


def subnet_numbers(subnet, outputs):
    return np.stack([numbers_of(action) for action in subnet.actions.one_by_one(subnet.actions(outputs))])


def onnx_numbers(subnet, obs, folder):
    runtime = pytest.importorskip("onnxruntime")
    subnet.export_onnx(folder / "policy.onnx")
    session = runtime.InferenceSession(str(folder / "policy.onnx"), providers=["CPUExecutionProvider"])
    parts = session.run(None, {"obs": obs})
    return np.concatenate([np.asarray(part, dtype=np.float64).reshape(len(obs), -1) for part in parts], axis=1)


def c_numbers(subnet, obs, folder, form):
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    name = f"{form}_policy"
    subnet.export_c(folder, name=name, form=form)
    length = f"int length = {name.upper()}_ACT_LENGTH;"
    act = f"void act(const float *obs, float *acts) {{ {name}_act(obs, acts); }}"
    (folder / f"{form}.c").write_text(f'#include "{name}.h"\n{length}\n{act}\n')
    command = ["gcc", "-std=c99", "-Wall", "-Werror", "-shared", "-fPIC", f"{form}.c", "-o", f"{form}.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / f"{form}.so"))
    acts = np.zeros((len(obs), ctypes.c_int.in_dll(library, "length").value), dtype=np.float32)
    for row, act in zip(obs, acts, strict=True):
        library.act(row.ctypes.data_as(ctypes.c_void_p), act.ctypes.data_as(ctypes.c_void_p))
    return acts


def test_a_film_shows_the_actions_of_the_policy(case, tmp_path):
    problem, _, subnet, loaded = case
    Sampler.log.clear()
    film = record_video(loaded, env_of(problem), tmp_path / "film.gif", seed=9)
    with Image.open(film) as pictures:
        assert pictures.n_frames > 1 or problem.task.name == "FrozenLake-v1"  # the agent may not move at the edge
    if not Sampler.log or is_recurrent(subnet):
        return  # only Sampler logs actions; ``act`` does not keep the state
    (filmed,) = Sampler.log
    assert len(filmed) > 1
    Sampler.log.clear()
    play(problem, subnet, seed=9)
    np.testing.assert_allclose(filmed, Sampler.log[0], rtol=1e-4, atol=1e-5)
