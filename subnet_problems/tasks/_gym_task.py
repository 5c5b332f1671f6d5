"""GymTask: which environment is played, and by which simulator."""

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
    """The names that ``backend`` may have."""
    return ("auto", *SIMULATORS)


#: Configurations of more bytes are shared by all environments, which must not change them.
_LARGE_CONFIG = 2**20


def _pickled_size(value: Any) -> int:
    try:
        return len(cloudpickle.dumps(value))
    except Exception:  # it can be copied all the same
        return 0


class GymTask:
    """An environment, its configuration and the simulator that steps it.

    Args:
        env: A Gymnasium id, or a callable that makes an environment.
        env_config: Keyword arguments for ``gymnasium.make`` or the callable. Each environment gets a copy; where they
            are larger than 1 MiB in all, the same objects, which it must not change.
        episode_length: The most steps an episode may take; None leaves it to the environment.
        backend: ``"envpool"``, ``"gymnasium"``, or ``"auto"``: EnvPool where it is installed and knows this
            environment with this configuration, else Gymnasium.
        num_threads: EnvPool's threads for each of the two halves of a population that take turns. None takes half as
            many as this process may use CPUs.

    Attributes:
        observations: How an observation becomes a flat vector.
        obs_shape: Shape of an observation; that of the flat vector where the space is no Box.
        obs_length: The vector's length.
        actions: How outputs become actions.
        max_steps: The most steps an episode takes.
        backend: The simulator that was chosen.

    Raises:
        TypeError: ``env`` is neither a string nor callable.
        ValueError: The environment is unknown or cannot be made, its spaces cannot be served, nothing bounds its
            episodes, or the backend is unknown or cannot serve it.
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
        self._action_space: gym.Space[Any] | None = None  # of the first environment, which all others must have

        with ExitStack() as stack:
            probe = self._probe(stack)
            self._action_space = probe.action_space
            if isinstance(env, str):
                self._registration = Registration(probe.unwrapped.spec.id)  # type: ignore[union-attr]
            elif self._probe(stack).unwrapped is probe.unwrapped:
                raise ValueError(
                    f"env: expected a callable that makes a new environment each time, got one twice: {env!r}"
                )
            self.observations = observations_of(probe.observation_space)
            self.actions = actions_of(probe.action_space)
            self._env_limit = None if probe.spec is None else probe.spec.max_episode_steps
            self.reward_threshold = None if probe.spec is None else probe.spec.reward_threshold
            # Of each simulator that was asked: what it needs to serve the environment, or why it cannot.
            self._served: dict[str, Any] = {}
            chosen = self._choose(backend, probe)
        self.obs_shape, self.obs_length = self.observations.shape, self.observations.length
        self.max_steps = self._shorter(episode_length)
        self.backend = chosen

    def _probe(self, stack: ExitStack) -> gym.Env[Any, Any]:
        """An environment to look at, which the stack closes."""
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
        """The shorter of this length and the environment's own."""
        own_limit = None if episode_length is None else check_count("episode_length", episode_length)
        limits = [limit for limit in (own_limit, self._env_limit) if limit is not None]
        if not limits:
            raise ValueError(
                "episode_length: expected a whole number >= 1, since the environment's spec sets no "
                "max_episode_steps and an episode might never end, got None"
            )
        return min(limits)

    @property
    def _playground(self) -> Playground:
        return Playground(
            self._registration, self.env_config, self.make_env, self.actions, self.observations, self.num_threads
        )

    def _choose(self, backend: str, probe: gym.Env[Any, Any] | None = None) -> str:
        """The simulator of this name, or the first one that serves the environment."""
        for name in SIMULATORS if backend == "auto" else [backend]:
            if name not in self._served:  # nobody has asked it yet
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
        """The environment's id, or None where it is made by a callable."""
        return self.env if isinstance(self.env, str) else None

    @property
    def registration(self) -> Description | None:
        """What the environment's id stands for, as JSON; or the name of the callable that makes it."""
        if not isinstance(self.env, str):
            return describe_callable(self.env)
        return None if self._registration is None else self._registration.description

    def make_env(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """A new Gymnasium environment of this task; ``kwargs`` such as ``render_mode`` go to its maker."""
        # Options of its own, which it may change: no episode may depend on those before.
        config = deepcopy(self.env_config) if self._copies_config else self.env_config
        kwargs = {**config, **kwargs}
        if not isinstance(self.env, str):
            return self._checked(self.env(**kwargs))
        kwargs = {"disable_env_checker": True, **kwargs}
        make = partial(gym.make, self.env) if self._registration is None else self._registration.make
        return self._checked(make(**kwargs))

    def _checked(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """An environment, if its actions are those of the first one that was made."""
        if self._action_space is not None and not same_space(env.action_space, self._action_space):
            env.close()
            raise ValueError(
                f"env: expected environments with one action space, {self._action_space}, got {env.action_space}"
            )
        return env

    def at_length(self, episode_length: int | None) -> GymTask:
        """This task with episodes of at most so many steps, or as long as the environment itself lets them be.

        Raises:
            TypeError: It is not a whole number.
            ValueError: It is below 1, or None where the environment sets no limit.
        """
        task = copy(self)
        task.max_steps = self._shorter(episode_length)
        return task

    def at_backend(self, backend: str) -> GymTask:
        """This task stepped by another simulator.

        Raises:
            TypeError: ``backend`` is no string.
            ValueError: It is unknown or cannot serve this task.
        """
        check_choice("backend", backend, backends())
        task = copy(self)
        task.backend = task._choose(backend)  # noqa: SLF001
        return task

    def at_full_length(self) -> GymTask:
        """This task with episodes as long as the environment itself lets them be, where it sets a limit."""
        return self if self._env_limit is None else self.at_length(None)

    def turns(self, backend: str | None = None) -> int:
        """How many parts of a population take turns, each in its own simulator: 2 where stepping does not block."""
        return SIMULATORS[backend or self.backend].turns

    def simulator(self, seeds: NDArray[np.int64], *, backend: str | None = None) -> Simulator:
        """A simulator with one episode for each seed.

        Args:
            seeds: ``(B,)`` seeds in [0, 2**31).
            backend: Another simulator than the chosen one, which must serve this environment.
        """
        name = self._choose(backend) if backend else self.backend
        return SIMULATORS[name].make(self._playground, self._served[name], seeds)
