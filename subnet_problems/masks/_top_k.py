"""TopK: the weights with the highest scores are kept, so that the sparsity is enforced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._checks import check_choice, check_rescale, check_sparsity
from ._order import keep_highest, lowest_kept

if TYPE_CHECKING:
    from ..networks._layer import Layer


class TopK:
    """Keep the weights with the highest scores: exactly round(D (1 - sparsity)) of them.

    Of equal scores those with the lower index are kept, so that the count is exact.

    Args:
        sparsity: The fraction of weights removed, in [0, 1).
        scope: ``"global"`` ranks all weights together. ``"layer"`` ranks those of each layer (each parameter tensor)
            for itself, with round(size (1 - sparsity)) kept in each; ``"erdos_renyi"`` too, but the number kept in a
            layer is proportional to the sum of its dimensions, inputs and outputs, or is all of a layer that has less
            (Mocanu et al. 2018; Evci et al. 2020): small layers stay denser, so that what a large one keeps is
            connected. LunarLander continuous, hidden (87, 87), sparsity 0.98, from nothing, 1.5 million steps, seeds 0
            to 2: 200 is reached by 3 of 3 so, by none globally.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density), so that the signal that
            reaches a unit does not shrink as sparsity grows (``scale_fan`` of Ramanujan et al. 2020, dynamic
            rescaling of Zhou et al. 2020). On by default by measurement: LunarLander continuous, hidden (87, 87),
            sparsity 0.95, weighted ElitistGaussianResampling (popsize 64, 16 elites, one episode), a million steps,
            seeds 100 to 102, best 20-episode test: 249, 135, 224 with, -84, 136, -41 without. At 0.5 and 0.9 both do.
            ``"fixed"`` multiplies by the factors of this rule's own sparsity also where it is asked for masks of
            another (by ``ParetoSparsityProblem``): along a front weights are then removed, and those that stay remain
            what they are. Or the factors themselves, one for each of the network's ``layers``, whatever its density:
            those of a policy that was pruned (``Subnetwork.rescale``).

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The sparsity is outside [0, 1), the scope is unknown, or a factor is not finite and above 0.
    """

    def __init__(
        self, sparsity: float, *, scope: str = "global", rescale: bool | Literal["fixed"] | Sequence[float] = True
    ) -> None:
        self.sparsity = check_sparsity("sparsity", sparsity)
        self.scope = check_choice("scope", scope, ("global", "layer", "erdos_renyi"))
        self._is_fixed = isinstance(rescale, str) and rescale == "fixed"
        self.rescale = self._is_fixed or check_rescale("rescale", rescale)

    def __call__(self, scores: Tensor, layers: Sequence[Layer], sparsity: Sequence[float] | None = None) -> Tensor:
        """Scores ``(N, D)`` to bits ``(N, D)``; with ``sparsity`` ``(N,)`` each row at its own."""
        mask = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
        scores = scores.as_subclass(Tensor)  # EvoTorch's read-only tensors are slow to slice
        parts = self.parts(layers)
        for row in range(len(scores)):
            for part, num_kept in parts if sparsity is None else self.parts(layers, sparsity[row]):
                keep_highest(scores[row, part], num_kept, out=mask[row, part])
        return mask

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """The lowest score that is kept, in the mean over rows: ``(D,)``, the same for all weights of a scope.

        Minus infinity where all of a scope are kept, infinity where none is.
        """
        scores = scores.as_subclass(Tensor)
        level = torch.empty(scores.shape[1], dtype=scores.dtype, device=scores.device)
        for part, num_kept in self.parts(layers):
            if 0 < num_kept < part.stop - part.start:
                level[part] = fmean(lowest_kept(row, num_kept) for row in scores[:, part])
            else:
                level[part] = -math.inf if num_kept else math.inf
        return level

    def for_network(self, layers: Sequence[Layer]) -> TopK:
        """This rule for one network: with the factors themselves, where ``rescale`` is ``"fixed"``."""
        if not self._is_fixed:
            return self
        counts = [layer.size * self.num_kept(layers) / layers[-1].slice.stop for layer in layers]
        if self.scope != "global":
            counts = [num_kept for _, num_kept in self.parts(layers)]
        factors = [
            math.sqrt(layer.size / max(count, 1)) if len(layer.shape) >= 2 else 1.0
            for layer, count in zip(layers, counts, strict=True)
        ]
        return TopK(self.sparsity, scope=self.scope, rescale=factors)

    def at(self, sparsity: float) -> TopK:
        """This rule at another sparsity."""
        return TopK(sparsity, scope=self.scope, rescale="fixed" if self._is_fixed else self.rescale)

    def num_kept(self, layers: Sequence[Layer]) -> int:
        """How many weights each mask of this network keeps."""
        return sum(num_kept for _, num_kept in self.parts(layers))

    def parts(self, layers: Sequence[Layer], sparsity: float | None = None) -> list[tuple[slice, int]]:
        """Which weights are ranked together, and how many of them are kept; also at another sparsity."""
        sparsity = self.sparsity if sparsity is None else sparsity
        if self.scope == "layer":
            return [(layer.slice, num_kept_at(sparsity, layer.size)) for layer in layers]
        num_weights = layers[-1].slice.stop
        num_kept = num_kept_at(sparsity, num_weights)
        if self.scope == "global":
            return [(slice(0, num_weights), num_kept)]
        return list(zip([layer.slice for layer in layers], erdos_renyi(num_kept, layers), strict=True))

    def __repr__(self) -> str:
        rescale = "fixed" if self._is_fixed else self.rescale
        return f"TopK({self.sparsity:g}, scope={self.scope!r}, rescale={rescale!r})"


def num_kept_at(sparsity: float, num_weights: int) -> int:
    """round(D (1 - sparsity)): how many of D weights are kept."""
    return round(num_weights * (1.0 - sparsity))


def erdos_renyi(num_kept: int, layers: Sequence[Layer]) -> list[int]:
    """How many weights each layer keeps, ``num_kept`` in all: in proportion to the sum of its dimensions, at most all.

    What is left by rounding down goes to the largest remainders, of equal ones to the first.
    """
    shares = [sum(layer.shape) for layer in layers]
    counts, open_ = [layer.size for layer in layers], list(range(len(layers)))
    while True:
        left, total = num_kept - sum(counts) + sum(counts[i] for i in open_), sum(shares[i] for i in open_)
        full = {i for i in open_ if left * shares[i] >= layers[i].size * total}
        if not full:
            break
        open_ = [i for i in open_ if i not in full]  # those layers keep all, and the others share what is left
    for i in open_:
        counts[i] = left * shares[i] // total
    largest = sorted(open_, key=lambda i: -(left * shares[i] % total))
    for i in largest[: num_kept - sum(counts)]:
        counts[i] += 1
    return counts
