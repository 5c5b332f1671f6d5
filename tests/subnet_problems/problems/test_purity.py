"""Fitness depends only on the scores, the seed and the round."""

import pickle

import numpy as np
import pytest
import torch
from environments import OddSpaces
from evaluations import fitness
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem

NUM_SOLUTIONS = 7

WAYS = {
    "as it comes": {},
    "normalized": {"observation_normalization": True},
    "with noise": {"action_noise_stdev": 0.3},
    "episodes of their own": {"common_random_numbers": False},
    "all of it": {
        "observation_normalization": True,
        "action_noise_stdev": 0.3,
        "common_random_numbers": False,
        "decrease_rewards_by": 0.1,
        "alive_bonus_schedule": (5, 20, 0.5),
        "risk_aversion": 0.5,
        "sparsity": 0.5,
    },
}
each_way = pytest.mark.parametrize("way", WAYS)


def lander(**options):
    defaults = {"hidden_sizes": (6,), "num_episodes": 2, "episode_length": 60, "seed": 5}
    return MaskedGymProblem("LunarLander-v3", **defaults | options)


def scores_for(problem):
    return torch.randn((NUM_SOLUTIONS, problem.solution_length), generator=torch.Generator().manual_seed(1))


def three_rounds(problem):
    return fitness(problem, scores_for(problem), 3)


@each_way
def test_equal_seeds_give_bit_identical_fitness_and_each_round_has_its_own_episodes(way):
    first, second = (three_rounds(lander(**WAYS[way])) for _ in range(2))
    assert torch.equal(first, second)
    assert (first[0] != first[1]).all()
    assert (first[1] != first[2]).all()
    assert (first != three_rounds(lander(**WAYS[way], seed=6))).all()


@each_way
@pytest.mark.parametrize("split", [{"num_subbatches": 3}, {"subbatch_size": 2}, {"subbatch_size": 1}])
def test_fitness_does_not_depend_on_sub_batches(way, split):
    assert torch.equal(three_rounds(lander(**WAYS[way], **split)), three_rounds(lander(**WAYS[way])))


@pytest.mark.parametrize("num_subbatches", [NUM_SOLUTIONS, 50])
def test_there_may_be_as_many_sub_batches_as_solutions_or_more(num_subbatches):
    assert torch.equal(three_rounds(lander(num_subbatches=num_subbatches)), three_rounds(lander()))


@each_way
@pytest.mark.parametrize("num_threads", [1, 2])
def test_fitness_does_not_depend_on_threads(way, num_threads):
    problem = lander(**WAYS[way], num_threads=num_threads)
    assert problem.backend == "envpool"
    assert torch.equal(three_rounds(problem), three_rounds(lander(**WAYS[way])))


@each_way
@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_permuting_a_population_permutes_its_fitness(way, backend):
    problem, other = (lander(**WAYS[way], backend=backend) for _ in range(2))
    scores, order = scores_for(problem), torch.tensor([3, 6, 0, 5, 1, 4, 2])
    assert torch.equal(fitness(other, scores[order], 3), fitness(problem, scores, 3)[:, order])


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(NUM_SOLUTIONS)), way=st.sampled_from(sorted(WAYS)))
def test_every_permutation_of_a_population_permutes_its_fitness(order, way):
    problem, other = lander(**WAYS[way]), lander(**WAYS[way])
    scores = scores_for(problem)
    assert torch.equal(fitness(other, scores[torch.tensor(order)], 2), fitness(problem, scores, 2)[:, order])


def test_observation_statistics_do_not_depend_on_the_order_of_a_population():
    problem, other = (lander(observation_normalization=True, env_config={"continuous": True}) for _ in range(2))
    scores = scores_for(problem)
    for order in ([6, 5, 4, 3, 2, 1, 0], [3, 6, 0, 5, 1, 4, 2], [1, 2, 3, 4, 5, 6, 0]):
        fitness(problem, scores)
        fitness(other, scores[torch.tensor(order)])
        stats, others = problem.get_observation_stats(), other.get_observation_stats()
        np.testing.assert_array_equal(others.sum, stats.sum)
        np.testing.assert_array_equal(others.sum_of_squares, stats.sum_of_squares)


@pytest.mark.parametrize("way", ["as it comes", "with noise", "episodes of their own"])
def test_fitness_of_a_solution_does_not_depend_on_the_rest_of_the_population(way):
    problem = lander(**WAYS[way])
    scores = scores_for(problem)
    together = three_rounds(problem)
    for n in (0, NUM_SOLUTIONS - 1):
        assert torch.equal(fitness(lander(**WAYS[way]), scores[n : n + 1], 3)[:, 0], together[:, n])


def test_without_common_random_numbers_only_equal_masks_share_episodes():
    problem = MaskedGymProblem(OddSpaces, env_config={"discrete": True}, episode_length=20, common_random_numbers=False)
    scores = scores_for(problem)
    scores[4] = 2 * scores[2]
    evals = fitness(problem, scores, 2)
    assert torch.equal(evals[:, 4], evals[:, 2])
    assert len(set(evals[0].tolist())) == NUM_SOLUTIONS - 1


@each_way
def test_evaluations_of_other_problems_do_not_affect_fitness(way):
    problem = lander(**WAYS[way])
    scores = scores_for(problem)
    rounds = []
    for seed in range(3):
        rounds.append(fitness(problem, scores)[0])
        other = DenseGymProblem("CartPole-v1", seed=seed, episode_length=20)
        fitness(other, other.generate_batch(3).values)
        torch.randn(seed + 1)
        np.random.random(seed + 1)  # noqa: NPY002
        problem.generate_batch(2)
    assert torch.equal(torch.stack(rounds), three_rounds(lander(**WAYS[way])))


NETWORKS = {
    "ELU": "Linear(obs_length, 40) >> ELU() >> Linear(40, act_length)",
    "sigmoid": "Linear(obs_length, 41) >> Sigmoid() >> Linear(41, act_length)",
    "recurrent": "RNN(obs_length, 40) >> Linear(40, act_length)",
    "LSTM": "LSTM(obs_length, 41) >> Linear(41, act_length)",
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("subbatch_size", [1, 3])
@pytest.mark.parametrize("num_episodes", [1, 2])
def test_networks_without_a_kernel_have_the_same_fitness_in_any_sub_batch(network, subbatch_size, num_episodes):
    options = {"network": NETWORKS[network], "hidden_sizes": None, "num_episodes": num_episodes}
    options |= {"env_config": {"continuous": True}, "episode_length": 5}  # actions reveal differences of outputs
    whole, split = lander(**options), lander(**options, subbatch_size=subbatch_size)
    assert torch.equal(fitness(split, scores_for(split)), fitness(whole, scores_for(whole)))


@pytest.mark.parametrize("discrete", [True, False])
def test_fitness_in_a_custom_environment_is_reproducible(discrete):
    def odd(**options):
        env_config = {"discrete": discrete}
        return MaskedGymProblem(OddSpaces, env_config=env_config, episode_length=20, seed=1, **options)

    first = three_rounds(odd())
    assert torch.equal(three_rounds(odd(subbatch_size=3)), first)
    assert torch.equal(three_rounds(odd()), first)
    assert (first[0] != first[1]).all()


@pytest.mark.parametrize(
    "copy", [lambda p: p.clone(), lambda p: pickle.loads(pickle.dumps(p))], ids=["clone", "pickle"]
)
@each_way
def test_a_copy_of_a_problem_continues_identically(way, copy):
    problem = lander(**WAYS[way])
    scores = scores_for(problem)
    fitness(problem, scores, 2)
    other = copy(problem)
    assert torch.equal(other.generate_batch(3).values, problem.generate_batch(3).values)
    assert torch.equal(fitness(other, scores, 2), fitness(problem, scores, 2))
    assert other.status["total_interaction_count"] == problem.status["total_interaction_count"]
    assert other.evaluation_round == problem.evaluation_round == 4


@pytest.mark.parametrize(
    "copy", [lambda p: p.clone(), lambda p: pickle.loads(pickle.dumps(p))], ids=["clone", "pickle"]
)
def test_a_copy_and_its_original_count_separately(copy):
    problem = lander(observation_normalization=True)
    scores = scores_for(problem)
    fitness(problem, scores)
    before = (problem.interaction_count, problem.episode_count, problem.get_observation_stats().count)
    other = copy(problem)
    fitness(other, scores)
    assert (problem.interaction_count, problem.episode_count, problem.get_observation_stats().count) == before
    assert problem.status["total_episode_count"] == problem.episode_count == NUM_SOLUTIONS * 2
    assert other.status["total_episode_count"] == other.episode_count == NUM_SOLUTIONS * 4


def test_a_pickled_searcher_continues_identically():
    def searcher():
        return ElitistGaussianResampling(lander(observation_normalization=True), popsize=6, num_elites=2)

    whole, first_half = searcher(), searcher()
    whole.run(4)
    first_half.run(2)
    second_half = pickle.loads(pickle.dumps(first_half))
    second_half.run(2)
    assert torch.equal(second_half.population.values, whole.population.values)
    assert torch.equal(second_half.population.evals, whole.population.evals)
    assert second_half.status["total_interaction_count"] == whole.status["total_interaction_count"]
    assert second_half.step_count == 4


def test_without_a_seed_a_problem_draws_one_and_exposes_it():
    problem, other = (lander(seed=None) for _ in range(2))
    assert problem.problem_seed != other.problem_seed
    again = lander(seed=problem.problem_seed)
    assert torch.equal(again.generate_batch(4).values, problem.generate_batch(4).values)
    assert torch.equal(three_rounds(again), three_rounds(problem))


def test_the_seeds_of_the_problem_and_of_the_network_are_independent():
    problem, other_network = lander(), lander(network_seed=1)
    assert torch.equal(lander(seed=99).frozen_weights, problem.frozen_weights)
    assert not torch.equal(other_network.frozen_weights, problem.frozen_weights)
    assert torch.equal(other_network.generate_batch(4).values, problem.generate_batch(4).values)
