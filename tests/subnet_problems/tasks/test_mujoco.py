"""EnvPool plays MuJoCo's tasks as Gymnasium does: from the same state, the same actions give the same results."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from subnet_problems import FrozenNetwork
from subnet_problems.networks._philox import episode_seeds
from subnet_problems.tasks import GymTask
from subnet_problems.tasks._rollout import play

mujoco = pytest.importorskip("mujoco")

#: For each task, the number of first coordinates that its observations leave out.
LEFT_OUT = {
    "Ant": 2, "HalfCheetah": 1, "Hopper": 1, "InvertedDoublePendulum": 0, "InvertedPendulum": 0, "Reacher": 0,
    "Swimmer": 2, "Walker2d": 1,
}  # fmt: skip
TASKS = [(f"{name}-{version}", left_out) for name, left_out in LEFT_OUT.items() for version in ("v5", "v4")]
TASKS += [("Humanoid-v5", 2), ("HumanoidStandup-v5", 2)]
pytestmark = pytest.mark.filterwarnings(r"ignore:.*The environment \S+-v4 is out of date:DeprecationWarning")


def state_of(env_id, obs, left_out, model):
    """The positions and velocities of the first observation of an episode."""
    if env_id.startswith("InvertedDoublePendulum"):
        return np.concatenate([obs[:1], np.arctan2(obs[1:3], obs[3:5])]), obs[5:8]
    if env_id.startswith("Reacher"):  # its target does not move
        return np.concatenate([np.arctan2(obs[2:4], obs[:2]), obs[4:6]]), np.append(obs[6:8], [0.0, 0.0])
    num_seen = model.nq - left_out
    return np.append(np.zeros(left_out), obs[:num_seen]), obs[num_seen : num_seen + model.nv]


@pytest.mark.parametrize(("env_id", "left_out"), TASKS, ids=[name for name, _ in TASKS])
def test_envpool_plays_mujocos_tasks_as_gymnasium_does(env_id, left_out):
    task = GymTask(env_id, backend="envpool")
    simulator = task.simulator(np.array([3, 4]))
    simulator.reset()
    env = gym.make(env_id)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(env.action_space.low, env.action_space.high, (10, 2, *env.action_space.shape))
    for row in range(2):
        exact = exact_first_observation(env_id, [3, 4][row])
        env.reset(seed=0)
        env.unwrapped.set_state(*state_of(env_id, exact, left_out, env.unwrapped.model))
        rows = np.array([row], dtype=np.int32)
        for action in actions[:, row].astype(np.float32):
            simulator.send(rows, action[None])
            obs, rewards, ended = simulator.recv()
            expected, reward, terminated, truncated, _ = env.step(action)
            np.testing.assert_allclose(obs[0], expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))
            assert rewards[0] == pytest.approx(reward, rel=1e-4, abs=1e-4)
            assert ended[0] == (terminated or truncated)
            if ended[0]:
                break
    simulator.close()


def exact_first_observation(env_id, seed):
    """EnvPool's first observation in float64; the simulator returns float32."""
    import envpool

    return envpool.make(env_id, env_type="gymnasium", num_envs=1, seed=[seed]).reset()[0][0]


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5"])
def test_both_simulators_have_the_same_distribution_of_returns_in_mujoco(env_id):
    """200 episodes of one random policy. The simulators draw initial states with different generators."""
    task = GymTask(env_id, episode_length=60)
    assert task.backend == "envpool"
    network = FrozenNetwork((16,), obs_length=task.obs_length, act_length=task.actions.length)
    weights = 0.5 * torch.randn((1, network.num_weights), generator=torch.Generator().manual_seed(1))
    envpool, gymnasium = (
        play(task, network, weights, episode_seeds(seed, 200, stream=0)[None], backend=backend)
        for seed, backend in enumerate(("envpool", "gymnasium"))
    )
    assert ks_2samp(envpool.returns.ravel(), gymnasium.returns.ravel()).pvalue > 0.01
    assert ks_2samp(envpool.lengths.ravel(), gymnasium.lengths.ravel()).pvalue > 0.01


@pytest.mark.parametrize("env_id", ["Humanoid-v4", "HumanoidStandup-v4", "Pusher-v5"])
def test_tasks_that_differ_are_played_on_gymnasium(env_id):
    assert GymTask(env_id).backend == "gymnasium"
    with pytest.raises(ValueError, match=rf"^backend: 'envpool' cannot serve '{env_id}': its episodes are not those"):
        GymTask(env_id, backend="envpool")


@pytest.mark.parametrize(("version", "backend"), [("3.4.9", "gymnasium"), ("3.5.0", "envpool"), ("4.0.0", "gymnasium")])
def test_versions_of_mujoco_that_compute_contacts_differently_are_not_mixed(monkeypatch, version, backend):
    monkeypatch.setattr(mujoco, "__version__", version)
    assert GymTask("Hopper-v5").backend == backend
    if backend == "gymnasium":
        with pytest.raises(ValueError, match=r"the installed version \S+ computes contacts differently"):
            GymTask("Hopper-v5", backend="envpool")


def test_options_that_envpool_would_ignore_are_played_on_gymnasium():
    assert GymTask("HalfCheetah-v5", env_config={"forward_reward_weight": 2.0}).backend == "gymnasium"
