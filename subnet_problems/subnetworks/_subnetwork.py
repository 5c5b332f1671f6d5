"""Subnetwork: a network and one mask, which together are a deployable policy; and its file."""

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
from ._file_decode import decode
from ._file_encode import encode
from ._file_fields import SubnetworkFileError
from ._formula import MAX_WEIGHTS, formula
from ._parts import PolicyParts
from ._pruning import masked_layers
from .export._c import export_c
from .export._onnx import export_onnx


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Subnetwork(PolicyParts):
    """A frozen network and the mask that was found for it: a sparse policy.

    A subnetwork is immutable: methods that would change it return a new one. ``docs/file-format.md`` describes every
    byte that ``save`` writes. The constructor's arguments are the attributes; ``network``, ``mask`` and ``actions`` are
    required.

    Attributes:
        network: The frozen network.
        mask: ``(D,)`` bool, True where a weight is kept. The constructor also accepts whole numbers, the masks of a
            rule with other values than 0 and 1: these become ``mask`` and ``factors``.
        factors: ``(D,)`` int8, the number by which each kept weight is multiplied; None if all are 1.
        actions: Rule that maps outputs to actions.
        observations: Rule that flattens the environment's observations to a vector. None accepts any array of as many
            numbers.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density); or the factors themselves,
            one for each of the network's ``layers``.
        normalizer: Mean and scale by which observations are normalized.
        env: Id of the task the policy was found for.
        env_config: Configuration of that task.
        tests: Results of fresh episodes; see ``tested``.
        registration: What ``env`` was registered as, if a ``GymTask`` gave it; see ``GymTask.registration``.
        missing_config: Names of options in the configuration that a file could not hold.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has the wrong shape for the network.
    """

    def live_units(self) -> list[NDArray[np.bool_]]:
        """Find the units that have both a live input and a live output.

        All other units are dead: they are always 0 (no live input and no bias), or they reach no output.

        Returns:
            A bool array ``(units,)``, True for live units, for the inputs, each hidden layer, and the outputs.

        Raises:
            ValueError: The network is not a chain of linear layers, tanh and ReLU.
        """
        return live_units(masked_layers(self))

    def prune(self) -> Subnetwork:
        """Remove the weights of dead units (see ``live_units``). The outputs stay the same.

        Returns:
            A new subnetwork. Its ``rescale`` holds the rescaling factors of the old one.

        Raises:
            ValueError: The network is not a chain of linear layers, tanh and ReLU.
        """
        live = torch.from_numpy(live_weights(masked_layers(self), self.num_weights))
        return replace(self, mask=live, rescale=self.rescale and tuple(self.scales))

    def act(self, obs: Any) -> Any:
        """Choose the action for an observation, or the actions for a batch of observations.

        Recurrent networks start from their initial state at each call; use ``to_policy`` for these.

        Args:
            obs: An observation of the environment. If observations are arrays (``observations`` is None), any shape
                that flattens to ``(obs_length,)`` is accepted, and a batch with one additional first dimension.

        Returns:
            The action, in the environment's format; for a batch, ``(n, ...)`` actions.

        Raises:
            TypeError: The observation does not consist of real numbers.
            ValueError: The observation has the wrong length, is not in the space, or is not finite.
        """
        batched, rows = self._rows(obs)
        acting = self._acting
        if not acting.is_current:
            self.__dict__.pop("_acting", None)
            acting = self._acting
        if not acting.all_finite(rows):
            raise ValueError(f"obs: expected finite numbers, got {obs!r}")
        outputs = acting.outputs(rows)
        if not acting.all_finite(outputs):
            raise ValueError(f"obs: expected an observation with finite outputs, got {obs!r}, which gives {outputs}")
        actions = self.actions(outputs)
        return actions if batched else self.actions.one_by_one(actions)[0]

    def _rows(self, obs: Any) -> tuple[bool, NDArray[np.float32]]:
        """Return True if ``obs`` is a batch, and its observations, flat ``(n, obs_length)``."""
        obs_shape, length = self.network.obs_shape, self.network.obs_length
        if self.observations is not None:
            try:
                return False, self.observations(obs)[None]
            except (TypeError, ValueError) as error:
                raise type(error)(f"obs: {error}") from error
        if type(obs) is np.ndarray and obs.dtype == np.float32 and obs.shape == obs_shape:
            return False, obs.reshape(1, length)  # the usual case: an observation from an environment
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
        """Make the task that this policy plays, on Gymnasium itself.

        Everything that plays a policy (``test``, ``record_video``, the command) follows one rule: the environment and
        the configuration are those the policy was found with, unless others are given.

        Args:
            env: Replaces the policy's own environment. Required if the policy knows none. A ``GymTask``, such as a
                problem's ``task``, has its own configuration; its ``episode_length`` applies only if the environment
                sets no limit.
            env_config: Options that replace or extend those the policy was found with. (To drop an option, give a
                ``GymTask``.)
            episode_length: Maximum steps of an episode. Default: None, the environment's own limit; the subnetwork does
                not know the ``episode_length`` of the problem it came from.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: No task is known; the id is now registered as another environment than the policy was found
                with; options of the configuration are missing; or the task's spaces are not those of the policy.
        """
        if env is None and self.env is None:
            raise ValueError(
                "env: expected a Gymnasium id or a callable, because the subnetwork knows no task, got None"
            )
        if isinstance(env, GymTask):
            if env_config is not None:
                raise ValueError(
                    f"env_config: expected None when env is a GymTask, which has its own, got {env_config!r}"
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
                    f"{where_they_differ(task.registration or {}, self._registered or {})}; register it as before, or "
                    "pass the environment to play as env="
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
        """What ``env`` was registered as when the policy was found; None if that is unknown."""
        return describe_shipped(self.env or "") if self.registration is None else self.registration

    def _is_registered_alike(self, task: GymTask) -> bool:
        """True if the task's id is registered as when the policy was found, or if either registration is unknown."""
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
        """Play fresh episodes on Gymnasium and return their returns. To store the results, see ``tested``.

        Args:
            num_episodes: Number of episodes. Default: 100.
            seed: Seed of the episodes. Default: 0.
            env: See ``make_task``.
            env_config: See ``make_task``.
            episode_length: See ``make_task``.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            EvaluationError: The environment raised, or returned a value that is not finite.
            ValueError: See ``make_task``.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        task = self.make_task(env, env_config=env_config, episode_length=episode_length)
        from ..tasks._rollout import play_tests  # imported here because Numba takes a while to load

        weights = self.weights[None]
        return play_tests(task, self.network, weights, num_episodes=count, seed=seed, normalizer=self.normalizer)

    def tested(self, *, num_episodes: int = 100, seed: int = 0, env: EnvLike | GymTask | None = None) -> Self:
        """Play fresh episodes and store their mean return, standard error, number and seed in ``tests``.

        The episodes are whole episodes of the policy's own task, so that a file never holds results of another task.

        Example:
            >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.5, seed=0)
            >>> subnet = problem.to_subnetwork(problem.generate_batch(1)[0]).tested(num_episodes=3)
            >>> subnet.tests["num_episodes"]
            3

        Args:
            num_episodes: Number of episodes. Default: 100.
            seed: Seed of the episodes. Default: 0.
            env: If the policy knows no id: the callable that makes its environment, or a problem's ``task``.

        Returns:
            A new subnetwork.

        Raises:
            EvaluationError: The environment raised, or returned a value that is not finite.
            ValueError: See ``make_task``; or ``env`` is not the task that the policy was found with.
        """
        task = self.make_task(env)
        if not self._is_own(task):
            own = f"{self.env!r} with {self.env_config}"
            raise ValueError(f"env: expected the policy's own task, {own}, got {task.name!r} with {task.env_config}")
        returns = self.test(num_episodes=num_episodes, seed=seed, env=task)
        return replace(self, tests=summary(returns, seed=seed))

    def _is_own(self, task: GymTask) -> bool:
        """True if a task is the policy's own, in whole episodes. Options that no file holds are compared by name."""
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

        Observations are normalized and actions are rounded, clipped or chosen as in the method ``act``. The array
        ``act`` has ``<NAME>_ACT_LENGTH`` numbers: one for a Discrete action, for each choice of a MultiDiscrete action,
        for each number of a Box action, and for each bit of a MultiBinary action. Parts of a Dict or Tuple action
        follow one another, as a comment in the header lists. ``obs`` is flat; see ``observations``. The code allocates
        no memory. Dead units are left out. All definitions begin with the name, so that a program can include several
        policies.

        Args:
            folder: Folder of the header. It is created if it does not exist.
            name: Name of the header. Default: the folder's name: ``lander/`` gives ``lander/lander.h`` with
                ``lander_act``, ``LANDER_OBS_LENGTH`` and ``LANDER_ACT_LENGTH``. Characters that C does not allow in a
                name become ``_``.
            form: ``"rows"`` (default) is fast: it stores the kept weights row by row, with their columns. ``"seed"``
                stores only the mask, as Golomb-Rice codes of the gaps between kept weights, and draws each weight from
                the seed when it is used. It is slow, and smaller for more than about 400 live weights.

        Returns:
            The header's path.

        Raises:
            TypeError: An argument has the wrong type.
            OSError: The file cannot be written.
            ValueError: The form is unknown, the name is not a C identifier, the network is not a chain of linear
                layers, tanh and ReLU, or the form is ``"seed"`` and the weights do not come from a seed.
        """
        return export_c(self, folder, name=name, form=form)

    def export_onnx(self, path: str | Path) -> Path:
        """Write this policy as an ONNX model. The file is written atomically.

        The input ``obs`` is float32 ``(batch, obs_length)``, flat; see ``observations``. The output ``action`` is
        ``(batch,)`` int64 for Discrete actions, else ``(batch, *shape)`` of the space's dtype. Dict and Tuple actions
        have an output for each part, named after its keys and indices: ``action.gripper``, ``action.arm.0``.
        Observations are normalized and actions are rounded, clipped or chosen as in ``act``. Dead units of a chain of
        linear layers are left out.

        Args:
            path: The file to write; the usual suffix is ``.onnx``.

        Returns:
            The path.

        Raises:
            TypeError: ``path`` is not a path.
            OSError: The file cannot be written.
            ImportError: The packages onnx and onnxscript are not installed (``pip install subnet-problems[onnx]``).
            ValueError: The network has a state, as recurrent networks do; or two parts of the action have the same
                name.
        """
        return export_onnx(self, path)

    def formula(self, style: str = "text", *, digits: int | None = 3, max_weights: int = MAX_WEIGHTS) -> str:
        """Write this policy as formulas, if it is small enough to read.

        For example, a policy for LunarLander:

            h1 = tanh(0.53*x - 1.2*vy)
            main = 0.8*h1 - 0.31*tanh(0.7*angle + 0.4*spin)
            side = -0.62*h1
            # action = (main, side), each clipped to [-1, 1]

        The formulas have a line for each hidden unit that is used more than once, then a line for each output, then the
        rule from outputs to actions. A hidden unit that is used once is written where it is used. Dead units are left
        out; an output that nothing reaches is its bias or 0. The numbers include all factors, also those of ``rescale``
        and of the normalizer. If observations are normalized, their means are subtracted: ``0.53*(x - 0.12)``.

        Observations and outputs of Gymnasium's own tasks have names, if these are known, such as ``vx`` in LunarLander.
        All others are called ``obs[0]`` and ``out[0]``, elements of the flat observation and of the outputs.

        Args:
            style: ``"text"`` (default): Python expressions with ``tanh``, ``max`` and those names; rules are comments.
                ``"latex"``: on each line, a formula between ``$`` for LaTeX, Markdown and Matplotlib's mathtext.
            digits: Significant digits of each number, 1 to 9. Default: 3. An observation's mean gets the digits that
                matter relative to the observation's standard deviation. None writes float32 numbers exactly, in the
                fewest digits that identify them.
            max_weights: Maximum number of live weights to write. Default: 60.

        Returns:
            The lines, without a line break after the last.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The style is unknown, ``digits`` or ``max_weights`` is out of range, there are more than
                ``max_weights`` live weights, or the network is not a chain of linear layers, tanh and ReLU.
        """
        return formula(self, style, digits=digits, max_weights=max_weights)

    def save(self, path: str | Path) -> None:
        """Write this policy to a file, atomically.

        Args:
            path: The file to write; the usual suffix is ``.safetensors``.

        Raises:
            TypeError: ``path`` is not a path.
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
        """Read a policy from a file. No code from the file is run.

        Args:
            path: The file.
            network: The module, or a callable that makes it. Required only if the file does not describe the network's
                architecture.
            network_args: Keyword arguments for that callable, which replace or extend those in the file.

        Raises:
            TypeError: ``path`` is not a path.
            OSError: The file cannot be read.
            SubnetworkFileError: The file is not a complete and valid subnetwork file, or its network computes other
                outputs than the file records.
            ValueError: ``network`` is missing, does not fit the file, or computes other outputs than the saved policy.
        """
        parts, proof = decode(check_path("path", path), network, network_args)
        subnet = cls(parts.pop("network"), parts.pop("mask"), **parts)
        if proof is None:
            return subnet
        module, inputs = subnet.to_policy(clip_actions=False), probe_inputs(subnet.network.obs_length)
        found = probe(module, inputs)
        if not agree(found, proof, rtol=1e-3, rounding=lambda: rounding(module, inputs)):
            differ = f"expected the outputs {proof.tolist()} for the test observations, got {found.tolist()}"
            if network is None:
                raise SubnetworkFileError(f"proof: {differ}: the file does not hold the policy that was saved")
            raise ValueError(
                f"network: {differ}. Its weights and buffers are the file's, so something else differs: its arguments, "
                "tensors that are not buffers, or its code"
            )
        return subnet


def summary(returns: NDArray[np.float64], *, seed: int) -> dict[str, Any]:
    """Summarize returns of episodes, in the form of ``Subnetwork.tests``."""
    count = len(returns)
    return {
        "mean": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
        "num_episodes": count,
        "seed": seed,
    }
