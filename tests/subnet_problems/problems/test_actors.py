"""Ray actors do not change fitness, searches, counts or errors.

Actors take seconds to start, so each test uses few problems and checks much with them.
"""

import pickle

import pytest
import ray
import torch
from environments import FAULTS, FaultyEnv
from evaluations import batch_of, fitness
from evotorch.algorithms import PGPE, SNES

from algorithms import Checkpointer, ElitistGaussianResampling, Race, resume
from subnet_problems import DenseGymProblem, EvaluationError, MaskedGymProblem

pytestmark = pytest.mark.usefixtures("ray_cluster")

EVERYTHING = {
    "observation_normalization": True,
    "action_noise_stdev": 0.3,
    "common_random_numbers": False,
    "risk_aversion": 0.5,
    "sparsity": 0.5,
}


@pytest.fixture
def with_actors():
    """Registers problems whose actors are killed at the end of a test, which frees the CPUs for the next one."""
    problems = []

    def make(problem):
        problems.append(problem)
        return problem

    yield make
    for problem in problems:
        if problem.actors is not None:
            problem.kill_actors()


def lander(**options):
    defaults = {"hidden_sizes": (6,), "num_episodes": 2, "episode_length": 60, "seed": 5}
    return MaskedGymProblem("LunarLander-v3", **defaults | options)


def observed(problem):
    stats = problem.get_observation_stats()
    return stats.count, stats.sum.tolist(), stats.sum_of_squares.tolist()


def test_fitness_counts_and_statistics_do_not_depend_on_actors(with_actors):
    alone, together = lander(**EVERYTHING), with_actors(lander(**EVERYTHING, num_actors=2))
    changes = ((7, 60, "auto"), (3, 20, "auto"), (3, 60, "gymnasium"), (1, None, "auto"))
    for popsize, episode_length, backend in changes:
        alone.episode_length = together.episode_length = episode_length
        alone.backend = together.backend = backend
        scores = alone.generate_batch(popsize).values
        assert torch.equal(together.generate_batch(popsize).values, scores)
        assert torch.equal(fitness(together, scores), fitness(alone, scores))
        assert len(together.actors) == 2
        assert together.status["total_interaction_count"] == alone.status["total_interaction_count"]
        assert together.status["total_episode_count"] == alone.status["total_episode_count"]
        assert together.evaluation_round == alone.evaluation_round
        assert observed(together) == observed(alone)
    (found, returns), (same, same_returns) = (
        (problem.evaluate_masks(problem.mask(scores)), problem.last_returns) for problem in (alone, together)
    )
    assert found.tolist() == same.tolist()
    assert returns.tolist() == same_returns.tolist()
    assert together.status["total_episode_count"] == alone.episode_count


def test_actors_and_resuming_do_not_change_a_search(with_actors, tmp_path):
    def search(**options):
        problem = with_actors(lander(**EVERYTHING, **options))
        return ElitistGaussianResampling(problem, popsize=7, num_elites=2)

    def assert_same(searcher):
        for part in ("values", "evals"):
            assert torch.equal(*(getattr(one.population, part).as_subclass(torch.Tensor) for one in (searcher, alone)))
        for name in ("iter", "mean_sparsity", "pop_best_eval"):
            assert searcher.status[name] == alone.status[name]
        for name in ("total_interaction_count", "total_episode_count", "best_eval", "worst_eval"):
            assert searcher.problem.status[name] == alone.problem.status[name]
        assert observed(searcher.problem) == observed(alone.problem)

    alone, together = search(), search(num_actors=2, subbatch_size=2)
    Checkpointer(together, tmp_path / "checkpoint", every=3)
    for _ in range(5):
        alone.step()
        together.step()
        assert_same(together)
    together.problem.kill_actors()
    resumed = resume(tmp_path / "checkpoint", allow_pickle=True)
    with_actors(resumed.problem)
    assert resumed.step_count == 3
    resumed.run(2)
    assert_same(resumed)


def test_actors_of_searches_that_lost_a_race_are_killed(with_actors):
    problems = [with_actors(lander(num_actors=2, network_seed=seed)) for seed in range(2)]
    racing = Race([ElitistGaussianResampling(problem, popsize=4) for problem in problems], steps=500)
    while len(racing.searchers) > 1:
        racing.step()
    assert [problem.actors is not None for problem in problems] == [problem is racing.problem for problem in problems]


def test_a_fault_of_an_environment_in_an_actor_is_reported_with_its_location(fault_file, with_actors):
    def faulty_problem(**options):
        options |= {"num_episodes": 3, "common_random_numbers": False, "seed": 4, "hidden_sizes": (3,)}
        return DenseGymProblem(FaultyEnv, env_config={"folder": str(fault_file.path)}, **options)

    problem = with_actors(faulty_problem(num_actors=2))
    values = problem.generate_batch(5).values
    expected = fitness(faulty_problem(), values, 2)
    generator = problem.generator.get_state()
    for kind in FAULTS:
        step = 0 if kind == "reset raises" else 3
        fault_file.inject(kind, seed=fault_file.seeds()[3 * 3 + 1], step=step)
        with pytest.raises(EvaluationError, match=f"^solution 3, episode 1, step {step}: "):
            problem.evaluate(batch_of(problem, values))
        assert (problem.interaction_count, problem.episode_count, problem.evaluation_round) == (0, 0, 0)
        assert torch.equal(problem.generator.get_state(), generator)
    fault_file.clear()
    assert torch.equal(fitness(problem, values, 2), expected)


def test_a_distributed_search_counts_the_steps_of_its_actors(with_actors):
    problem = with_actors(lander(num_actors=2, episode_length=5, observation_normalization=True))
    searcher = PGPE(
        problem,
        popsize=12,
        center_learning_rate=0.1,
        stdev_learning_rate=0.1,
        stdev_init=0.1,
        distributed=True,
    )
    for step, episode_length in enumerate((5, 5, 3), 1):
        problem.episode_length = episode_length
        before = problem.interaction_count
        searcher.step()
        assert problem.episode_count == step * 12 * 2
        assert problem.interaction_count - before == 12 * 2 * episode_length  # no episode ends earlier
        assert problem.get_observation_stats().count == problem.interaction_count
        assert problem.evaluation_round == step
        assert searcher.status["total_interaction_count"] == problem.interaction_count
    assert torch.isfinite(searcher.status["center"]).all()


def test_the_actors_of_a_distributed_search_follow_changes_of_the_simulator(with_actors):
    def play(*backends):
        problem = with_actors(lander(num_actors=2))
        searcher = SNES(problem, popsize=8, stdev_init=0.1, distributed=True)
        rewards = []
        for problem.backend in backends:
            searcher.step()
            rewards.append(searcher.status["mean_eval"])
        return rewards

    first, second = play("envpool", "gymnasium"), play("envpool", "envpool")
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_other_actors_take_over_the_work_of_a_killed_actor(with_actors):
    alone, together = lander(), with_actors(lander(num_actors=2))
    scores = alone.generate_batch(4).values
    assert torch.equal(fitness(together, scores), fitness(alone, scores))
    ray.kill(together.actors[0])
    for _ in range(2):
        assert torch.equal(fitness(together, scores), fitness(alone, scores))
        assert together.interaction_count == alone.interaction_count
        assert together.evaluation_round == alone.evaluation_round
    copy = with_actors(pickle.loads(pickle.dumps(together)))  # pickling does not call the dead actor
    assert torch.equal(fitness(copy, scores), fitness(alone, scores))
