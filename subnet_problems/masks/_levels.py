"""The levels of rising sparsity through which a search reaches a high sparsity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ._live import is_chain, live_masks
from ._rule import MaskRule
from ._top_k import TopK, num_kept_at

if TYPE_CHECKING:
    from ..networks._frozen_network import FrozenNetwork

#: If random masks have at least ``_ENOUGH`` live weights, a search begins at the rule itself. In a network whose live
#: weights are unknown, it does so up to sparsity ``_DIRECT``.
_ENOUGH, _DIRECT = 64, 0.95
#: Otherwise it begins at sparsity ``_EASY``, and each ``_PER_OCTAVE`` levels halve the number of weights.
_EASY, _PER_OCTAVE = 0.9, 4
#: Number of random masks whose median counts.
_SAMPLE = 5


def levels_to(rule: MaskRule, network: FrozenNetwork) -> list[MaskRule]:
    """Return rules from an easier one to ``rule`` itself, which is the last. See ``MaskedGymProblem.num_levels``."""
    if type(rule) is not TopK or rule.sparsity <= _EASY or not isinstance(rule.rescale, bool):
        return [rule]
    if _live_weights(rule, network) >= _ENOUGH if is_chain(network) else rule.sparsity <= _DIRECT:
        return [rule]
    num_weights = network.num_weights
    density, easy = 1.0 - rule.sparsity, max(1.0 - _EASY, 10 / num_weights)
    num_steps = max(0, math.ceil(_PER_OCTAVE * math.log2(easy / density) - 1e-9))
    levels = [rule]
    for step in range(1, num_steps + 1):  # backward from the rule
        sparsity = 1.0 - density * (easy / density) ** (step / num_steps)
        if num_kept_at(sparsity, num_weights) > num_kept_at(levels[-1].sparsity, num_weights):
            levels.append(rule.at(sparsity))
    return list(levels[::-1])


def _live_weights(rule: TopK, network: FrozenNetwork) -> float:
    """The median number of live weights of random masks."""
    scores = torch.randn((_SAMPLE, network.num_weights), generator=torch.Generator().manual_seed(0))
    return float(live_masks(network, rule(scores, network.layers)).sum(dim=1).median())
