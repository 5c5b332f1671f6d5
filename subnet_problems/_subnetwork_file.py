"""The subnetwork file: what ``Subnetwork``'s docstring describes, written and read."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from ._checks import check_rescale
from ._network_string import check_string
from .networks import WEIGHT_INITS, FrozenNetwork
from .rollout import Normalizer
from .spaces import actions_from_json, observations_from_json

if TYPE_CHECKING:
    from .subnetwork import Subnetwork


#: What stands before the CRC-32 in the header, where the description is a string within JSON.
_BEFORE_CRC32 = rb"\"crc32\":\""


class SubnetworkFileError(ValueError):
    """A file that is not a whole and sound subnetwork file; the message says what is wrong."""


def encode(subnet: Subnetwork) -> bytes:
    """The bytes of a subnetwork's file.

    Raises:
        ValueError: Something in it is not what JSON can hold, or its network string cannot be read from a file.
    """
    network = subnet.network
    tensors: dict[str, NDArray[Any]] = {"mask": np.packbits(subnet.mask.cpu().numpy())}
    if network.weight_init is None:
        tensors["kept_weights"] = network.weights[subnet.mask].numpy()
    if subnet.normalizer is not None:
        tensors |= {"obs_mean": subnet.normalizer.mean, "obs_scale": subnet.normalizer.scale}
    architecture: dict[str, Any] | None = None
    if isinstance(network.architecture, str):
        architecture = {"string": network.architecture, "constants": network.architecture_args}
    elif network.architecture is not None:
        architecture = {"hidden_sizes": list(network.architecture), "bias": network.bias}
    weights = {"init": network.weight_init, "gain": network.weight_gain, "seed": network.seed}
    description = {
        "version": 1,
        "crc32": "0" * 8,
        "layers": [list(layer.shape) for layer in network.layers],
        "network": architecture,
        "obs_length": network.obs_length,
        "act_length": network.act_length,
        "weights": None if network.weight_init is None else weights,
        "rescale": subnet.rescale,
        "action": subnet.actions.to_json(),
        **({} if subnet.observations is None else {"observation": subnet.observations.to_json()}),
        "env": subnet.env,
        "env_config": subnet.env_config,
        "sparsity": subnet.sparsity,
        "tests": subnet.tests,
    }
    arguments = network.architecture_args if isinstance(network.architecture, str) else {}
    values = {"network_args": arguments, "env_config": subnet.env_config, "tests": subnet.tests}
    for name, value in values.items():
        if not _is_json(value):
            raise ValueError(f"{name}: expected what JSON can hold, got {value!r}")
    if isinstance(network.architecture, str):
        shapes = [layer.shape for layer in network.layers]
        check_string(network.architecture, arguments, shapes, network.obs_length, network.act_length)
    text = json.dumps(description, separators=(",", ":"), allow_nan=False)
    return _sealed(save(tensors, metadata={"subnetwork": text}))


def _sealed(data: bytes) -> bytes:
    """A file with its right CRC-32, which is that of the file with eight zeros in its place.

    Raises:
        ValueError: It has no place for one.
    """
    start = data.index(_BEFORE_CRC32) + len(_BEFORE_CRC32)
    before, after = data[:start], data[start + 8 :]
    return before + b"%08x" % zlib.crc32(after, zlib.crc32(b"0" * 8, zlib.crc32(before))) + after


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], bytes]:
    with open(path, "rb") as stream:  # a missing or unreadable file is an OSError
        data = stream.read(os.fstat(stream.fileno()).st_size)  # a device has no size, and no end
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise SubnetworkFileError(f"{path}: not a safetensors file: {error}") from error
    if "subnetwork" not in metadata:
        raise SubnetworkFileError(f"{path}: a safetensors file, but its metadata has no entry 'subnetwork'")
    try:
        description = json.loads(metadata["subnetwork"], object_pairs_hook=_without_duplicates)
        if not _is_json(description):
            raise ValueError("it holds a number that is not finite")
    except (ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not a JSON object")
    return description, tensors, data


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key comes twice in {[key for key, _ in pairs]}")
    return values


def _check_sum(data: bytes) -> None:
    try:
        sound = _sealed(data) == data
    except ValueError:
        sound = False
    if not sound:
        raise SubnetworkFileError("crc32: expected the checksum of this file, got another: the file is damaged")


def decode(path: Path, module: nn.Module | Callable[..., nn.Module] | None) -> dict[str, Any]:
    """The arguments of the ``Subnetwork`` that a file holds.

    Checks go from the cheap to the dear; nothing is allocated that the file's size does not justify.
    """
    description, tensors, data = _read(path)
    need = _Fields(description)
    if need.take("version", int) != 1:
        raise SubnetworkFileError(f"version: expected 1, got {description['version']!r}")
    _check_sum(data)
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
        flattened = need.optional("observation", dict)
        observations = None if flattened is None else observations_from_json(flattened)
    except ValueError as error:
        raise SubnetworkFileError(str(error)) from error
    if actions.length != act_length:
        raise SubnetworkFileError(f"action: expected {act_length} outputs, got {actions.length}")
    if observations is not None and observations.length != obs_length:
        raise SubnetworkFileError(f"observation: expected {obs_length} numbers, got {observations.length}")
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
    return {
        "network": network,
        "mask": mask,
        "actions": actions,
        "observations": observations,
        "rescale": _rescale(need, len(shapes)),
        "normalizer": normalizer,
        "env": env,
        "env_config": need.take("env_config", dict),
        "tests": need.take("tests", dict),
    }


def _rescale(need: _Fields, num_layers: int) -> bool | tuple[float, ...]:
    if not need.holds("rescale", list):
        return bool(need.take("rescale", bool))
    try:
        return check_rescale("rescale", need.take("rescale", list), num_layers)
    except (TypeError, ValueError) as error:
        raise SubnetworkFileError(str(error)) from error


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
        try:
            check_string(source, options["network_args"], shapes, obs_length, act_length)
        except ValueError as error:
            raise SubnetworkFileError(str(error)) from error
    try:
        network = FrozenNetwork(source, **options)
    except (TypeError, ValueError) as error:
        raise (SubnetworkFileError if architecture is not None else ValueError)(str(error)) from error
    if [layer.shape for layer in network.layers] != shapes:
        raise ValueError(f"network: expected layers {shapes}, got {[layer.shape for layer in network.layers]}")
    return network


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
        """The field, of this very type (a whole number may stand for a float)."""
        value = self._values.get(name)
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else None
        if type(value) is not kind:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected {kind.__name__}, got {value!r}")
        return value

    def holds(self, name: str, kind: type) -> bool:
        """Whether the field is of this very type."""
        return type(self._values.get(name)) is kind

    def optional(self, name: str, kind: type) -> Any:
        """The field, or None where it is missing or null."""
        return None if self._values.get(name) is None else self.take(name, kind)

    def count(self, name: str) -> int:
        """The field, a whole number of at least 1."""
        value: int = self.take(name, int)
        if value < 1:
            raise SubnetworkFileError(f"{self._prefix}{name}: expected a whole number >= 1, got {value}")
        return value

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The field, a list of shapes."""
        shapes = self.take(name, list)
        for shape in shapes:
            if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
                raise SubnetworkFileError(f"{name}: expected lists of whole numbers >= 1, got {shape!r}")
        if not shapes:
            raise SubnetworkFileError(f"{name}: expected at least one layer, got none")
        return [tuple(shape) for shape in shapes]
