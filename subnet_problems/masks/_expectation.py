"""Expected scores: the mean of all scores that give the same mask, in closed form."""

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
    """Return the expectations of normally distributed scores, given which of them are kept.

    They are the means of normal distributions truncated at ``level``: ``center + stdev phi(a) / Phi(a)`` for a kept
    score and ``center - stdev phi(a) / Phi(-a)`` for a removed one, with ``a = (center - level) / stdev``.

    Args:
        mask: ``(N, D)`` bool, True where a weight is kept.
        center: ``(D,)``, the means of the scores' distributions.
        stdev: Standard deviation of the scores.
        level: ``(D,)`` or ``(1,)``, the level above which a score is kept.

    Returns:
        ``(N, D)`` expected scores.
    """
    scaled = (center - level) / (stdev * math.sqrt(2.0))
    height = stdev * math.sqrt(2.0 / math.pi)
    kept = center + height / torch.special.erfcx(-scaled)  # phi / Phi without 0 / 0
    removed = center - height / torch.special.erfcx(scaled)
    return torch.where(mask, kept, removed)


def expected_given_mask(
    rule: MaskRule, layers: Sequence[Layer], scores: Tensor, *, center: Tensor, stdev: float
) -> Tensor:
    """Return for each row of scores the expectation of all scores with the same mask (see ``expected_scores``).

    Args:
        rule: The mask rule.
        layers: The network's parameter tensors.
        scores: ``(N, D)``, drawn from ``center + stdev * N(0, I)``.
        center: ``(D,)``.
        stdev: Standard deviation of the noise.

    Returns:
        ``(N, D)`` expected scores; the scores themselves if the rule has no ``level``.
    """
    if not isinstance(rule, LevelRule):
        return scores
    return expected_scores(rule(scores, layers), center=center, stdev=stdev, level=rule.level(scores, layers))
