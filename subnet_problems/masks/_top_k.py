"""TopK: keep the weights with the highest scores, which enforces a sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._checks import check_choice, check_rescale, check_sparsity
from ._order import each_row, keep_highest, keep_highest_of_each, lowest_kept_of_each

if TYPE_CHECKING:
    from ..networks._layer import Layer


class TopK:
    """Keep the weights with the highest scores: exactly round(D (1 - sparsity)) of them.

    Of equal scores those with the lower index are kept, so that the count is exact.

    Args:
        sparsity: The fraction of weights removed, in [0, 1).
        scope: ``"global"`` ranks all weights together. ``"layer"`` ranks each layer (each parameter tensor) separately
            and keeps round(size (1 - sparsity)) weights in each. ``"erdos_renyi"`` also ranks each layer separately,
            but keeps a number proportional to the sum of the layer's dimensions (inputs plus outputs), at most the
            whole layer (Mocanu et al. 2018; Evci et al. 2020). Small layers then stay denser, so that the kept weights
            of a large layer are connected. Measured on LunarLander continuous, hidden (87, 87), sparsity 0.98, search
            from scratch, 1.5 million steps, seeds 0 to 2: 3 of 3 reach 200 with ``"erdos_renyi"``, 0 of 3 with
            ``"global"``. Default: ``"global"``.
        rescale: True multiplies the kept weights of a layer by 1 / sqrt(its density), so that the signal that reaches a
            unit does not shrink as sparsity grows (``scale_fan`` of Ramanujan et al. 2020, dynamic rescaling of Zhou
            et al. 2020). ``"fixed"`` uses the factors of this rule's own sparsity for masks of every sparsity (in
            ``ParetoSparsityProblem``), so that along a front weights are removed and the remaining ones keep their
            values. A sequence gives the factors themselves, one for each of the network's ``layers``, at any density,
            such as those of a pruned policy (``Subnetwork.rescale``). Default: True, by measurement. LunarLander
            continuous, hidden (87, 87), sparsity 0.95, weighted ElitistGaussianResampling (popsize 64, 16 elites, one
            episode), a million steps, seeds 100 to 102, best 20-episode test: 249, 135, 224 with rescaling; -84, 136,
            -41 without. At sparsities 0.5 and 0.9 both settings work.

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
        """Turn scores ``(N, D)`` into bits ``(N, D)``; ``sparsity`` ``(N,)`` gives each row its own sparsity."""
        mask = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
        scores = scores.as_subclass(Tensor)  # EvoTorch's read-only tensors are slow to slice
        if sparsity is None:
            for part, num_kept in self.parts(layers):
                keep_highest_of_each(scores[:, part], num_kept, out=mask[:, part])
            return mask

        def fill(row: int) -> None:
            for part, num_kept in self.parts(layers, sparsity[row]):
                keep_highest(scores[row, part], num_kept, out=mask[row, part])

        each_row(fill, scores)
        return mask

    def cutoffs(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Return the lowest kept score, averaged over rows: ``(1, D)``, equal for all weights ranked together.

        It is minus infinity if all weights ranked together are kept, and infinity if none is kept.
        """
        scores = scores.as_subclass(Tensor)
        cutoff = torch.empty(scores.shape[1], dtype=scores.dtype, device=scores.device)
        for part, num_kept in self.parts(layers):
            if 0 < num_kept < part.stop - part.start:
                cutoff[part] = fmean(lowest_kept_of_each(scores[:, part], num_kept))
            else:
                cutoff[part] = -math.inf if num_kept else math.inf
        return cutoff[None]

    def for_network(self, layers: Sequence[Layer]) -> TopK:
        """Return this rule for one network: ``rescale="fixed"`` becomes the factors themselves."""
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
        """Return this rule at another sparsity."""
        return TopK(sparsity, scope=self.scope, rescale="fixed" if self._is_fixed else self.rescale)

    def num_kept(self, layers: Sequence[Layer]) -> int:
        """Return how many weights each mask of this network keeps."""
        return sum(num_kept for _, num_kept in self.parts(layers))

    def parts(self, layers: Sequence[Layer], sparsity: float | None = None) -> list[tuple[slice, int]]:
        """Return which weights are ranked together and how many of them are kept. Default sparsity: the rule's."""
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
    """Return how many of D weights are kept: round(D (1 - sparsity))."""
    return round(num_weights * (1.0 - sparsity))


def erdos_renyi(num_kept: int, layers: Sequence[Layer]) -> list[int]:
    """Return how many weights each layer keeps: in proportion to the sum of its dimensions, at most the whole layer.

    The counts sum to ``num_kept``. They are rounded down, and the rest goes to the layers with the largest remainders,
    to the first of equal ones.
    """
    shares = [sum(layer.shape) for layer in layers]
    counts, open_ = [layer.size for layer in layers], list(range(len(layers)))
    while True:
        left, total = num_kept - sum(counts) + sum(counts[i] for i in open_), sum(shares[i] for i in open_)
        full = {i for i in open_ if left * shares[i] >= layers[i].size * total}
        if not full:
            break
        open_ = [i for i in open_ if i not in full]  # full layers keep all weights, and the others share the rest
    for i in open_:
        counts[i] = left * shares[i] // total
    largest = sorted(open_, key=lambda i: -(left * shares[i] % total))
    for i in largest[: num_kept - sum(counts)]:
        counts[i] += 1
    return counts
