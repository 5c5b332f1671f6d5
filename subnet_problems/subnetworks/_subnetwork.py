"""Subnetwork: a network and one mask, which together are a policy that can be deployed; and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .._checks import (
    check_bool,
    check_count,
    check_mapping,
    check_mask,
    check_numbers,
    check_path,
    check_rescale,
    check_seed,
)
from .._files import write_whole
from .._json import split
from ..masks._apply import apply_mask, scale_of
from ..masks._live import live_units, live_weights
from ..networks._frozen_network import FrozenNetwork
from ..networks._probe import agree, probe, probe_inputs, rounding
from ..tasks._action_rules import Actions
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._observation_rules import BoxObservations, Observations
from ..tasks._observation_stats import Normalizer
from ..tasks._registration import Description, describe_shipped, where_they_differ
from ..tasks._rollout import play_tests
from ._file import decode, encode
from ._file_fields import SubnetworkFileError
from ._formula import MAX_WEIGHTS, formula
from ._policy_module import PolicyModule
from ._pruning import masked_layers
from .export._c import export_c
from .export._onnx import export_onnx


class Subnetwork:
    r"""A frozen network and the mask that was found for it: a sparse policy.

    **The file** (``save``) is in the safetensors format: 8 bytes, little-endian, give the length of a JSON
    header; the header maps each tensor's name to ``{"dtype", "shape", "data_offsets": [begin, end]}``, the offsets
    counted from the header's end; then come the tensors' bytes. The header's entry ``__metadata__`` has one key,
    ``subnetwork``, whose value is a string of JSON:

    - ``version``: 1.
    - ``crc32``: eight hexadecimal digits, zlib's CRC-32 of the whole file with ``00000000`` in their place, which is
      behind the first ``\"crc32\":\"`` in the file (so a string of JSON stands within JSON).
    - ``layers``: the shapes of the network's parameter tensors, in order, each row by row; D is the sum of their
      sizes. A linear layer's weight is ``[out, in]``; it computes ``weight @ x`` (plus its bias, the one-dimensional
      tensor that follows, if it has one).
    - ``network``: ``{"hidden_sizes": [...], "bias": false}``, linear layers with tanh between them (none after the
      last); or ``{"string": "...", "constants": {...}}``, an EvoTorch network string; or null, a module that only its
      owner has.
    - ``obs_length``, ``act_length``: the lengths of what goes in and comes out.
    - ``weights``: ``{"init", "gain", "seed"}``, how weights are made, or null.
      Let ``words = numpy.random.Philox(key=[seed, 0]).random_raw(D)`` (the key as two uint64), and weight ``i`` be
      made in float64 from ``words[i]`` and rounded to float32: ``uniform``: ``gain * u`` with
      ``u = (2 * (word >> 40) + 1 - 2**24) / 2**24``; ``uniform_fan_in``: ``gain * (u / sqrt(fan_in))``;
      ``signed_constant``: ``gain * s`` with ``s = 1`` where ``word >> 63`` is 1, else ``-1``;
      ``signed_kaiming_constant``: ``gain * (s * sqrt(2 / fan_in))``; ``kaiming_normal``: from
      ``words[2 i]`` and ``words[2 i + 1]`` of 2 D words, ``p, q = ((word >> 11) + 0.5) / 2**53``,
      ``gain * (sqrt(-2 log p) cos(2 pi q) * sqrt(2 / fan_in))``. ``fan_in`` is the product of a tensor's sizes
      after the first; a bias takes that of the weight before it. (In a network string other one-dimensional
      tensors, such as a LayerNorm's, take their own size.) Removed weights are +0.
    - ``rescale``: where true, the kept weights of each tensor of two or more dimensions are multiplied, in float32, by
      ``float32(sqrt(size / kept))``: its size and how many of its weights are kept; or a list of the factors, float32,
      one for each of ``layers``; or false.
    - ``action``: ``{"kind": "discrete", "n", "start"}``: the index of the largest output, the first of equal ones,
      plus start; or ``{"kind": "box", "low", "high", "shape", "dtype"}``: the output, rounded to a whole number if
      dtype is an integer, clipped to the bounds (null: none), shaped row by row;
      or ``{"kind": "multi_discrete", "nvec", "start", "shape", "dtype"}``, lists row by row: each number is among as
      many outputs as ``nvec`` says, and is the index of the largest of them, plus start;
      or ``{"kind": "multi_binary", "shape"}``: 1 where the output is above 0, else 0;
      or ``{"kind": "tuple", "parts"}`` or ``{"kind": "dict", "keys", "parts"}``: parts are such objects themselves,
      and their outputs stand one after another.
    - ``observation``: only where observations are no plain array; how they are flattened.
      ``{"kind": "box", "shape"}``: row by row;
      ``{"kind": "one_hot", "nvec", "start", "shape"}``, lists row by row: each whole number becomes ``nvec`` zeros, but
      a 1 at the number minus start;
      ``{"kind": "tuple", "parts"}`` or ``{"kind": "dict", "keys", "parts"}``: parts are such objects themselves, and
      stand one after another.
    - ``env``, ``env_config``: the Gymnasium task, or null, and the options it is made with. What JSON alone would
      change is an object with one key: ``{"$tuple": [...]}``, ``{"$float": "inf"}``, ``{"$dict": [[key, value], ...]}``
      and, of NumPy, ``{"$scalar": {"dtype": "<f4", "base64"}}`` and ``{"$array": {"dtype", "base64", "shape"}}``.
    - ``registration``, only where ``env`` is not registered as Gymnasium ships it: ``{"entry_point", "kwargs",
      "max_episode_steps", "additional_wrappers"}``; where a callable made the environment: ``{"callable"}``.
    - ``obs_shape``, only where it is not ``[obs_length]``; ``act_shape`` and ``network_args``, only where ``network``
      is null: what the network's maker was given.
    - ``missing``, only where the file could not hold something: ``{"env_config": [names], "network_args": [names]}``.
    - ``sparsity``: the fraction of weights removed, to six digits. ``tests``: results of fresh episodes.
    - ``proof``: float32 ``(2, act_length)`` in base64: the network's outputs, before any clipping, for two
      observations, one after the other: ``u`` of the words
      ``numpy.random.Philox(key=[0, 0]).random_raw(2 obs_length)``, row by row, the second row times 10. ``load``
      computes the outputs again, and refuses a file whose network gives others.

    Without ``observation`` an observation is flattened row by row. Tensors, little-endian: ``mask``, uint8
    ``(ceil(D / 8),)``: bit ``i``, counted from the highest bit of the first byte, is 1 where weight ``i`` is kept;
    spare bits are 0. ``kept_weights``, float32, only where ``weights`` is null: the kept weights in order. ``obs_mean``
    and ``obs_scale``, float32 ``(obs_length,)``, only where observations are normalised: the policy sees
    ``(obs - obs_mean) * obs_scale``. ``buffer.NAME``, where the network is a module with buffers: their values.

    Args:
        network: The frozen network.
        mask: ``(D,)`` bool, True where a weight is kept.
        actions: How outputs become actions.
        observations: How what the environment returns becomes a flat vector; None takes any array of as many numbers.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density); or the factors themselves,
            one for each of the network's ``layers``.
        normalizer: What observations are normalised by.
        env: Id of the task it was found for.
        env_config: Its configuration.
        tests: Results of fresh episodes; each ``test`` of this very task replaces them.
        registration: What ``env`` was registered as, where it was a ``GymTask``'s; see ``GymTask.registration``.
        missing_config: Names in the configuration that a file could not hold.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape does not fit the network.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        mask: Tensor | ArrayLike,
        *,
        actions: Actions,
        observations: Observations | None = None,
        rescale: bool | Sequence[float] = False,
        normalizer: Normalizer | None = None,
        env: str | None = None,
        env_config: Mapping[str, Any] | None = None,
        tests: Mapping[str, Any] | None = None,
        registration: Mapping[str, Any] | None = None,
        missing_config: Sequence[str] = (),
    ) -> None:
        if not isinstance(network, FrozenNetwork):
            raise TypeError(f"network: expected a FrozenNetwork, got {network!r}")
        if not isinstance(actions, Actions):
            raise TypeError(f"actions: expected DiscreteActions, BoxActions or others of these, got {actions!r}")
        if not isinstance(observations, Observations | None):
            raise TypeError(f"observations: expected Observations or None, got {observations!r}")
        if observations is not None and observations.length != network.obs_length:
            expected = f"{network.obs_length} numbers, as the network takes them"
            raise ValueError(f"observations: expected {expected}, got {observations.length}")
        if not isinstance(normalizer, Normalizer | None):
            raise TypeError(f"normalizer: expected a Normalizer or None, got {normalizer!r}")
        if normalizer is not None and normalizer.mean.shape != (network.obs_length,):
            raise ValueError(f"normalizer: expected mean and scale of shape ({network.obs_length},), got {normalizer}")
        if actions.length != network.act_length:
            raise ValueError(f"actions: expected {network.act_length} outputs, the network's, got {actions.length}")
        if not isinstance(env, str | None):
            raise TypeError(f"env: expected a Gymnasium id or None, got {env!r}")
        self.network = network
        self.mask = check_mask("mask", mask, network.num_weights).clone()
        self.actions = actions
        self.observations = None if isinstance(observations, BoxObservations) else observations
        self.rescale = check_rescale("rescale", rescale, len(network.layers))
        self.normalizer = normalizer
        self.env = env
        self.env_config = check_mapping("env_config", env_config)
        self.tests = check_mapping("tests", tests)
        self.registration = None if registration is None else check_mapping("registration", registration)
        if env is not None and self.registration == describe_shipped(env):
            self.registration = None
        self.missing_config = tuple(missing_config)
        self._acting: tuple[tuple[Any, ...], nn.Module] | None = None  # what ``act`` computes with, and what it is of

    @property
    def num_weights(self) -> int:
        """How many weights the dense network has."""
        return self.network.num_weights

    @property
    def num_active(self) -> int:
        """How many of them are kept."""
        return int(self.mask.sum())

    @property
    def sparsity(self) -> float:
        """The fraction of weights removed."""
        return 1.0 - self.num_active / self.num_weights

    @property
    def scales(self) -> list[float]:
        """What the kept weights of each of the network's ``layers`` are multiplied by."""
        layers = self.network.layers
        if not isinstance(self.rescale, bool):
            return list(self.rescale)
        scaled = [self.rescale and len(layer.shape) >= 2 for layer in layers]
        return [float(scale_of(self.mask[None], layers[i])) if scaled[i] else 1.0 for i in range(len(layers))]

    @property
    def weights(self) -> Tensor:
        """What the policy computes with, ``(D,)`` float32: 0 where a weight is removed."""
        masked = apply_mask(self.network.weights, self.mask[None], self.network.layers, rescale=self.rescale)
        return masked[0]

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
        subnet = copy(self)
        subnet.mask = torch.from_numpy(live_weights(masked_layers(self), self.num_weights))
        subnet.rescale = self.rescale and tuple(self.scales)
        return subnet

    def to_policy(self, *, clip_actions: bool = True) -> nn.Module:
        """A plain ``nn.Module`` from flat observations ``(..., obs_length)`` to outputs ``(..., act_length)``."""
        module = self.network.to_module(self.weights)
        return PolicyModule(module, self.normalizer, self.actions if check_bool("clip_actions", clip_actions) else None)

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
        if not rows.isfinite().all():
            raise ValueError(f"obs: expected finite numbers, got {obs!r}")
        policy = self._policy()
        outputs = np.empty((len(rows), self.actions.length), dtype=np.float32)
        with torch.no_grad():
            for output, row in zip(outputs, rows, strict=True):
                result = policy(row)
                output[:] = (result[0] if isinstance(result, tuple) else result).numpy()
        if not np.isfinite(outputs).all():
            raise ValueError(f"obs: expected an observation with finite outputs, got {obs!r}, which gives {outputs}")
        actions = self.actions(outputs)
        return actions if batched else self.actions.one_by_one(actions)[0]

    def _rows(self, obs: Any) -> tuple[bool, Tensor]:
        """Whether what came is a batch, and its observations, flat ``(n, obs_length)``."""
        if self.observations is not None:
            try:
                return False, torch.from_numpy(self.observations(obs))[None]
            except (TypeError, ValueError) as error:
                raise type(error)(f"obs: {error}") from error
        values = check_numbers("obs", obs)
        obs_shape, length = self.network.obs_shape, self.network.obs_length
        batched = values.shape[1:] in (obs_shape, (length,)) and values.shape != obs_shape
        if not batched and values.numel() != length:
            raise ValueError(
                f"obs: expected shape {obs_shape}, or (n, {', '.join(map(str, obs_shape))}), got {tuple(values.shape)}"
            )
        return batched, values.reshape(-1, length)

    def _policy(self) -> nn.Module:
        """The module that ``act`` computes with. It is made again once what it is made of has changed."""
        normalizer = self.normalizer
        scaling = None if normalizer is None else (normalizer.mean.tobytes(), normalizer.scale.tobytes())
        made_of = (self.network, self.mask.numpy().tobytes(), self.actions, self.rescale, scaling)
        if self._acting is None or self._acting[0] != made_of:
            self._acting = made_of, self.to_policy()
        return self._acting[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_acting": None}

    def probe(self) -> NDArray[np.float32]:
        """The outputs ``(2, act_length)`` for two fixed observations, by which a file proves itself."""
        return probe(self.to_policy(clip_actions=False), probe_inputs(self.network.obs_length)).astype(np.float32)

    def task(
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
        """Returns of fresh episodes on Gymnasium.

        ``tests`` keeps their mean, standard error, number and seed where they are whole episodes of the policy's own
        task: not of another environment or configuration.

        Args:
            num_episodes: How many episodes.
            seed: Seed of the episodes.
            env: See ``task``.
            env_config: See ``task``.
            episode_length: See ``task``.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            EvaluationError: The environment raised, or returned something that is not finite.
            ValueError: See ``task``.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        task = self.task(env, env_config=env_config, episode_length=episode_length)
        weights = self.weights[None]
        returns = play_tests(task, self.network, weights, num_episodes=count, seed=seed, normalizer=self.normalizer)
        if self._is_own(task):
            self.tests = summary(returns, seed=seed)
        return returns

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

        Observations are normalised and actions rounded, clipped or chosen as by ``act``; ``act`` has
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

    def export_onnx(self, path: str | Path) -> None:
        """Write this policy as an ONNX model. It appears whole or not at all.

        Its input ``obs`` is float32 ``(batch, obs_length)``, flat, see ``observations``; its output ``action`` is
        ``(batch,)`` int64 for Discrete actions, else ``(batch, *shape)`` of the space's dtype. For Dict and Tuple
        actions there is an output for each part, named after its keys and numbers: ``action.gripper``,
        ``action.arm.0``. Observations are normalised and actions rounded, clipped or chosen as by ``act``. Dead units
        of a chain of linear layers are left out.

        Args:
            path: Where; the suffix ``.onnx`` is customary.

        Raises:
            TypeError: ``path`` is not one.
            OSError: The file cannot be written.
            ImportError: The packages onnx and onnxscript are not installed (``pip install subnet-problems[onnx]``).
            ValueError: The network has a state of its own, as recurrent ones do; or two parts of the action have one
                name.
        """
        export_onnx(self, path)

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
        normalizer, too; where observations are normalised, their means are subtracted: ``0.53*(x - 0.12)``.

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

    def __repr__(self) -> str:
        task = f" for {self.env}" if self.env else ""
        return f"<Subnetwork{task}: {self.num_active} of {self.num_weights} weights, sparsity {self.sparsity:.3f}>"


def summary(returns: NDArray[np.float64], *, seed: int) -> dict[str, Any]:
    """What ``Subnetwork.tests`` says of the returns of some episodes."""
    count = len(returns)
    return {
        "mean": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
        "num_episodes": count,
        "seed": seed,
    }
