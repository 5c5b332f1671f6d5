"""Genotypes: what a decision vector encodes: a mask of frozen weights, or the weights themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._checks import BITS
from ..masks._apply import masked_weights
from ..masks._levels import levels_to
from ..masks._rule import MaskRule
from ..masks._values import values_of
from ..networks._frozen_network import FrozenNetwork
from ..networks._weights import DenseWeights, MaskedWeights, PopulationWeights, num_kept


class Genotype(ABC):
    """Map decision vectors ``(N, D)`` to a payload, and the payload to network weights ``(N, D)``.

    The payload is what an evaluation needs and what actors receive: bits for masks, or the weights themselves.

    Args:
        network: The architecture; for masks, also the frozen weights.
    """

    def __init__(self, network: FrozenNetwork) -> None:
        self.network = network

    @abstractmethod
    def fill(self, values: Tensor, generator: torch.Generator) -> None:
        """Draw initial decision vectors ``(N, D)``, in place."""

    @abstractmethod
    def express(self, values: Tensor) -> Tensor:
        """The payload ``(N, D)`` of decision vectors."""

    def express_in_search(self, values: Tensor) -> Tensor:
        """The payload of decision vectors during a search, which may be at a level with a lower sparsity."""
        return self.express(values)

    @abstractmethod
    def weights_of(self, payload: Tensor) -> PopulationWeights:
        """The weights of the N networks of a payload."""

    def pack(self, payload: Tensor) -> NDArray[Any]:
        """Encode a payload for sending to an actor."""
        return payload.cpu().numpy()

    def unpack(self, packed: NDArray[Any], device: torch.device | str) -> Tensor:
        """Decode what ``pack`` returned."""
        return torch.from_numpy(packed).to(device)

    def describe(self, payload: Tensor) -> dict[str, Any]:
        """Entries of the problem's status that describe the evaluated solutions."""
        return {}


class MaskGenotype(Genotype):
    """One score per weight. The rule turns scores into masks; masks times frozen weights are the network's weights.

    Args:
        network: The network to mask.
        rule: The rule that turns scores into masks.
        stdev: Standard deviation of initial scores around 0.
        device: Device of the masks and weights.

    Attributes:
        values: The values of a mask, (0, 1) for most rules.
        levels: Rules of growing sparsity, of which the last is ``rule``; see ``MaskedGymProblem.num_levels``.
        level: Index in ``levels`` of the rule that the search uses now.
    """

    def __init__(self, network: FrozenNetwork, rule: MaskRule, *, stdev: float, device: torch.device | str) -> None:
        super().__init__(network)
        self.rule, self.stdev, self.values = rule, stdev, values_of(rule)
        self.frozen = network.weights.to(device)
        self.levels = levels_to(rule, network)
        self.level = len(self.levels) - 1

    @property
    def rule_in_search(self) -> MaskRule:
        """The rule of the search's current level."""
        return self.levels[self.level]

    def fill(self, values: Tensor, generator: torch.Generator) -> None:
        """See ``Genotype``."""
        values.normal_(0.0, self.stdev, generator=generator)

    def express(self, values: Tensor) -> Tensor:
        """See ``Genotype``; bool, True where a weight is kept, or int8 of a rule with other values."""
        return self._masked_by(self.rule, values)

    def express_in_search(self, values: Tensor) -> Tensor:
        """See ``Genotype``."""
        return self._masked_by(self.rule_in_search, values)

    def _masked_by(self, rule: MaskRule, values: Tensor) -> Tensor:
        values = values.as_subclass(Tensor)  # a user's rule may write to a copy, which EvoTorch's class forbids
        mask = rule(values, self.network.layers)
        dtype = torch.bool if self.values == BITS else torch.int8
        if not isinstance(mask, Tensor) or mask.dtype != dtype or mask.shape != values.shape:
            came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            kind = str(dtype).removeprefix("torch.")
            raise TypeError(f"mask_rule: expected the rule to return a {kind} tensor {tuple(values.shape)}, got {came}")
        return mask.as_subclass(Tensor)

    def weights_of(self, payload: Tensor) -> MaskedWeights:
        """See ``Genotype``."""
        return masked_weights(self.frozen, payload, self.network.layers, rescale=self.rule.rescale)

    def pack(self, payload: Tensor) -> NDArray[Any]:
        """See ``Genotype``; one bit per weight, or one byte if there are other values than 0 and 1."""
        packed: NDArray[Any] = payload.cpu().numpy()
        return np.packbits(packed, axis=1) if self.values == BITS else packed

    def unpack(self, packed: NDArray[Any], device: torch.device | str) -> Tensor:
        """See ``Genotype``."""
        if self.values != BITS:
            return super().unpack(packed, device)
        bits = np.unpackbits(packed, axis=1, count=self.network.num_weights)
        return torch.from_numpy(bits.view(np.bool_)).to(device)

    def describe(self, payload: Tensor) -> dict[str, Any]:
        """See ``Genotype``."""
        return {"mean_sparsity": 1.0 - int(num_kept(payload).sum()) / payload.numel()}


class WeightGenotype(Genotype):
    """The weights themselves.

    Args:
        network: The architecture.
        bounds: ``(low, high)``: initial weights are drawn uniformly between them. None: between -1 / sqrt(fan_in) and
            1 / sqrt(fan_in), as PyTorch initializes linear layers.
    """

    def __init__(self, network: FrozenNetwork, bounds: tuple[float, float] | None) -> None:
        super().__init__(network)
        self._bounds = bounds

    def fill(self, values: Tensor, generator: torch.Generator) -> None:
        """See ``Genotype``."""
        if self._bounds is not None:
            values.uniform_(*self._bounds, generator=generator)
            return
        values.uniform_(-1.0, 1.0, generator=generator)
        for layer in self.network.layers:
            values[:, layer.slice] /= layer.fan_in**0.5

    def express(self, values: Tensor) -> Tensor:
        """See ``Genotype``."""
        return values.as_subclass(Tensor)

    def weights_of(self, payload: Tensor) -> DenseWeights:
        """See ``Genotype``."""
        return DenseWeights(payload)
