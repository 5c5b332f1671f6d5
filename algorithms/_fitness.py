"""Fitness that may be infinite: how it is evaluated, and how evaluations are compared. A NaN is no fitness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev, variance
from traceback import walk_tb

import torch
from evotorch import Problem, SolutionBatch

#: Sums of squares of greater numbers are no floats.
_HUGE = 1e150


def evaluate(problem: Problem, population: SolutionBatch, *, obj_index: int) -> None:
    """Evaluate a population of any EvoTorch problem, whose fitness may be infinite, throughout if need be.

    EvoTorch notes the best and the worst solution of all, and has none of them to note where the first population is
    infinitely bad throughout, infinitely good throughout, or has a NaN. It then ends in an AttributeError, after the
    evaluation itself; what it does after that is done here.

    Args:
        problem: Its status is what it is after every evaluation, but without a best or a worst solution.
        population: The solutions.
        obj_index: The objective in which no fitness may be NaN.

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


def worth(shown: Sequence[float], *, margin: float = 0.0) -> tuple[float, float, float]:
    """What evaluations say of what was evaluated, as a key for ``max`` and ``min``.

    A mean says nothing where some are infinite. So first counts how many are infinitely bad (the fewer the better),
    then how many are infinitely good, each as a share of all, and then the mean of the finite ones.

    Args:
        shown: One evaluation at least, the higher the better; NaN counts as infinitely bad.
        margin: Added to the mean, divided by the square root of how many it is of.
    """
    finite = _finite(shown)
    num_good = sum(value == math.inf for value in shown)
    num_bad = len(shown) - len(finite) - num_good
    mean = fmean(finite) + margin / len(finite) ** 0.5 if finite else 0.0
    return -num_bad / len(shown), num_good / len(shown), mean


def pooled_stdev(groups: Sequence[Sequence[float]], otherwise: Sequence[float]) -> float:
    """Standard deviation within groups; that of ``otherwise`` as long as no group has two numbers.

    Infinite ones are left out; it is 0 where nothing is left.
    """
    groups = [group for group in map(_finite, groups) if len(group) > 1]
    if not groups:
        otherwise = _finite(otherwise)
        return pstdev(otherwise) if otherwise else 0.0
    squares = sum(variance(group) * (len(group) - 1) for group in groups)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))


def _finite(values: Sequence[float]) -> list[float]:
    return [max(-_HUGE, min(_HUGE, value)) for value in values if math.isfinite(value)]
