"""Custom environments with exactly known behavior."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

#: CartPole of 30 steps, for tests that play many episodes.
SHORT_POLE = "ShortPole-v0"
gym.register(SHORT_POLE, lambda **options: CartPoleEnv(**options), max_episode_steps=30)


class OddSpaces(gym.Env):
    """Observations of shape (2, 3) in float64; actions Discrete(3, start=5), or Box of shape (2, 2) with odd bounds.

    An action that is not in the space is an error. An episode ends at random, after 15 steps on average, and is then
    either terminated or truncated.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2, 3), np.float64)

    def __init__(self, *, discrete):
        if discrete:
            self.action_space = gym.spaces.Discrete(3, start=5)
        else:
            low, high = [[-0.25, -np.inf], [0.5, -3.0]], [[0.75, 0.125], [np.inf, -1.0]]
            self.action_space = gym.spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = self.np_random.standard_normal((2, 3))
        return self._state.copy(), {}

    def step(self, action):
        if not self.action_space.contains(action if isinstance(action, np.ndarray) else np.int64(action)):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self._state = 0.9 * self._state + 0.1 * self.np_random.standard_normal((2, 3)) + 0.01 * np.sum(action)
        ended = bool(self.np_random.random() < 1 / 15)
        reward = float(self._state.sum())
        return self._state.copy(), reward, ended and reward > 0, ended and reward <= 0, {}


class Echo(gym.Env):
    """The reward is the first number of the action, the observation is always 1, an episode takes ``steps`` steps.

    Thus, with one weight w, the action is w, and the return is ``steps * w``.

    Attributes:
        log: In this process, each episode as [seed, action, action, ...]; empty it before use.
        made_with: In this process, the keyword arguments of each environment that was made.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    log = []  # noqa: RUF012
    made_with = []  # noqa: RUF012

    def __init__(self, *, steps=10, act_length=1, **kwargs):
        self.made_with.append(kwargs)
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (act_length,), np.float32)
        self.spec = gym.envs.registration.EnvSpec("Echo-v0", max_episode_steps=1000)
        self._steps = steps

    def reset(self, *, seed=None, options=None):
        self._episode = [seed]
        self.log.append(self._episode)
        return np.ones(1, np.float32), {}

    def step(self, action):
        self._episode.append(np.array(action))
        return np.ones(1, np.float32), float(action[0]), len(self._episode) > self._steps, False, {}


class Dim(Echo):
    """Renders gray pictures."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, *, render_mode=None, **kwargs):
        super().__init__(**kwargs)

    def render(self):
        return np.full((16, 16, 3), 99, np.uint8)


FAULTS = ("reset raises", "step raises", "NaN reward", "inf observation", "wrong shape", "no reward", "four values")


class FaultyEnv(gym.Env):
    """Misbehaves as described by ``folder/fault.json`` (kind, seed of the episode, step) while this file exists.

    Each reset adds its seed to ``folder/seeds.txt``. An episode takes 5 steps, and each reward is drawn from its seed.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, *, folder):
        self.spec = gym.envs.registration.EnvSpec("Moody-v0", max_episode_steps=5)
        self._folder = Path(folder)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        with open(self._folder / "seeds.txt", "a") as file:
            file.write(f"{seed}\n")
        fault = self._folder / "fault.json"
        self._fault = json.loads(fault.read_text()) if fault.exists() else {}
        self._step, self._seed = 0, seed
        if self._is("reset raises"):
            raise RuntimeError("not today")
        return self._obs(), {}

    def step(self, action):
        self._step += 1
        if self._is("step raises"):
            raise RuntimeError("not today")
        reward = float(self.np_random.standard_normal()) + float(action[0])
        reward = float("nan") if self._is("NaN reward") else None if self._is("no reward") else reward
        result = (self._obs(), reward, self._step == 5, False, {})
        return result[:4] if self._is("four values") else result

    def _is(self, kind):
        return self._fault == {"kind": kind, "seed": self._seed, "step": self._step}

    def _obs(self):
        obs = self.np_random.standard_normal(3 if self._is("wrong shape") else 2).astype(np.float32)
        if self._is("inf observation"):
            obs[1] = np.inf
        return obs


class FaultFile:
    """The files that a ``FaultyEnv`` reads and writes."""

    def __init__(self, path):
        self.path = path

    def seeds(self):
        """The seeds of all resets so far, in order."""
        return [int(seed) for seed in (self.path / "seeds.txt").read_text().split()]

    def inject(self, kind, *, seed, step):
        (self.path / "fault.json").write_text(json.dumps({"kind": kind, "seed": seed, "step": step}))

    def clear(self):
        (self.path / "fault.json").unlink()
