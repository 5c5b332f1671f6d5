"""Expected scores: the mean of all scores that give the same mask, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from .._checks import BITS
from ._rule import CutoffRule, MaskRule
from ._values import values_of

if TYPE_CHECKING:
    from ..networks._layer import Layer


def expected_scores(
    mask: Tensor, *, center: Tensor, stdev: float, cutoffs: Tensor, values: Sequence[int] = BITS
) -> Tensor:
    """Return the expectations of normally distributed scores, given the values of their masks.

    They are the means of normal distributions truncated to the interval of scores that has the mask's value. With
    one cutoff these are ``center + stdev phi(a) / Phi(a)`` for a kept score and ``center - stdev phi(a) / Phi(-a)`` for
    a removed one, with ``a = (center - cutoff) / stdev``.

    Args:
        mask: ``(N, D)``, bool or int8, of ``values``.
        center: ``(D,)``, the means of the scores' distributions.
        stdev: Standard deviation of the scores.
        cutoffs: ``(C, D)`` or ``(C, 1)``, the scores that separate the intervals, ascending; see ``CutoffRule``.
        values: The value of each interval, C + 1 of them. Default: removed below the cutoff, kept above it.

    Returns:
        ``(N, D)`` expected scores.
    """
    return _chosen(mask, values, _means(center, stdev, cutoffs))


class ExpectedScores(Sequence[Tensor]):
    """For each row of scores, the expectation of all scores with the same mask (see ``expected_scores``).

    A row ``(D,)`` is computed when it is read: a search needs only some rows, and all of them together are large.

    Args:
        rule: The mask rule.
        layers: The network's parameter tensors.
        scores: ``(N, D)``, drawn from ``center + stdev * N(0, I)``.
        center: ``(D,)``.
        stdev: Standard deviation of the noise.
    """

    def __init__(
        self, rule: CutoffRule, layers: Sequence[Layer], scores: Tensor, *, center: Tensor, stdev: float
    ) -> None:
        self._rule, self._layers, self._scores, self._values = rule, layers, scores, values_of(rule)
        self._means = _means(center, stdev, rule.cutoffs(scores, layers))

    def __len__(self) -> int:
        return len(self._scores)

    @overload
    def __getitem__(self, row: int) -> Tensor: ...
    @overload
    def __getitem__(self, row: slice) -> list[Tensor]: ...
    def __getitem__(self, row: int | slice) -> Tensor | list[Tensor]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        scores = self._scores[row]
        return _chosen(self._rule(scores[None], self._layers), self._values, self._means)[0]


def expected_given_mask(
    rule: MaskRule, layers: Sequence[Layer], scores: Tensor, *, center: Tensor, stdev: float
) -> Sequence[Tensor] | Tensor:
    """Return ``ExpectedScores``, with the same arguments; the scores themselves if the rule has no ``cutoffs``."""
    if not isinstance(rule, CutoffRule):
        return scores
    return ExpectedScores(rule, layers, scores, center=center, stdev=stdev)


def _means(center: Tensor, stdev: float, cutoffs: Tensor) -> list[Tensor]:
    """Return the expectation ``(D,)`` of scores in each interval, from the lowest to the highest."""
    unit, height = stdev * math.sqrt(2.0), stdev * math.sqrt(2.0 / math.pi)
    scaled = (cutoffs - center) / unit
    means = [center - height / torch.special.erfcx(-scaled[0])]  # phi / Phi without 0 / 0
    for low, high, *bounds in zip(scaled[:-1], scaled[1:], cutoffs[:-1], cutoffs[1:], strict=True):
        inner = (center + height * _between(low, high)).clamp(*bounds)
        means.append(torch.where(inner.isnan(), bounds[0], inner))  # no width: 0 / 0
    return [*means, center + height / torch.special.erfcx(scaled[-1])]


def _chosen(mask: Tensor, values: Sequence[int], means: Sequence[Tensor]) -> Tensor:
    """Return the mean that belongs to each value of masks ``(N, D)``."""
    # PyTorch would turn a whole mask of bools into int64 to compare it with a number.
    result = torch.where(mask if mask.dtype == torch.bool else mask == values[-1], means[-1], means[0])
    for value, mean in zip(values[1:-1], means[1:-1], strict=True):
        result = torch.where(mask == value, mean, result)
    return result


def _between(low: Tensor, high: Tensor) -> Tensor:
    """Return ``(exp(-low^2) - exp(-high^2)) / (erf(high) - erf(low))``, also where both terms almost vanish."""
    mirrored = low + high < 0.0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)  # now -low <= high
    decay = (low - high) * (low + high)
    one_side = -torch.expm1(decay) / (torch.special.erfcx(low) - torch.exp(decay) * torch.special.erfcx(high))
    two_sides = (torch.exp(-low.square()) - torch.exp(-high.square())) / (torch.erf(high) - torch.erf(low))
    ratio = torch.where(low > 0.0, one_side, two_sides)
    return torch.where(mirrored, -ratio, ratio)
