"""Scores that give a known mask, so that a search can continue from a policy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..networks._philox import raw_words, standard_normal

#: The random stream of scores that are made from a mask. Weights and episodes use other streams.
_SCORE_STREAM = 2**64 - 2


def scores_from_mask(mask: Tensor, *, stdev: float, seed: int, live: NDArray[np.bool_] | None = None) -> Tensor:
    """Return scores from which a rule such as ``TopK`` makes this mask, as the start of a search.

    A kept weight has the score ``|z|`` with ``z`` from N(0, stdev**2). A removed weight has a score below 0. With K
    kept weights, the removed weight of rank r, in random order, has the score -stdev r / K down to about -3 stdev, and
    about -3 stdev beyond. So about as many removed scores as kept ones are near 0. (If removed scores were ``-|z|``,
    noise would lift hundreds of them above the few that a sparse mask keeps.)

    Every kept weight ranks above every removed weight. ``TopK`` with scope ``"global"`` that keeps K weights makes
    exactly this mask. Another rule keeps its own number of weights in each scope. If this is fewer than the mask keeps
    there, it keeps only weights of the mask; if it is more, it keeps all of the mask and some other weights.

    Args:
        mask: ``(D,)`` bool.
        stdev: Standard deviation, in the units of the scores, above 0.
        seed: Seed of the scores.
        live: ``(D,)`` bool. Kept weights that are not live get the lowest of the kept scores, so that they are removed
            first. None ranks all kept weights at random.

    Returns:
        ``(D,)`` float32, none of them 0.
    """
    kept = mask.numpy()
    drawn = stdev * np.abs(standard_normal(raw_words(seed, 2 * len(kept), stream=_SCORE_STREAM)))
    removed, num_kept = np.flatnonzero(~kept), max(1, int(kept.sum()))
    ranks = np.argsort(np.argsort(drawn[removed])) + 1.0
    drawn[removed] = stdev * np.minimum(ranks / num_kept, 3.0 + ranks / len(kept))
    float32 = np.finfo(np.float32)
    # Sizes stay above 0 and finite; otherwise their signs would mean nothing.
    sizes = np.clip(drawn, float32.tiny, float32.max).astype(np.float32)
    if live is not None:
        chosen = np.flatnonzero(kept)
        dead_first = chosen[np.lexsort((sizes[chosen], live[chosen]))]
        sizes[dead_first] = np.sort(sizes[chosen])
    return torch.from_numpy(np.where(kept, sizes, -sizes))
