"""Evaluation and comparison of fitness that may be infinite but not NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from statistics import fmean, pstdev, variance
from traceback import walk_tb

import torch
from evotorch import Problem, SolutionBatch

#: Sums of squares of larger numbers overflow.
_HUGE = 1e150


def evaluate(problem: Problem, population: SolutionBatch, *, obj_index: int) -> None:
    """Evaluate a population of any EvoTorch problem; all fitness values may be infinite.

    EvoTorch keeps the best and the worst solution so far. It raises an AttributeError after the evaluation if the first
    population is infinitely bad throughout, infinitely good throughout, or has a NaN. This function then does the rest
    of EvoTorch's work.

    Args:
        problem: The problem. Its status is updated as usual; in the case above it has no best or no worst solution.
        population: The solutions.
        obj_index: Index of the objective that is checked for NaN.

    Raises:
        ValueError: A solution's fitness is NaN.
    """
    try:
        problem.evaluate(population)
    except AttributeError as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        if frame.f_code.co_name != "_get_best_and_worst":
            raise
        _check_no_nan(population, obj_index)
        problem.status.update(problem.after_eval_hook.accumulate_dict(population))
    _check_no_nan(population, obj_index)


def _check_no_nan(population: SolutionBatch, obj_index: int) -> None:
    rows = torch.nonzero(torch.isnan(population.evals[:, obj_index].as_subclass(torch.Tensor)))[:, 0].tolist()
    if rows:
        others = f", and for {len(rows) - 1} more" if len(rows) > 1 else ""
        objective = f" in objective {obj_index}" if len(population.senses) > 1 else ""
        raise ValueError(
            f"problem: expected a fitness that is a number (it may be infinite), got NaN for solution {rows[0]} of the "
            f"{len(population)} in the population{others}{objective}"
        ) from None


def rank_key(seen: Sequence[float], *, margin: float = 0.0) -> tuple[float, float, float]:
    """The mean evaluation as a key for ``max`` and ``min`` that allows infinities.

    A plain mean is meaningless if some evaluations are infinite. The key therefore compares the share of infinitely bad
    evaluations first (fewer is better), then the share of infinitely good ones, then the mean of the finite ones.

    Args:
        seen: At least one evaluation; higher is better. NaN counts as infinitely bad.
        margin: Divided by the square root of the number of finite evaluations, then added to their mean.
    """
    finite = _finite(seen)
    num_good = sum(value == math.inf for value in seen)
    num_bad = len(seen) - len(finite) - num_good
    mean = fmean(finite) + margin / len(finite) ** 0.5 if finite else 0.0
    return -num_bad / len(seen), num_good / len(seen), mean


def pooled_stdev(groups: Sequence[Sequence[float]], otherwise: Sequence[float]) -> float:
    """Standard deviation within groups, or that of ``otherwise`` if no group has two finite numbers.

    Infinite numbers are left out; the result is 0 if none are left.
    """
    groups = [group for group in map(_finite, groups) if len(group) > 1]
    if not groups:
        otherwise = _finite(otherwise)
        return pstdev(otherwise) if otherwise else 0.0
    squares = reduce(add, [variance(group) * (len(group) - 1) for group in groups])  # ``sum`` depends on the version
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))


def _finite(values: Sequence[float]) -> list[float]:
    return [max(-_HUGE, min(_HUGE, value)) for value in values if math.isfinite(value)]
