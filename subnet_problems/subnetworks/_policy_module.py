"""PolicyModule: a network with normalization of its observations and clipping of its actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..networks.forward._chain import as_chain, parts_of_chain
from ..tasks._action_rules import Actions
from ..tasks._observation_stats import Normalizer


class PolicyModule(nn.Module):
    """A policy as a module: normalizes observations, runs the network, and clips Box actions.

    Args:
        network: Maps ``(..., obs_length)`` to ``(..., act_length)``. A recurrent network also takes its state and
            returns a tuple, as EvoTorch's networks do.
        normalizer: Mean and scale of the observations, or None.
        actions: The actions to whose bounds outputs are clipped, or None. Only Box actions have bounds, alone or as
            parts of Tuple and Dict actions.

    ``torch.jit.script`` can compile the policy if it can compile the network, such as a chain of linear layers and
    activations. It cannot compile recurrent networks, because TorchScript cannot type their state argument.
    """

    obs_mean: Tensor | None
    obs_scale: Tensor | None
    low: Tensor | None
    high: Tensor | None

    def __init__(self, network: nn.Module, normalizer: Normalizer | None, actions: Actions | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("obs_mean", None if normalizer is None else torch.tensor(normalizer.mean))
        self.register_buffer("obs_scale", None if normalizer is None else torch.tensor(normalizer.scale))
        limits = None if actions is None else actions.limits
        self.register_buffer("low", None if limits is None else torch.tensor(limits[0], dtype=torch.float32))
        self.register_buffer("high", None if limits is None else torch.tensor(limits[1], dtype=torch.float32))

    def forward(self, obs: Tensor, state: Any = None) -> Any:
        """The output for an observation ``(..., obs_length)``; with the next state, if the network has one."""
        if self.obs_mean is not None and self.obs_scale is not None:
            obs = (obs - self.obs_mean) * self.obs_scale
        result = self.network(obs) if state is None else self.network(obs, state)
        output, *next_state = result if isinstance(result, tuple) else (result,)
        if self.low is not None:
            output = torch.clamp(output, self.low, self.high)
        return (output, *next_state) if next_state else output

    def __prepare_scriptable__(self) -> nn.Module:
        """The module that ``torch.jit.script`` compiles instead: the same, without a state, in types that it knows."""
        chain = as_chain(self.network) is not None
        parts = parts_of_chain(self.network) if chain else [self.network]
        if self.obs_mean is not None and self.obs_scale is not None:
            parts = [_Normalized(self.obs_mean, self.obs_scale), *parts]
        if self.low is not None and self.high is not None:
            parts = [*parts, _Clipped(self.low, self.high)]
        return nn.Sequential(*parts)


class _Normalized(nn.Module):
    if TYPE_CHECKING:  # TorchScript infers buffers from their values, and does not accept string annotations
        mean: Tensor
        scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, obs: Tensor) -> Tensor:
        """``(..., obs_length)``."""
        return (obs - self.mean) * self.scale


class _Clipped(nn.Module):
    if TYPE_CHECKING:
        low: Tensor
        high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, output: Tensor) -> Tensor:
        """``(..., act_length)``."""
        return torch.clamp(output, self.low, self.high)
