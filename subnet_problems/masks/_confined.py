"""Confine a search's center so that noise around it changes masks, and changes them where it affects outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..networks._frozen_network import FrozenNetwork
from ..networks._layer import Layer
from ._live import chain_layers, live_units, weights_between
from ._order import kth_lowest
from ._rule import CutoffRule, MaskRule
from ._top_k import TopK

#: The fraction of scores near a cutoff, of the kept or the removed ones, whichever are fewer.
_NEAR = 0.6
#: A unit is in use if it is live in a mask that keeps this many times as many weights.
_WIDER = 4.0
#: ``without_unused`` puts scores at least ``_FAR`` standard deviations of the scores below the cutoff. ``near_cutoff``
#: leaves scores alone that are more than ``_ASIDE`` times as far below it as the farthest score to be near it.
_FAR, _ASIDE = 10.0, 10.0


def without_unused(rule: MaskRule, network: FrozenNetwork, center: Tensor, *, stdev: float) -> Tensor:
    """Return ``center`` with the scores of weights that have no effect moved far below the cutoff.

    With a sparse mask, most weights that noise would add lie between units that no other weight reaches: they change
    no output. The units in use are the inputs, the outputs, and the units that are live in a mask of the same scores
    that keeps four times as many weights. The scores of all weights that do not lie between units in use are moved far
    below the cutoff. If such a weight was kept, the mask keeps the next best weight between units in use instead. A
    scope changes only if it keeps at least one weight and has more weights between units in use than it keeps.

    Args:
        rule: The mask rule.
        network: The network that the rule masks.
        center: ``(D,)`` scores.
        stdev: Standard deviation of the initial scores.

    Returns:
        ``(D,)`` scores. ``center`` itself if all weights are in use, if the rule is not ``TopK``, or if the network is
        not a chain, so that the units in use are unknown.
    """
    if not isinstance(rule, TopK):
        return center
    density = _WIDER * (1.0 - rule.sparsity)
    if density >= 1.0:
        return center
    mask = rule.at(1.0 - density)(center[None], network.layers)[0]
    try:
        layers = chain_layers(network, mask.cpu().numpy())
    except ValueError:  # not a chain
        return center
    units = live_units(layers)
    units[0][:] = units[-1][:] = True
    unused = ~torch.from_numpy(weights_between(units, layers, network.num_weights)).to(center.device)
    if not bool(unused.any()):
        return center
    result, cutoff = center.clone(), rule.cutoffs(center[None], network.layers)[0]
    for part, num_kept in rule.parts(network.layers):
        if 0 < num_kept < int((~unused[part]).count_nonzero()):
            aside = result[part].clamp(max=cutoff[part] - _FAR * stdev)
            result[part] = torch.where(unused[part], aside, result[part])
    return result


def near_cutoff(rule: MaskRule, layers: Sequence[Layer], center: Tensor, *, reach: float) -> Tensor:
    """Return scores with the same mask as ``center``, of which enough lie within ``reach`` of a cutoff of the rule.

    Enough means 60 % of the kept or of the removed scores, whichever are fewer. If fewer lie within reach, all scores
    are moved towards their nearest cutoff by the same factor, except those that ``without_unused`` moved far below it.

    Args:
        rule: The mask rule.
        layers: The network's parameter tensors.
        center: ``(D,)`` scores.
        reach: A distance in the units of the scores.

    Returns:
        ``(D,)`` scores. ``center`` itself if enough scores are near already, or if the rule has no ``cutoffs``.
    """
    if not isinstance(rule, CutoffRule):
        return center
    above = center - rule.cutoffs(center[None], layers)
    has_one_cutoff = len(above) == 1
    above = above.gather(0, above.abs().argmin(dim=0, keepdim=True))[0]
    settled = above.isinf()  # scopes that keep all of their weights, or none
    open_ = above[~settled].abs()
    if not len(open_):
        return center
    num_kept = int(rule(center[None], layers)[0, ~settled].count_nonzero())
    num_near = max(1, math.ceil(_NEAR * min(num_kept, len(open_) - num_kept)))
    farthest = kth_lowest(open_, num_near)
    if farthest <= reach:
        return center
    # Scores far below the cutoff stay there. torch.lerp is avoided: its bits depend on the number of threads.
    if has_one_cutoff:
        settled |= above < -_ASIDE * farthest
    return center - above.masked_fill(settled, 0.0) * (1.0 - reach / farthest)
