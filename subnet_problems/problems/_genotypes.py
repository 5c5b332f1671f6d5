"""Genotypes: what a decision vector stands for. Masks of frozen weights, or the weights themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..masks._apply import apply_mask
from ..masks._levels import levels_to
from ..masks._rule import MaskRule
from ..networks._frozen_network import FrozenNetwork


class Genotype(ABC):
    """From decision vectors ``(N, D)`` to the weights ``(N, D)`` of networks, by way of a payload.

    The payload is what evaluation needs of solutions and what is sent to actors: bits for masks, weights for weights.

    Args:
        network: The architecture, and for masks the frozen weights.
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
        """The payload of decision vectors that a search evaluates, which may be at an easier level."""
        return self.express(values)

    @abstractmethod
    def weights_of(self, payload: Tensor) -> Tensor:
        """The weights ``(N, D)`` float32 of a payload."""

    def pack(self, payload: Tensor) -> NDArray[Any]:
        """A payload as what is sent to an actor."""
        return payload.cpu().numpy()

    def unpack(self, packed: NDArray[Any], device: torch.device | str) -> Tensor:
        """The payload that was packed."""
        return torch.from_numpy(packed).to(device)

    def describe(self, payload: Tensor) -> dict[str, Any]:
        """What a problem's status says of the solutions that were evaluated."""
        return {}


class MaskGenotype(Genotype):
    """A score for each weight. The rule turns scores into bits, and bits times frozen weights is the network.

    Args:
        network: What is masked.
        rule: How scores become bits.
        stdev: Standard deviation of initial scores around 0.
        device: Where masks and weights are.

    Attributes:
        levels: Rules from an easier one to ``rule`` itself; see ``MaskedGymProblem.num_levels``.
        level: The number of the one that a search is at.
    """

    def __init__(self, network: FrozenNetwork, rule: MaskRule, *, stdev: float, device: torch.device | str) -> None:
        super().__init__(network)
        self.rule, self.stdev = rule, stdev
        self.frozen = network.weights.to(device)
        self.levels = levels_to(rule, network.num_weights)
        self.level = len(self.levels) - 1

    @property
    def rule_in_search(self) -> MaskRule:
        """The rule of the level that a search is at."""
        return self.levels[self.level]

    def fill(self, values: Tensor, generator: torch.Generator) -> None:
        """See ``Genotype``."""
        values.normal_(0.0, self.stdev, generator=generator)

    def express(self, values: Tensor) -> Tensor:
        """See ``Genotype``; bits, True where a weight is kept."""
        return self._masked_by(self.rule, values)

    def express_in_search(self, values: Tensor) -> Tensor:
        """See ``Genotype``."""
        return self._masked_by(self.rule_in_search, values)

    def _masked_by(self, rule: MaskRule, values: Tensor) -> Tensor:
        values = values.as_subclass(Tensor)  # EvoTorch's is read-only, and a user's rule may write to a copy
        mask = rule(values, self.network.layers)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != values.shape:
            came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            raise TypeError(f"mask_rule: expected the rule to return a bool tensor {tuple(values.shape)}, got {came}")
        return mask.as_subclass(Tensor)

    def weights_of(self, payload: Tensor) -> Tensor:
        """See ``Genotype``."""
        return apply_mask(self.frozen, payload, self.network.layers, rescale=self.rule.rescale)

    def pack(self, payload: Tensor) -> NDArray[Any]:
        """See ``Genotype``: a bit a weight is all an actor needs."""
        return np.packbits(payload.cpu().numpy(), axis=1)

    def unpack(self, packed: NDArray[Any], device: torch.device | str) -> Tensor:
        """See ``Genotype``."""
        bits = np.unpackbits(packed, axis=1, count=self.network.num_weights)
        return torch.from_numpy(bits.view(np.bool_)).to(device)

    def describe(self, payload: Tensor) -> dict[str, Any]:
        """See ``Genotype``."""
        return {"mean_sparsity": 1.0 - int(payload.count_nonzero()) / payload.numel()}


class WeightGenotype(Genotype):
    """The weights themselves.

    Args:
        network: The architecture.
        bounds: Between which initial weights are drawn uniformly. None draws each between -1 / sqrt(fan_in) and
            1 / sqrt(fan_in), PyTorch's own initialization of linear layers.
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

    def weights_of(self, payload: Tensor) -> Tensor:
        """See ``Genotype``."""
        return payload
