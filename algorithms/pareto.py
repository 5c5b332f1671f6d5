"""pymoo operators and survival for a real vector with one more, bounded variable at its end, under noisy objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.crossover import Crossover
from pymoo.core.individual import Individual
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.core.selection import Selection
from pymoo.core.survival import Survival
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
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
        x: NDArray[np.float64] = random_state.normal(0.0, self.stdev, size=(n_samples, problem.n_var))
        share = (np.arange(n_samples) + random_state.random(n_samples)) / n_samples
        x[:, -1] = problem.xl[-1] + share * (problem.xu[-1] - problem.xl[-1])
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
        noise = random_state.normal(0.0, self.stdev, size=x.shape)
        noise[:, -1] *= self.last_stdev / self.stdev
        children = x + noise
        low, high = float(problem.xl[-1]), float(problem.xu[-1])
        children[:, -1] = _reflect(children[:, -1], low, high)
        return np.asarray(children)


class ReevaluatingSurvival(Survival):
    """Survival under noise: who survives is decided by the mean of all evaluations, and survivors gain new ones.

    pymoo looks at an individual once, so that on a noisy objective the lucky stay for ever. Here every parent is
    evaluated again in each generation, and a child that would survive is evaluated again, and ranked again, until
    all who survive have ``min_evaluations`` behind them. An individual's data counts its ``num_evaluations``.

    Args:
        survival: Who survives, given the averaged objectives. Default NSGA-II's rank and crowding.
        min_evaluations: How many evaluations a survivor has at least.
    """

    def __init__(self, survival: Survival | None = None, *, min_evaluations: int = 4) -> None:
        if not isinstance(survival, Survival | None):
            raise TypeError(f"survival: expected a pymoo Survival, got {survival!r}")
        super().__init__(filter_infeasible=False)
        self.survival = RankAndCrowding() if survival is None else survival
        self.min_evaluations = check_whole_number("min_evaluations", min_evaluations)

    def _do(
        self,
        problem: Any,
        pop: Population,
        *args: Any,
        n_survive: int | None = None,
        random_state: Any = None,
        algorithm: Any = None,
        **kwargs: Any,
    ) -> Population:
        parents = [individual for individual in pop if individual.data.get("num_evaluations")]
        for individual in pop:
            individual.data.setdefault("num_evaluations", 1)
        evaluator = None if algorithm is None else algorithm.evaluator
        evaluate_again(problem, parents, evaluator)
        while True:
            survivors = self.survival.do(
                problem, pop, *args, n_survive=n_survive, random_state=random_state, algorithm=algorithm, **kwargs
            )
            unknown = [i for i in survivors if i.data["num_evaluations"] < self.min_evaluations]
            if not unknown:
                return survivors
            evaluate_again(problem, unknown, evaluator)


def evaluate_again(problem: Any, individuals: Sequence[Individual], evaluator: Any = None) -> None:
    """Evaluate individuals once more; their objectives become the mean of all their evaluations.

    Args:
        problem: A pymoo problem.
        individuals: Evaluated ones; how often stands in their data as ``num_evaluations`` (once, where it is missing).
        evaluator: A pymoo evaluator whose count goes up.

    Raises:
        TypeError: An argument has the wrong type.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a pymoo Problem, got {problem!r}")
    if not isinstance(individuals, Sequence | np.ndarray) or not all(isinstance(i, Individual) for i in individuals):
        raise TypeError(f"individuals: expected pymoo Individuals, got {individuals!r}")
    if len(individuals) == 0:
        return
    pop = Population.create(*individuals)
    counts = np.array([individual.data.setdefault("num_evaluations", 1) for individual in individuals])[:, None]
    fresh = problem.evaluate(pop.get("X"), return_values_of=["F"])
    pop.set("F", (pop.get("F") * counts + fresh) / (counts + 1))
    for individual in individuals:
        individual.data["num_evaluations"] += 1
    if evaluator is not None:
        evaluator.n_eval += len(individuals)


class NicheSurvival(Survival):
    """Equal room for every part of the last variable's range; within a niche the best first objective survives.

    Where one objective is easy (density: any mask can be made sparser), rank and crowding fill the population with
    what is extreme in it and good for nothing else. Here ``num_niches`` equal intervals of the last variable keep
    ``n_survive / num_niches`` individuals each; room that a niche cannot fill goes to the best of the rest.

    Args:
        num_niches: How many.
    """

    def __init__(self, num_niches: int = 6) -> None:
        super().__init__(filter_infeasible=False)
        self.num_niches = check_whole_number("num_niches", num_niches)

    def _do(self, problem: Any, pop: Population, *_: Any, n_survive: int, **__: Any) -> Population:
        level = (pop.get("X")[:, -1] - problem.xl[-1]) / max(problem.xu[-1] - problem.xl[-1], 1e-12)
        niche = np.minimum((level * self.num_niches).astype(int), self.num_niches - 1)
        order = np.argsort(pop.get("F")[:, 0], kind="stable")
        room = n_survive // self.num_niches
        chosen = np.concatenate([order[niche[order] == k][:room] for k in range(self.num_niches)])
        rest = order[~np.isin(order, chosen)][: n_survive - len(chosen)]
        survivors = pop[np.concatenate([chosen, rest])]
        ranks = NonDominatedSorting().do(survivors.get("F"), return_rank=True)[1]
        survivors.set("rank", ranks)
        survivors.set("crowding", np.zeros(len(survivors)))
        return survivors


class NeighbourSelection(Selection):
    """Parents that are alike in the last variable.

    A centre is drawn uniformly; all parents come from its neighbours by binary tournaments on the first objective.

    Args:
        num_neighbours: How many individuals nearest to the centre, itself included, compete.
    """

    def __init__(self, num_neighbours: int = 8) -> None:
        super().__init__()
        self.num_neighbours = check_whole_number("num_neighbours", num_neighbours)

    def _do(
        self, problem: Any, pop: Population, n_select: int, n_parents: int, *_: Any, random_state: Any = None, **__: Any
    ) -> NDArray[np.int64]:
        level, first = pop.get("X")[:, -1], pop.get("F")[:, 0]
        count = min(self.num_neighbours, len(pop))
        parents = np.empty((n_select, n_parents), dtype=np.int64)
        for i, centre in enumerate(random_state.integers(len(pop), size=n_select)):
            near = np.argsort(np.abs(level - level[centre]), kind="stable")[:count]
            rivals = near[random_state.integers(count, size=(2, n_parents))]
            parents[i] = np.where(first[rivals[0]] <= first[rivals[1]], rivals[0], rivals[1])
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
    """All of the above as keyword arguments for ``NSGA2``, and for other pymoo algorithms that take operators.

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


def _reflect(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    width = high - low
    if width == 0.0:
        return np.full_like(values, low)
    folded = np.mod(values - low, 2.0 * width)
    return np.asarray(np.clip(low + np.minimum(folded, 2.0 * width - folded), low, high))
