"""Encoding of a policy's file; ``docs/file-format.md`` describes its bytes."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from .._json import split
from ..networks._frozen_network import FrozenNetwork
from ..networks._network_string import check_string
from ._file_bytes import BUFFER, sealed
from ._parts import PolicyParts


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
            tensors[BUFFER + name] = np.asarray(buffer.numpy(), order="C")
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
    return sealed(save(tensors, metadata={"subnetwork": text}))


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
