"""The levels of rising sparsity through which a search reaches a high sparsity."""

from __future__ import annotations

import math

from ._rule import MaskRule
from ._top_k import TopK, num_kept_at

#: Up to sparsity ``_DIRECT`` a search begins at the rule itself. Beyond it, the search begins at sparsity ``_EASY``,
#: and each ``_PER_OCTAVE`` levels halve the number of weights.
_DIRECT, _EASY, _PER_OCTAVE = 0.95, 0.9, 4


def levels_to(rule: MaskRule, num_weights: int) -> list[MaskRule]:
    """Return rules from an easier one to ``rule`` itself, which is the last. See ``MaskedGymProblem.num_levels``."""
    if type(rule) is not TopK or rule.sparsity <= _DIRECT or not isinstance(rule.rescale, bool):
        return [rule]
    density, easy = 1.0 - rule.sparsity, max(1.0 - _EASY, 10 / num_weights)
    num_steps = max(0, math.ceil(_PER_OCTAVE * math.log2(easy / density) - 1e-9))
    levels = [rule]
    for step in range(1, num_steps + 1):  # backward from the rule
        sparsity = 1.0 - density * (easy / density) ** (step / num_steps)
        if num_kept_at(sparsity, num_weights) > num_kept_at(levels[-1].sparsity, num_weights):
            levels.append(rule.at(sparsity))
    return list(levels[::-1])
