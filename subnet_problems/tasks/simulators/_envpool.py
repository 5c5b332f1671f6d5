"""The EnvPool simulator: vectorized environments in C++, stepped by background threads."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ..._cpus import num_cpus
from .._action_rules import Actions, BoxActions, DiscreteActions
from .._registration import Registration, describe_shipped, foreign_methods, where_they_differ
from ._pools import open_pool
from ._simulator import Playground

#: MuJoCo's tasks, by version, that EnvPool plays as Gymnasium does: from the same state, the same actions give the same
#: observations, rewards and ends. (Its Humanoid-v4 and HumanoidStandup-v4 give other observations, and its Pusher has
#: other bodies.)
_ALIKE = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
_MUJOCO_TASKS = {f"{name}-{version}" for name in _ALIKE for version in ("v4", "v5")}
_MUJOCO_TASKS |= {"Humanoid-v5", "HumanoidStandup-v5"}
#: The versions of MuJoCo that compute contacts like EnvPool's own, 3.6: at least the first, below the second.
_MUJOCO_VERSIONS = (3, 5), (4, 0)


def envpool_task_name(
    registration: Registration | None, env_config: Mapping[str, Any], probe: gym.Env[Any, Any], actions: Actions
) -> str:
    """Return EnvPool's name for a Gymnasium environment with this configuration.

    EnvPool replaces only environments that Gymnasium itself ships.

    Args:
        registration: The registration of the environment's id; None if a callable makes the environment.
        env_config: The options that the environment was made with.
        probe: The environment.
        actions: The rule for its actions.

    Raises:
        ValueError: EnvPool is not installed, does not have the environment or the options, or would play another
            environment. The message says what differs.
    """
    if registration is None:
        raise ValueError("a callable makes the environment, and EnvPool has only its own environments")
    if find_spec("envpool") is None:
        raise ValueError('envpool is not installed (pip install "subnet-problems[fast]")')
    env_id = name = registration.env_id
    config = dict(env_config)
    if env_id == "LunarLander-v3" and isinstance(config.get("continuous", False), bool):
        name = "LunarLanderContinuous-v3" if config.pop("continuous", False) else env_id
    elif env_id == "BipedalWalker-v3" and isinstance(config.get("hardcore", False), bool):
        name = "BipedalWalkerHardcore-v3" if config.pop("hardcore", False) else env_id
    if config:
        raise ValueError(f"its environments have no option {sorted(config)}")
    _check_is_shipped(registration, probe)

    import envpool

    if name not in envpool.list_all_envs():
        raise ValueError("it has no such environment")
    if type(probe.unwrapped).__module__.startswith("gymnasium.envs.mujoco."):
        _check_mujoco(name)
    _check_spaces(envpool.make_spec(name), probe, actions)
    return name


def _check_mujoco(name: str) -> None:
    """Check that EnvPool plays a MuJoCo task as Gymnasium does with the installed version of MuJoCo.

    Raises:
        ValueError: It does not.
    """
    import mujoco

    if name not in _MUJOCO_TASKS:
        raise ValueError("its episodes are not those of Gymnasium")
    first, beyond = _MUJOCO_VERSIONS
    if not first <= tuple(int(part) for part in mujoco.__version__.split(".")[:2]) < beyond:
        raise ValueError(
            f"it has MuJoCo 3.6, and the installed version {mujoco.__version__} computes contacts differently "
            "(expected mujoco>=3.5,<4)"
        )


def _check_is_shipped(registration: Registration, probe: gym.Env[Any, Any]) -> None:
    """Check that an environment is the one that Gymnasium itself ships under this id.

    Raises:
        ValueError: It is another environment.
    """
    shipped = describe_shipped(registration.env_id)
    if shipped is None:
        raise ValueError("it replaces only environments that Gymnasium itself ships, and this is not one of them")
    if registration.description != shipped:
        difference = where_they_differ(registration.description, shipped)
        raise ValueError(f"the environment is not registered as Gymnasium ships it: {difference}")
    made = f"{type(probe.unwrapped).__module__}:{type(probe.unwrapped).__qualname__}"
    if made != shipped["entry_point"]:
        raise ValueError(f"the environment is not Gymnasium's: it is made by {made}, not by {shipped['entry_point']}")
    if foreign := foreign_methods(type(probe.unwrapped)):
        raise ValueError(f"the environment is not Gymnasium's: it has other methods {foreign}")


def _check_spaces(spec: Any, probe: gym.Env[Any, Any], actions: Actions) -> None:
    """Check that EnvPool's environment has the observations and actions of Gymnasium's, and no shorter time limit.

    Raises:
        ValueError: One of them differs.
    """
    obs_spec, action_spec = spec.state_array_spec.get("obs"), spec.action_array_spec.get("action")
    space = probe.observation_space
    if obs_spec is None or not isinstance(space, gym.spaces.Box) or tuple(obs_spec.shape) != space.shape:
        raise ValueError(f"its observations are not those of Gymnasium, {space}")
    limit, max_episode_steps = spec.config.max_episode_steps, probe.spec and probe.spec.max_episode_steps
    if max_episode_steps is None or limit < max_episode_steps:
        raise ValueError(f"its episodes end after {limit} steps, Gymnasium's after {max_episode_steps}")
    same = False
    if action_spec is not None and isinstance(actions, DiscreteActions):
        bounds = (actions.start, actions.start + actions.n - 1)
        same = np.issubdtype(action_spec.dtype, np.integer) and (action_spec.minimum, action_spec.maximum) == bounds
    elif action_spec is not None and isinstance(actions, BoxActions):
        shape = tuple(n for n in action_spec.shape if n != -1)  # -1 is the dimension of the environments
        same = shape == actions.shape and actions.dtype == "float32" and np.dtype(action_spec.dtype).kind == "f"
    if not same:
        raise ValueError(f"its actions are not those of Gymnasium, {probe.action_space}")


@cache
def _action_dtype(name: str) -> np.dtype[Any]:
    """The dtype in which EnvPool's environment of this name receives actions: int32, float32 or (MuJoCo) float64."""
    import envpool

    dtype: np.dtype[Any] = np.dtype(envpool.make_spec(name).action_array_spec["action"].dtype)
    return dtype


class EnvPoolSimulator:
    """One pool of environments, which start to reset in the background as soon as the pool is made.

    The seeds of a pool are fixed when it is made, so each round of episodes has its own pool (2 to 10 ms). A closed
    pool is destroyed a moment later (see ``_pools``). If P Python threads play at once, all pools together have at most
    ``(2 P + 2) (num_threads + 1)`` threads on Linux. On other systems there are more, because up to 64 pools may wait
    to be destroyed.

    EnvPool does not check its input, and wrong input can end the process. Therefore all input is checked here. The
    binding's ``_send`` and ``_recv`` are called directly, because the public ``step`` around them takes 20 µs more.

    Args:
        name: EnvPool's name of the environment.
        seeds: ``(B,)`` seeds in [0, 2**31), one for each episode.
        actions: The rule that turns outputs into actions.
        obs_length: Length of a flat observation.
        num_threads: The number of threads that step the environments.

    Raises:
        OSError: The system does not let this process start enough threads.
    """

    def __init__(
        self, name: str, seeds: NDArray[np.int64], actions: Actions, obs_length: int, *, num_threads: int
    ) -> None:
        from .._step_kernel import is_safe  # Numba takes a while to load

        self._is_safe = is_safe
        pool = open_pool(name, seeds.tolist(), num_threads=min(num_threads, len(seeds)))
        self._close = weakref.finalize(self, pool.close)  # also if nobody calls close
        self._close.atexit = False
        self._pool: Any = pool.envs
        self._pool._reset(np.arange(len(seeds), dtype=np.int32))
        keys = list(self._pool._state_keys)
        self._obs, self._reward, self._done = keys.index("obs"), keys.index("reward"), keys.index("done")
        self._num_envs = len(seeds)
        self._obs_length = obs_length
        if isinstance(actions, DiscreteActions):
            self._shape: tuple[int, ...] = ()
            self._low, self._high = float(actions.start), float(actions.start + actions.n - 1)
        else:
            self._shape, self._low, self._high = actions.shape, -np.inf, np.inf
        self._dtype = _action_dtype(name)

    def reset(self) -> NDArray[np.float32]:
        """See ``Simulator``."""
        return self._flat(self._pool._recv())

    def send(self, rows: NDArray[np.int32], actions: NDArray[Any]) -> None:
        """See ``Simulator``."""
        sound = (
            rows.dtype == np.int32
            and rows.flags.c_contiguous
            and actions.shape == (len(rows), *self._shape)
            and len(rows) > 0
        )
        if not sound or not self._is_safe(rows, actions.reshape(len(rows), -1), self._num_envs, self._low, self._high):
            raise ValueError(f"EnvPool might crash on rows {rows!r} with actions {actions!r}")
        self._pool._send([rows, rows, np.ascontiguousarray(actions, dtype=self._dtype)])

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """See ``Simulator``."""
        state = self._pool._recv()
        return self._flat(state), state[self._reward], state[self._done]

    def close(self) -> None:
        """See ``Simulator``."""
        self._pool = None
        self._close()

    def _flat(self, state: list[NDArray[Any]]) -> NDArray[np.float32]:
        obs = state[self._obs]
        return np.asarray(obs, dtype=np.float32).reshape(len(obs), self._obs_length)


class EnvPoolKind:
    """See ``SimulatorKind``. EnvPool steps environments that Gymnasium itself ships."""

    num_parts = 2

    def serves(self, playground: Playground, probe: Callable[[], gym.Env[Any, Any]]) -> str:
        """Return EnvPool's name of the environment. See ``SimulatorKind``."""
        return envpool_task_name(playground.registration, playground.env_config, probe(), playground.actions)

    def make(self, playground: Playground, served: str, seeds: NDArray[np.int64]) -> EnvPoolSimulator:
        """See ``SimulatorKind``."""
        threads = playground.num_threads or max(1, num_cpus() // self.num_parts)
        actions, obs_length = playground.actions, playground.observations.length
        return EnvPoolSimulator(served, seeds, actions, obs_length, num_threads=threads)
