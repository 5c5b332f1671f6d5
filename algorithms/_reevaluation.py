"""Survival under noise: individuals are evaluated again and judged by the mean of their evaluations."""

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
    """Survival under noise: the mean of all evaluations decides, and survivors are evaluated again.

    pymoo evaluates an individual once, so that on a noisy objective lucky individuals stay forever. Here every parent
    is evaluated again in each generation. A child that would survive is evaluated and ranked again until all survivors
    have at least ``min_evaluations``. An individual's data counts its ``num_evaluations``.

    A survival with a state (NSGA-III's ideal point) learns only from the last ranking of a generation. While it ranks,
    infinite objectives are replaced by finite values outside the range of the others, since many survivals divide by
    that range.

    Args:
        survival: Selects the survivors by the averaged objectives. Default: NSGA-II's rank and crowding.
        min_evaluations: Minimum number of evaluations of a survivor. Default: 4.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``min_evaluations`` is below 1, or (in ``do``) an objective is NaN.
    """

    owner: Any = None  # the algorithm, for pymoo algorithms that do not pass themselves to ``do``

    def __init__(self, survival: Any = None, *, min_evaluations: int = 4) -> None:
        # C-TAEA's survival is not a subclass of ``Survival``
        if survival is not None and (isinstance(survival, type) or not callable(getattr(survival, "do", None))):
            raise TypeError(f"survival: expected a pymoo Survival, got {survival!r}")
        super().__init__(filter_infeasible=False)
        self.survival = RankAndCrowding() if survival is None else survival
        self.min_evaluations = check_whole_number("min_evaluations", min_evaluations)

    def do(self, problem: Any, pop: Population, *args: Any, **kwargs: Any) -> Any:
        """Return what the wrapped survival returns, once all survivors have been evaluated often enough."""
        archives = [argument for argument in args if isinstance(argument, Population)]  # C-TAEA's second archive
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
            if problem.has_constraints():  # pymoo ranks only the feasible; the others would keep an old rank
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
        """Look up other attributes that an algorithm reads (NSGA-III reads ``opt``) in the wrapped survival."""
        survival = vars(self).get("survival")
        if survival is None or name.startswith("_"):
            raise AttributeError(name)
        if not hasattr(survival, name):
            raise AttributeError(
                f"survival: expected one with {name!r}, which this algorithm needs, got {type(survival).__name__}; "
                "create the algorithm with pareto_algorithm, which keeps the algorithm's own survival"
            )
        return getattr(survival, name)


def evaluate_again(problem: Any, individuals: Sequence[Individual], evaluator: Any = None) -> None:
    """Evaluate individuals once more; objectives and constraints become the mean of all their evaluations.

    An objective that was ever positive infinity (the worst) stays so. An individual that is listed twice is evaluated
    once.

    Args:
        problem: A pymoo problem.
        individuals: Evaluated individuals. Their data holds ``num_evaluations``; a missing entry counts as 1.
        evaluator: A pymoo evaluator, whose ``n_eval`` is increased. Default: None.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An individual was never evaluated, or the problem returns a NaN. The individuals are then unchanged.
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
            f"individuals: expected evaluated ones with {problem.n_obj} objectives, got {lengths[row]} at index {row}"
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
            individual.CV = None  # pymoo recomputes it from G and H
    if evaluator is not None:
        evaluator.n_eval += len(individuals)


def without_infinities(objectives: NDArray[Any]) -> NDArray[np.float64]:
    """Replace infinite objectives ``(N, M)`` by values outside the finite range, at least as far as it is wide."""
    columns = []
    for column in objectives.T:
        finite = column[np.isfinite(column)] if np.isfinite(column).any() else np.zeros(1)
        low, high = finite.min(), finite.max()
        with np.errstate(over="ignore"):  # clip, because the margin may overflow for very large objectives
            margin = max(high - low, abs(low), abs(high), 1.0)
            ends = np.clip([low - margin, high + margin], -np.finfo(np.float64).max, np.finfo(np.float64).max)
        columns.append(np.nan_to_num(column, posinf=ends[1], neginf=ends[0]))
    return np.column_stack(columns)


def _distinct(*groups: Iterable[Individual]) -> list[Individual]:
    """The members of all groups in order, without duplicates."""
    return list({id(individual): individual for group in groups for individual in group}.values())


def _survivors(result: Any, pop: Population) -> list[Individual]:
    """The survivors, given a population, two populations (C-TAEA) or indices."""
    if isinstance(result, tuple):
        return _distinct(*result)
    return [pop[index] for index in result] if isinstance(result, list) else list(result)


def _copy_of(survival: Any) -> Any:
    """Copy a survival with its state, so that a discarded ranking has no effect."""
    twin = copy.copy(survival)
    memory = (np.ndarray, list, dict, set, HyperplaneNormalization)
    vars(twin).update({name: copy.copy(value) for name, value in vars(survival).items() if isinstance(value, memory)})
    return twin


def _check_no_nan(name: str, values: Any) -> None:
    for i, row in enumerate(values):
        if np.isnan(row).any():
            raise ValueError(f"problem: expected {name} without NaN, got {np.asarray(row).tolist()} for individual {i}")


def _mean(mean: NDArray[Any], fresh: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of ``counts`` evaluations and a new one, ``(N, M)``; infinity if one of them is."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = (mean * counts + fresh) / (counts + 1)
        slow = mean * (counts / (counts + 1)) + fresh / (counts + 1)  # correct if the sum above overflows
    result = np.where(np.isfinite(result), result, slow)
    return np.where(np.isposinf(mean) | np.isposinf(fresh), np.inf, result)


@contextmanager
def _finite_objectives(individuals: Sequence[Individual]) -> Iterator[None]:
    """Context in which no objective of the individuals is infinite."""
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
