"""Decoding of a policy's file; ``docs/file-format.md`` describes its bytes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._checks import check_rescale
from ..networks._frozen_network import FrozenNetwork
from ..networks._probe import NUM_PROBES
from ..tasks._action_parts import actions_from_json
from ..tasks._action_rules import Actions
from ..tasks._observation_rules import Observations, observations_from_json
from ..tasks._observation_stats import Normalizer
from ._file_bytes import BUFFER, check_sum, read
from ._file_fields import Fields, SubnetworkFileError
from ._file_network import ModuleLike, Shapes, rebuild_network

Tensors = Mapping[str, NDArray[Any]]


def decode(
    path: Path, module: ModuleLike | None, network_args: Mapping[str, Any] | None
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Read a file's arguments of ``Subnetwork``, and the outputs that its policy must have (None in older files).

    Cheap checks come first. No allocation is out of proportion to the file's size.
    """
    description, tensors, data = read(path)
    need = Fields(description)
    version = need.take("version", int)
    if version not in (1, 2):
        raise SubnetworkFileError(f"version: expected 1 or 2, got {version!r}")
    check_sum(data)
    shapes = need.shapes("layers")
    mask = _mask(tensors, sum(math.prod(shape) for shape in shapes))
    parts: dict[str, Any] = {"mask": mask, "factors": _factors(tensors, mask) if version == 2 else None}
    parts["actions"], parts["observations"] = _rules(need)
    kept_weights = None
    if description.get("weights") is None:
        kept_weights = _floats(tensors, "kept_weights", int(mask.sum()))
    parts["normalizer"] = _normalizer(tensors, need.count("obs_length"))
    proof = _proof(need, need.count("act_length")) if "proof" in need else None
    network = _with_buffers(need, tensors, rebuild_network(need, shapes, module, network_args))
    if kept_weights is not None:
        network = network.with_weights(mask, torch.from_numpy(kept_weights))
    return parts | {"network": network} | _origin(need, shapes), proof


def _mask(tensors: Tensors, num_weights: int) -> torch.Tensor:
    """Read the mask ``(D,)`` bool."""
    bits = tensors.get("mask")
    if bits is None or bits.dtype != np.uint8 or bits.shape != ((num_weights + 7) // 8,):
        came = "none" if bits is None else f"{bits.dtype} {bits.shape}"
        raise SubnetworkFileError(f"mask: expected uint8 of shape ({(num_weights + 7) // 8},), got {came}")
    unpacked = np.unpackbits(bits)
    if unpacked[num_weights:].any():
        raise SubnetworkFileError("mask: expected 0 for all spare bits")
    return torch.from_numpy(unpacked[:num_weights].astype(np.bool_))


def _factors(tensors: Tensors, mask: torch.Tensor) -> torch.Tensor:
    """Read the factors ``(D,)`` on kept weights."""
    kept, count = tensors.get("factors"), int(mask.sum())
    if kept is None or kept.dtype != np.int8 or kept.shape != (count,) or not kept.all():
        came = "none" if kept is None else f"{kept.dtype} {kept.shape}" + ", one of them 0" * (not kept.all())
        raise SubnetworkFileError(f"factors: expected int8 of shape ({count},), none of them 0, got {came}")
    return torch.ones(len(mask), dtype=torch.int8).masked_scatter(mask, torch.from_numpy(kept.copy()))


def _rules(need: Fields) -> tuple[Actions, Observations | None]:
    """Read the rules for actions and observations."""
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
    return actions, observations


def _normalizer(tensors: Tensors, length: int) -> Normalizer | None:
    if "obs_mean" not in tensors and "obs_scale" not in tensors:
        return None
    return Normalizer(_floats(tensors, "obs_mean", length), _floats(tensors, "obs_scale", length))


def _with_buffers(need: Fields, tensors: Tensors, network: FrozenNetwork) -> FrozenNetwork:
    """The network with the buffers in the file."""
    names = [name for name in tensors if name.startswith(BUFFER)]
    try:
        return network.with_buffers(
            {name.removeprefix(BUFFER): torch.from_numpy(tensors[name].copy()) for name in names}
        )
    except ValueError as error:
        raise (ValueError if need.optional("network", dict) is None else SubnetworkFileError)(str(error)) from error


def _origin(need: Fields, shapes: Shapes) -> dict[str, Any]:
    """Read the task, its configuration, test results and rescaling."""
    missing = need.optional("missing", dict) or {}
    return {
        "rescale": _rescale(need, len(shapes)),
        "env": need.optional("env", str),
        "env_config": need.values("env_config"),
        "missing_config": Fields(missing, "missing.").names("env_config") if missing else (),
        "registration": need.optional("registration", dict),
        "tests": need.values("tests"),
    }


def _rescale(need: Fields, num_layers: int) -> bool | tuple[float, ...]:
    if not need.holds("rescale", list):
        return bool(need.take("rescale", bool))
    try:
        return check_rescale("rescale", need.take("rescale", list), num_layers)
    except (TypeError, ValueError) as error:
        raise SubnetworkFileError(str(error)) from error


def _proof(need: Fields, act_length: int) -> NDArray[np.float32]:
    text, shape = need.take("proof", str), (NUM_PROBES, act_length)
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").reshape(shape)
    except ValueError as error:
        raise SubnetworkFileError(f"proof: expected float32 numbers of shape {shape}, got {text!r}") from error


def _floats(tensors: Tensors, name: str, length: int) -> NDArray[np.float32]:
    values = tensors.get(name)
    if values is None or values.dtype != np.float32 or values.shape != (length,) or not np.isfinite(values).all():
        came = "none" if values is None else f"{values.dtype} {values.shape}"
        raise SubnetworkFileError(f"{name}: expected finite float32 of shape ({length},), got {came}")
    return np.array(values)
