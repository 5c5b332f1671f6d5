"""Survival under noise: individuals are evaluated again, and known by the mean of their evaluations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import HyperplaneNormalization
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.survival import Survival
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from ._checks import check_whole_number


class ReevaluatingSurvival(Survival):
    """Survival under noise: who survives is decided by the mean of all evaluations, and survivors gain new ones.

    pymoo looks at an individual once, so that on a noisy objective the lucky stay for ever. Here every parent is
    evaluated again in each generation, and a child that would survive is evaluated again, and ranked again, until
    all who survive have ``min_evaluations`` behind them. An individual's data counts its ``num_evaluations``.

    A survival that remembers (NSGA-III's ideal point) learns from the last ranking of a generation alone. Infinite
    objectives are put a little outside the range of the finite ones while it ranks, since many a survival divides by
    that range.

    Args:
        survival: Who survives, given the averaged objectives. Default NSGA-II's rank and crowding.
        min_evaluations: How many evaluations a survivor has at least.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``min_evaluations`` is below 1, or (in ``do``) an objective is NaN.
    """

    owner: Any = None  # for those of pymoo's algorithms that do not say who calls

    def __init__(self, survival: Any = None, *, min_evaluations: int = 4) -> None:
        # C-TAEA's survival is no ``Survival``
        if survival is not None and (isinstance(survival, type) or not callable(getattr(survival, "do", None))):
            raise TypeError(f"survival: expected a pymoo Survival, got {survival!r}")
        super().__init__(filter_infeasible=False)
        self.survival = RankAndCrowding() if survival is None else survival
        self.min_evaluations = check_whole_number("min_evaluations", min_evaluations)

    def do(self, problem: Any, pop: Population, *args: Any, **kwargs: Any) -> Any:
        """Who survives, as the wrapped survival returns it, once all of them have been evaluated often enough."""
        archives = [argument for argument in args if isinstance(argument, Population)]  # C-TAEA has a second one
        everyone = _distinct(pop, *archives)
        _check_no_nan("F", [individual.F for individual in everyone])
        parents = [individual for individual in everyone if individual.data.get("num_evaluations")]
        for individual in everyone:
            individual.data.setdefault("num_evaluations", 1)
        algorithm = kwargs.get("algorithm") or self.owner
        evaluator = None if algorithm is None else algorithm.evaluator
        evaluate_again(problem, parents, evaluator)
        while True:
            survival = _copy_of(self.survival)
            if problem.has_constraints():  # pymoo ranks the feasible, and leaves an old rank to the others
                for individual in everyone:
                    individual.data.pop("rank", None)
            with _finite_objectives(everyone):
                result = survival.do(problem, pop, *args, **kwargs)
            unknown = [i for i in _survivors(result, pop) if i.data["num_evaluations"] < self.min_evaluations]
            if not unknown:
                vars(self.survival).update(vars(survival))
                return result
            evaluate_again(problem, unknown, evaluator)

    def __getattr__(self, name: str) -> Any:
        """What else an algorithm asks of its survival (NSGA-III its ``opt``) the wrapped one knows."""
        survival = vars(self).get("survival")
        if survival is None or name.startswith("_"):
            raise AttributeError(name)
        if not hasattr(survival, name):
            raise AttributeError(
                f"survival: expected one with {name!r}, which this algorithm's own has, got {type(survival).__name__}; "
                "make the algorithm by pareto_algorithm, which keeps its own"
            )
        return getattr(survival, name)


def evaluate_again(problem: Any, individuals: Sequence[Individual], evaluator: Any = None) -> None:
    """Evaluate individuals once more; objectives and constraints become the mean of all their evaluations.

    An objective that was ever positive infinity, the worst there is, stays so. One who is among the individuals twice
    is evaluated once.

    Args:
        problem: A pymoo problem.
        individuals: Evaluated ones; how often stands in their data as ``num_evaluations`` (once, where it is missing).
        evaluator: A pymoo evaluator whose count goes up.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An individual was never evaluated, or the problem returns a NaN. No individual has changed then.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a pymoo Problem, got {problem!r}")
    if not isinstance(individuals, Sequence | np.ndarray) or not all(isinstance(i, Individual) for i in individuals):
        raise TypeError(f"individuals: expected pymoo Individuals, got {individuals!r}")
    individuals = _distinct(individuals)
    if len(individuals) == 0:
        return
    if (lengths := [len(individual.F) for individual in individuals]) != [problem.n_obj] * len(individuals):
        row = next(i for i, length in enumerate(lengths) if length != problem.n_obj)
        raise ValueError(
            f"individuals: expected evaluated ones, with {problem.n_obj} objectives, got {lengths[row]} at index {row}"
        )
    pop = Population.create(*individuals)
    counts = np.array([individual.data.get("num_evaluations", 1) for individual in individuals])[:, None]
    names = ["F"] + ["G"] * (problem.n_ieq_constr > 0) + ["H"] * (problem.n_eq_constr > 0)
    fresh = problem.evaluate(pop.get("X"), return_values_of=names, return_as_dictionary=True)
    for name in names:
        _check_no_nan(name, fresh[name])
    for name in names:
        pop.set(name, _mean(pop.get(name), fresh[name], counts))
    for individual, count in zip(individuals, counts[:, 0].tolist(), strict=True):
        individual.data["num_evaluations"] = count + 1
        if problem.has_constraints():
            individual.CV = None  # pymoo computes it anew from G and H
    if evaluator is not None:
        evaluator.n_eval += len(individuals)


def without_infinities(objectives: NDArray[Any]) -> NDArray[np.float64]:
    """Objectives ``(N, M)`` in the same order, whose infinities are as far outside the finite range as it is wide."""
    columns = []
    for column in objectives.T:
        finite = column[np.isfinite(column)] if np.isfinite(column).any() else np.zeros(1)
        low, high = finite.min(), finite.max()
        with np.errstate(over="ignore"):  # next to numbers near the end of the range there is only the end itself
            margin = max(high - low, abs(low), abs(high), 1.0)
            ends = np.clip([low - margin, high + margin], -np.finfo(np.float64).max, np.finfo(np.float64).max)
        columns.append(np.nan_to_num(column, posinf=ends[1], neginf=ends[0]))
    return np.column_stack(columns)


def _distinct(*groups: Iterable[Individual]) -> list[Individual]:
    """All members of some groups in order, each once."""
    return list({id(individual): individual for group in groups for individual in group}.values())


def _survivors(result: Any, pop: Population) -> list[Individual]:
    """Who survives: a population, two of them (C-TAEA) or indices."""
    if isinstance(result, tuple):
        return _distinct(*result)
    return [pop[index] for index in result] if isinstance(result, list) else list(result)


def _copy_of(survival: Any) -> Any:
    """A survival with a memory of its own, so that a ranking that does not count leaves no trace."""
    twin = copy.copy(survival)
    memory = (np.ndarray, list, dict, set, HyperplaneNormalization)
    vars(twin).update({name: copy.copy(value) for name, value in vars(survival).items() if isinstance(value, memory)})
    return twin


def _check_no_nan(name: str, values: Any) -> None:
    for i, row in enumerate(values):
        if np.isnan(row).any():
            raise ValueError(f"problem: expected {name} without NaN, got {np.asarray(row).tolist()} for individual {i}")


def _mean(mean: NDArray[Any], fresh: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of ``counts`` evaluations and a fresh one, ``(N, M)``; infinity where one of them is."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = (mean * counts + fresh) / (counts + 1)
        slow = mean * (counts / (counts + 1)) + fresh / (counts + 1)  # right where the sum above overflows
    result = np.where(np.isfinite(result), result, slow)
    return np.where(np.isposinf(mean) | np.isposinf(fresh), np.inf, result)


@contextmanager
def _finite_objectives(individuals: Sequence[Individual]) -> Iterator[None]:
    """Within, no objective of the individuals is infinite."""
    before = [individual.F for individual in individuals]
    if len(before) == 0 or np.isfinite(before).all():
        yield
        return
    try:
        for individual, objectives in zip(individuals, without_infinities(np.array(before)), strict=True):
            individual.F = objectives
        yield
    finally:
        for individual, objectives in zip(individuals, before, strict=True):
            individual.F = objectives
