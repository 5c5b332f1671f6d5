"""Subnetwork: a network and one mask, which together are a policy that can be deployed; and its file."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ._checks import check_bool, check_count, check_seed
from .masks import apply_mask
from .networks import WEIGHT_INITS, FrozenNetwork
from .observations import PolicyModule
from .rollout import Normalizer, play_tests
from .spaces import Actions, actions_from_json
from .task import EnvLike, GymTask


class SubnetworkFileError(ValueError):
    """A file that is not a whole and sound subnetwork file; the message says what is wrong."""


class Subnetwork:
    """A frozen network and the mask that was found for it: a sparse policy.

    **The file** (:meth:`save`) is in the safetensors format: 8 bytes, little-endian, give the length of a JSON
    header; the header maps each tensor's name to ``{"dtype", "shape", "data_offsets": [begin, end]}``, the offsets
    counted from the header's end; then come the tensors' bytes. The header's entry ``__metadata__`` has one key,
    ``subnetwork``, whose value is a string of JSON:

    - ``version``: 1.
    - ``layers``: the shapes of the network's parameter tensors, in order; D is the sum of their sizes. A linear
      layer's weight is ``[out, in]``; it computes ``weight @ x`` (plus its bias, the tensor that follows, if it has
      one).
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
      after the first; a one-dimensional tensor takes that of its module's tensor before it, or its own size.
    - ``rescale``: where true, the kept weights of each tensor of two or more dimensions are multiplied by
      ``float32(sqrt(size / kept))``, its size and number of kept weights.
    - ``action``: ``{"kind": "discrete", "n", "start"}``: the index of the largest output, plus start; or
      ``{"kind": "box", "low", "high", "shape", "dtype"}``: the output clipped to the bounds (null: none), shaped.
    - ``env``, ``env_config``: the Gymnasium task, or null.
    - ``sparsity``: the fraction of weights removed. ``tests``: results of fresh episodes.

    Tensors: ``mask``, uint8 ``(ceil(D / 8),)``: bit ``i``, counted from the highest bit of the first byte, is 1 where
    weight ``i`` is kept; spare bits are 0. ``kept_weights``, float32, only where ``weights`` is null: the kept
    weights in order. ``obs_mean`` and ``obs_scale``, float32 ``(obs_length,)``, only where observations are
    normalised: the policy sees ``(obs - obs_mean) * obs_scale``.

    Args:
        network: The frozen network.
        mask: ``(D,)`` bool, True where a weight is kept.
        actions: How outputs become actions.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density).
        normalizer: What observations are normalised by.
        env: Id of the task it was found for.
        env_config: Its configuration.
        tests: Results of fresh episodes; :meth:`test` adds to it.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The mask has another shape than ``(D,)``.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        mask: Tensor,
        *,
        actions: Actions,
        rescale: bool = False,
        normalizer: Normalizer | None = None,
        env: str | None = None,
        env_config: Mapping[str, Any] | None = None,
        tests: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(network, FrozenNetwork):
            raise TypeError(f"network: expected a FrozenNetwork, got {network!r}")
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask: expected a bool tensor of shape (D,) = ({network.num_weights},), got {mask!r}")
        if mask.shape != (network.num_weights,):
            raise ValueError(f"mask: expected shape (D,) = ({network.num_weights},), got {tuple(mask.shape)}")
        if actions.length != network.act_length:
            raise ValueError(f"actions: expected {network.act_length} outputs, the network's, got {actions.length}")
        self.network = network
        self.mask = mask.clone()
        self.actions = actions
        self.rescale = check_bool("rescale", rescale)
        self.normalizer = normalizer
        self.env = env
        self.env_config: dict[str, Any] = dict(env_config or {})
        self.tests: dict[str, Any] = dict(tests or {})

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
    def weights(self) -> Tensor:
        """What the policy computes with, ``(D,)`` float32: 0 where a weight is removed."""
        masked = apply_mask(self.network.weights, self.mask[None], self.network.layers, rescale=self.rescale)
        return masked[0]

    def to_policy(self, *, clip_actions: bool = True) -> nn.Module:
        """A plain ``nn.Module`` from flat observations ``(..., obs_length)`` to outputs ``(..., act_length)``."""
        module = self.network.to_module(self.weights)
        return PolicyModule(module, self.normalizer, self.actions if clip_actions else None)

    def act(self, obs: ArrayLike) -> Any:
        """The action for one observation, as the environment takes it.

        Networks with a state of their own begin anew at each call: use :meth:`to_policy` for these.

        Args:
            obs: An observation of the environment, of any shape that flattens to ``(obs_length,)``.
        """
        flat = torch.as_tensor(np.asarray(obs, dtype=np.float32).reshape(-1))
        with torch.no_grad():
            output = self.to_policy()(flat)
        output = output[0] if isinstance(output, tuple) else output
        return self.actions(output.numpy()[None])[0]

    def test(
        self, *, num_episodes: int = 100, seed: int = 0, env: EnvLike | None = None, episode_length: int | None = None
    ) -> NDArray[np.float64]:
        """Returns of fresh episodes on Gymnasium; ``tests`` keeps their mean, standard error, number and seed.

        Args:
            num_episodes: How many episodes.
            seed: Seed of the episodes.
            env: The task, where the subnetwork does not know its own.
            episode_length: The most steps of an episode, where the task sets none.

        Returns:
            ``(num_episodes,)`` sums of rewards.

        Raises:
            ValueError: No task is known, or its spaces are not those of the policy.
        """
        count, seed = check_count("num_episodes", num_episodes), check_seed("seed", seed)
        if env is None and self.env is None:
            raise ValueError("env: expected a Gymnasium id or a callable, since the subnetwork knows no task, got None")
        task = GymTask(
            self.env if env is None else env,  # type: ignore[arg-type]
            env_config=self.env_config if env is None else None,
            episode_length=episode_length,
            backend="gymnasium",
        )
        if task.obs_length != self.network.obs_length or task.actions.length != self.network.act_length:
            raise ValueError(
                f"env: expected observations of length {self.network.obs_length} and {self.network.act_length} "
                f"outputs, got {task.obs_length} and {task.actions.length}"
            )
        weights = self.weights[None]
        returns = play_tests(task, self.network, weights, num_episodes=count, seed=seed, normalizer=self.normalizer)
        self.tests = {
            "mean": float(returns.mean()),
            "standard_error": float(returns.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
            "num_episodes": count,
            "seed": seed,
        }
        return returns

    def save(self, path: str | Path) -> None:
        """Write the file. It appears whole or not at all.

        Args:
            path: Where; the suffix ``.safetensors`` is customary.

        Raises:
            ValueError: ``env_config`` or ``tests`` hold what JSON cannot.
        """
        from safetensors.numpy import save

        network = self.network
        tensors: dict[str, NDArray[Any]] = {"mask": np.packbits(self.mask.numpy())}
        if network.weight_init is None:
            tensors["kept_weights"] = network.weights[self.mask].numpy()
        if self.normalizer is not None:
            tensors |= {"obs_mean": self.normalizer.mean, "obs_scale": self.normalizer.scale}
        architecture: dict[str, Any] | None = None
        if isinstance(network.architecture, str):
            architecture = {"string": network.architecture, "constants": network.architecture_args}
        elif network.architecture is not None:
            architecture = {"hidden_sizes": list(network.architecture), "bias": network.bias}
        weights = {"init": network.weight_init, "gain": network.weight_gain, "seed": network.seed}
        description = {
            "version": 1,
            "layers": [list(layer.shape) for layer in network.layers],
            "network": architecture,
            "obs_length": network.obs_length,
            "act_length": network.act_length,
            "weights": None if network.weight_init is None else weights,
            "rescale": self.rescale,
            "action": self.actions.to_json(),
            "env": self.env,
            "env_config": self.env_config,
            "sparsity": self.sparsity,
            "tests": self.tests,
        }
        try:
            text = json.dumps(description, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            came = f"{self.env_config!r}, {self.tests!r}"
            raise ValueError(f"env_config, tests: expected what JSON can hold, got {came}") from error
        _write_whole(Path(path), save(tensors, metadata={"subnetwork": text}))

    @classmethod
    def load(cls, path: str | Path, *, network: nn.Module | Callable[..., nn.Module] | None = None) -> Subnetwork:
        """Read a file. No code in it is run.

        Args:
            path: The file.
            network: The module, or a callable that makes it, where the file does not describe its architecture.

        Raises:
            OSError: The file cannot be read.
            SubnetworkFileError: It is not a whole and sound subnetwork file.
            ValueError: ``network`` is missing, or does not fit the file.
        """
        description, tensors = _read(Path(path))
        return _rebuild(cls, description, tensors, network)

    def __repr__(self) -> str:
        task = f" for {self.env}" if self.env else ""
        return f"<Subnetwork{task}: {self.num_active} of {self.num_weights} weights, sparsity {self.sparsity:.3f}>"


def _write_whole(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):
        pass  # a missing or unreadable file is an OSError
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise SubnetworkFileError(f"{path}: not a safetensors file: {error}") from error
    if "subnetwork" not in metadata:
        raise SubnetworkFileError(f"{path}: a safetensors file, but its metadata has no entry 'subnetwork'")
    try:
        description = json.loads(metadata["subnetwork"])
    except (ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not a JSON object")
    return description, tensors


def _rebuild(
    cls: type[Subnetwork],
    description: dict[str, Any],
    tensors: dict[str, NDArray[Any]],
    module: nn.Module | Callable[..., nn.Module] | None,
) -> Subnetwork:
    """Check a description from the cheap to the dear; nothing is allocated that the file's size does not justify."""
    need = _Fields(description)
    if need.take("version", int) != 1:
        raise SubnetworkFileError(f"version: expected 1, got {description['version']!r}")
    shapes = need.shapes("layers")
    num_weights = sum(math.prod(shape) for shape in shapes)
    bits = tensors.get("mask")
    if bits is None or bits.dtype != np.uint8 or bits.shape != ((num_weights + 7) // 8,):
        came = "none" if bits is None else f"{bits.dtype} {bits.shape}"
        raise SubnetworkFileError(f"mask: expected uint8 of shape ({(num_weights + 7) // 8},), got {came}")
    unpacked = np.unpackbits(bits)
    if unpacked[num_weights:].any():
        raise SubnetworkFileError("mask: expected spare bits of 0")
    mask = torch.from_numpy(unpacked[:num_weights].astype(np.bool_))

    obs_length, act_length = need.count("obs_length"), need.count("act_length")
    try:
        actions = actions_from_json(need.take("action", dict))
    except ValueError as error:
        raise SubnetworkFileError(str(error)) from error
    if actions.length != act_length:
        raise SubnetworkFileError(f"action: expected {act_length} outputs, got {actions.length}")
    kept_weights = None
    if description.get("weights") is None:
        kept_weights = _floats(tensors, "kept_weights", int(mask.sum()))
    normalizer = None
    if "obs_mean" in tensors or "obs_scale" in tensors:
        normalizer = Normalizer(_floats(tensors, "obs_mean", obs_length), _floats(tensors, "obs_scale", obs_length))
    network = _rebuild_network(need, shapes, obs_length, act_length, module)
    if kept_weights is not None:
        network = network.with_weights(mask, torch.from_numpy(kept_weights))
    env = description.get("env")
    if env is not None and not isinstance(env, str):
        raise SubnetworkFileError(f"env: expected a string or null, got {env!r}")
    return cls(
        network,
        mask,
        actions=actions,
        rescale=need.take("rescale", bool),
        normalizer=normalizer,
        env=env,
        env_config=need.take("env_config", dict),
        tests=need.take("tests", dict),
    )


def _rebuild_network(
    need: _Fields,
    shapes: list[tuple[int, ...]],
    obs_length: int,
    act_length: int,
    module: nn.Module | Callable[..., nn.Module] | None,
) -> FrozenNetwork:
    weights = need.optional("weights", dict)
    options: dict[str, Any] = {"obs_length": obs_length, "act_length": act_length}
    if weights is not None:
        fields = _Fields(weights, "weights.")
        init, gain, seed = fields.take("init", str), fields.take("gain", float), fields.take("seed", int)
        if init not in WEIGHT_INITS or not 0 < gain < math.inf or not 0 <= seed < 2**63:
            raise SubnetworkFileError(f"weights: expected init in {WEIGHT_INITS}, gain > 0, seed >= 0, got {weights}")
        options |= {"weight_init": init, "weight_gain": gain, "seed": seed}
    architecture = need.optional("network", dict)
    if architecture is None:
        if module is None:
            raise ValueError("network: expected the nn.Module that the file holds a mask of, got None")
        source: Any = module
    elif "hidden_sizes" in architecture:
        fields = _Fields(architecture, "network.")
        hidden, bias = fields.take("hidden_sizes", list), fields.take("bias", bool)
        sizes = [obs_length, *hidden, act_length]
        expected: list[tuple[int, ...]] = []
        for n_in, n_out in pairwise(sizes):
            expected += [(n_out, n_in), (n_out,)] if bias else [(n_out, n_in)]
        if expected != shapes:
            raise SubnetworkFileError(f"network: expected layers {expected} for sizes {sizes}, got {shapes}")
        source, options["bias"] = tuple(hidden), bias
    else:
        fields = _Fields(architecture, "network.")
        source, options["network_args"] = fields.take("string", str), fields.take("constants", dict)
        _check_string(source, options["network_args"], shapes)
    try:
        network = FrozenNetwork(source, **options)
    except (TypeError, ValueError) as error:
        raise (SubnetworkFileError if architecture is not None else ValueError)(str(error)) from error
    if [layer.shape for layer in network.layers] != shapes:
        raise ValueError(f"network: expected layers {shapes}, got {[layer.shape for layer in network.layers]}")
    return network


def _check_string(string: str, constants: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    """Build a string's network without memory for weights first, so that one too large is found out for free."""
    from evotorch.neuroevolution.net import str_to_net

    try:
        with torch.device("meta"):
            found = [tuple(p.shape) for p in str_to_net(string, **constants).parameters()]
    except Exception as error:
        raise SubnetworkFileError(f"network.string: EvoTorch cannot read {string!r}: {error}") from error
    if found != shapes:
        raise SubnetworkFileError(f"network.string: expected layers {shapes}, got {found}")


def _floats(tensors: dict[str, NDArray[Any]], name: str, length: int) -> NDArray[np.float32]:
    values = tensors.get(name)
    if values is None or values.dtype != np.float32 or values.shape != (length,) or not np.isfinite(values).all():
        came = "none" if values is None else f"{values.dtype} {values.shape}"
        raise SubnetworkFileError(f"{name}: expected finite float32 of shape ({length},), got {came}")
    return np.array(values)


class _Fields:
    """The fields of a JSON object that was read from a file."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self._values, self._prefix = values, prefix

    def take(self, name: str, kind: type) -> Any:
        value = self._values.get(name)
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else None
        if type(value) is not kind:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected {kind.__name__}, got {value!r}")
        return value

    def optional(self, name: str, kind: type) -> Any:
        return None if self._values.get(name) is None else self.take(name, kind)

    def count(self, name: str) -> int:
        value: int = self.take(name, int)
        if value < 1:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected a whole number >= 1, got {value}")
        return value

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        shapes = self.take(name, list)
        for shape in shapes:
            if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
                raise SubnetworkFileError(f"{name}: expected lists of whole numbers >= 1, got {shape!r}")
        if not shapes:
            raise SubnetworkFileError(f"{name}: expected at least one layer, got none")
        return [tuple(shape) for shape in shapes]
