"""GymTask: an environment, and the simulator that steps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import copy, deepcopy
from functools import partial
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .._checks import check_choice, check_count, check_mapping, reason_of
from ._registration import Description, Registration, describe_callable
from ._spaces import actions_of, observations_of, same_space
from .simulators import SIMULATORS
from .simulators._simulator import Playground, Simulator

EnvLike = str | Callable[..., gym.Env[Any, Any]]


def backends() -> tuple[str, ...]:
    """Return the values that ``backend`` accepts."""
    return ("auto", *SIMULATORS)


#: All environments share a configuration of more bytes than this, and must not change it.
_LARGE_CONFIG = 2**20


def _pickled_size(value: Any) -> int:
    try:
        return len(cloudpickle.dumps(value))
    except Exception:  # a value that cannot be pickled may still be copied
        return 0


class GymTask:
    """An environment, its configuration and the simulator that steps it.

    Args:
        env: A Gymnasium id, or a callable that returns an environment.
        env_config: Keyword arguments for ``gymnasium.make`` or the callable. Each environment gets a copy. Above 1 MiB
            in total, all environments share the same objects and must not change them.
        episode_length: The maximum length of an episode in steps. Default: None, the environment's own limit.
        backend: ``"envpool"``, ``"gymnasium"``, or ``"auto"``: EnvPool if it is installed and supports this
            environment with this configuration, else Gymnasium. Default: ``"auto"``.
        num_threads: EnvPool's threads for each of the two halves of a population that play at once. Default: None, half
            the number of CPUs that this process may use.

    Attributes:
        observations: The rule that turns an observation into a flat vector.
        obs_shape: Shape of an observation; the shape of the flat vector if the space is not a Box.
        obs_length: Length of the flat vector.
        actions: The rule that turns outputs into actions.
        max_steps: The maximum length of an episode in steps.
        backend: The chosen simulator.

    Raises:
        TypeError: ``env`` is neither a string nor callable.
        ValueError: The environment is unknown or cannot be made, its spaces are not supported, its episodes have no
            limit, or the backend is unknown or cannot serve it.
    """

    def __init__(
        self,
        env: EnvLike,
        *,
        env_config: Mapping[str, Any] | None = None,
        episode_length: int | None = None,
        backend: str = "auto",
        num_threads: int | None = None,
    ) -> None:
        if not isinstance(env, str) and not callable(env):
            raise TypeError(f"env: expected a Gymnasium id or a callable that makes an environment, got {env!r}")
        env_config = check_mapping("env_config", env_config)
        check_choice("backend", backend, backends())
        self.env = env
        try:
            self.env_config: dict[str, Any] = deepcopy(env_config)
        except Exception as error:
            raise ValueError(
                f"env_config: expected values that can be copied, got {env_config!r}: {error!r}"
            ) from error
        self._copies_config = _pickled_size(self.env_config) <= _LARGE_CONFIG
        self.num_threads = None if num_threads is None else check_count("num_threads", num_threads)
        self._registration: Registration | None = None
        self._action_space: gym.Space[Any] | None = None  # of the first environment; all others must have it too

        with ExitStack() as stack:
            probe = self._probe(stack)
            self._action_space = probe.action_space
            if isinstance(env, str):
                self._registration = Registration(probe.unwrapped.spec.id)  # type: ignore[union-attr]
            elif self._probe(stack).unwrapped is probe.unwrapped:
                raise ValueError(
                    f"env: expected a callable that makes a new environment each time, got the same twice: {env!r}"
                )
            self.observations = observations_of(probe.observation_space)
            self.actions = actions_of(probe.action_space)
            self._env_limit = None if probe.spec is None else probe.spec.max_episode_steps
            self.reward_threshold = None if probe.spec is None else probe.spec.reward_threshold
            # For each simulator tried so far: what it needs to serve the environment, or the error that says why not.
            self._served: dict[str, Any] = {}
            chosen = self._choose(backend, probe)
        self.obs_shape, self.obs_length = self.observations.shape, self.observations.length
        self.max_steps = self._shorter(episode_length)
        self.backend = chosen

    def _probe(self, stack: ExitStack) -> gym.Env[Any, Any]:
        """Make an environment for inspection, which the stack closes."""
        try:
            env = self.make_env()
        except Exception as error:
            reason = reason_of(error)
            raise ValueError(
                f"env: {self.env!r} with env_config={self.env_config!r} cannot be made: {reason}"
            ) from error
        if not isinstance(env, gym.Env):
            raise TypeError(f"env: expected the callable to return a gymnasium.Env, got {env!r}")
        stack.callback(env.close)
        return env

    def _shorter(self, episode_length: int | None) -> int:
        """Return the smaller of this length and the environment's own limit."""
        own_limit = None if episode_length is None else check_count("episode_length", episode_length)
        limits = [limit for limit in (own_limit, self._env_limit) if limit is not None]
        if not limits:
            raise ValueError(
                "episode_length: expected a whole number >= 1, since the environment's spec has no "
                "max_episode_steps and an episode might never end, got None"
            )
        return min(limits)

    @property
    def _playground(self) -> Playground:
        return Playground(
            self._registration, self.env_config, self.make_env, self.actions, self.observations, self.num_threads
        )

    def _choose(self, backend: str, probe: gym.Env[Any, Any] | None = None) -> str:
        """Return ``backend``, or for ``"auto"`` the first simulator that can serve the environment."""
        for name in SIMULATORS if backend == "auto" else [backend]:
            if name not in self._served:  # not tried yet
                with ExitStack() as stack:
                    look = partial(self._probe, stack) if probe is None else lambda: probe
                    try:
                        self._served[name] = SIMULATORS[name].serves(self._playground, look)
                    except ValueError as error:
                        self._served[name] = error
            if not isinstance(self._served[name], ValueError):
                return name
        raise ValueError(f"backend: {backend!r} cannot serve {self.env!r}: {self._served[name]}")

    @property
    def name(self) -> str | None:
        """The environment's id, or None if a callable makes the environment."""
        return self.env if isinstance(self.env, str) else None

    @property
    def registration(self) -> Description | None:
        """What is registered under the environment's id, as JSON; or the name of the callable that makes it."""
        if not isinstance(self.env, str):
            return describe_callable(self.env)
        return None if self._registration is None else self._registration.description

    def make_env(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """Make a new Gymnasium environment of this task; ``kwargs``, such as ``render_mode``, are added to its options.

        Raises:
            ValueError: Its action space is not that of the task.
        """
        # Each environment may change its own options, but no episode may depend on earlier ones: hence the copy.
        config = deepcopy(self.env_config) if self._copies_config else self.env_config
        kwargs = {**config, **kwargs}
        if not isinstance(self.env, str):
            return self._checked(self.env(**kwargs))
        kwargs = {"disable_env_checker": True, **kwargs}
        make = partial(gym.make, self.env) if self._registration is None else self._registration.make
        return self._checked(make(**kwargs))

    def _checked(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return an environment if its action space equals that of the first environment."""
        if self._action_space is not None and not same_space(env.action_space, self._action_space):
            env.close()
            raise ValueError(
                f"env: expected environments with one action space, {self._action_space}, got {env.action_space}"
            )
        return env

    def at_length(self, episode_length: int | None) -> GymTask:
        """Return this task with another maximum length of episodes in steps; None means the environment's own limit.

        Raises:
            TypeError: ``episode_length`` is not a whole number.
            ValueError: It is below 1, or it is None and the environment has no limit.
        """
        task = copy(self)
        task.max_steps = self._shorter(episode_length)
        return task

    def at_backend(self, backend: str) -> GymTask:
        """Return this task with another simulator.

        Raises:
            TypeError: ``backend`` is not a string.
            ValueError: ``backend`` is unknown or cannot serve this task.
        """
        check_choice("backend", backend, backends())
        task = copy(self)
        task.backend = task._choose(backend)  # noqa: SLF001
        return task

    def at_full_length(self) -> GymTask:
        """Return this task with the environment's own limit on the length of episodes, if it has one."""
        return self if self._env_limit is None else self.at_length(None)

    def num_parts(self, backend: str | None = None) -> int:
        """Return in how many parts a population is played at once, each in its own simulator."""
        return SIMULATORS[backend or self.backend].num_parts

    def simulator(self, seeds: NDArray[np.int64], *, backend: str | None = None) -> Simulator:
        """Make a simulator with one episode for each seed.

        Args:
            seeds: ``(B,)`` seeds in [0, 2**31).
            backend: The simulator, which must support this environment. Default: the chosen one.
        """
        name = self._choose(backend) if backend else self.backend
        return SIMULATORS[name].make(self._playground, self._served[name], seeds)
