"""Which policies make a front: they are trimmed, and chosen on Gymnasium, by evaluations that others do not share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..masks._live import live_masks
from ..problems._masked import MaskedGymProblem
from ..problems._pareto import ParetoSparsityProblem
from ..subnetworks._subnetwork import Subnetwork
from ._trimming import smaller

# Successive halving: in each round so many of a group are left, and each of these is evaluated so many times more.
#: Among the candidates of each level.
_OF_LEVELS = ((5, 3), (2, 4))
#: Among the versions of a policy with a weight fewer, after so many evaluations in the search's own simulator.
_FIRST, _OF_SMALLER = 3, ((6, 6), (2, 12))
#: Among the three of each size that earned most, such versions among them.
_OF_SIZES = ((3, 6), (1, 8))
#: The best of each size, by evaluations of their own; those that leave the front are not evaluated further.
_FRESH = ((1, 15), (1, 15), (1, 30))
#: Smaller versions are made of policies of at most so many weights, if there are any.
_SMALL_ENOUGH = 80
#: Each of the seven rounds above has a share of the steps, smaller versions have five.
_SHARES, _FOR_SMALLER = 12, 5
#: Up to so many weights each number of weights is a size of its own; larger sizes are so many times as large.
_SMALL, _RATIO = 40, 1.08


def choose(
    problem: ParetoSparsityProblem,
    groups: Sequence[NDArray[np.float64]],
    *,
    min_reward: float | None = None,
    trim: bool = True,
    max_steps: int | None = None,
) -> list[tuple[Subnetwork, float, int]]:
    """The policies of a front: of each size the best, without those that a sparser one beats, sparsest first.

    They are evaluated on Gymnasium itself, in episodes of full length, since what a policy earns in another simulator
    says little of a sparse one: the few best again and again (successive halving), those of the front by 60 evaluations
    of their own. On the way those are left out that a sparser one beats clearly (see ``_not_beaten``).

    First the best individuals of each group are found. Those of few weights are then trimmed, weight by weight: of the
    versions with a weight fewer (see ``smaller``) the best goes on. Of all that come of it the best of each size are
    found. Trimmed are policies whose dead weights are not counted, under a rule whose factors do not depend on the
    mask.

    Args:
        problem: The problem, which counts these evaluations, too.
        groups: Individuals ``(n, D + 1)`` of about one density, the most promising first.
        min_reward: Policies with less fitness are left out, where there are others.
        trim: Whether policies are trimmed, where they can be.
        max_steps: About how many environment steps this takes at most. Where not all can be evaluated, it is those by
            which the front gains most (``_worth_it``). Default no limit.

    Returns:
        Policies, each with the mean of its own evaluations, and their number.
    """
    masked = problem.masked
    trim = trim and problem.count == "live" and masked.mask_rule.rescale is not True
    levels: list[list[_Candidate]] = []
    known: set[bytes] = set()
    for individuals in groups:
        masks = problem.mask(individuals)
        counted = live_masks(masked.network, masks) if problem.count == "live" else masks
        candidates = map(_Candidate, counted if trim else masks, counted)
        levels.append([one for one in candidates if one.key not in known])  # neighbors may have the same policy
        known |= {one.key for one in levels[-1]}
    games = _Games(masked, math.inf if max_steps is None else max_steps / _SHARES)
    with _on_gymnasium(masked):
        sizes = _halved(games, [level for level in levels if level], _OF_LEVELS, min_reward, margin=math.inf)
        if trim:
            sizes = _by_size(_with_smaller(games, sizes, min_reward))
        # Of many the luckiest have won: so what they were chosen by does not count, twice.
        sizes = _halved(games, [_anew(size, _OF_SIZES[0][0]) for size in sizes], _OF_SIZES, min_reward, margin=1.0)
        fresh = _halved(games, [_anew(size, 1) for size in sizes], _FRESH, min_reward)
    policies = []
    for one in _front([one for (one,) in fresh], min_reward):
        subnet = masked.mask_to_subnetwork(one.mask)
        policies.append((subnet if problem.count == "kept" else subnet.prune(), one.mean, len(one.rewards)))
    return policies


class _Candidate:
    """A mask ``(D,)``, and the rewards it has earned; its size is how many weights ``counted`` has.

    Attributes:
        hoped: What it is expected to earn while it has no rewards.
    """

    def __init__(self, mask: Tensor, counted: Tensor | None = None) -> None:
        self.mask = mask
        self.key = mask.cpu().numpy().tobytes()
        self.size = int((mask if counted is None else counted).count_nonzero())
        self.rewards: list[float] = []
        self.hoped = math.inf

    @property
    def mean(self) -> float:
        """Of its rewards; without any, what is hoped for."""
        return float(np.mean(self.rewards)) if self.rewards else self.hoped


def _anew(group: Sequence[_Candidate], number: int) -> list[_Candidate]:
    """So many that have earned most, without these rewards."""
    best = [copy(one) for one in sorted(group, key=lambda one: -one.mean)[:number]]
    for one in best:
        one.hoped, one.rewards = one.mean, []
    return best


class _Games:
    """What evaluates candidates on a problem, and knows what that costs.

    Args:
        masked: The problem.
        share: How many environment steps a round has.

    Attributes:
        simulator: The problem's own.
        steps: How many were taken.
    """

    def __init__(self, masked: MaskedGymProblem, share: float) -> None:
        self.masked, self.share, self.simulator = masked, share, masked.backend
        self.steps = self._num_evaluations = 0

    def play(self, candidates: Sequence[_Candidate], num_evaluations: int) -> None:
        """Evaluate all of them so many times more."""
        masks, before = torch.stack([one.mask for one in candidates]), self.masked.interaction_count
        for _ in range(num_evaluations):  # one after the other: in a round, equal masks play the same episodes
            for one, reward in zip(candidates, self.masked.evaluate_masks(masks), strict=True):
                one.rewards.append(float(reward))
        self.steps += self.masked.interaction_count - before
        self._num_evaluations += num_evaluations * len(candidates)

    def affordable(self, num_evaluations: int) -> float:
        """How many candidates a round has the steps for, by what evaluations cost so far."""
        cost = num_evaluations * self.steps / max(self._num_evaluations, 1)
        return self.share / cost if cost else math.inf


def _best(group: Sequence[_Candidate]) -> _Candidate:
    return max(group, key=lambda one: one.mean)


def _halved(
    games: _Games,
    groups: Sequence[list[_Candidate]],
    rounds: Sequence[tuple[int, int]],
    min_reward: float | None,
    margin: float = 0.5,
) -> list[list[_Candidate]]:
    """The best of each group, sparsest first, after rounds in each of which fewer are evaluated, and more often."""
    for num_left, num_evaluations in rounds:
        groups = [sorted(group, key=lambda one: -one.mean)[:num_left] for group in groups]
        groups = _worth_it(groups, games.affordable(num_evaluations))
        games.play([one for group in groups for one in group], num_evaluations)
        groups = _not_beaten(groups, min_reward, margin)
    return list(groups)


def _worth_it(groups: Sequence[list[_Candidate]], num_candidates: float) -> list[list[_Candidate]]:
    """Groups of at most so many candidates in all, one at least: those whose best earns most above all sparser ones."""
    if sum(map(len, groups)) <= num_candidates:
        return list(groups)
    bests = sorted(map(_best, groups), key=lambda one: one.size)
    highest, gains = min(one.mean for one in bests), {}
    for best in bests:
        gains[best.key] = best.mean - highest if best.mean > highest else 0.0
        highest = max(highest, best.mean)
    left: list[list[_Candidate]] = []
    for group in sorted(groups, key=lambda group: (-gains[_best(group).key], _best(group).size)):
        num_candidates -= len(group)
        if left and num_candidates < 0:
            break
        left.append(group)
    return left


def _not_beaten(
    groups: Sequence[list[_Candidate]], min_reward: float | None, margin: float = 0.5
) -> list[list[_Candidate]]:
    """Groups, sparsest first, without those that a sparser one beats, or that earn too little, if any earns enough.

    The best of a group counts, and so many standard errors of its mean are granted to each side.
    """
    groups = sorted(groups, key=lambda group: _best(group).size)
    rewards = [one.rewards for group in groups for one in group]
    variances = [float(np.var(some, ddof=1)) for some in rewards if np.isfinite(some).all()]
    stdev, left = math.sqrt(fmean(variances or [0.0])), []
    bests = [_best(group) for group in groups]
    enough = min_reward is not None and any(best.mean >= min_reward for best in bests)
    least = min_reward if min_reward is not None and enough else -math.inf
    for group, best in zip(groups, bests, strict=True):
        granted = margin * stdev / len(best.rewards) ** 0.5 if stdev else 0.0
        if best.mean + granted >= least:
            left.append(group)
        least = max(least, best.mean - granted)
    return left


def _with_smaller(games: _Games, groups: Sequence[list[_Candidate]], min_reward: float | None) -> list[_Candidate]:
    """All candidates, each once, and ever smaller versions of the best of each group.

    Versions of a policy with a weight fewer are evaluated, and the best of them goes on, as long as it earns enough:
    first those of the policy that has earned most, then, while there are steps left, those of the next.
    """
    known = {one.key: one for group in groups for one in group}
    bests = sorted(map(_best, groups), key=lambda one: -one.mean)
    starts = [one for one in bests if one.size <= _SMALL_ENOUGH] or [min(bests, key=lambda one: one.size)]
    enough = min_reward if min_reward is not None and bests[0].mean >= min_reward else -math.inf
    end = games.steps + _FOR_SMALLER * games.share
    for best in starts:
        while best.mean >= enough and games.steps < end:
            versions = [one for one in map(_Candidate, smaller(games.masked, best.mask)) if one.key not in known]
            if not versions:
                break
            backend, games.masked.backend = games.masked.backend, games.simulator
            games.play(versions, _FIRST)
            games.masked.backend = backend
            versions = _anew(versions, _OF_SMALLER[0][0])
            known |= {one.key: one for one in versions}
            ((best, *_),) = _halved(games, [versions], _OF_SMALLER, None)
    return list(known.values())


def _by_size(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    """Those of about the same number of weights together, the sparsest first."""
    sizes: dict[int, list[_Candidate]] = {}
    for one in candidates:
        larger = 0 if one.size <= _SMALL else round(math.log(one.size / _SMALL, _RATIO))
        sizes.setdefault(min(one.size, _SMALL) + larger, []).append(one)
    return [sizes[size] for size in sorted(sizes)]


def _front(candidates: Sequence[_Candidate], min_reward: float | None) -> list[_Candidate]:
    """Those that no sparser one beats, sparsest first, and that earn enough, if any does."""
    enough = [one for one in candidates if min_reward is None or one.mean >= min_reward]
    front: list[_Candidate] = []
    for one in sorted(enough or candidates, key=lambda one: (one.size, -one.mean)):
        if not front or one.mean > front[-1].mean:
            front.append(one)
    return front


@contextmanager
def _on_gymnasium(masked: MaskedGymProblem) -> Iterator[None]:
    """Within, a problem plays whole episodes on Gymnasium."""
    before = masked.backend, masked.episode_length
    try:
        masked.backend, masked.episode_length = "gymnasium", masked.task.at_full_length().max_steps
        yield
    finally:
        masked.backend, masked.episode_length = before
