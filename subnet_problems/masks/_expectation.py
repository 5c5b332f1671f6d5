"""Expected scores: the mean of all scores that give the same bit, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._rule import LevelRule, MaskRule

if TYPE_CHECKING:
    from ..networks._layer import Layer


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
