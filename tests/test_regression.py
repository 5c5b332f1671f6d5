"""Short searches must give bit-identical rewards, so that no change of results goes unnoticed."""

import pytest
from pymoo.optimize import minimize

from algorithms import Continuation, ElitistGaussianResampling
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, TopK

pytest.importorskip("envpool")


def test_a_short_search_gives_a_bit_identical_reward():
    problem = MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), network_seed=0, seed=0
    )
    searcher = ElitistGaussianResampling(problem)
    searcher.run(20)
    returns = problem.test(searcher.status["center"], num_episodes=100, seed=12345)
    assert problem.interaction_count == 288_592
    assert returns.mean() == 187.86924429161286


def test_a_short_search_for_a_front_gives_bit_identical_rewards():
    masked = MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(32, 32), num_episodes=1,
        mask_rule=TopK(0.9, scope="erdos_renyi", rescale="fixed"), common_random_numbers=False, network_seed=0, seed=0,
    )  # fmt: skip
    algorithm = Continuation(num_levels=3, first_generations=6, generations=3)
    result = minimize(ParetoSparsityProblem(masked), algorithm, ("n_gen", 14), seed=0)
    assert masked.interaction_count == 86_153
    assert result.algorithm.opt.get("F").sum() == 164.2301918665568
