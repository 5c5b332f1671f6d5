"""The pymoo operators, on problems that have nothing to do with networks."""

import numpy as np
import pytest
from noisy_problems import Given, Noisy, given, population, rng
from pymoo.core.problem import Problem

from algorithms import (
    GaussianResampling,
    GaussianSampling,
    MeanRecombination,
    NeighborSelection,
    NicheSurvival,
    pareto_operators,
)


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


def test_mutation_does_not_change_its_parents():
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


def test_places_of_an_empty_niche_go_to_the_best_of_the_rest():
    problem = Noisy()
    x = rng().normal(size=(30, 6))
    x[:, -1] = 2.0
    survivors = NicheSurvival(4).do(problem, population(x, problem), n_survive=8, random_state=rng())
    np.testing.assert_allclose(np.sort(survivors.get("F")[:, 0]), np.sort(problem.truth(x)[:, 0])[:8])


def test_parents_are_neighbors_and_better_ones_are_selected_more_often():
    problem = Noisy()
    x = rng().normal(size=(40, 6))
    x[:, -1] = np.linspace(-2.0, 3.0, 40)
    pop = population(x, problem)
    parents = NeighborSelection(5)._do(problem, pop, 4000, 3, random_state=rng())
    assert parents.shape == (4000, 3)
    assert np.ptp(parents, axis=1).max() <= 4
    chosen = pop.get("F")[parents, 0].mean()
    assert chosen < pop.get("F")[:, 0].mean()


@pytest.mark.parametrize("count", [2, 3])
def test_fewer_survivors_than_niches_are_spread_over_all_of_the_last_variable(count):
    problem = Given()
    x = np.column_stack([np.zeros(12), np.linspace(0.0, 1.0, 12)])
    pop = given(problem, np.column_stack([1.0 - x[:, -1], x[:, -1]]), x)  # the first objective prefers 1
    kept = NicheSurvival(6).do(problem, pop, n_survive=count, random_state=rng()).get("X")[:, -1]
    assert np.histogram(kept, bins=count, range=(0.0, 1.0))[0].tolist() == [1] * count


def test_with_a_fixed_last_variable_all_individuals_share_one_niche():
    problem = Given(fixed=True)
    pop = given(problem, [[value, 0.0] for value in (4.0, 1.0, 3.0, 2.0, 0.0, 5.0, 6.0, 7.0)])
    survivors = NicheSurvival(3).do(problem, pop, n_survive=4, random_state=rng())
    assert survivors.get("F")[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    parents = NeighborSelection(2)._do(problem, pop, 2000, 1, random_state=rng())
    counts = np.bincount(parents[:, 0], minlength=8) / 2000
    # Each is the center equally often, and wins 1, 2 or 3 of 4 tournaments against its left or right neighbor.
    wins = [0.25 + 0.75, 0.75 + 0.75, 0.25 + 0.25, 0.75 + 0.25, 0.75 + 0.75, 0.25 + 0.75, 0.25 + 0.75, 0.25 + 0.25]
    np.testing.assert_allclose(counts, np.array(wins) / 8, atol=0.03)


def test_values_outside_the_bounds_belong_to_the_outermost_niches():
    problem = Given()
    pop = given(problem, [[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]], [[0.0, -0.7], [0.0, 0.9], [0.0, 1.4]])
    survivors = NicheSurvival(2).do(problem, pop, n_survive=2, random_state=rng())
    assert survivors.get("F")[:, 0].tolist() == [2.0, 1.0]


def test_infeasible_individuals_survive_and_mate_last():
    problem = Given(constrained=True)
    pop = given(problem, [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    pop.set("G", np.array([[5.0], [-1.0], [4.0], [0.0]]))
    survivors = NicheSurvival(1).do(problem, pop, n_survive=3, random_state=rng())
    assert survivors.get("F")[:, 0].tolist() == [1.0, 3.0, 2.0]
    parents = NeighborSelection(4)._do(problem, pop, 4000, 1, random_state=rng())
    counts = np.bincount(parents[:, 0], minlength=4)
    assert counts[1] > counts[3] > counts[2] > counts[0]


def test_all_three_objectives_affect_selection():
    problem = Given(num_objectives=3)
    objectives = [[0.0, 5.0, 5.0], [1.0, 9.0, 9.0], [5.0, 0.0, 5.0], [5.0, 5.0, 0.0], [2.0, 9.0, 9.0]]
    pop = given(problem, objectives)
    survivors = NicheSurvival(1).do(problem, pop, n_survive=3, random_state=rng())
    assert sorted(survivors.get("F").tolist()) == sorted(objectives[i] for i in (0, 2, 3))
    parents = NeighborSelection(5)._do(problem, pop, 5000, 1, random_state=rng())
    counts = np.bincount(parents[:, 0], minlength=5) / 5000
    # In 25 pairs: 0 beats 1 and 4, 1 beats 4; the other pairs are ties, which the first drawn wins.
    np.testing.assert_allclose(counts, np.array([7, 5, 5, 5, 3]) / 25, atol=0.03)


def test_a_problem_without_bounds_of_the_last_variable_is_refused():
    problem = Problem(n_var=3, n_obj=2)
    for make in (
        lambda: GaussianSampling(0.1)._do(problem, 4, random_state=rng()),
        lambda: GaussianResampling(0.1, 0.1)._do(problem, np.zeros((4, 3)), random_state=rng()),
        lambda: NicheSurvival().do(problem, given(problem, [[0.0, 0.0]]), n_survive=1, random_state=rng()),
    ):
        with pytest.raises(ValueError, match=r"^problem: expected finite bounds of the last variable, got xl = None"):
            make()


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
        (lambda: NeighborSelection(True), TypeError, "num_neighbors"),
        (lambda: pareto_operators(float("inf")), ValueError, "initial_stdev"),
    ],
)
def test_errors_name_the_invalid_argument(make, error, name):
    with pytest.raises(error, match=f"^{name}: expected"):
        make()
