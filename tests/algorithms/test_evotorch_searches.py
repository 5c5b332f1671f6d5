"""EvoTorch's own searches and loggers run on the masked problem."""

import math

import pytest
import torch
from environments import Echo
from evotorch import Problem
from evotorch.algorithms import (
    CEM,
    CMAES,
    PGPE,
    SNES,
    XNES,
    Cosyne,
    GeneticAlgorithm,
    MAPElites,
    PyCMAES,
    SearchAlgorithm,
    SteadyStateGA,
)
from evotorch.algorithms.restarter import IPOP, Restart
from evotorch.logging import PandasLogger, StdOutLogger
from evotorch.operators import GaussianMutation, OnePointCrossOver

from algorithms import ElitistGaussianResampling, Race
from subnet_problems import DenseGymProblem, MaskedGymProblem, Threshold, TopK
from subnet_problems.experiments import hand_out

NUM_GENERATIONS = 2


def steady_state_ga(problem):
    searcher = SteadyStateGA(problem, popsize=8)
    searcher.use(OnePointCrossOver(problem, tournament_size=2))
    searcher.use(GaussianMutation(problem, stdev=0.1))
    return searcher


SEARCHES = {
    "PGPE": lambda problem: PGPE(problem, popsize=8, center_learning_rate=0.1, stdev_learning_rate=0.1, stdev_init=0.1),
    "SNES": lambda problem: SNES(problem, popsize=8, stdev_init=0.1),
    "XNES": lambda problem: XNES(problem, popsize=8, stdev_init=0.1),
    "CEM": lambda problem: CEM(problem, popsize=8, parenthood_ratio=0.5, stdev_init=0.1),
    "CMAES": lambda problem: CMAES(problem, popsize=8, stdev_init=0.1, separable=True),
    "PyCMAES": lambda problem: PyCMAES(problem, popsize=8, stdev_init=0.1, separable=True),
    "GeneticAlgorithm": lambda problem: GeneticAlgorithm(
        problem,
        popsize=8,
        operators=[OnePointCrossOver(problem, tournament_size=2), GaussianMutation(problem, stdev=0.1)],
    ),
    "SteadyStateGA": steady_state_ga,
    "Cosyne": lambda problem: Cosyne(problem, popsize=8, tournament_size=2, mutation_stdev=0.1, num_elites=1),
    "ElitistGaussianResampling": lambda problem: ElitistGaussianResampling(problem, popsize=8),
}


def cart_pole(**options):
    return MaskedGymProblem("CartPole-v1", hidden_sizes=(6,), num_episodes=2, seed=0, **options)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_of_evotorch_runs_on_the_masked_problem(name):
    problem = cart_pole()
    searcher = SEARCHES[name](problem)
    counts = [0]
    for step in range(1, NUM_GENERATIONS + 1):
        searcher.step()
        status = dict(searcher.status.items())
        assert status["iter"] == step
        assert all(math.isfinite(value) for value in status.values() if isinstance(value, float))
        assert 1 <= status["mean_eval"] <= status["best_eval"] <= 500
        assert 0 < status["mean_sparsity"] < 1
        assert status["total_interaction_count"] == problem.interaction_count > counts[-1]
        counts.append(problem.interaction_count)
    assert problem.episode_count % 2 == 0
    best = searcher.status["best"]
    assert problem.to_subnetwork(best).num_weights == problem.solution_length == 36
    assert (problem.test(best, num_episodes=3) >= 1).all()


@pytest.mark.parametrize("name", ["PGPE", "SNES", "CEM", "CMAES", "GeneticAlgorithm", "ElitistGaussianResampling"])
def test_a_search_is_reproducible_with_the_seed_of_the_problem(name):
    def evaluations():
        searcher = SEARCHES[name](cart_pole())
        searcher.run(NUM_GENERATIONS)
        return searcher.population.values.clone(), searcher.population.evals.clone()

    for first, second in zip(evaluations(), evaluations(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "make_search",
    [
        SEARCHES["SNES"],
        SEARCHES["GeneticAlgorithm"],
        lambda problem: ElitistGaussianResampling(problem, popsize=8, recombination="weighted"),
        lambda problem: ElitistGaussianResampling(problem, popsize=32),
    ],
    ids=["SNES", "GeneticAlgorithm", "weighted", "expected"],
)
def test_a_search_finds_better_masks(make_search):
    """The return is the sum of 40 products of two masked weights; the best mask keeps only products above 0."""
    network = "Linear(obs_length, 40, bias=False) >> Linear(40, act_length, bias=False)"
    problem = MaskedGymProblem(Echo, network, env_config={"steps": 1}, num_episodes=1, seed=0)
    products = problem.frozen_weights[:40] * problem.frozen_weights[40:]
    best = products.clamp(min=0).sum().item()
    searcher = make_search(problem)
    searcher.step()
    assert searcher.status["mean_eval"] < 0.5 * best
    searcher.run(150)
    assert 0.8 * best < searcher.status["mean_eval"] <= best * 1.001
    found = searcher.status["center" if "center" in searcher.status else "pop_best"]
    kept = problem.mask(found)
    assert 0.8 * best < (products * kept[:40] * kept[40:]).sum().item() <= best * 1.001


@pytest.mark.parametrize(
    ("mask", "least", "most"),
    [(Threshold(0.0), 0.15, 0.25), (TopK(0.9), 0.03, 0.06), (TopK(0.9, scope="erdos_renyi"), 0.02, 0.06)],
    ids=repr,
)
def test_children_stay_diverse_in_long_searches(mask, least, most):
    """With random fitness, the center drifts; without a bound nearly all bits would become equal."""
    env_config = {"steps": 1}
    problem = MaskedGymProblem(
        Echo, hidden_sizes=(40, 40), env_config=env_config, mask_rule=mask, num_episodes=1, seed=0
    )
    problem.evaluate = lambda batch: batch.set_evals(torch.randn(len(batch), generator=noise))
    noise = torch.Generator().manual_seed(0)
    searcher = ElitistGaussianResampling(problem, popsize=32)
    searcher.run(300)
    bits = problem.mask(searcher.population.values[:28])
    differing = 2 * (bits.float().var(dim=0)).mean()
    assert least < differing < most


def test_the_papers_search_learns_to_balance_the_pole():
    searcher = ElitistGaussianResampling(cart_pole(), popsize=32)
    searcher.run(25)
    problem = searcher.problem
    assert problem.test(searcher.status["pop_best"], num_episodes=20).mean() > 150


def test_pgpe_improves_the_dense_problem():
    problem = DenseGymProblem("CartPole-v1", hidden_sizes=(6,), num_episodes=2, seed=0)
    searcher = PGPE(
        problem,
        popsize=30,
        center_learning_rate=0.3,
        stdev_learning_rate=0.1,
        stdev_init=0.3,
        ranking_method="centered",
    )
    searcher.step()
    first = searcher.status["mean_eval"]
    searcher.run(15)
    assert searcher.status["mean_eval"] > 2 * first


def test_the_pandas_logger_keeps_the_status_of_each_generation():
    searcher = ElitistGaussianResampling(cart_pole(), popsize=8)
    logger = PandasLogger(searcher)
    searcher.run(3)
    frame = logger.to_dataframe()
    assert frame.index.tolist() == [1, 2, 3]
    assert frame["total_episode_count"].tolist() == [16, 32, 48]
    assert frame["total_interaction_count"].is_monotonic_increasing
    assert frame["mean_sparsity"].between(0.2, 0.8).all()
    assert frame["pop_best_eval"].iloc[-1] == searcher.status["pop_best_eval"]


def test_the_stdout_logger_prints_the_counts_and_the_sparsity(capsys):
    searcher = ElitistGaussianResampling(cart_pole(), popsize=8)
    StdOutLogger(searcher)
    searcher.run(2)
    printed = capsys.readouterr().out
    for name in ("iter : 2", "total_episode_count : 32", "mean_sparsity : 0.", "pop_best_eval : "):
        assert name in printed


# Returned solutions


def restarting(kind, algorithm, *, device="cpu", **options):
    arguments = {"popsize": 8} if algorithm is ElitistGaussianResampling else {"popsize": 8, "stdev_init": 0.1}
    return kind(cart_pole(episode_length=100), algorithm, arguments, **options)


@pytest.mark.parametrize("algorithm", [ElitistGaussianResampling, SNES])
def test_before_a_restart_a_restarter_returns_the_result_of_its_search(algorithm):
    searcher = restarting(Restart, algorithm)
    for _ in range(4):
        searcher.step()
        assert torch.equal(hand_out(searcher), searcher.search_algorithm.status["center"])
    assert searcher.num_restarts == 1


@pytest.mark.parametrize("algorithm", [ElitistGaussianResampling, SNES])
def test_after_a_restart_the_best_solution_so_far_is_returned(algorithm):
    searcher = restarting(IPOP, algorithm, min_fitness_stdev=1e9)
    best = []
    for generation in range(1, 4):
        searcher.problem.after_eval_hook.append(lambda batch: best.append(batch.take_best(1)[0].clone()) or {})
        searcher.step()
        del searcher.problem.after_eval_hook[-1]
        assert searcher.num_restarts == generation + 1  # the inner search has not started
        highest = max(best, key=lambda solution: solution.evals.item())
        assert torch.equal(hand_out(searcher), highest.values)
    assert len({solution.evals.item() for solution in best}) > 1


def test_a_race_of_restarters_returns_the_result_of_the_leader():
    searchers = [restarting(Restart, SNES), restarting(IPOP, SNES, min_fitness_stdev=1e9)]
    racing = Race(searchers, steps=1_000)
    for _ in range(4):
        racing.step()
        leader = next(searcher for searcher in searchers if searcher.problem is racing.problem)
        assert torch.equal(hand_out(racing), hand_out(leader))


def test_hand_out_raises_for_searches_without_a_result():
    class Silent(SearchAlgorithm):
        def _step(self):
            pass

    silent = Silent(cart_pole())
    silent.step()
    with pytest.raises(ValueError, match=r"^searcher: expected one that has a center, a pop_best .* \['iter'\]$"):
        hand_out(silent)
    two = Problem(["min", "max"], lambda x: torch.stack([x[:, 0], x[:, 1]], dim=1), vectorized=True, solution_length=2,
                  initial_bounds=(-1, 1))  # fmt: skip
    genetic = GeneticAlgorithm(two, popsize=4, operators=[GaussianMutation(two, stdev=0.1)])
    genetic.run(2)
    with pytest.raises(ValueError, match=r"^searcher: expected one that has a center, a pop_best or a best solution"):
        hand_out(genetic)
    fresh = ElitistGaussianResampling(cart_pole())
    with pytest.raises(
        ValueError, match=r"^searcher: expected one that has a center, a pop_best or a best solution, got"
    ):
        hand_out(fresh)
    with pytest.raises(TypeError, match=r"^searcher: expected an EvoTorch SearchAlgorithm, got 3"):
        hand_out(3)


# Unsupported searches


@pytest.mark.parametrize("make", [MaskedGymProblem, DenseGymProblem])
@pytest.mark.parametrize("num_features", [1, 2])
def test_map_elites_is_refused_since_solutions_have_no_features(make, num_features):
    problem = make("CartPole-v1", hidden_sizes=(4,), seed=0)
    grid = MAPElites.make_feature_grid([0.0] * num_features, [1.0] * num_features, 3, dtype="float32", device="cpu")
    operators = [GaussianMutation(problem, stdev=0.1)]
    message = (
        f"^problem: expected solutions with the {num_features} features of feature_grid, got "
        f"{make.__name__}, whose solutions have 0: MAPElites cannot search it$"
    )
    with pytest.raises(ValueError, match=message):
        MAPElites(problem, operators=operators, feature_grid=grid)
    with pytest.raises(ValueError, match=message):
        MAPElites(problem, operators=operators, feature_grid=grid.tolist())
    assert problem.as_tensor([[[1.0]]]).shape == (1, 1, 1)  # other tensors are created as before
    assert problem.as_tensor(grid[0], use_eval_dtype=True).shape == (num_features, 2)
