"""Survivors are evaluated again; their objectives are the means of their evaluations."""

import numpy as np
import pytest
from noisy_problems import Given, Noisy, given, population, rng
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.survival import Survival
from pymoo.optimize import minimize

from algorithms import NicheSurvival, ReevaluatingSurvival, evaluate_again, pareto_operators
from algorithms._reevaluation import without_infinities


def test_objectives_of_a_parent_are_the_mean_of_all_its_evaluations():
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


def test_survivors_have_the_minimum_number_of_evaluations():
    problem = Noisy(noise=1.0)
    pop = population(rng().normal(size=(20, 6)), problem)
    survivors = ReevaluatingSurvival(min_evaluations=5).do(problem, pop, n_survive=6, random_state=rng())
    assert min(individual.data["num_evaluations"] for individual in survivors) >= 5
    assert min(individual.data["num_evaluations"] for individual in pop) == 1  # bad ones are not evaluated again


def test_reevaluation_halves_the_optimism_of_the_front():
    def optimism(survival):
        problem = Noisy(noise=1.0)
        operators = {**pareto_operators(0.5, last_stdev=0.1), "survival": survival}
        result = minimize(problem, NSGA2(16, **operators), ("n_gen", 40), seed=3)
        return float(np.mean(problem.truth(result.X)[:, 0] - result.F[:, 0]))

    once = optimism(NicheSurvival(4))
    again = optimism(ReevaluatingSurvival(NicheSurvival(4)))
    assert once > 1.0  # single evaluations overestimate by more than the standard deviation of the noise
    assert again < once / 2


def test_evaluations_of_parents_are_counted():
    result = minimize(Noisy(), NSGA2(8, **pareto_operators(0.5)), ("n_gen", 3), seed=0)
    assert result.algorithm.evaluator.n_eval == result.problem.num_evaluated


def test_a_duplicate_individual_is_evaluated_once():
    problem = Given([[3.0, 1.0], [5.0, 1.0]])
    pop = given(problem, [[1.0, 1.0], [1.0, 1.0]])
    evaluate_again(problem, [pop[0], pop[1], pop[0]])
    assert pop.get("F").tolist() == [[2.0, 1.0], [3.0, 1.0]]
    assert pop.get("num_evaluations").tolist() == [2, 2]


def test_means_of_infinite_evaluations_are_defined_and_an_infinitely_bad_one_remains():
    inf, huge = np.inf, 1.5e308
    problem = Given([[1.0, -inf], [-inf, inf], [huge, 0.0]], [[1.0, 1.0], [1.0, -inf], [huge, 0.0]])
    pop = given(problem, [[inf, 1.0], [inf, 1.0], [huge, 0.0]])
    evaluate_again(problem, pop)
    assert pop.get("F").tolist() == [[inf, -inf], [inf, inf], [huge, 0.0]]
    evaluate_again(problem, pop)
    assert pop.get("F")[:2].tolist() == [[inf, -inf], [inf, inf]]
    assert pop.get("F")[2, 0] == pytest.approx(huge)


def test_nan_is_an_error_that_names_the_individual_and_changes_none():
    problem = Given([[1.0, 1.0], [np.nan, 1.0]])
    pop = given(problem, [[0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match=r"^problem: expected F without NaN, got \[nan, 1.0\] for individual 1"):
        evaluate_again(problem, pop)
    assert pop.get("F").tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert all("num_evaluations" not in one.data for one in pop)
    pop[1].F = np.array([0.0, np.nan])
    with pytest.raises(ValueError, match=r"^problem: expected F without NaN, got \[0.0, nan\] for individual 1"):
        ReevaluatingSurvival().do(problem, pop, n_survive=1, random_state=rng())


def test_only_evaluated_individuals_can_be_evaluated_again():
    problem = Given()
    pop = Population.merge(given(problem, [[0.0, 0.0]]), Population.new(X=np.zeros((1, 2))))
    with pytest.raises(ValueError, match=r"^individuals: expected evaluated ones with 2 objectives, got 0 at index 1"):
        evaluate_again(problem, pop)


def test_constraints_are_the_means_of_their_evaluations():
    problem = Given([[1.0, 0.0, 3.0], [1.0, 0.0, -3.0]], constrained=True)
    pop = given(problem, [[1.0, 0.0], [1.0, 0.0]])
    pop.set("G", np.array([[-1.0], [1.0]]))
    assert pop.get("FEAS")[:, 0].tolist() == [True, False]
    evaluate_again(problem, pop)
    assert pop.get("G")[:, 0].tolist() == [1.0, -1.0]
    assert pop.get("FEAS")[:, 0].tolist() == [False, True]


def test_an_individual_found_infeasible_loses_its_rank():
    problem = Given([[0.0, 0.0, 9.0], [1.0, 1.0, -1.0]], constrained=True)
    pop = given(problem, [[0.0, 0.0], [1.0, 1.0]])
    pop.set("G", np.full((2, 1), -1.0))
    pop.set("rank", 0, "num_evaluations", 1)
    survivors = ReevaluatingSurvival(min_evaluations=2).do(problem, pop, n_survive=2, random_state=rng())
    assert [(bool(one.FEAS[0]), one.get("rank")) for one in survivors] == [(True, 0), (False, None)]


class Remembering(Survival):
    """Keeps the best individuals, and remembers the best objective and the size of each population it ranked."""

    def __init__(self):
        super().__init__()
        self.best, self.looks = np.inf, []

    def _do(self, problem, pop, *args, n_survive, **kwargs):
        self.best = min(self.best, pop.get("F")[:, 0].min())
        self.looks.append(len(pop))
        return pop[np.argsort(pop.get("F")[:, 0])[:n_survive]]


def test_a_stateful_survival_sees_only_the_last_ranking():
    problem = Given([[9.0, 0.0]], [[7.0, 0.0]])
    remembering = Remembering()
    pop = given(problem, [[-5.0, 0.0], [4.0, 0.0], [6.0, 0.0]])
    survival = ReevaluatingSurvival(remembering, min_evaluations=2)
    survivors = survival.do(problem, pop, n_survive=1, random_state=rng())  # the first was lucky: its mean is 2
    assert survivors.get("F").tolist() == [[2.0, 0.0]]
    assert (remembering.best, remembering.looks) == (2.0, [3])
    assert survival.best == 2.0  # attributes of the inner survival are accessible


def test_an_interrupted_generation_does_not_change_survival_and_individuals():
    class Interrupted(Given):
        def _evaluate(self, *args, **kwargs):
            raise KeyboardInterrupt

    problem, remembering = Interrupted(), Remembering()
    pop = given(problem, [[1.0, 0.0], [2.0, 0.0]])
    with pytest.raises(KeyboardInterrupt):
        ReevaluatingSurvival(remembering).do(problem, pop, n_survive=1, random_state=rng())
    assert (remembering.best, remembering.looks) == (np.inf, [])
    assert pop.get("F").tolist() == [[1.0, 0.0], [2.0, 0.0]]


def test_infinite_objectives_are_replaced_by_finite_ones_in_the_same_order_for_ranking():
    seen = []

    class Recording(Survival):
        def _do(self, problem, pop, *args, n_survive, **kwargs):
            seen.append(pop.get("F"))
            return pop[:n_survive]

    problem = Given()
    pop = given(problem, [[np.inf, 0.0], [-3.0, -np.inf], [5.0, 2.0], [-np.inf, 1.0]])
    ReevaluatingSurvival(Recording(), min_evaluations=1).do(problem, pop, n_survive=2, random_state=rng())
    assert np.isfinite(seen[0]).all()
    np.testing.assert_array_equal(np.argsort(seen[0], axis=0), np.argsort(pop.get("F"), axis=0))
    assert pop[0].F[0] == np.inf


def test_infinite_objectives_beside_huge_ones_are_replaced_by_finite_ones():
    values = without_infinities(np.array([[1.7e308, np.inf, -np.inf, -1.7e308]]).T)[:, 0]
    assert np.isfinite(values).all()
    assert values[1] > values[0] > values[3] > values[2]


def test_return_indices_returns_indices():
    problem = Noisy()
    pop = population(rng().normal(size=(6, 6)), problem)
    indices = ReevaluatingSurvival().do(problem, pop, n_survive=3, random_state=rng(), return_indices=True)
    assert len(indices) == 3
    assert all(pop[i].data["num_evaluations"] >= 4 for i in indices)
