"""PolicyParts: what a sparse policy is made of, as a record that does not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import check_bool, check_mapping, check_mask, check_rescale
from ..masks._apply import apply_mask, scale_of
from ..networks._frozen_network import FrozenNetwork
from ..networks._probe import probe, probe_inputs
from ..tasks._action_rules import Actions
from ..tasks._observation_rules import BoxObservations, Observations
from ..tasks._observation_stats import Normalizer
from ..tasks._registration import describe_shipped
from ._policy_module import PolicyModule


@dataclass(frozen=True, eq=False, repr=False, init=False)
class PolicyParts:
    """A frozen network, a mask, and what is around them in a policy. ``Subnetwork`` has the arguments' meaning.

    The file, the exporters, formulas and pictures read these parts and nothing else of a policy.
    """

    network: FrozenNetwork
    mask: Tensor
    actions: Actions
    observations: Observations | None
    rescale: bool | tuple[float, ...]
    normalizer: Normalizer | None
    env: str | None
    env_config: dict[str, Any]
    tests: dict[str, Any]
    registration: dict[str, Any] | None
    missing_config: tuple[str, ...]

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
        registration = None if registration is None else check_mapping("registration", registration)
        if env is not None and registration == describe_shipped(env):
            registration = None
        self.__dict__.update(  # what a frozen dataclass is made of
            network=network,
            mask=check_mask("mask", mask, network.num_weights).clone(),
            actions=actions,
            observations=None if isinstance(observations, BoxObservations) else observations,
            rescale=check_rescale("rescale", rescale, len(network.layers)),
            normalizer=normalizer,
            env=env,
            env_config=check_mapping("env_config", env_config),
            tests=check_mapping("tests", tests),
            registration=registration,
            missing_config=tuple(missing_config),
        )

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

    def to_policy(self, *, clip_actions: bool = True) -> PolicyModule:
        """A plain ``nn.Module`` from flat observations ``(..., obs_length)`` to outputs ``(..., act_length)``."""
        module = self.network.to_module(self.weights)
        return PolicyModule(module, self.normalizer, self.actions if check_bool("clip_actions", clip_actions) else None)

    def probe(self) -> NDArray[np.float32]:
        """The outputs ``(2, act_length)`` for two fixed observations, by which a file proves itself."""
        return probe(self.to_policy(clip_actions=False), probe_inputs(self.network.obs_length)).astype(np.float32)

    def __repr__(self) -> str:
        task = f" for {self.env}" if self.env else ""
        return f"<Subnetwork{task}: {self.num_active} of {self.num_weights} weights, sparsity {self.sparsity:.3f}>"
