"""PolicyParts: the parts of a sparse policy, as an immutable record."""

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
    """A frozen network, a mask, and the other parts of a policy. ``Subnetwork`` documents the arguments.

    The file, the exporters, formulas and pictures read only these parts of a policy.
    """

    network: FrozenNetwork
    mask: Tensor
    factors: Tensor | None
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
        factors: Tensor | ArrayLike | None = None,
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
            raise TypeError(f"actions: expected Actions, such as DiscreteActions or BoxActions, got {actions!r}")
        if not isinstance(observations, Observations | None):
            raise TypeError(f"observations: expected Observations or None, got {observations!r}")
        if observations is not None and observations.length != network.obs_length:
            expected = f"{network.obs_length} numbers, as in the network"
            raise ValueError(f"observations: expected {expected}, got {observations.length}")
        if not isinstance(normalizer, Normalizer | None):
            raise TypeError(f"normalizer: expected a Normalizer or None, got {normalizer!r}")
        if normalizer is not None and normalizer.mean.shape != (network.obs_length,):
            raise ValueError(f"normalizer: expected mean and scale of shape ({network.obs_length},), got {normalizer}")
        if actions.length != network.act_length:
            raise ValueError(f"actions: expected {network.act_length} outputs, as in the network, got {actions.length}")
        if not isinstance(env, str | None):
            raise TypeError(f"env: expected a Gymnasium id or None, got {env!r}")
        kept, factors = _split(mask, factors, network.num_weights)
        registration = None if registration is None else check_mapping("registration", registration)
        if env is not None and registration == describe_shipped(env):
            registration = None
        self.__dict__.update(  # a frozen dataclass does not allow assignment
            network=network,
            mask=kept,
            factors=factors,
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
        """Number of weights of the dense network."""
        return self.network.num_weights

    @property
    def num_active(self) -> int:
        """Number of kept weights."""
        return int(self.mask.sum())

    @property
    def sparsity(self) -> float:
        """Fraction of weights removed."""
        return 1.0 - self.num_active / self.num_weights

    @property
    def scales(self) -> list[float]:
        """Factor on the kept weights, for each of the network's ``layers``."""
        layers = self.network.layers
        if not isinstance(self.rescale, bool):
            return list(self.rescale)
        scaled = [self.rescale and len(layer.shape) >= 2 for layer in layers]
        return [float(scale_of(self.mask[None], layers[i])[0]) if scaled[i] else 1.0 for i in range(len(layers))]

    @property
    def weights(self) -> Tensor:
        """The policy's weights after masking and rescaling, ``(D,)`` float32: 0 where a weight is removed."""
        mask = self.mask if self.factors is None else self.mask * self.factors
        return apply_mask(self.network.weights, mask[None], self.network.layers, rescale=self.rescale)[0]

    def to_policy(self, *, clip_actions: bool = True) -> PolicyModule:
        """Make a plain ``nn.Module`` from flat observations ``(..., obs_length)`` to outputs ``(..., act_length)``."""
        module = self.network.to_module(self.weights)
        return PolicyModule(module, self.normalizer, self.actions if check_bool("clip_actions", clip_actions) else None)

    def probe(self) -> NDArray[np.float32]:
        """The outputs ``(2, act_length)`` for two fixed observations. A file stores them as its proof."""
        return probe(self.to_policy(clip_actions=False), probe_inputs(self.network.obs_length)).astype(np.float32)

    def __repr__(self) -> str:
        task = f" for {self.env}" if self.env else ""
        return f"<Subnetwork{task}: {self.num_active} of {self.num_weights} weights, sparsity {self.sparsity:.3f}>"


def _split(
    mask: Tensor | ArrayLike, factors: Tensor | ArrayLike | None, num_weights: int
) -> tuple[Tensor, Tensor | None]:
    """Split a mask that may have other values than 0 and 1 into bools and factors on the kept weights.

    Returns:
        ``(D,)`` bool, True where a weight is kept; and ``(D,)`` int8, not 0, and 1 where a weight is removed. None if
        all factors are 1.

    Raises:
        TypeError: An argument is not made of bools, or not of whole numbers.
        ValueError: A shape is wrong, a number does not fit int8, or a kept weight has a factor of 0.
    """
    numbers = range(-128, 128)
    if factors is not None:
        kept = check_mask("mask", mask, num_weights).clone()
        product = check_mask("factors", factors, num_weights, numbers) * kept
        if not product[kept].all():
            raise ValueError("factors: expected a factor other than 0 for each kept weight, got 0")
    else:
        try:
            return check_mask("mask", mask, num_weights).clone(), None
        except TypeError as error:  # not bools
            try:
                product = check_mask("mask", mask, num_weights, numbers)
            except TypeError:
                raise error from None
        kept = product != 0
    return kept, None if bool((product[kept] == 1).all()) else product.masked_fill(~kept, 1)
