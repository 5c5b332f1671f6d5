"""The network of a problem: a new one made for its task, or a given ``FrozenNetwork``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .._checks import check_mapping, naming
from ..networks._frozen_network import FrozenNetwork, Network
from ..tasks._gym_task import GymTask
from ._options import OPTIONS

#: What a problem accepts as ``network``.
NetworkLike = str | nn.Module | Callable[..., nn.Module] | FrozenNetwork


def network_for(
    task: GymTask,
    network: NetworkLike | None,
    *,
    hidden_sizes: tuple[int, ...] | None,
    network_args: Mapping[str, Any] | None,
    bias: bool,
    weight_init: str | None,
    weight_gain: float,
    network_seed: int,
) -> FrozenNetwork:
    """The network of a problem, from the problem's arguments.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, the network is not supported or does not fit the task, or an argument
            would have no effect because the network already exists.
    """
    if isinstance(network, FrozenNetwork):
        given = {
            "network_args": check_mapping("network_args", network_args) or None,
            "bias": bias,
            "weight_init": weight_init,
            "weight_gain": weight_gain,
            "network_seed": network_seed,
        }
        for name, value in given.items():
            if value != OPTIONS[name][1].default:
                raise ValueError(f"{name}: expected no value when network is a FrozenNetwork, got {value!r}")
        _check_fit(network, task)
        return network
    sizes: Network = (64, 64) if hidden_sizes is None else tuple(hidden_sizes)
    with naming(seed="network_seed", **({} if hidden_sizes is None else {"network": "hidden_sizes"})):
        return FrozenNetwork(
            sizes if network is None else network,
            obs_length=task.obs_length,
            act_length=task.actions.length,
            obs_shape=task.obs_shape,
            act_shape=task.actions.shape,
            network_args=network_args,
            bias=bias,
            weight_init=weight_init,
            weight_gain=weight_gain,
            seed=network_seed,
        )


def _check_fit(network: FrozenNetwork, task: GymTask) -> None:
    """Raise ``ValueError`` if a network was made for other observations or actions. Flat shapes fit every task."""
    rows = (
        ("obs_length", network.obs_length, (task.obs_length,)),
        ("act_length", network.act_length, (task.actions.length,)),
        ("obs_shape", network.obs_shape, (task.obs_shape, (task.obs_length,))),
        ("act_shape", network.act_shape, (task.actions.shape, (task.actions.length,))),
    )
    for name, value, allowed in rows:
        if value not in allowed:
            raise ValueError(f"network: expected one with {name} = {allowed[0]}, as in the environment, got {value}")
