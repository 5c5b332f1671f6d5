"""Subnetwork: a network and one mask, which together are a policy that can be deployed; and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .._checks import (
    check_count,
    check_mapping,
    check_numbers,
    check_path,
    check_seed,
)
from .._files import write_whole
from .._json import split
from ..masks._live import live_units, live_weights
from ..networks._probe import agree, probe, probe_inputs, rounding
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._registration import Description, describe_shipped, where_they_differ
from ._acting import Acting
from ._file import decode, encode
from ._file_fields import SubnetworkFileError
from ._formula import MAX_WEIGHTS, formula
from ._parts import PolicyParts
from ._pruning import masked_layers
from .export._c import export_c
from .export._onnx import export_onnx


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Subnetwork(PolicyParts):
    """A frozen network and the mask that was found for it: a sparse policy.

    It does not change: a method that would change it returns a new one. ``docs/file-format.md`` describes every
    byte of what ``save`` writes. Its arguments are its attributes; ``network``, ``mask`` and ``actions`` must be given.

    Attributes:
        network: The frozen network.
        mask: ``(D,)`` bool, True where a weight is kept.
        actions: How outputs become actions.
        observations: How what the environment returns becomes a flat vector; None takes any array of as many numbers.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density); or the factors themselves,
            one for each of the network's ``layers``.
        normalizer: What observations are normalized by.
        env: Id of the task it was found for.
        env_config: Its configuration.
        tests: Results of fresh episodes, see ``tested``.
        registration: What ``env`` was registered as, where it was a ``GymTask``'s; see ``GymTask.registration``.
        missing_config: Names in the configuration that a file could not hold.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape does not fit the network.
    """

    def live_units(self) -> list[NDArray[np.bool_]]:
        """Which units have both a live input and a live output: of the inputs, each hidden layer, the outputs.

        The others are dead: they are 0 whatever is observed (no live input, and no bias), or nobody sees what they do.

        Raises:
            ValueError: The network is no chain of linear layers, tanh and ReLU.
        """
        return live_units(masked_layers(self))

    def prune(self) -> Subnetwork:
        """This policy without the weights of dead units (see ``live_units``): fewer weights, and the same outputs.

        Returns:
            A new subnetwork. What the old one was rescaled by is written out in ``rescale``.

        Raises:
            ValueError: The network is no chain of linear layers, tanh and ReLU.
        """
        live = torch.from_numpy(live_weights(masked_layers(self), self.num_weights))
        return replace(self, mask=live, rescale=self.rescale and tuple(self.scales))

    def act(self, obs: Any) -> Any:
        """The action for an observation, as the environment takes it; or the actions for a batch of observations.

        Networks with a state of their own begin anew at each call: use ``to_policy`` for these.

        Args:
            obs: An observation of the environment. Where observations are arrays (``observations`` is None): of any
                shape that flattens to ``(obs_length,)``; or a batch, which has one more dimension, the first.

        Returns:
            The action; for a batch ``(n, ...)`` actions.

        Raises:
            TypeError: It is not made of real numbers.
            ValueError: It has another length, is not in the space, or is not finite.
        """
        batched, rows = self._rows(obs)
        if not np.isfinite(rows).all():
            raise ValueError(f"obs: expected finite numbers, got {obs!r}")
        acting = self._acting
        if not acting.is_current:
            self.__dict__.pop("_acting", None)
            acting = self._acting
        outputs = acting.outputs(rows)
        if not np.isfinite(outputs).all():
            raise ValueError(f"obs: expected an observation with finite outputs, got {obs!r}, which gives {outputs}")
        actions = self.actions(outputs)
        return actions if batched else self.actions.one_by_one(actions)[0]

    def _rows(self, obs: Any) -> tuple[bool, NDArray[np.float32]]:
        """Whether a batch came, and its observations, flat ``(n, obs_length)``."""
        obs_shape, length = self.network.obs_shape, self.network.obs_length
        if self.observations is not None:
            try:
                return False, self.observations(obs)[None]
            except (TypeError, ValueError) as error:
                raise type(error)(f"obs: {error}") from error
        if type(obs) is np.ndarray and obs.dtype == np.float32 and obs.shape == obs_shape:
            return False, obs.reshape(1, length)  # what an environment gives
        values = check_numbers("obs", obs).numpy()
        batched = values.shape[1:] in (obs_shape, (length,)) and values.shape != obs_shape
        if not batched and values.size != length:
            raise ValueError(
                f"obs: expected shape {obs_shape}, or (n, {', '.join(map(str, obs_shape))}), got {values.shape}"
            )
        return batched, np.ascontiguousarray(values.reshape(-1, length))

    @cached_property
    def _acting(self) -> Acting:
        return Acting(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_acting"}

    def make_task(
        self,
        env: EnvLike | GymTask | None = None,
        *,
        env_config: Mapping[str, Any] | None = None,
        episode_length: int | None = None,
    ) -> GymTask:
        """The task that this policy plays, on Gymnasium itself.

        One rule holds for all that plays a policy (``test``, ``record_video``, the command): the environment and the
        configuration are those it was found with, unless others are given.

        Args:
            env: Another environment than its own, or the one where it knows none. A ``GymTask``, such as a problem's
                ``task``, has a configuration of its own, and its ``episode_length`` holds where the environment sets no
                limit.
            env_config: Options in the place of those it was found with, and beside them. (To play without an option,
                give a ``GymTask``.)
            episode_length: The most steps of an episode; the subnetwork does not know that of the problem it came from.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: No task is known, it is registered as another environment than the policy was found with, its
                configuration was not kept whole, or its spaces are not those of the policy.
        """
        if env is None and self.env is None:
            raise ValueError("env: expected a Gymnasium id or a callable, since the subnetwork knows no task, got None")
        if isinstance(env, GymTask):
            if env_config is not None:
                raise ValueError(
                    f"env_config: expected None where env is a task, which has its own, got {env_config!r}"
                )
            task = env.at_backend("gymnasium")
            task = task.at_full_length() if episode_length is None else task.at_length(episode_length)
        else:
            given = check_mapping("env_config", env_config)
            lacking = [name for name in self.missing_config if name not in given]
            if lacking:
                raise ValueError(
                    f"env_config: expected values for {lacking}, which the policy's file could not hold, got "
                    f"{env_config!r}; the other options it was found with are {self.env_config!r}"
                )
            task = GymTask(
                self.env if env is None else env,  # type: ignore[arg-type]
                env_config=self.env_config | given,
                episode_length=episode_length,
                backend="gymnasium",
            )
            if env is None and not self._is_registered_alike(task):
                raise ValueError(
                    f"env: expected {self.env!r} to be registered as it was when the policy was found, got "
                    f"{where_they_differ(task.registration or {}, self._registered or {})}; register it so, or say "
                    "which one to play by env="
                )
        if task.obs_length != self.network.obs_length or task.actions.length != self.network.act_length:
            raise ValueError(
                f"env: expected observations of length {self.network.obs_length} and {self.network.act_length} "
                f"outputs, got {task.obs_length} and {task.actions.length}"
            )
        if not self.actions.like(task.actions):
            raise ValueError(f"env: expected actions as {self.actions}, got {task.actions}")
        if self.observations is not None and self.observations != task.observations:
            raise ValueError(f"env: expected observations as {self.observations}, got {task.observations}")
        return task

    @property
    def _registered(self) -> Description | None:
        """What its environment's id stood for when it was found; None where that is not known."""
        return describe_shipped(self.env or "") if self.registration is None else self.registration

    def _is_registered_alike(self, task: GymTask) -> bool:
        """Whether the task's id stands for what it stood for when the policy was found, as far as that is known."""
        return None in (self._registered, task.registration) or task.registration == self._registered

    def test(
        self,
        *,
        num_episodes: int = 100,
        seed: int = 0,
        env: EnvLike | GymTask | None = None,
        env_config: Mapping[str, Any] | None = None,
        episode_length: int | None = None,
    ) -> NDArray[np.float64]:
        """Returns of fresh episodes on Gymnasium. The policy does not change; see ``tested``.

        Args:
            num_episodes: How many episodes.
            seed: Seed of the episodes.
            env: See ``make_task``.
            env_config: See ``make_task``.
            episode_length: See ``make_task``.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            EvaluationError: The environment raised, or returned something that is not finite.
            ValueError: See ``make_task``.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        task = self.make_task(env, env_config=env_config, episode_length=episode_length)
        from ..tasks._rollout import play_tests  # Numba takes a while to load

        weights = self.weights[None]
        return play_tests(task, self.network, weights, num_episodes=count, seed=seed, normalizer=self.normalizer)

    def tested(self, *, num_episodes: int = 100, seed: int = 0, env: EnvLike | GymTask | None = None) -> Self:
        """This policy with the results of fresh episodes in ``tests``: mean, standard error, number and seed.

        They are whole episodes of the policy's own task, so that a file never holds results of another one.

        Example:
            >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.5, seed=0)
            >>> subnet = problem.to_subnetwork(problem.generate_batch(1)[0]).tested(num_episodes=3)
            >>> subnet.tests["num_episodes"]
            3

        Args:
            num_episodes: How many episodes.
            seed: Seed of the episodes.
            env: The callable that makes its environment, or a problem's ``task``, where it knows no id.

        Returns:
            A new subnetwork.

        Raises:
            EvaluationError: The environment raised, or returned something that is not finite.
            ValueError: See ``make_task``; or ``env`` is not the task that the policy was found with.
        """
        task = self.make_task(env)
        if not self._is_own(task):
            own = f"{self.env!r} with {self.env_config}"
            raise ValueError(f"env: expected the policy's own task, {own}, got {task.name!r} with {task.env_config}")
        returns = self.test(num_episodes=num_episodes, seed=seed, env=task)
        return replace(self, tests=summary(returns, seed=seed))

    def _is_own(self, task: GymTask) -> bool:
        """Whether a task is the policy's own, in whole episodes; what no file holds is known by its name alone."""
        (own, own_missing), (other, other_missing) = split(self.env_config), split(task.env_config)
        same_config = json.dumps(own, sort_keys=True) == json.dumps(other, sort_keys=True)
        return (
            task.name == self.env
            and self._is_registered_alike(task)
            and same_config
            and {*own_missing, *self.missing_config} == {*other_missing}
            and task.max_steps == task.at_full_length().max_steps
        )

    def export_c(self, folder: str | Path, *, name: str | None = None, form: str = "rows") -> Path:
        """Write this policy as a C99 header, ``<folder>/<name>.h``: ``<name>_act(const float *obs, float *act)``.

        Observations are normalized and actions rounded, clipped or chosen as by ``act``; ``act`` has
        ``<NAME>_ACT_LENGTH`` numbers: one for a Discrete action and each choice of a MultiDiscrete one, one for each
        number of a Box action and each bit of a MultiBinary one; parts of a Dict or Tuple one after another, as the
        header's comment says. ``obs`` is flat, see ``observations``. Nothing is allocated. What dead units do is left
        out.
        All that the header defines begins with the name, so that a program can have any number of policies.

        Args:
            folder: Where; it is made if it is not there.
            name: The header's name. None takes the folder's: ``lander/`` gives ``lander/lander.h`` with ``lander_act``,
                ``LANDER_OBS_LENGTH`` and ``LANDER_ACT_LENGTH``. What C does not take in a name becomes ``_``.
            form: ``"rows"``, the fast one: the kept weights, row by row, with their columns. ``"seed"``: the
                mask alone, as the gaps between kept weights in a Golomb-Rice code; each weight is made from the seed
                when it is used. It is slow, and with more than some 400 live weights the smaller one.

        Returns:
            The header's path.

        Raises:
            TypeError: An argument has the wrong type.
            OSError: The file cannot be written.
            ValueError: The form is unknown, the name is no C identifier, the network is no chain of linear layers, tanh
                and ReLU, or its weights come from no seed and the form is ``"seed"``.
        """
        return export_c(self, folder, name=name, form=form)

    def export_onnx(self, path: str | Path) -> Path:
        """Write this policy as an ONNX model. It appears whole or not at all.

        Its input ``obs`` is float32 ``(batch, obs_length)``, flat, see ``observations``; its output ``action`` is
        ``(batch,)`` int64 for Discrete actions, else ``(batch, *shape)`` of the space's dtype. For Dict and Tuple
        actions there is an output for each part, named after its keys and numbers: ``action.gripper``,
        ``action.arm.0``. Observations are normalized and actions rounded, clipped or chosen as by ``act``. Dead units
        of a chain of linear layers are left out.

        Args:
            path: Where; the suffix ``.onnx`` is customary.

        Returns:
            The path.

        Raises:
            TypeError: ``path`` is not one.
            OSError: The file cannot be written.
            ImportError: The packages onnx and onnxscript are not installed (``pip install subnet-problems[onnx]``).
            ValueError: The network has a state of its own, as recurrent ones do; or two parts of the action have one
                name.
        """
        return export_onnx(self, path)

    def formula(self, style: str = "text", *, digits: int | None = 3, max_weights: int = MAX_WEIGHTS) -> str:
        """This policy as formulas, if it is small enough to read.

        A policy for LunarLander may come to:

            h1 = tanh(0.53*x - 1.2*vy)
            main = 0.8*h1 - 0.31*tanh(0.7*angle + 0.4*spin)
            side = -0.62*h1
            # action = (main, side), each clipped to [-1, 1]

        There is a line for each hidden unit that is used more than once, then one for each output, then what makes the
        action of the outputs. Dead units are left out, hidden units that are used once stand where they are used, and
        an output that nothing reaches is its bias or 0. All factors are in the numbers, those of ``rescale`` and of the
        normalizer, too; where observations are normalized, their means are subtracted: ``0.53*(x - 0.12)``.

        Observations and outputs of Gymnasium's own tasks have names where these are known, such as ``vx`` in
        LunarLander; others are ``obs[0]`` and ``out[0]``, the flat observation and the outputs.

        Args:
            style: ``"text"``: Python, which computes with ``tanh``, ``max`` and those names; rules are comments.
                ``"latex"``: a formula between ``$`` on each line, as LaTeX, Markdown and Matplotlib's mathtext take it.
            digits: Significant digits of each number, 1 to 9. A mean has so many as matter beside the observation's
                standard deviation. None writes float32 exactly: as few digits as tell a number from all others.
            max_weights: The most live weights that are written.

        Returns:
            The lines, without a line break after the last.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The style is unknown, ``digits`` or ``max_weights`` is out of range, there are more live
                weights, or the network is no chain of linear layers, tanh and ReLU.
        """
        return formula(self, style, digits=digits, max_weights=max_weights)

    def save(self, path: str | Path) -> None:
        """Write the file. It appears whole or not at all.

        Args:
            path: Where; the suffix ``.safetensors`` is customary.

        Raises:
            TypeError: ``path`` is not one.
            OSError: The file cannot be written.
        """
        write_whole(check_path("path", path), encode(self))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        network: nn.Module | Callable[..., nn.Module] | str | None = None,
        network_args: Mapping[str, Any] | None = None,
    ) -> Subnetwork:
        """Read a file. No code in it is run.

        Args:
            path: The file.
            network: The module, or a callable that makes it, where the file does not describe its architecture.
            network_args: Keyword arguments for that callable, in the place of those in the file and beside them.

        Raises:
            TypeError: ``path`` is not one.
            OSError: The file cannot be read.
            SubnetworkFileError: It is not a whole and sound subnetwork file, or its network gives other outputs here
                than it says.
            ValueError: ``network`` is missing, or does not fit the file, or computes something else than the policy
                that was saved.
        """
        parts, proof = decode(check_path("path", path), network, network_args)
        subnet = cls(parts.pop("network"), parts.pop("mask"), **parts)
        if proof is None:
            return subnet
        module, inputs = subnet.to_policy(clip_actions=False), probe_inputs(subnet.network.obs_length)
        found = probe(module, inputs)
        if not agree(found, proof, rtol=1e-3, rounding=lambda: rounding(module, inputs)):
            differ = f"expected the outputs {proof.tolist()} for the observations tried, got {found.tolist()}"
            if network is None:
                raise SubnetworkFileError(f"proof: {differ}: the policy that was saved is not the one in the file")
            raise ValueError(
                f"network: {differ}. Its weights and buffers are the file's, so it computes with something else that "
                "differs: arguments, tensors that are not buffers, or code"
            )
        return subnet


def summary(returns: NDArray[np.float64], *, seed: int) -> dict[str, Any]:
    """What ``Subnetwork.tests`` says of the returns of some episodes."""
    count = len(returns)
    return {
        "mean": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
        "num_episodes": count,
        "seed": seed,
    }
