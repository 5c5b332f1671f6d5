"""Scores that give a known mask: where a search goes on from a policy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..networks._philox import raw_words, standard_normal

#: The stream of scores that are made from a mask: no weights and no episodes come from it.
_SCORE_STREAM = 2**64 - 2


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
