"""pymoo operators and survival for a real vector with one more, bounded variable at its end, under noisy objectives."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import HyperplaneNormalization
from pymoo.core.crossover import Crossover
from pymoo.core.individual import Individual
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.core.selection import Selection
from pymoo.core.survival import Survival
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from ._checks import check_positive, check_whole_number


class GaussianSampling(Sampling):
    """Gaussian vectors around 0, whose last variable is spread evenly between its bounds.

    Args:
        stdev: Standard deviation of all variables but the last.
    """

    def __init__(self, stdev: float) -> None:
        self.stdev = check_positive("stdev", stdev)
        super().__init__()

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> NDArray[np.float64]:
        low, high = _last_bounds(problem)
        x: NDArray[np.float64] = random_state.normal(0.0, self.stdev, size=(n_samples, problem.n_var))
        share = (np.arange(n_samples) + random_state.random(n_samples)) / n_samples
        x[:, -1] = low + share * (high - low)
        return x


class MeanRecombination(Crossover):
    """A child is the mean of its parents; its last variable is the first parent's own.

    Args:
        num_parents: How many parents a child has. With one it is a copy, as in the paper's equation (1).
    """

    def __init__(self, num_parents: int = 1) -> None:
        super().__init__(n_parents=check_whole_number("num_parents", num_parents), n_offsprings=1, prob=1.0)

    def _do(self, problem: Any, x: NDArray[np.float64], *_: Any, **__: Any) -> NDArray[np.float64]:
        children: NDArray[np.float64] = np.mean(x, axis=0)
        children[:, -1] = x[0, :, -1]
        return children[None]


class GaussianResampling(Mutation):
    """Gaussian noise on every variable (paper, eq. 1); the last is reflected at its bounds.

    Args:
        stdev: Standard deviation of the noise on all variables but the last.
        last_stdev: Standard deviation of the noise on the last.
    """

    def __init__(self, stdev: float, last_stdev: float) -> None:
        super().__init__(prob=1.0)
        self.stdev = check_positive("stdev", stdev)
        self.last_stdev = check_positive("last_stdev", last_stdev)

    def _do(
        self, problem: Any, x: NDArray[np.float64], *_: Any, random_state: Any = None, **__: Any
    ) -> NDArray[np.float64]:
        low, high = _last_bounds(problem)
        noise = random_state.normal(0.0, self.stdev, size=x.shape)
        noise[:, -1] *= self.last_stdev / self.stdev
        children = x + noise
        children[:, -1] = _reflect(children[:, -1], low, high)
        return np.asarray(children)


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

    def __init__(self, survival: Any = None, *, min_evaluations: int = 4) -> None:
        # C-TAEA's survival is no ``Survival``
        if survival is not None and (isinstance(survival, type) or not callable(getattr(survival, "do", None))):
            raise TypeError(f"survival: expected a pymoo Survival, got {survival!r}")
        super().__init__(filter_infeasible=False)
        self.survival = RankAndCrowding() if survival is None else survival
        self.min_evaluations = check_whole_number("min_evaluations", min_evaluations)
        self._algorithm: Any = None  # for those of pymoo's algorithms that do not say who calls

    def do(self, problem: Any, pop: Population, *args: Any, **kwargs: Any) -> Any:
        """Who survives, as the wrapped survival returns it, once all of them have been evaluated often enough."""
        archives = [argument for argument in args if isinstance(argument, Population)]  # C-TAEA has a second one
        everyone = _distinct(pop, *archives)
        _check_no_nan("F", [individual.F for individual in everyone])
        parents = [individual for individual in everyone if individual.data.get("num_evaluations")]
        for individual in everyone:
            individual.data.setdefault("num_evaluations", 1)
        algorithm = kwargs.get("algorithm") or self._algorithm
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


class NicheSurvival(Survival):
    """Equal room for every part of the last variable's range; within a niche the best first objective survives.

    Where one objective is easy (density: any mask can be made sparser), rank and crowding fill the population with
    what is extreme in it and good for nothing else. Here ``num_niches`` equal intervals of the last variable keep
    ``n_survive / num_niches`` individuals each; room that a niche cannot fill goes to the best of the rest. With three
    or more objectives the best of a niche are those that rank and crowding put first in it. The infeasible come last.

    Args:
        num_niches: How many; in a population of fewer, as many as there are survivors.
    """

    def __init__(self, num_niches: int = 6) -> None:
        super().__init__(filter_infeasible=True)
        self.num_niches = check_whole_number("num_niches", num_niches)

    def _do(self, problem: Any, pop: Population, *_: Any, n_survive: int, **__: Any) -> Population:
        low, high = _last_bounds(problem)
        num_niches = min(self.num_niches, n_survive)
        level = (pop.get("X")[:, -1] - low) / max(high - low, 1e-12)
        niche = np.clip((level * num_niches).astype(int), 0, num_niches - 1)
        objectives = pop.get("F")
        room = n_survive // num_niches
        chosen = np.concatenate([_best_first(objectives, niche == k)[:room] for k in range(num_niches)])
        rest = _best_first(objectives, ~np.isin(np.arange(len(pop)), chosen))[: n_survive - len(chosen)]
        survivors = pop[np.concatenate([chosen, rest])]
        ranks = NonDominatedSorting().do(survivors.get("F"), return_rank=True)[1]
        survivors.set("rank", ranks)
        survivors.set("crowding", np.zeros(len(survivors)))
        return survivors


class NeighbourSelection(Selection):
    """Parents that are alike in the last variable.

    A center is drawn uniformly; all parents come from its neighbors by binary tournaments. The less infeasible wins,
    then the one with the lower first objective; with three or more objectives the one who dominates, and if none
    does, the one drawn first.

    Args:
        num_neighbours: How many individuals nearest to the center, itself included, compete.
    """

    def __init__(self, num_neighbours: int = 8) -> None:
        super().__init__()
        self.num_neighbours = check_whole_number("num_neighbours", num_neighbours)

    def _do(
        self, problem: Any, pop: Population, n_select: int, n_parents: int, *_: Any, random_state: Any = None, **__: Any
    ) -> NDArray[np.int64]:
        level, objectives, index = pop.get("X")[:, -1], pop.get("F"), np.arange(len(pop))
        violation = pop.get("CV")[:, 0] if problem.has_constraints() else np.zeros(len(pop))
        count = min(self.num_neighbours, len(pop))
        parents = np.empty((n_select, n_parents), dtype=np.int64)
        for i, center in enumerate(random_state.integers(len(pop), size=n_select)):
            # Of equal neighbors (all, where the last variable is fixed) those are near that follow the center.
            near = np.lexsort(((index - center) % len(pop), np.abs(level - level[center])))[:count]
            first, second = near[random_state.integers(count, size=(2, n_parents))]
            wins = (violation[first] < violation[second]) | (
                (violation[first] == violation[second]) & _at_least_as_good(objectives[first], objectives[second])
            )
            parents[i] = np.where(wins, first, second)
        return parents


def pareto_operators(
    initial_stdev: float,
    *,
    stdev: float | None = None,
    last_stdev: float = 0.3,
    num_parents: int = 4,
    num_niches: int = 6,
    num_neighbours: int = 4,
) -> dict[str, Any]:
    """All of the above as keyword arguments for ``NSGA2``. For pymoo's other algorithms there is ``pareto_algorithm``.

    Args:
        initial_stdev: Standard deviation of the initial vectors.
        stdev: Of the noise. Default half of ``initial_stdev``.
        last_stdev: Of the noise on the last variable.
        num_parents: How many parents a child is the mean of.
        num_niches: Into how many parts of equal room the last variable's range is divided.
        num_neighbours: Among how many neighbours in the last variable parents are chosen.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """
    check_positive("initial_stdev", initial_stdev)
    return {
        "sampling": GaussianSampling(initial_stdev),
        "selection": NeighbourSelection(num_neighbours),
        "crossover": MeanRecombination(num_parents),
        "mutation": GaussianResampling(initial_stdev / 2 if stdev is None else stdev, last_stdev),
        "survival": ReevaluatingSurvival(NicheSurvival(num_niches)),
        "eliminate_duplicates": False,  # Gaussian children are never equal, and looking costs O(N² D)
    }


def _last_bounds(problem: Any) -> tuple[float, float]:
    """The last variable's bounds.

    Raises:
        ValueError: The problem has none, or they are not finite.
    """
    if not problem.has_bounds() or not np.isfinite([problem.xl[-1], problem.xu[-1]]).all():
        raise ValueError(
            f"problem: expected finite bounds of the last variable, got xl = {problem.xl} and xu = {problem.xu}"
        )
    return float(problem.xl[-1]), float(problem.xu[-1])


def _reflect(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    width = high - low
    if width == 0.0:
        return np.full_like(values, low)
    folded = np.mod(values - low, 2.0 * width)
    return np.asarray(np.clip(low + np.minimum(folded, 2.0 * width - folded), low, high))


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


def _without_infinities(objectives: NDArray[Any]) -> NDArray[np.float64]:
    """Objectives ``(N, M)`` in the same order, whose infinities are as far outside the finite range as it is wide."""
    columns = []
    for column in objectives.T:
        finite = column[np.isfinite(column)] if np.isfinite(column).any() else np.zeros(1)
        low, high = finite.min(), finite.max()
        margin = max(high - low, abs(low), abs(high), 1.0)
        columns.append(np.nan_to_num(column, posinf=high + margin, neginf=low - margin))
    return np.column_stack(columns)


@contextmanager
def _finite_objectives(individuals: Sequence[Individual]) -> Iterator[None]:
    """Within, no objective of the individuals is infinite."""
    before = [individual.F for individual in individuals]
    if len(before) == 0 or np.isfinite(before).all():
        yield
        return
    try:
        for individual, objectives in zip(individuals, _without_infinities(np.array(before)), strict=True):
            individual.F = objectives
        yield
    finally:
        for individual, objectives in zip(individuals, before, strict=True):
            individual.F = objectives


def _best_first(objectives: NDArray[Any], among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of those among ``(N,)`` individuals by the first of two objectives, by rank and crowding of more."""
    members = np.flatnonzero(among)
    values = objectives[members]
    if objectives.shape[1] <= 2 or len(members) == 0:
        return np.asarray(members[np.argsort(values[:, 0], kind="stable")])
    values = _without_infinities(values)
    fronts = NonDominatedSorting().do(values)
    order = [front[np.argsort(-calc_crowding_distance(values[front]), kind="stable")] for front in fronts]
    return np.asarray(members[np.concatenate(order)])


def _at_least_as_good(these: NDArray[Any], those: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of ``(N, M)`` objectives is as good as its rival's, by the first of two, or not dominated."""
    if these.shape[1] <= 2:
        return np.asarray(these[:, 0] <= those[:, 0])
    return np.asarray(~((those <= these).all(axis=1) & (those < these).any(axis=1)))
