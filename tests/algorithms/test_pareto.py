"""The pymoo operators, on problems that have nothing to do with networks."""

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.optimize import minimize

from algorithms import (
    GaussianResampling,
    GaussianSampling,
    MeanRecombination,
    NeighbourSelection,
    NicheSurvival,
    ReevaluatingSurvival,
    pareto_operators,
)


class Noisy(Problem):
    """Minimise (|x| + noise, last variable); the noise is Gaussian with standard deviation ``noise``."""

    def __init__(self, noise=0.0):
        self.num_evaluated = 0
        super().__init__(n_var=6, n_obj=2, xl=np.full(6, -2.0), xu=np.full(6, 3.0))
        self.noise, self.rng = noise, np.random.default_rng(0)

    def truth(self, x):
        return np.column_stack([np.linalg.norm(x[:, :-1], axis=1), x[:, -1]])

    def _evaluate(self, x, out, *args, **kwargs):
        self.num_evaluated += len(x)
        out["F"] = self.truth(x)
        out["F"][:, 0] += self.noise * self.rng.normal(size=len(x))


def rng():
    return np.random.default_rng(7)


def population(x, problem):
    pop = Population.new(X=x)
    pop.set("F", problem.evaluate(x))
    return pop


def test_sampling_is_gaussian_and_spreads_the_last_variable_evenly():
    x = GaussianSampling(0.1)._do(Noisy(), 500, random_state=rng())
    assert abs(x[:, :-1].std() - 0.1) < 0.005
    assert abs(x[:, :-1].mean()) < 0.005
    assert np.histogram(x[:, -1], bins=10, range=(-2.0, 3.0))[0].tolist() == [50] * 10


def test_a_child_is_its_parents_mean_with_the_first_parents_last_variable():
    x = rng().normal(size=(3, 5, 6))
    children = MeanRecombination(3)._do(Noisy(), x)[0]
    np.testing.assert_allclose(children[:, :-1], x.mean(axis=0)[:, :-1])
    np.testing.assert_array_equal(children[:, -1], x[0, :, -1])


def test_one_parent_is_copied_as_in_equation_1():
    x = rng().normal(size=(1, 5, 6))
    np.testing.assert_array_equal(MeanRecombination(1)._do(Noisy(), x)[0], x[0])


def test_mutation_is_gaussian_and_never_leaves_the_last_variables_bounds():
    x = np.zeros((2000, 6))
    x[:, -1] = 2.9
    children = GaussianResampling(0.05, 0.5)._do(Noisy(), x, random_state=rng())
    assert abs(children[:, :-1].std() - 0.05) < 0.002
    assert children[:, -1].min() >= -2.0
    assert children[:, -1].max() <= 3.0
    assert 0.2 < children[:, -1].std() < 0.5
    wild = GaussianResampling(0.05, 100.0)._do(Noisy(), x, random_state=rng())[:, -1]
    assert wild.min() >= -2.0
    assert wild.max() <= 3.0


def test_mutation_leaves_its_parents_as_they_are():
    x = np.ones((4, 6))
    GaussianResampling(0.05, 0.5)._do(Noisy(), x, random_state=rng())
    np.testing.assert_array_equal(x, np.ones((4, 6)))


def test_every_niche_keeps_its_best():
    problem = Noisy()
    x = rng().normal(size=(80, 6))
    x[:, -1] = np.repeat([-1.9, -0.5, 1.0, 2.9], 20)
    survivors = NicheSurvival(4).do(problem, population(x, problem), n_survive=8, random_state=rng())
    kept = survivors.get("X")
    for level in (-1.9, -0.5, 1.0, 2.9):
        best = np.sort(problem.truth(x[x[:, -1] == level])[:, 0])[:2]
        np.testing.assert_allclose(np.sort(problem.truth(kept[kept[:, -1] == level])[:, 0]), best)


def test_room_of_an_empty_niche_goes_to_the_best_of_the_rest():
    problem = Noisy()
    x = rng().normal(size=(30, 6))
    x[:, -1] = 2.0
    survivors = NicheSurvival(4).do(problem, population(x, problem), n_survive=8, random_state=rng())
    np.testing.assert_allclose(np.sort(survivors.get("F")[:, 0]), np.sort(problem.truth(x)[:, 0])[:8])


def test_parents_come_from_one_neighbourhood_and_the_better_more_often():
    problem = Noisy()
    x = rng().normal(size=(40, 6))
    x[:, -1] = np.linspace(-2.0, 3.0, 40)
    pop = population(x, problem)
    parents = NeighbourSelection(5)._do(problem, pop, 4000, 3, random_state=rng())
    assert parents.shape == (4000, 3)
    assert np.ptp(parents, axis=1).max() <= 4
    chosen = pop.get("F")[parents, 0].mean()
    assert chosen < pop.get("F")[:, 0].mean()


def test_a_parent_is_known_by_the_mean_of_all_its_evaluations():
    problem = Noisy(noise=1.0)
    survival = ReevaluatingSurvival(min_evaluations=1)
    pop = population(rng().normal(size=(6, 6)), problem)
    truth = problem.truth(pop.get("X"))
    first_error = np.abs(pop.get("F") - truth).mean()
    for _ in range(400):
        pop = survival.do(problem, pop, n_survive=6, random_state=rng())
    assert [individual.data["num_evaluations"] for individual in pop] == [401 - 1] * 6
    error = np.abs(pop.get("F") - problem.truth(pop.get("X"))).mean()
    assert error < 0.15 < first_error


def test_all_who_survive_have_been_evaluated_often_enough():
    problem = Noisy(noise=1.0)
    pop = population(rng().normal(size=(20, 6)), problem)
    survivors = ReevaluatingSurvival(min_evaluations=5).do(problem, pop, n_survive=6, random_state=rng())
    assert min(individual.data["num_evaluations"] for individual in survivors) >= 5
    assert min(individual.data["num_evaluations"] for individual in pop) == 1  # the hopeless cost nothing more


def test_lucky_survivors_do_not_rule_the_front():
    def flattery(survival):
        problem = Noisy(noise=1.0)
        operators = {**pareto_operators(0.5, last_stdev=0.1), "survival": survival}
        result = minimize(problem, NSGA2(16, **operators), ("n_gen", 40), seed=3)
        return float(np.mean(problem.truth(result.X)[:, 0] - result.F[:, 0]))

    once = flattery(NicheSurvival(4))
    again = flattery(ReevaluatingSurvival(NicheSurvival(4)))
    assert once > 1.0  # what was seen flatters the truth by more than the noise's standard deviation
    assert again < once / 2


def test_evaluations_of_parents_are_counted():
    result = minimize(Noisy(), NSGA2(8, **pareto_operators(0.5)), ("n_gen", 3), seed=0)
    assert result.algorithm.evaluator.n_eval == result.problem.num_evaluated


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: GaussianSampling(0.0), ValueError, "stdev"),
        (lambda: GaussianSampling("wide"), TypeError, "stdev"),
        (lambda: MeanRecombination(0), ValueError, "num_parents"),
        (lambda: MeanRecombination(1.5), TypeError, "num_parents"),
        (lambda: GaussianResampling(float("nan"), 0.1), ValueError, "stdev"),
        (lambda: GaussianResampling(0.1, -1.0), ValueError, "last_stdev"),
        (lambda: NicheSurvival(0), ValueError, "num_niches"),
        (lambda: NeighbourSelection(True), TypeError, "num_neighbours"),
        (lambda: pareto_operators(float("inf")), ValueError, "initial_stdev"),
    ],
)
def test_wrong_arguments_are_refused_by_name(make, error, name):
    with pytest.raises(error, match=f"^{name}: expected"):
        make()
