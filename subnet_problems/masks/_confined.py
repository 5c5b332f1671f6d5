"""Where a search's center is brought back to, so that the noise around it changes masks, and in what matters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..networks._frozen_network import FrozenNetwork
from ..networks._layer import Layer
from ._live import chain_layers, is_chain, live_units, weights_between
from ._order import kth_lowest
from ._rule import LevelRule, MaskRule
from ._top_k import TopK

#: How many scores are near the level, of those kept or of those removed.
_NEAR = 0.6
#: A unit is in use if it is live in a mask that keeps so many times as many weights.
_WIDER = 4.0
#: How far below the level the scores of weights between unused units are, in units of the spread of scores; and how
#: many times as far below as the farthest that are to be near scores are left where they are.
_FAR, _ASIDE = 10.0, 10.0


def without_unused(rule: MaskRule, network: FrozenNetwork, center: Tensor, *, stdev: float) -> Tensor:
    """Scores like those of ``center``, of which those of weights that do nothing are far below the level.

    Of a sparse mask most weights that noise would keep are between units that nothing else reaches: they change no
    output, whatever is observed. In use are inputs, outputs, and the units that are live in a mask of the same scores
    that keeps four times as many weights. All weights that are not between units in use are set aside, and of those
    that were kept the places go to the best of the others. (A scope that would have fewer of these than it keeps
    stays as it is.)

    Args:
        rule: The mask rule.
        network: What it masks.
        center: ``(D,)``.
        stdev: The spread of initial scores.

    Returns:
        ``(D,)``; ``center`` itself where all is in use, under another rule than ``TopK``, or where it is not known what
        is in use, in a network that is no chain.
    """
    if not isinstance(rule, TopK):
        return center
    density = _WIDER * (1.0 - rule.sparsity)
    if density >= 1.0 or not is_chain(network):
        return center
    mask = rule.at(1.0 - density)(center[None], network.layers)[0]
    layers = chain_layers(network, mask.cpu().numpy())
    units = live_units(layers)
    units[0][:] = units[-1][:] = True
    unused = ~torch.from_numpy(weights_between(units, layers, network.num_weights)).to(center.device)
    if not bool(unused.any()):
        return center
    result, level = center.clone(), rule.level(center[None], network.layers)
    for part, num_kept in rule.parts(network.layers):
        if 0 < num_kept < int((~unused[part]).count_nonzero()):
            aside = result[part].clamp(max=level[part] - _FAR * stdev)
            result[part] = torch.where(unused[part], aside, result[part])
    return result


def near_level(rule: MaskRule, layers: Sequence[Layer], center: Tensor, *, reach: float) -> Tensor:
    """Scores with the mask of ``center``, of which enough are within ``reach`` of the rule's level.

    Enough are six tenths of those that are kept, or of those that are removed, where these are fewer. Where there are
    fewer, all are drawn towards the level by the same factor, but for those that were set aside.

    Args:
        rule: Of which the level is asked.
        layers: The network's parameter tensors.
        center: ``(D,)``.
        reach: In the units of scores.

    Returns:
        ``(D,)``; ``center`` itself where the rule has no ``level``.
    """
    if not isinstance(rule, LevelRule):
        return center
    above = center - rule.level(center[None], layers)
    settled = above.isinf()  # where all weights of a scope are kept, or none
    open_ = above[~settled]
    if not len(open_):
        return center
    num_kept = int((open_ >= 0.0).count_nonzero())
    num_near = max(1, math.ceil(_NEAR * min(num_kept, len(open_) - num_kept)))
    farthest = kth_lowest(open_.abs(), num_near)
    if farthest <= reach:
        return center
    # What was set aside stays there. Not torch.lerp, whose bits depend on the number of threads.
    return center - above.masked_fill(settled | (above < -_ASIDE * farthest), 0.0) * (1.0 - reach / farthest)
