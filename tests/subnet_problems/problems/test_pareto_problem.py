"""The pymoo problem: exact densities, evaluation by the masked problem, one round per generation."""

import re

import numpy as np
import pytest
import torch
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.rvea import RVEA
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions

from algorithms import Continuation, pareto_algorithm, pareto_operators
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, Threshold


def masked(**options):
    options = {"hidden_sizes": (16,), "sparsity": 0.5, "num_episodes": 2, "seed": 3, **options}
    return MaskedGymProblem("CartPole-v1", **options)


def individuals(problem, log2_densities, seed=0):
    x = np.random.default_rng(seed).normal(0.0, 0.1, size=(len(log2_densities), problem.n_var))
    x[:, -1] = log2_densities
    return x


def test_the_last_variable_determines_the_number_of_kept_weights():
    problem = ParetoSparsityProblem(masked(), max_sparsity=0.95)
    levels = np.log2([1.0, 0.5, 0.31, 0.05])
    mask = problem.mask(individuals(problem, levels))
    size = problem.masked.network.num_weights
    assert mask.sum(dim=1).tolist() == [round(size * density) for density in (1.0, 0.5, 0.31, 0.05)]


def test_masks_of_one_score_vector_are_nested():
    problem = ParetoSparsityProblem(masked())
    x = individuals(problem, np.log2([0.2, 0.5]))
    x[1, :-1] = x[0, :-1]
    sparse, dense = problem.mask(x)
    assert bool((dense | ~sparse).all())


def test_objectives_are_negative_reward_and_density():
    problem = ParetoSparsityProblem(masked())
    x = individuals(problem, np.log2([0.25, 0.5]))
    objectives = problem.evaluate(x)
    twin = masked()
    fitness = twin.evaluate_masks(problem.mask(x))
    np.testing.assert_array_equal(objectives[:, 0], -fitness)
    np.testing.assert_allclose(objectives[:, 1], problem.mask(x).float().mean(dim=1).numpy())
    assert problem.interaction_count == twin.interaction_count > 0


def test_the_status_of_the_masked_problem_describes_the_last_evaluation():
    problem = ParetoSparsityProblem(masked())
    for density, count in ((0.25, 4), (0.5, 8)):
        problem.evaluate(individuals(problem, np.log2([density, density])))
        assert problem.masked.status["mean_sparsity"] == 1.0 - density
        assert problem.masked.status["total_episode_count"] == count
        assert problem.masked.status["total_interaction_count"] == problem.interaction_count


def test_each_evaluation_has_new_episodes_shared_by_all_individuals():
    problem = ParetoSparsityProblem(masked(num_episodes=1))
    x = np.repeat(individuals(problem, [-1.0]), 3, axis=0)
    returns = [problem.evaluate(x)[:, 0] for _ in range(6)]
    assert all(len(set(round_)) == 1 for round_ in returns)
    assert len({round_[0] for round_ in returns}) > 1


@pytest.mark.parametrize("algorithm", [NSGA2, SPEA2])
def test_pymoo_algorithms_are_reproducible(algorithm):
    def run():
        problem = ParetoSparsityProblem(masked())
        result = minimize(problem, algorithm(8, **pareto_operators(0.1)), ("n_gen", 3), seed=1)
        return result.F, problem.interaction_count

    (front, steps), (same_front, same_steps) = run(), run()
    np.testing.assert_array_equal(front, same_front)
    assert steps == same_steps


@pytest.mark.parametrize("algorithm", [MOEAD, NSGA3, RVEA])
def test_algorithms_with_reference_directions_are_reproducible(algorithm):
    def run():
        problem = ParetoSparsityProblem(masked(hidden_sizes=(4,), num_episodes=1, episode_length=20))
        directions = get_reference_directions("das-dennis", 2, n_partitions=7)
        result = minimize(problem, pareto_algorithm(algorithm, 0.1, ref_dirs=directions), ("n_gen", 3), seed=1)
        if algorithm is not MOEAD:
            assert min(result.pop.get("num_evaluations")) >= 4
        kept = problem.mask(result.pop.get("X")).sum(dim=1)
        np.testing.assert_allclose(result.pop.get("F")[:, 1], kept / problem.masked.network.num_weights, rtol=1e-6)
        return result.F, problem.interaction_count

    (front, steps), (same_front, same_steps) = run(), run()
    np.testing.assert_array_equal(front, same_front)
    assert steps == same_steps


def test_min_and_max_sparsity_may_be_equal():
    problem = ParetoSparsityProblem(masked(hidden_sizes=(4,)), min_sparsity=0.75, max_sparsity=0.75)
    result = minimize(problem, pareto_algorithm(NSGA2, 0.1, pop_size=8), ("n_gen", 3), seed=1)
    assert problem.mask(result.pop.get("X")).sum(dim=1).tolist() == [6] * 8


def test_an_individual_is_converted_to_a_subnetwork_of_its_density():
    problem = ParetoSparsityProblem(masked())
    x = individuals(problem, [-3.0])[0]
    subnet = problem.to_subnetwork(x)
    assert torch.equal(subnet.mask, problem.mask(x[None])[0])
    assert subnet.num_active == round(subnet.num_weights / 8)
    assert subnet.rescale == problem.masked.mask_rule.rescale


def test_a_problem_without_top_k_is_refused():
    with pytest.raises(ValueError, match=r"^problem: expected one with mask_rule=TopK"):
        ParetoSparsityProblem(masked(sparsity=None, mask_rule=Threshold(0.0)))


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"problem": "CartPole-v1"}, TypeError, "problem"),
        ({"max_sparsity": 1.0}, ValueError, "max_sparsity"),
        ({"max_sparsity": float("nan")}, ValueError, "max_sparsity"),
        ({"min_sparsity": -0.1}, ValueError, "min_sparsity"),
        ({"min_sparsity": 0.9, "max_sparsity": 0.5}, ValueError, "min_sparsity"),
        ({"min_sparsity": "low"}, TypeError, "min_sparsity"),
        ({"count": "dead"}, ValueError, "count"),
        ({"count": None}, TypeError, "count"),
        ({"objectives": "live_units"}, TypeError, "objectives"),
        ({"objectives": None}, TypeError, "objectives"),
        ({"objectives": ("live_units", 3)}, TypeError, r"objectives\[1\]"),
        ({"objectives": ["density"]}, ValueError, r"objectives\[0\]"),
        ({"objectives": ["live_units", "live_units"]}, ValueError, "objectives"),
    ],
)
def test_errors_name_the_invalid_argument(arguments, error, name):
    arguments = {"problem": masked(), **arguments}
    with pytest.raises(error, match=f"^{name}: expected"):
        ParetoSparsityProblem(arguments.pop("problem"), **arguments)


def test_the_objective_return_stdev_requires_two_episodes():
    message = r"^objectives: expected 'return_stdev' only for a problem with num_episodes >= 2, got one with 1"
    with pytest.raises(ValueError, match=message):
        ParetoSparsityProblem(masked(num_episodes=1), objectives=["return_stdev"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": "live"}, "count: expected 'kept' for a network that is not a chain"),
        ({"objectives": ["live_units"]}, "objectives: expected no 'live_units' for a network that is not a chain"),
    ],
)
def test_live_weights_and_units_require_a_chain(options, message):
    other = masked(hidden_sizes=None, network="RNN(obs_length, 3) >> Linear(3, act_length)")
    with pytest.raises(ValueError, match=f"^{message}"):
        ParetoSparsityProblem(other, **options)
    assert ParetoSparsityProblem(other, objectives=["return_stdev"]).n_obj == 3


def test_live_density_and_live_units_equal_those_of_the_pruned_policy():
    problem = ParetoSparsityProblem(
        masked(hidden_sizes=(6, 5), bias=True), count="live", objectives=["live_units"], max_sparsity=0.95
    )
    assert problem.n_obj == 3
    assert problem.objective_names == ("negative_return", "live_density", "live_units")
    x = individuals(problem, np.log2([0.05, 0.1, 0.2, 0.3, 0.5, 1.0]))
    objectives = problem.evaluate(x)
    subnets = [problem.to_subnetwork(row) for row in x]
    live = [subnet.prune().num_active for subnet in subnets]
    assert live == [subnet.num_active for subnet in subnets]  # no dead weights are left
    assert live != problem.mask(x).sum(dim=1).tolist()
    np.testing.assert_allclose(objectives[:, 1], np.array(live) / subnets[0].num_weights, rtol=1e-6)
    units = [sum(int(level.sum()) for level in subnet.live_units()[1:-1]) for subnet in subnets]
    assert objectives[:, 2].tolist() == units
    assert objectives[-1, 1:].tolist() == [1.0, 11.0]
    kept = ParetoSparsityProblem(masked(hidden_sizes=(6, 5), bias=True), max_sparsity=0.95)
    assert kept.objective_names == ("negative_return", "density")
    np.testing.assert_array_equal(kept.evaluate(x)[:, 0], objectives[:, 0])


def test_return_stdev_is_computed_from_the_episodes_of_the_evaluation():
    problem = ParetoSparsityProblem(masked(num_episodes=3), objectives=("return_stdev", "live_units"))
    assert problem.objective_names == ("negative_return", "density", "return_stdev", "live_units")
    x, twin = individuals(problem, np.log2([0.25, 0.5, 0.9])), masked(num_episodes=3)
    for _ in range(2):
        fitness, returns = twin.evaluate_masks(problem.mask(x)), twin.last_returns
        objectives = problem.evaluate(x)
        assert returns.shape == (3, 3)
        assert returns.std(axis=1).max() > 0
        np.testing.assert_array_equal(objectives[:, 2], returns.std(axis=1))
        np.testing.assert_array_equal(objectives[:, 0], -fitness)


def test_a_network_without_hidden_layers_has_no_live_hidden_units():
    problem = ParetoSparsityProblem(masked(hidden_sizes=()), objectives=["live_units"])
    assert problem.evaluate(individuals(problem, [-1.0, -0.5]))[:, 2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("algorithm", [NSGA2, NSGA3])
def test_searches_with_three_objectives_are_reproducible(algorithm):
    directions = {"ref_dirs": get_reference_directions("das-dennis", 3, n_partitions=4)} if algorithm is NSGA3 else {}

    def run():
        problem = ParetoSparsityProblem(
            masked(hidden_sizes=(4,), num_episodes=1, episode_length=20), count="live", objectives=["live_units"]
        )
        result = minimize(problem, pareto_algorithm(algorithm, 0.1, pop_size=16, **directions), ("n_gen", 4), seed=1)
        assert result.F.shape[1] == 3
        assert min(result.pop.get("num_evaluations")) >= 4
        for individual in result.pop:
            subnet = problem.to_subnetwork(individual.X)
            live = [subnet.prune().num_active / subnet.num_weights, subnet.live_units()[1].sum()]
            np.testing.assert_allclose(individual.F[1:], live, rtol=1e-6)
        return result.F, problem.interaction_count

    (front, steps), (same_front, same_steps) = run(), run()
    np.testing.assert_array_equal(front, same_front)
    assert steps == same_steps


def test_invalid_individuals_are_refused():
    problem = ParetoSparsityProblem(masked())
    x = individuals(problem, [-1.0])
    with pytest.raises(ValueError, match=r"^x: expected shape"):
        problem.mask(x[:, 1:])
    for wrong in (x, x[0, 1:], x[:, :, None], 3.0):
        shape = re.escape(str(np.shape(wrong)))
        with pytest.raises(ValueError, match=rf"^x: expected shape \(D \+ 1,\) = \({problem.n_var},\), got {shape}$"):
            problem.to_subnetwork(wrong)
    lowest = re.escape(f"[{problem.xl[-1]:g}, 0]")
    with pytest.raises(ValueError, match=rf"^x: expected log2 densities in {lowest}, got 0.5 in row 1$"):
        problem.mask(individuals(problem, [-0.5, 0.5]))
    x[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"^x: expected no NaN, got one at row 0, column 3"):
        problem.mask(x)


def test_nan_fitness_is_an_error_that_names_the_individual(monkeypatch):
    problem = ParetoSparsityProblem(masked())
    fitness = np.array([1.0, float("nan"), 2.0])
    monkeypatch.setattr(problem.masked, "evaluate_masks", lambda mask: fitness)
    with pytest.raises(
        ValueError, match=r"^problem: expected a fitness for each individual, got NaN for individual 1$"
    ):
        problem.evaluate(individuals(problem, [-1.0, -1.0, -1.0]))


@pytest.mark.parametrize("centered", [False, True])
def test_expected_individuals_equal_the_expected_solutions_of_the_masked_problem(centered):
    problem = ParetoSparsityProblem(masked())
    x = individuals(problem, [-1.0] * 5)
    center = individuals(problem, [-2.0], seed=1)[0] if centered else None  # the density of the center has no effect
    expected = problem.expected_individuals(x, center=center, stdev=0.1)
    scores = torch.from_numpy(x[:, :-1]).float()
    around = torch.from_numpy(center[:-1]).float() if centered else torch.zeros(scores.shape[1])
    same = torch.stack([*problem.masked.expected_solutions(scores, center=around, stdev=0.1)])
    np.testing.assert_array_equal(expected, np.column_stack([same.numpy(), x[:, -1]]))
    assert problem.expected_individuals(x[:0], center=center, stdev=0.1).shape == (0, problem.n_var)


def test_expected_individuals_equal_the_mean_of_all_individuals_with_the_mask():
    problem = ParetoSparsityProblem(masked(hidden_sizes=(), sparsity=0.5))  # keeps 4 of 8 weights
    x = individuals(problem, [-1.0] * 200_000)
    masks = problem.mask(x).numpy()
    same = (masks == masks[0]).all(axis=1)
    mean = x[same, :-1].mean(axis=0)
    expected = problem.expected_individuals(x[same], center=None, stdev=0.1)[:, :-1].mean(axis=0)
    np.testing.assert_allclose(expected, mean, atol=0.02)


@pytest.mark.parametrize("log2_density", [0.0, -1.0, -3.3])
def test_a_confined_individual_has_the_same_mask_and_is_near_the_cutoff(log2_density):
    problem = ParetoSparsityProblem(masked())
    far = 50.0 * individuals(problem, [log2_density / 50.0])[0]
    near = problem.confined(far)
    assert torch.equal(problem.mask(near[None]), problem.mask(far[None]))
    assert near[-1] == far[-1]
    if log2_density < 0.0:
        mask = problem.mask(near[None])[0].numpy()
        scores, reach = near[:-1], problem.masked.score_stdev / 2
        level = (scores[mask].min() + scores[~mask].max()) / 2
        assert (np.abs(scores - level) < 1.1 * reach).sum() >= 0.6 * min(mask.sum(), (~mask).sum())
        assert (np.abs(far[:-1] - np.median(far[:-1])) < 1.1 * reach).mean() < 0.1
    np.testing.assert_allclose(problem.confined(near.tolist()), near, rtol=1e-5)


def test_errors_name_the_invalid_argument_of_expected_individuals_and_confined():
    problem = ParetoSparsityProblem(masked())
    x, size = individuals(problem, [-1.0, -1.0]), problem.n_var
    with pytest.raises(
        ValueError, match=r"^x: expected individuals with one density, got log2 densities \[-1.0, -2.0\]"
    ):
        problem.expected_individuals(individuals(problem, [-1.0, -2.0]), center=None, stdev=0.1)
    with pytest.raises(ValueError, match=rf"^x: expected shape \(N, D \+ 1\) = \(N, {size}\), got \(2, 3\)"):
        problem.expected_individuals(x[:, :3], center=None, stdev=0.1)
    for stdev in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"^stdev: expected a finite number > 0"):
            problem.expected_individuals(x, center=None, stdev=stdev)
    for wrong in (x, x[0, :3]):
        message = rf"^center: expected shape \(D \+ 1,\) = \({size},\), got {re.escape(str(wrong.shape))}"
        with pytest.raises(ValueError, match=message):
            problem.confined(wrong)
        with pytest.raises(ValueError, match=message):
            problem.expected_individuals(x, center=wrong, stdev=0.1)
    with pytest.raises(TypeError, match=r"^center: expected an array of real numbers, got 'here'"):
        problem.confined("here")
    with pytest.raises(ValueError, match=r"^center: expected no NaN"):
        problem.confined(np.full(size, np.nan))


def test_a_continuation_counts_all_evaluations_and_keeps_densities():
    problem = ParetoSparsityProblem(masked(hidden_sizes=(4,), num_episodes=1, common_random_numbers=False))
    search = Continuation(8, num_levels=3, first_generations=3, generations=2)
    result = minimize(problem, search, ("n_gen", 9), seed=1)
    kept = problem.mask(result.X).sum(dim=1)
    np.testing.assert_allclose(result.F[:, 1], kept / problem.masked.network.num_weights, rtol=1e-6)
    assert problem.masked.status["total_episode_count"] == result.algorithm.evaluator.n_eval == 72
