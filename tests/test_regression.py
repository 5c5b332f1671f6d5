"""A short search that must come to the very same reward: nothing that decides a run may change unnoticed."""

import pytest

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem

pytest.importorskip("envpool")


def test_a_short_search_comes_to_the_same_reward_bit_for_bit():
    problem = MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), network_seed=0, seed=0
    )
    searcher = ElitistGaussianResampling(problem)
    searcher.run(20)
    returns = problem.test(searcher.status["center"], num_episodes=100, seed=12345)
    assert problem.interaction_count == 288_592
    assert returns.mean() == 187.86924429161286
