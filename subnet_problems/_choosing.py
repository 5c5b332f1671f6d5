"""Which policies make a front: they are trimmed, and chosen on Gymnasium, by evaluations that others do not share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._trimming import live_masks, trimmed, without_one
from .gym_problem import MaskedGymProblem
from .pareto_problem import ParetoSparsityProblem
from .subnetwork import Subnetwork

#: How the best of a level are chosen: so many of each go on, and are evaluated so many times more.
_OF_LEVELS = ((5, 3), (2, 4))
#: And how the best of a size are chosen then, trimmed ones among them.
_OF_SIZES = ((100, 2), (2, 4), (1, 8))
#: How it is found which weight of the smallest policy can go.
_OF_WEIGHTS = ((100, 3), (5, 6), (2, 8))
#: How often the best of each size is evaluated, and then those again that may be on the front.
_FRESH = ((1, 15), (1, 15), (1, 30))
#: A policy of so many weights at most is trimmed, of at most so many.
_TRIMMED, _DEPTH = 80, 16
#: Up to so many weights each number of weights is a size; larger sizes differ by so much.
_SMALL, _RATIO = 40, 1.08


def choose(
    problem: ParetoSparsityProblem, groups: Sequence[NDArray[np.float64]], *, min_reward: float | None = None
) -> list[tuple[Subnetwork, float, int]]:
    """The policies of a front: of each size the best, without those that a sparser one beats, sparsest first.

    They are evaluated on Gymnasium itself, in episodes of full length, since what a policy earns in another simulator
    says little of a sparse one: the few best again and again (successive halving), those of the front by 60 evaluations
    of their own. What a sparser one beats by more than the evaluations differ is left out on the way.

    First the best individuals of each group are found. Those of few weights are then trimmed, weight by weight (see
    ``trimmed``), and of all that come of it the best of each size are found. Trimmed are policies whose dead weights
    are not counted, under a rule whose factors do not depend on the mask.

    Args:
        problem: The problem, which counts these evaluations, too.
        groups: Individuals ``(n, D + 1)`` of about one density, the most promising first.
        min_reward: What is worth showing: policies that earn less are left out, unless none earns it.

    Returns:
        Policies, each with the mean of its own evaluations, and their number.
    """
    masked = problem.masked
    can_be_trimmed = problem.count == "live" and masked.mask_rule.rescale is not True
    fields, known = [], set()
    for group in sorted(groups, key=lambda group: float(group[0, -1])):
        masks = problem.mask(group)
        field = [_Candidate(mask) for mask in (live_masks(masked, masks) if can_be_trimmed else masks)]
        field = [one for one in field if one.name not in known]  # neighbors may have the same policy
        known |= {one.name for one in field}
        fields += [field] if field else []
    with _on_gymnasium(masked):
        fields = _halved(masked, fields, _OF_LEVELS, min_reward)
        if can_be_trimmed:
            fields = _by_size(_with_trimmed(masked, fields))
        fields = _halved(masked, fields, _OF_SIZES, min_reward)
        if can_be_trimmed and min_reward is not None:
            fields = sorted([*fields, *_smaller(masked, fields, min_reward)], key=lambda field: field[0].size)
        # Of many the luckiest would win: so what they were chosen by does not count.
        fresh = [[_Candidate(max(field, key=lambda one: one.mean).mask)] for field in fields]
        fresh = _halved(masked, fresh, _FRESH, min_reward)
    policies = []
    for one in _front([one for (one,) in fresh], min_reward):
        subnet = masked.mask_to_subnetwork(one.mask)
        policies.append((subnet if problem.count == "kept" else subnet.prune(), one.mean, len(one.rewards)))
    return policies


class _Candidate:
    """A mask ``(D,)``, and the rewards it has earned."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.name = mask.cpu().numpy().tobytes()
        self.size = int(mask.count_nonzero())
        self.rewards: list[float] = []

    @property
    def mean(self) -> float:
        return float(np.mean(self.rewards)) if self.rewards else 0.0


def _halved(
    masked: MaskedGymProblem,
    fields: Sequence[list[_Candidate]],
    rounds: Sequence[tuple[int, int]],
    min_reward: float | None,
) -> list[list[_Candidate]]:
    """The best of each field, sparsest first, after rounds in each of which fewer are evaluated, and more often."""
    for num_kept, num_evaluations in rounds:
        fields = [sorted(field, key=lambda one: -one.mean)[:num_kept] for field in fields]
        _evaluate(masked, [one for field in fields for one in field], num_evaluations)
        fields = _not_beaten(fields, min_reward)
    return list(fields)


def _not_beaten(fields: Sequence[list[_Candidate]], min_reward: float | None) -> list[list[_Candidate]]:
    """Fields without those of which a sparser field has a better one almost surely, or that surely earn too little.

    The best field is there in any case.
    """
    rewards = [one.rewards for field in fields for one in field]
    variances = [float(np.var(shown, ddof=1)) for shown in rewards if np.isfinite(shown).all()]
    stdev, left = math.sqrt(fmean(variances or [0.0])), []
    firsts = [max(field, key=lambda one: one.mean) for field in fields]
    margins = [0.5 * stdev / len(first.rewards) ** 0.5 for first in firsts]
    enough = -np.inf if min_reward is None else min(min_reward, max(first.mean for first in firsts))
    best = enough
    for field, first, margin in zip(fields, firsts, margins, strict=True):
        if first.mean + margin >= best:
            left.append(field)
        best = max(best, first.mean - margin)
    return left


def _with_trimmed(masked: MaskedGymProblem, fields: Sequence[list[_Candidate]]) -> list[_Candidate]:
    """All candidates, each once, and the trimmed versions of the best of each field."""
    known = {one.name: one for field in fields for one in field}
    for field in fields:
        first = max(field, key=lambda one: one.mean)
        if first.size <= _TRIMMED:
            for mask in trimmed(masked, first.mask, depth=_DEPTH):
                one = _Candidate(mask)
                known.setdefault(one.name, one)
    return list(known.values())


def _smaller(masked: MaskedGymProblem, fields: Sequence[list[_Candidate]], min_reward: float) -> list[list[_Candidate]]:
    """Smaller and smaller policies, each a field: the smallest that earns enough without one weight, and so on.

    How much a weight changes the outputs is not all: here each is tried, until none can go.
    """
    bests = (max(field, key=lambda one: one.mean) for field in fields)
    best, result = next((one for one in bests if one.mean >= min_reward), None), []
    while best is not None:
        without = {one.name: one for one in map(_Candidate, without_one(masked, best.mask))}
        if not without:
            break
        (field,) = _halved(masked, [list(without.values())], _OF_WEIGHTS, None)
        best = max(field, key=lambda one: one.mean)
        if best.mean < min_reward:
            break
        result.append([best])
    return result


def _by_size(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    """Those of about the same number of weights together, the sparsest first."""
    sizes: dict[int, list[_Candidate]] = {}
    for one in candidates:
        larger = 0 if one.size <= _SMALL else round(math.log(one.size / _SMALL, _RATIO))
        sizes.setdefault(min(one.size, _SMALL) + larger, []).append(one)
    return [sizes[size] for size in sorted(sizes)]


def _front(candidates: Sequence[_Candidate], min_reward: float | None) -> list[_Candidate]:
    """Those that no sparser one beats, sparsest first, and that earn enough (or the best, where none does)."""
    enough = [one for one in candidates if min_reward is None or one.mean >= min_reward]
    front: list[_Candidate] = []
    for one in sorted(enough or [max(candidates, key=lambda one: one.mean)], key=lambda one: (one.size, -one.mean)):
        if not front or one.mean > front[-1].mean:
            front.append(one)
    return front


def _evaluate(masked: MaskedGymProblem, candidates: Sequence[_Candidate], num_evaluations: int) -> None:
    """Evaluate all of them so many times more."""
    masks = torch.stack([one.mask for one in candidates])
    for _ in range(num_evaluations):
        for one, reward in zip(candidates, masked.evaluate_masks(masks), strict=True):
            one.rewards.append(float(reward))


@contextmanager
def _on_gymnasium(masked: MaskedGymProblem) -> Iterator[None]:
    """Within, a problem plays whole episodes on Gymnasium."""
    before = masked.backend, masked.episode_length
    try:
        masked.backend, masked.episode_length = "gymnasium", masked.task.at_full_length().max_steps
        yield
    finally:
        masked.backend, masked.episode_length = before
