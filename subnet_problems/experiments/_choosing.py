"""Choose the policies of a front: candidates are trimmed, then selected by fresh evaluations on Gymnasium."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
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

# Successive halving. Each pair is one round: candidates left per group, and further evaluations of each of these.
#: For the candidates of each level.
_OF_LEVELS = ((5, 3), (2, 4))
#: For the versions of a policy with one weight fewer: evaluations of each in the search's own simulator, then rounds.
_FIRST, _OF_SMALLER = 3, ((6, 6), (2, 12))
#: For the 3 candidates of each size with the highest rewards, including such versions.
_OF_SIZES = ((3, 6), (1, 8))
#: For the best candidate of each size, by fresh evaluations; candidates that leave the front are not evaluated further.
_FRESH = ((1, 15), (1, 15), (1, 30))
#: Smaller versions are made only of policies with at most this number of weights, if there are any.
_SMALL_ENOUGH = 80
#: Number of shares into which the steps are divided, one for each of the 7 rounds above, and shares for smaller
#: versions.
_SHARES, _FOR_SMALLER = 12, 5
#: Up to 40 weights, each number of weights is a separate size; each larger size has 1.08 times as many weights.
_SMALL, _RATIO = 40, 1.08


@dataclass(frozen=True)
class Found:
    """A policy of the front.

    Attributes:
        subnet: The policy.
        seen: Its mean reward in the evaluations by which it was chosen.
        num_evaluations: Number of these evaluations.
    """

    subnet: Subnetwork
    seen: float
    num_evaluations: int


def choose(
    problem: ParetoSparsityProblem,
    groups: Sequence[NDArray[np.float64]],
    *,
    min_reward: float | None = None,
    trim: bool = True,
    max_steps: int | None = None,
) -> list[Found]:
    """Choose the policies of a front: the best of each size that no sparser policy beats, sparsest first.

    Policies are evaluated on Gymnasium itself in episodes of full length, since the return of a sparse policy in
    another simulator is a poor estimate. Successive halving evaluates the best again and again; the policies of the
    front get 60 fresh evaluations. Policies that a sparser one clearly beats are dropped along the way (see
    ``_not_beaten``).

    First, the best individuals of each group are found. Those with few weights are then trimmed weight by weight: the
    best version with one weight fewer (see ``smaller``) is trimmed next. Finally, the best of each size are found among
    all policies. Trimming requires that dead weights are not counted and that the factors of the mask rule do not
    depend on the mask.

    Args:
        problem: The problem, which counts these evaluations too.
        groups: Individuals ``(n, D + 1)`` of similar density in each group, the most promising first.
        min_reward: Policies with less fitness are left out, if others reach it. Default: None.
        trim: Whether to trim policies, if possible. Default: True.
        max_steps: Approximate maximum of environment steps. If not all candidates can be evaluated, those that improve
            the front most are (``_worth_it``). Default: None, no limit.

    Returns:
        The policies, with the means of their fresh evaluations.
    """
    masked = problem.masked
    trim = trim and problem.count == "live" and masked.mask_rule.rescale is not True
    levels: list[list[_Candidate]] = []
    known: set[bytes] = set()
    for individuals in groups:
        masks = problem.mask(individuals)
        counted = live_masks(masked.network, masks) if problem.count == "live" else masks
        candidates = map(_Candidate, counted if trim else masks, counted)
        levels.append([one for one in candidates if one.key not in known])  # neighbors may share a policy
        known |= {one.key for one in levels[-1]}
    games = _Games(masked, math.inf if max_steps is None else max_steps / _SHARES)
    with _in_simulator(masked, "gymnasium"):
        sizes = _halved(games, [level for level in levels if level], _OF_LEVELS, min_reward, margin=math.inf)
        if trim:
            sizes = _by_size(_with_smaller(games, sizes, min_reward))
        # Selection favors lucky candidates, so the rewards by which they were selected are discarded, twice.
        sizes = _halved(games, [_anew(size, _OF_SIZES[0][0]) for size in sizes], _OF_SIZES, min_reward, margin=1.0)
        fresh = _halved(games, [_anew(size, 1) for size in sizes], _FRESH, min_reward)
    policies = []
    for one in _front([one for (one,) in fresh], min_reward):
        subnet = masked.mask_to_subnetwork(one.mask)
        policies.append(Found(subnet if problem.count == "kept" else subnet.prune(), one.mean, len(one.rewards)))
    return policies


class _Candidate:
    """A mask ``(D,)`` and its rewards so far; its size is the number of weights in ``counted``.

    Attributes:
        hoped: Its expected reward, used while it has no rewards.
    """

    def __init__(self, mask: Tensor, counted: Tensor | None = None) -> None:
        self.mask = mask
        self.key = mask.cpu().numpy().tobytes()
        self.size = int((mask if counted is None else counted).count_nonzero())
        self.rewards: list[float] = []
        self.hoped = math.inf

    @property
    def mean(self) -> float:
        """The mean of its rewards, or ``hoped`` if it has none."""
        return float(np.mean(self.rewards)) if self.rewards else self.hoped


def _anew(group: Sequence[_Candidate], number: int) -> list[_Candidate]:
    """Copies of the ``number`` candidates with the highest means, without their rewards."""
    best = [copy(one) for one in sorted(group, key=lambda one: -one.mean)[:number]]
    for one in best:
        one.hoped, one.rewards = one.mean, []
    return best


class _Games:
    """Evaluates candidates on a problem and tracks the cost in environment steps.

    Args:
        masked: The problem.
        share: Number of environment steps of a round.

    Attributes:
        simulator: The problem's own backend.
        steps: Number of environment steps so far.
    """

    def __init__(self, masked: MaskedGymProblem, share: float) -> None:
        self.masked, self.share, self.simulator = masked, share, masked.backend
        self.steps = self._num_evaluations = 0

    def play(self, candidates: Sequence[_Candidate], num_evaluations: int) -> None:
        """Evaluate each candidate ``num_evaluations`` more times."""
        masks, before = torch.stack([one.mask for one in candidates]), self.masked.interaction_count
        for _ in range(num_evaluations):  # one at a time: within one call, equal masks play the same episodes
            for one, reward in zip(candidates, self.masked.evaluate_masks(masks), strict=True):
                one.rewards.append(float(reward))
        self.steps += self.masked.interaction_count - before
        self._num_evaluations += num_evaluations * len(candidates)

    def affordable(self, num_evaluations: int) -> float:
        """How many candidates a round can evaluate, estimated from the cost of evaluations so far."""
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
    """The best of each group, sparsest first, after rounds of successive halving."""
    for num_left, num_evaluations in rounds:
        groups = [sorted(group, key=lambda one: -one.mean)[:num_left] for group in groups]
        groups = _worth_it(groups, games.affordable(num_evaluations))
        games.play([one for group in groups for one in group], num_evaluations)
        groups = _not_beaten(groups, min_reward, margin)
    return list(groups)


def _worth_it(groups: Sequence[list[_Candidate]], num_candidates: float) -> list[list[_Candidate]]:
    """Keep the groups whose best gains most over all sparser ones: at most ``num_candidates``, at least one group."""
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
    """Drop groups that a sparser one beats and, if any group reaches ``min_reward``, those that do not.

    Groups are compared by the means of their best candidates, each with a tolerance of ``margin`` standard errors. The
    result is sorted, sparsest first.
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
    """All candidates without duplicates, plus smaller and smaller versions of the best of each group.

    The versions of a policy with one weight fewer are evaluated, and the best of them is made smaller next, as long as
    it earns enough. This starts with the policy of the highest mean and continues with the next while steps are left.
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
            with _in_simulator(games.masked, games.simulator):
                games.play(versions, _FIRST)
            versions = _anew(versions, _OF_SMALLER[0][0])
            known |= {one.key: one for one in versions}
            ((best, *_),) = _halved(games, [versions], _OF_SMALLER, None)
    return list(known.values())


def _by_size(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    """Group candidates of similar numbers of weights, the sparsest first."""
    sizes: dict[int, list[_Candidate]] = {}
    for one in candidates:
        larger = 0 if one.size <= _SMALL else round(math.log(one.size / _SMALL, _RATIO))
        sizes.setdefault(min(one.size, _SMALL) + larger, []).append(one)
    return [sizes[size] for size in sorted(sizes)]


def _front(candidates: Sequence[_Candidate], min_reward: float | None) -> list[_Candidate]:
    """Candidates that no sparser one beats, sparsest first; if any reaches ``min_reward``, only those that do."""
    enough = [one for one in candidates if min_reward is None or one.mean >= min_reward]
    front: list[_Candidate] = []
    for one in sorted(enough or candidates, key=lambda one: (one.size, -one.mean)):
        if not front or one.mean > front[-1].mean:
            front.append(one)
    return front


@contextmanager
def _in_simulator(masked: MaskedGymProblem, backend: str) -> Iterator[None]:
    """Context in which a problem plays episodes of full length in a simulator."""
    before = masked.backend, masked.episode_length
    try:
        masked.backend, masked.episode_length = backend, masked.task.at_full_length().max_steps
        yield
    finally:
        masked.backend, masked.episode_length = before
