"""pymoo operators for a real vector followed by one bounded variable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.sampling import Sampling
from pymoo.core.selection import Selection
from pymoo.core.survival import Survival
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from ._checks import check_positive, check_whole_number
from ._reevaluation import ReevaluatingSurvival, without_infinities


class GaussianSampling(Sampling):
    """Draw Gaussian vectors around 0; the last variable is spread evenly between its bounds.

    Args:
        stdev: Standard deviation of all variables but the last.
    """

    def __init__(self, stdev: float) -> None:
        self.stdev = check_positive("stdev", stdev)
        super().__init__()

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> NDArray[np.float64]:
        low, high = last_bounds(problem)
        x: NDArray[np.float64] = random_state.normal(0.0, self.stdev, size=(n_samples, problem.n_var))
        share = (np.arange(n_samples) + random_state.random(n_samples)) / n_samples
        x[:, -1] = low + share * (high - low)
        return x


class MeanRecombination(Crossover):
    """A child is the mean of its parents; its last variable is that of the first parent.

    Args:
        num_parents: Number of parents of a child. With 1, the child is a copy, as in the paper's eq. 1. Default: 1.
    """

    def __init__(self, num_parents: int = 1) -> None:
        super().__init__(n_parents=check_whole_number("num_parents", num_parents), n_offsprings=1, prob=1.0)

    def _do(self, problem: Any, x: NDArray[np.float64], *_: Any, **__: Any) -> NDArray[np.float64]:
        children: NDArray[np.float64] = np.mean(x, axis=0)
        children[:, -1] = x[0, :, -1]
        return children[None]


class GaussianResampling(Mutation):
    """Add Gaussian noise to every variable (paper, eq. 1); the last variable is reflected at its bounds.

    Args:
        stdev: Standard deviation of the noise on all variables but the last.
        last_stdev: Standard deviation of the noise on the last variable.
    """

    def __init__(self, stdev: float, last_stdev: float) -> None:
        super().__init__(prob=1.0)
        self.stdev = check_positive("stdev", stdev)
        self.last_stdev = check_positive("last_stdev", last_stdev)

    def _do(
        self, problem: Any, x: NDArray[np.float64], *_: Any, random_state: Any = None, **__: Any
    ) -> NDArray[np.float64]:
        low, high = last_bounds(problem)
        noise = random_state.normal(0.0, self.stdev, size=x.shape)
        noise[:, -1] *= self.last_stdev / self.stdev
        children = x + noise
        children[:, -1] = _reflect(children[:, -1], low, high)
        return np.asarray(children)


class NicheSurvival(Survival):
    """Divide the range of the last variable into niches of equal size; the best first objective in a niche survives.

    If one objective is easy (density: any mask can be made sparser), rank and crowding fill the population with
    individuals that are extreme in it and poor in all others. Here each of ``num_niches`` equal intervals of the last
    variable keeps ``n_survive / num_niches`` individuals. The best of the rest fill places that a niche leaves empty.
    With three or more objectives, rank and crowding order the individuals of a niche. Infeasible individuals come last.

    Args:
        num_niches: Number of niches, at most the number of survivors. Default: 6.
    """

    def __init__(self, num_niches: int = 6) -> None:
        super().__init__(filter_infeasible=True)
        self.num_niches = check_whole_number("num_niches", num_niches)

    def _do(self, problem: Any, pop: Population, *_: Any, n_survive: int, **__: Any) -> Population:
        low, high = last_bounds(problem)
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


class NeighborSelection(Selection):
    """Select parents that are similar in the last variable.

    An individual is drawn uniformly as a center; binary tournaments among its neighbors select all parents. The less
    infeasible individual wins, then the one with the lower first objective. With three or more objectives, the
    dominating individual wins; if neither dominates, the one drawn first wins.

    Args:
        num_neighbors: Number of nearest individuals that compete, including the center. Default: 8.
    """

    def __init__(self, num_neighbors: int = 8) -> None:
        super().__init__()
        self.num_neighbors = check_whole_number("num_neighbors", num_neighbors)

    def _do(
        self, problem: Any, pop: Population, n_select: int, n_parents: int, *_: Any, random_state: Any = None, **__: Any
    ) -> NDArray[np.int64]:
        level, objectives, index = pop.get("X")[:, -1], pop.get("F"), np.arange(len(pop))
        violation = pop.get("CV")[:, 0] if problem.has_constraints() else np.zeros(len(pop))
        count = min(self.num_neighbors, len(pop))
        parents = np.empty((n_select, n_parents), dtype=np.int64)
        for i, center in enumerate(random_state.integers(len(pop), size=n_select)):
            # Ties (all individuals, if the last variable is fixed) go to those that follow the center.
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
    num_neighbors: int = 4,
) -> dict[str, Any]:
    """Return all operators of this module as keyword arguments for ``NSGA2``.

    Use ``pareto_algorithm`` for pymoo's other algorithms: many of them refuse one of these arguments or silently ignore
    it.

    Args:
        initial_stdev: Standard deviation of the initial vectors.
        stdev: Standard deviation of the noise. Default: half of ``initial_stdev``.
        last_stdev: Standard deviation of the noise on the last variable. Default: 0.3.
        num_parents: Number of parents whose mean is a child. Default: 4.
        num_niches: Number of niches in the last variable's range. Default: 6.
        num_neighbors: Number of neighbors in the last variable among which parents are selected. Default: 4.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """
    check_positive("initial_stdev", initial_stdev)
    return {
        "sampling": GaussianSampling(initial_stdev),
        "selection": NeighborSelection(num_neighbors),
        "crossover": MeanRecombination(num_parents),
        "mutation": GaussianResampling(initial_stdev / 2 if stdev is None else stdev, last_stdev),
        "survival": ReevaluatingSurvival(NicheSurvival(num_niches)),
        "eliminate_duplicates": False,  # Gaussian children are never equal, and a check costs O(N² D)
    }


def last_bounds(problem: Any) -> tuple[float, float]:
    """Return the bounds of the last variable.

    Raises:
        ValueError: The problem has no bounds, or they are not finite.
    """
    has_bounds = isinstance(problem.xl, np.ndarray) and isinstance(problem.xu, np.ndarray)  # not dicts of bounds
    if not has_bounds or not np.isfinite([problem.xl[-1], problem.xu[-1]]).all():
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


def _best_first(objectives: NDArray[Any], among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of the ``among`` individuals, best first: by the first of two objectives, else by rank and crowding."""
    members = np.flatnonzero(among)
    values = objectives[members]
    if objectives.shape[1] <= 2 or len(members) == 0:
        return np.asarray(members[np.argsort(values[:, 0], kind="stable")])
    values = without_infinities(values)
    fronts = NonDominatedSorting().do(values)
    order = [front[np.argsort(-calc_crowding_distance(values[front]), kind="stable")] for front in fronts]
    return np.asarray(members[np.concatenate(order)])


def _at_least_as_good(these: NDArray[Any], those: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row of ``(N, M)`` is as good as its rival: by the first of two objectives, else by dominance."""
    if these.shape[1] <= 2:
        return np.asarray(these[:, 0] <= those[:, 0])
    return np.asarray(~((those <= these).all(axis=1) & (those < these).any(axis=1)))
