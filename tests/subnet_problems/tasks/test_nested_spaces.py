"""A task with composite observations and actions of every kind is searched, tested, filmed and saved."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from evaluations import fitness

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem, Subnetwork, record_video


class Workshop(gym.Env):
    """Actions must be in the space; rewards are the sums of actions, and the next observation depends on the action.

    Attributes:
        log: In this process, the actions of all episodes.
    """

    observation_space = gym.spaces.Dict(
        {
            "camera": gym.spaces.Box(0, 255, (2, 2), np.uint8),
            "gear": gym.spaces.Discrete(3, start=1),
            "pads": gym.spaces.Tuple([gym.spaces.MultiBinary(2), gym.spaces.MultiDiscrete([2, 3])]),
        }
    )
    action_space = gym.spaces.Dict(
        {
            "arm": gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([0.5, 2])),
            "depth": gym.spaces.Box(-3, 3, (), np.float64),
            "grip": gym.spaces.Discrete(3, start=-1),
            "modes": gym.spaces.Tuple([gym.spaces.MultiDiscrete([[2], [4]]), gym.spaces.MultiBinary([1, 2])]),
        }
    )
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    log = []  # noqa: RUF012

    def __init__(self, *, render_mode=None):
        self.render_mode = render_mode
        self.spec = gym.envs.registration.EnvSpec("Workshop-v0", max_episode_steps=6)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self.log.append(action)
        total = sum(float(np.sum(part)) for part in gym.spaces.utils.flatten(self.action_space, action))
        obs = self.observation_space.sample()
        obs["gear"] = 1 + int(total) % 3
        return obs, total, bool(total > 7.0), False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


def problem(kind=MaskedGymProblem, env=Workshop, **options):
    return kind(env, hidden_sizes=(5,), seed=0, **{"num_episodes": 2} | options)


@pytest.mark.parametrize("options", [{}, {"observation_normalization": True, "action_noise_stdev": 0.1}], ids=str)
@pytest.mark.parametrize("kind", [MaskedGymProblem, DenseGymProblem])
def test_a_search_is_reproducible(kind, options):
    searched = problem(kind, **options)
    assert (searched.task.obs_length, searched.task.actions.length) == (4 + 3 + 2 + 5, 2 + 1 + 3 + 6 + 2)
    assert searched.backend == "gymnasium"
    searcher = ElitistGaussianResampling(searched, popsize=6, num_elites=2)
    searcher.run(2)
    again = ElitistGaussianResampling(problem(kind, **options), popsize=6, num_elites=2)
    again.run(2)
    assert torch.equal(again.population.evals, searcher.population.evals)
    assert searched.test(searcher.status["center"], num_episodes=3).shape == (3,)


def test_observations_are_flattened_as_by_the_wrapper_of_gymnasium():
    class Flat(gym.Wrapper):
        """Flat observations, and composite actions."""

        def __init__(self):
            super().__init__(gym.wrappers.FlattenObservation(Workshop()))

    values = problem().generate_batch(4).values
    assert torch.equal(fitness(problem(), values, rounds=2), fitness(problem(env=Flat), values, rounds=2))


def test_a_policy_acts_the_same_in_tests_runs_films_and_after_loading(tmp_path):
    found = problem(sparsity=0.5)
    x = found.generate_batch(1)[0]
    found.to_subnetwork(x).save(tmp_path / "policy.safetensors")
    subnet = Subnetwork.load(tmp_path / "policy.safetensors")
    returns = found.test(x, num_episodes=3, seed=5)
    assert subnet.test(num_episodes=3, seed=5, env=Workshop).tolist() == returns.tolist()

    def by_hand():
        env, total, done = Workshop(), 0.0, False
        obs, _ = env.reset(seed=9)
        for _ in range(6):
            obs, reward, done, _, _ = env.step(subnet.act(obs))
            total += reward
            if done:
                break
        return total

    def actions_in(play):
        Workshop.log.clear()
        result = play()
        return result, list(Workshop.log)

    (total, expected), (ran, in_run) = actions_in(by_hand), actions_in(lambda: found.run(x, seed=9, num_episodes=1))
    assert type(ran["cumulative_reward"]) is float
    assert ran == {"cumulative_reward": total, "interaction_count": len(expected)}
    np.testing.assert_equal(in_run, expected)
    film = tmp_path / "film.gif"
    np.testing.assert_equal(actions_in(lambda: record_video(subnet, Workshop, film, seed=9))[1], expected)
    assert film.stat().st_size > 0
