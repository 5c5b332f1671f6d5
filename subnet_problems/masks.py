"""Mask rules: how real-valued scores become the bits that keep or remove weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._checks import check_choice, check_real, check_rescale, check_sparsity
from ._philox import raw_words, standard_normal

if TYPE_CHECKING:
    from .networks import Layer

#: The stream of scores that are made from a mask: no weights and no episodes come from it.
_SCORE_STREAM = 2**64 - 2


@runtime_checkable
class MaskRule(Protocol):
    """What a mask rule is: a class of your own that has these two works wherever ``Threshold`` and ``TopK`` do.

    Each row must depend on that row's scores alone, else fitness would depend on the population's company.

    Attributes:
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density); or factors in the place of
            these, one for each of the network's ``layers``.
    """

    @property
    def rescale(self) -> bool | Sequence[float]:
        """See above; a plain attribute will do."""
        ...

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Scores ``(N, D)`` to bits ``(N, D)`` bool, True where a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors; ``layer.slice`` says which of the D weights are its own.
        """
        ...


@runtime_checkable
class LevelRule(MaskRule, Protocol):
    """A mask rule that keeps what is above a level. A search that knows the level learns more from each policy."""

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """The score above which a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors.

        Returns:
            ``(D,)``, for each weight the mean over the rows, or ``(1,)``, the same for all.
        """
        ...


class Threshold:
    """Keep a weight whose score is above a value (paper, section 5: "thresholding above 0").

    Sparsity is free: about 50 % at ``value`` 0 with scores symmetric around it. A search that starts all children from
    a mean of solutions, whose scores are closer to 0 than theirs, removes nearly all weights where ``value`` is above
    0; to enforce a sparsity under any search take ``TopK``.

    Args:
        value: The threshold, in the units of the scores.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density). Off in the paper. Or
            factors, as for ``TopK``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The value is NaN or infinite, or a factor is not finite and above 0.
    """

    def __init__(self, value: float = 0.0, *, rescale: bool | Sequence[float] = False) -> None:
        self.value = check_real("value", value)
        self.rescale = check_rescale("rescale", rescale)

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Scores ``(N, D)`` to bits ``(N, D)``."""
        return scores > self.value

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """``value``, ``(1,)``."""
        return torch.full((1,), self.value, dtype=scores.dtype, device=scores.device)

    def __repr__(self) -> str:
        return f"Threshold({self.value:g}, rescale={self.rescale})"


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


def keep_highest(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Write True to ``out`` (D,) where ``scores`` (D,) has its ``num_kept`` highest values, the first of equal ones."""
    if num_kept == 0:
        out.fill_(False)
        return
    lowest = lowest_kept(scores, num_kept)
    torch.ge(scores, lowest, out=out)
    surplus = int(out.count_nonzero()) - num_kept
    if surplus:  # more scores equal the lowest kept one than there is room for: the last of them go
        equal = torch.nonzero(scores == lowest).flatten()
        out[equal[len(equal) - surplus :]] = False


def lowest_kept(scores: Tensor, num_kept: int) -> float:
    """The lowest of the ``num_kept`` highest of ``scores`` (D,), of which there is at least one."""
    return kth_lowest(scores, scores.numel() - num_kept + 1)


def kth_lowest(values: Tensor, k: int) -> float:
    """The k-th lowest of ``values`` (D,), from 1. By what is fastest: ``torch.kthvalue`` is several times slower."""
    if values.is_cpu:
        return float(np.partition(values.numpy(), k - 1)[k - 1])
    return float(values.sort().values[k - 1])


def expected_scores(mask: Tensor, *, center: Tensor, stdev: float, level: Tensor) -> Tensor:
    """Expectations of scores that are drawn from a normal distribution, given which of them are kept.

    Means of normal distributions that are truncated at ``level``: ``center + stdev phi(a) / Phi(a)`` of a score that is
    kept and ``center - stdev phi(a) / Phi(-a)`` of one that is not, with ``a = (center - level) / stdev``.

    Args:
        mask: ``(N, D)`` bool, the scores' bits.
        center: ``(D,)``, the means of what scores are drawn from.
        stdev: Its standard deviation.
        level: ``(D,)`` or ``(1,)``, above which a score is kept.

    Returns:
        ``(N, D)``.
    """
    scaled = (center - level) / (stdev * math.sqrt(2.0))
    height = stdev * math.sqrt(2.0 / math.pi)
    kept = center + height / torch.special.erfcx(-scaled)  # phi / Phi without 0 / 0
    removed = center - height / torch.special.erfcx(scaled)
    return torch.where(mask, kept, removed)


def expected_given_mask(
    rule: MaskRule, layers: Sequence[Layer], scores: Tensor, *, center: Tensor, stdev: float
) -> Tensor:
    """For each row of scores the expectation of all that have its mask (``expected_scores``).

    Args:
        rule: Of which the level is asked.
        layers: The network's parameter tensors.
        scores: ``(N, D)``, drawn from ``center + stdev * N(0, I)``.
        center: ``(D,)``.
        stdev: Standard deviation of the noise.

    Returns:
        ``(N, D)``; the scores themselves where the rule has no ``level``.
    """
    if not isinstance(rule, LevelRule):
        return scores
    return expected_scores(rule(scores, layers), center=center, stdev=stdev, level=rule.level(scores, layers))


def scores_from_mask(mask: Tensor, *, stdev: float, seed: int, live: NDArray[np.bool_] | None = None) -> Tensor:
    """Scores to which a rule such as ``TopK`` gives this mask: a search begins at it.

    Kept weights have scores ``|z|`` with ``z`` of N(0, stdev**2). Removed ones have scores below 0, and as many are
    near it as there are kept weights: that of rank r, in a random order, is -stdev r / K for K kept weights, and about
    -3 stdev beyond. (Were they ``-|z|`` too, noise would lift hundreds of them above the few that a sparse mask keeps.)

    So all that is kept ranks above all that is removed. ``TopK`` that keeps as many weights makes exactly this mask of
    them, if its scope is ``"global"``. Otherwise the rule decides how many weights a scope keeps: where that is fewer,
    it keeps only weights of the mask; where it is more, all of them and some others.

    Args:
        mask: ``(D,)`` bool.
        stdev: In the units of scores, above 0.
        seed: The scores' seed.
        live: ``(D,)`` bool: of the weights that are kept, those that are not live have the lowest scores. So they are
            the first that are removed. None ranks all that are kept at random.

    Returns:
        ``(D,)`` float32, none of them 0.
    """
    kept = mask.numpy()
    drawn = stdev * np.abs(standard_normal(raw_words(seed, 2 * len(kept), stream=_SCORE_STREAM)))
    removed, num_kept = np.flatnonzero(~kept), max(1, int(kept.sum()))
    ranks = np.argsort(np.argsort(drawn[removed])) + 1.0
    drawn[removed] = stdev * np.minimum(ranks / num_kept, 3.0 + ranks / len(kept))
    float32 = np.finfo(np.float32)
    sizes = np.clip(drawn, float32.tiny, float32.max).astype(np.float32)  # at 0 and infinity signs would mean nothing
    if live is not None:
        chosen = np.flatnonzero(kept)
        dead_first = chosen[np.lexsort((sizes[chosen], live[chosen]))]
        sizes[dead_first] = np.sort(sizes[chosen])
    return torch.from_numpy(np.where(kept, sizes, -sizes))


def apply_mask(weights: Tensor, mask: Tensor, layers: Sequence[Layer], *, rescale: bool | Sequence[float]) -> Tensor:
    """Frozen weights times bits, and times 1 / sqrt(density) of each layer where ``rescale`` is on.

    Only tensors of two or more dimensions are rescaled: a bias is added once, whatever the density.

    Args:
        weights: ``(D,)``.
        mask: ``(N, D)`` bool.
        layers: The network's parameter tensors.
        rescale: See above; or factors, one for each of ``layers``.

    Returns:
        ``(N, D)`` float32.
    """
    masked = (mask * weights).add_(0.0)  # no -0.0, and half the time of torch.where
    for i, layer in enumerate(layers if rescale else ()):
        if not isinstance(rescale, bool):
            masked[:, layer.slice] *= rescale[i]
        elif len(layer.shape) >= 2:
            masked[:, layer.slice] *= scale_of(mask, layer)
    return masked


def scale_of(mask: Tensor, layer: Layer) -> Tensor:
    """1 / sqrt(density) of a layer in each of the masks ``(N, D)``: ``(N, 1)`` float32."""
    kept = mask[:, layer.slice].sum(dim=1, keepdim=True)
    # float64 division and square root are exactly rounded: the same bits everywhere. An empty layer has nothing to
    # scale.
    return torch.sqrt(layer.size / kept.clamp(min=1).double()).float()
