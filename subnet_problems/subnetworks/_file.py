"""Encoding and decoding of a policy's file; ``docs/file-format.md`` describes its bytes."""

from __future__ import annotations

import base64
import json
import math
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from .._checks import check_mapping, check_rescale, naming
from .._json import split
from ..networks._frozen_network import FrozenNetwork
from ..networks._inits import INITS
from ..networks._network_string import check_string
from ..networks._probe import NUM_PROBES
from ..tasks._action_parts import actions_from_json
from ..tasks._observation_rules import observations_from_json
from ..tasks._observation_stats import Normalizer
from ._file_fields import Fields, SubnetworkFileError
from ._parts import PolicyParts

#: The bytes before the CRC-32 in the header, in which the description is a string within JSON.
_BEFORE_CRC32 = rb"\"crc32\":\""
#: Prefix of the names of tensors that are buffers of the module.
_BUFFER = "buffer."


def encode(subnet: PolicyParts) -> bytes:
    """Encode a subnetwork as the bytes of its file. Values that the file cannot hold are left out, with a warning."""
    network = subnet.network
    architecture, network_args, left_out = _describe(network)
    env_config, unknown = split(subnet.env_config)
    tests, lost = split(subnet.tests)
    left_out |= {"env_config": unknown, "tests": lost}
    for sentence in _sentences(left_out):
        warnings.warn(sentence, stacklevel=3)  # at the call of ``save``
    tensors: dict[str, NDArray[Any]] = {"mask": np.packbits(subnet.mask.cpu().numpy())}
    if subnet.factors is not None:
        tensors["factors"] = subnet.factors[subnet.mask].numpy()
    if network.weight_init is None:
        tensors["kept_weights"] = network.weights[subnet.mask].numpy()
    if subnet.normalizer is not None:
        tensors |= {"obs_mean": subnet.normalizer.mean, "obs_scale": subnet.normalizer.scale}
    for name, buffer in network.buffers.items():
        if name not in left_out["buffers"]:
            tensors[_BUFFER + name] = np.asarray(buffer.numpy(), order="C")
    weights = {"init": network.weight_init, "gain": network.weight_gain, "seed": network.seed}
    description: dict[str, Any] = {
        "version": 1 if subnet.factors is None else 2,
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
        "env_config": env_config,
        "sparsity": round(subnet.sparsity, 6),
        "tests": tests,
        "proof": base64.b64encode(subnet.probe().astype("<f4").tobytes()).decode(),
    }
    if network.obs_shape != (network.obs_length,):
        description["obs_shape"] = list(network.obs_shape)
    if architecture is None:
        description |= {"act_shape": list(network.act_shape), "network_args": network_args}
    missing = {
        "env_config": sorted({*unknown, *subnet.missing_config}),
        "network_args": sorted(left_out["network_args"]),
    }
    if any(missing.values()):
        description["missing"] = missing
    if subnet.registration is not None:
        description["registration"] = subnet.registration
    text = json.dumps(description, separators=(",", ":"), allow_nan=False)
    return _sealed(save(tensors, metadata={"subnetwork": text}))


def left_out_of_file(network: FrozenNetwork, env_config: Mapping[str, Any]) -> list[str]:
    """Messages about the values that the file of a policy cannot hold."""
    return _sentences(_describe(network)[2] | {"env_config": split(env_config)[1]})


def _describe(network: FrozenNetwork) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, dict[str, str]]]:
    """Describe a network for its file.

    Returns:
        The architecture as JSON, or None if it is a module or a string that ``load`` would reject, so that the user
        must give it again; the arguments of the network's constructor as JSON; and the values that are left out.
    """
    left_out: dict[str, dict[str, str]] = {"network": {}, "network_args": {}}
    left_out["buffers"] = {name: f"a buffer of {b.dtype}" for name, b in network.buffers.items() if not _is_plain(b)}
    if isinstance(network.architecture, str):
        constants, unknown = split(network.architecture_args)
        try:
            if unknown:
                raise ValueError(f"its constants hold {', '.join(unknown.values())}")
            shapes = [layer.shape for layer in network.layers]
            check_string(
                network.architecture, network.architecture_args, shapes, network.obs_length, network.act_length
            )
        except ValueError as error:
            left_out["network"] = {network.architecture: str(error)}
        else:
            return {"string": network.architecture, "constants": constants}, {}, left_out
    elif network.architecture is not None:
        return {"hidden_sizes": list(network.architecture), "bias": network.bias}, {}, left_out
    arguments, left_out["network_args"] = split(network.network_args)
    return None, arguments, left_out


def _is_plain(buffer: torch.Tensor) -> bool:
    """True if a buffer is an array of booleans or numbers in one of NumPy's dtypes."""
    try:
        return buffer.numpy().dtype.kind in "biuf"
    except (RuntimeError, TypeError):
        return False


def _sentences(left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    where = {
        "env_config": "pass env_config to whatever plays the policy",
        "network_args": "pass network_args to Subnetwork.load",
        "network": "pass network to Subnetwork.load",
        "buffers": "pass a network that creates them to Subnetwork.load",
        "tests": "they are lost",
    }
    return [
        f"{name}: a policy's file cannot hold {', '.join(f'{key!r} ({kind})' for key, kind in things.items())} and is "
        f"saved without: {where[name]}"
        for name, things in left_out.items()
        if things
    ]


def _sealed(data: bytes) -> bytes:
    """Insert the correct CRC-32 into a file: the checksum of the file with eight zeros in its place.

    Raises:
        ValueError: The file has no place for a CRC-32.
    """
    start = data.index(_BEFORE_CRC32) + len(_BEFORE_CRC32)
    before, after = data[:start], data[start + 8 :]
    return before + b"%08x" % zlib.crc32(after, zlib.crc32(b"0" * 8, zlib.crc32(before))) + after


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], bytes]:
    with open(path, "rb") as stream:  # a missing or unreadable file is an OSError
        data = stream.read(os.fstat(stream.fileno()).st_size)  # a device may be endless, but has size 0
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_without_duplicates)
        metadata = header.get("__metadata__") or {}
    except (SafetensorError, TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: not a safetensors file: {error}") from error
    if "subnetwork" not in metadata:
        raise SubnetworkFileError(f"{path}: a safetensors file, but its metadata has no entry 'subnetwork'")
    try:
        description = json.loads(metadata["subnetwork"], object_pairs_hook=_without_duplicates)
        if not _is_finite(description):
            raise ValueError("it contains a number that is not finite")
    except (TypeError, ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not a JSON object")
    return description, tensors, data


def _is_finite(value: Any) -> bool:
    """True if all numbers within a JSON value are finite."""
    if isinstance(value, dict | list):
        return all(_is_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key occurs twice in {[key for key, _ in pairs]}")
    return values


def _check_sum(data: bytes) -> None:
    try:
        sound = _sealed(data) == data
    except ValueError:
        sound = False
    if not sound:
        raise SubnetworkFileError("crc32: expected the checksum of this file, got another: the file is damaged")


def decode(
    path: Path, module: nn.Module | Callable[..., nn.Module] | str | None, network_args: Mapping[str, Any] | None
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Read a file's arguments of ``Subnetwork``, and the outputs that its policy must have (None in older files).

    Cheap checks come first. No allocation is out of proportion to the file's size.
    """
    description, tensors, data = _read(path)
    need = Fields(description)
    version = need.take("version", int)
    if version not in (1, 2):
        raise SubnetworkFileError(f"version: expected 1 or 2, got {version!r}")
    _check_sum(data)
    shapes = need.shapes("layers")
    num_weights = sum(math.prod(shape) for shape in shapes)
    bits = tensors.get("mask")
    if bits is None or bits.dtype != np.uint8 or bits.shape != ((num_weights + 7) // 8,):
        came = "none" if bits is None else f"{bits.dtype} {bits.shape}"
        raise SubnetworkFileError(f"mask: expected uint8 of shape ({(num_weights + 7) // 8},), got {came}")
    unpacked = np.unpackbits(bits)
    if unpacked[num_weights:].any():
        raise SubnetworkFileError("mask: expected 0 for all spare bits")
    mask = torch.from_numpy(unpacked[:num_weights].astype(np.bool_))
    factors = _factors(tensors, mask) if version == 2 else None

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
    proof = _proof(need, act_length) if "proof" in need else None
    network = _rebuild_network(need, shapes, obs_length, act_length, module, network_args)
    buffers = {name.removeprefix(_BUFFER): value for name, value in tensors.items() if name.startswith(_BUFFER)}
    try:
        network = network.with_buffers({name: torch.from_numpy(value.copy()) for name, value in buffers.items()})
    except ValueError as error:
        raise (ValueError if need.optional("network", dict) is None else SubnetworkFileError)(str(error)) from error
    if kept_weights is not None:
        network = network.with_weights(mask, torch.from_numpy(kept_weights))
    env = description.get("env")
    if env is not None and not isinstance(env, str):
        raise SubnetworkFileError(f"env: expected a string or null, got {env!r}")
    missing = need.optional("missing", dict) or {}
    parts = {
        "network": network,
        "mask": mask,
        "factors": factors,
        "actions": actions,
        "observations": observations,
        "rescale": _rescale(need, len(shapes)),
        "normalizer": normalizer,
        "env": env,
        "env_config": need.values("env_config"),
        "missing_config": Fields(missing, "missing.").names("env_config") if missing else (),
        "registration": need.optional("registration", dict),
        "tests": need.values("tests"),
    }
    return parts, proof


def _factors(tensors: Mapping[str, NDArray[Any]], mask: torch.Tensor) -> torch.Tensor:
    """Read the factors ``(D,)`` on kept weights."""
    kept, count = tensors.get("factors"), int(mask.sum())
    if kept is None or kept.dtype != np.int8 or kept.shape != (count,) or not kept.all():
        came = "none" if kept is None else f"{kept.dtype} {kept.shape}" + ", one of them 0" * (not kept.all())
        raise SubnetworkFileError(f"factors: expected int8 of shape ({count},), none of them 0, got {came}")
    return torch.ones(len(mask), dtype=torch.int8).masked_scatter(mask, torch.from_numpy(kept.copy()))


def _rescale(need: Fields, num_layers: int) -> bool | tuple[float, ...]:
    if not need.holds("rescale", list):
        return bool(need.take("rescale", bool))
    try:
        return check_rescale("rescale", need.take("rescale", list), num_layers)
    except (TypeError, ValueError) as error:
        raise SubnetworkFileError(str(error)) from error


def _rebuild_network(
    need: Fields,
    shapes: list[tuple[int, ...]],
    obs_length: int,
    act_length: int,
    module: nn.Module | Callable[..., nn.Module] | str | None,
    network_args: Mapping[str, Any] | None,
) -> FrozenNetwork:
    architecture = need.optional("network", dict)
    if architecture is not None and (module, network_args) != (None, None):
        name, value = ("network", module) if module is not None else ("network_args", network_args)
        raise ValueError(f"{name}: expected None, because the file describes its network, got {value!r}")
    weights = need.optional("weights", dict)
    options: dict[str, Any] = {"obs_length": obs_length, "act_length": act_length}
    for name in ("obs_shape", "act_shape"):
        if name in need:
            (options[name],) = need.shapes(name, single=True)
            if math.prod(options[name]) != options[name.replace("shape", "length")]:
                raise SubnetworkFileError(
                    f"{name}: expected a shape of {options[name.replace('shape', 'length')]} numbers, got "
                    f"{options[name]}"
                )
    if weights is not None:
        fields = Fields(weights, "weights.")
        init, gain, seed = fields.take("init", str), fields.take("gain", float), fields.take("seed", int)
        if init not in INITS or not 0 < gain < math.inf or not 0 <= seed < 2**63:
            raise SubnetworkFileError(f"weights: expected init in {tuple(INITS)}, gain > 0, seed >= 0, got {weights}")
        options |= {"weight_init": init, "weight_gain": gain, "seed": seed}
    if architecture is None:
        if module is None:
            raise ValueError("network: expected the nn.Module to which the file's mask belongs, got None")
        source: Any = module
        if not isinstance(module, nn.Module):
            options["network_args"] = _network_args(need, network_args)
        elif network_args is not None:
            raise ValueError(f"network_args: expected None for an nn.Module, got {network_args!r}")
    elif "hidden_sizes" in architecture:
        fields = Fields(architecture, "network.")
        hidden, bias = fields.take("hidden_sizes", list), fields.take("bias", bool)
        sizes = [obs_length, *hidden, act_length]
        expected: list[tuple[int, ...]] = []
        for n_in, n_out in pairwise(sizes):
            expected += [(n_out, n_in), (n_out,)] if bias else [(n_out, n_in)]
        if expected != shapes:
            raise SubnetworkFileError(f"network: expected layers {expected} for sizes {sizes}, got {shapes}")
        source, options["bias"] = tuple(hidden), bias
    else:
        fields = Fields(architecture, "network.")
        source, options["network_args"] = fields.take("string", str), fields.values("constants")
        try:
            check_string(source, options["network_args"], shapes, obs_length, act_length)
        except ValueError as error:
            raise SubnetworkFileError(str(error)) from error
    try:
        with naming(**({} if architecture is None else {"network": "network.hidden_sizes"})):
            network = FrozenNetwork(source, **options)
    except (TypeError, ValueError) as error:
        if architecture is not None:
            raise SubnetworkFileError(str(error)) from error
        note = f" (network_args in the file: {arguments})" if (arguments := options.get("network_args")) else ""
        raise ValueError(f"{error}{note}") from error
    if isinstance(module, nn.Module) and "network_args" in need:
        network.network_args = need.values("network_args")  # so that it is saved with them again
    if [layer.shape for layer in network.layers] != shapes:
        raise ValueError(f"network: expected layers {shapes}, got {[layer.shape for layer in network.layers]}")
    return network


def _network_args(need: Fields, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of a network's constructor: those in the file, replaced or extended by the given ones."""
    arguments = (need.values("network_args") if "network_args" in need else {}) | check_mapping("network_args", given)
    missing = need.optional("missing", dict)
    names = [] if missing is None else Fields(missing, "missing.").names("network_args")
    lacking = [name for name in names if name not in arguments]
    if lacking:
        raise ValueError(f"network_args: expected values for {lacking}, which the file could not hold, got {given!r}")
    return arguments


def _proof(need: Fields, act_length: int) -> NDArray[np.float32]:
    text, shape = need.take("proof", str), (NUM_PROBES, act_length)
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").reshape(shape)
    except ValueError as error:
        raise SubnetworkFileError(f"proof: expected float32 numbers of shape {shape}, got {text!r}") from error


def _floats(tensors: dict[str, NDArray[Any]], name: str, length: int) -> NDArray[np.float32]:
    values = tensors.get(name)
    if values is None or values.dtype != np.float32 or values.shape != (length,) or not np.isfinite(values).all():
        came = "none" if values is None else f"{values.dtype} {values.shape}"
        raise SubnetworkFileError(f"{name}: expected finite float32 of shape ({length},), got {came}")
    return np.array(values)
