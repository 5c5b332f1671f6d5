"""A short search must give a bit-identical reward, so that no change of results goes unnoticed."""

import pytest

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem

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
