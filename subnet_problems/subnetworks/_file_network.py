"""The network of a policy's file, made again from its description."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from torch import nn

from .._checks import check_mapping, naming
from ..networks._frozen_network import FrozenNetwork
from ..networks._inits import INITS
from ..networks._network_string import check_string
from ._file_fields import Fields, SubnetworkFileError

ModuleLike: TypeAlias = "nn.Module | Callable[..., nn.Module] | str"
Shapes: TypeAlias = "list[tuple[int, ...]]"


def rebuild_network(
    need: Fields, shapes: Shapes, given: ModuleLike | None, network_args: Mapping[str, Any] | None
) -> FrozenNetwork:
    """Make the network that a file describes, or that the user gives because the file describes none.

    Args:
        need: The description.
        shapes: Shapes of the parameter tensors in the file.
        given: The user's module, or a callable or a string that makes it; None if the file describes the network.
        network_args: The user's arguments for the callable.

    Raises:
        SubnetworkFileError: The description is invalid.
        ValueError: The user's network is missing, is not needed, or does not fit the file.
    """
    architecture = need.optional("network", dict)
    options = _sizes(need) | _weights(need)
    if architecture is None:
        network = _given_network(need, given, network_args, options)
    elif (given, network_args) != (None, None):
        name, value = ("network", given) if given is not None else ("network_args", network_args)
        raise ValueError(f"{name}: expected None, because the file describes its network, got {value!r}")
    else:
        fields = Fields(architecture, "network.")
        try:
            if "hidden_sizes" in fields:
                source, options["bias"] = _hidden_sizes(fields, shapes, options), fields.take("bias", bool)
            else:
                source, options["network_args"] = fields.take("string", str), fields.values("constants")
                check_string(source, options["network_args"], shapes, options["obs_length"], options["act_length"])
            with naming(network="network.hidden_sizes"):
                network = FrozenNetwork(source, **options)
        except (TypeError, ValueError) as error:
            raise SubnetworkFileError(str(error)) from error
    if [layer.shape for layer in network.layers] != shapes:
        raise ValueError(f"network: expected layers {shapes}, got {[layer.shape for layer in network.layers]}")
    return network


def _sizes(need: Fields) -> dict[str, Any]:
    """Lengths and shapes of observations and outputs, as arguments of ``FrozenNetwork``."""
    options: dict[str, Any] = {"obs_length": need.count("obs_length"), "act_length": need.count("act_length")}
    for name in ("obs_shape", "act_shape"):
        if name in need:
            (shape,), length = need.shapes(name, single=True), options[name.replace("shape", "length")]
            if math.prod(shape) != length:
                raise SubnetworkFileError(f"{name}: expected a shape of {length} numbers, got {shape}")
            options[name] = shape
    return options


def _weights(need: Fields) -> dict[str, Any]:
    """How weights are drawn, as arguments of ``FrozenNetwork``; none if the file holds the kept weights."""
    weights = need.optional("weights", dict)
    if weights is None:
        return {}
    fields = Fields(weights, "weights.")
    init, gain, seed = fields.take("init", str), fields.take("gain", float), fields.take("seed", int)
    if init not in INITS or not 0 < gain < math.inf or not 0 <= seed < 2**63:
        raise SubnetworkFileError(f"weights: expected init in {tuple(INITS)}, gain > 0, seed >= 0, got {weights}")
    return {"weight_init": init, "weight_gain": gain, "seed": seed}


def _hidden_sizes(fields: Fields, shapes: Shapes, options: Mapping[str, Any]) -> tuple[int, ...]:
    """The hidden sizes, checked against the shapes before anything is allocated."""
    hidden, bias = fields.take("hidden_sizes", list), fields.take("bias", bool)
    sizes = [options["obs_length"], *hidden, options["act_length"]]
    expected: Shapes = []
    for n_in, n_out in pairwise(sizes):
        expected += [(n_out, n_in), (n_out,)] if bias else [(n_out, n_in)]
    if expected != shapes:
        raise SubnetworkFileError(f"network: expected layers {expected} for sizes {sizes}, got {shapes}")
    return tuple(hidden)


def _given_network(
    need: Fields, given: ModuleLike | None, network_args: Mapping[str, Any] | None, options: dict[str, Any]
) -> FrozenNetwork:
    """The user's network, for a file that describes none."""
    if given is None:
        raise ValueError("network: expected the nn.Module to which the file's mask belongs, got None")
    if not isinstance(given, nn.Module):
        options["network_args"] = _network_args(need, network_args)
    elif network_args is not None:
        raise ValueError(f"network_args: expected None for an nn.Module, got {network_args!r}")
    try:
        network = FrozenNetwork(given, **options)
    except (TypeError, ValueError) as error:
        note = f" (network_args in the file: {arguments})" if (arguments := options.get("network_args")) else ""
        raise ValueError(f"{error}{note}") from error
    if isinstance(given, nn.Module) and "network_args" in need:
        network.network_args = need.values("network_args")  # so that they are saved again
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
