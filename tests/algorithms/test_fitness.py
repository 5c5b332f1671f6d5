"""How evaluations are compared if some of them are infinite."""

import itertools
import math

import pytest
import torch
from evotorch import Problem

from algorithms._candidates import Candidate, judged
from algorithms._fitness import evaluate, pooled_stdev, rank_key

INF = math.inf


def test_finite_evaluations_are_ranked_by_their_mean():
    assert rank_key([1.0, 2.0, 6.0]) == (0.0, 0.0, 3.0)
    assert rank_key([1.0, 2.0, 6.0, 7.0], margin=-4.0) == (0.0, 0.0, 4.0 - 4.0 / 2)


def test_fewer_infinitely_bad_evaluations_rank_first_then_more_infinitely_good_ones():
    from_worst = [
        [-INF, -INF],
        [math.nan, -INF, -1.0, -1.0],
        [-INF, INF, INF],
        [-INF, -5.0, 1e6, 1e6],
        [-INF, 3.0, INF, 2.0],
        [-1e300, -1e300],
        [2.0],
        [3.0, 3.0],
        [INF, 1.0],
        [INF],
    ]
    for worse, better in itertools.pairwise(from_worst):
        assert rank_key(worse) < rank_key(better)


def test_the_pooled_stdev_ignores_infinite_evaluations():
    assert pooled_stdev([[1.0, 3.0, -INF], [5.0, 5.0], [INF, 8.0]], [7.0]) == math.sqrt((2.0 + 0.0) / 2)
    assert pooled_stdev([[1.0], [-INF, -INF]], [1.0, 3.0, INF]) == 1.0
    assert pooled_stdev([[-INF]], [INF, -INF]) == 0.0


def test_evaluations_near_the_largest_float_do_not_overflow():
    assert rank_key([1.7e308, 1.7e308]) > rank_key([1.0])
    assert rank_key([-1.7e308, -1.7e308]) < rank_key([1.0])
    assert math.isfinite(pooled_stdev([[1.7e308, -1.7e308]], []))


def test_a_candidate_with_an_infinitely_bad_evaluation_is_not_returned_and_is_dropped_first():
    sound, unsound = Candidate(torch.zeros(2), (1.0, 2.0)), Candidate(torch.ones(2), (9.0, 9.0))
    kept, best = judged([sound, unsound], [1.5, -INF], [0.0, -INF], room=2)
    assert best.values is sound.values
    assert [candidate.values is sound.values for candidate in kept] == [True]
    assert best.seen == (1.0, 2.0, 1.5)
    assert sound.seen == (1.0, 2.0)  # the input is not changed


def test_the_candidate_with_the_best_confidence_bound_is_best_despite_infinitely_bad_others():
    """The finite evaluations have standard deviation 1: 5 - 1 / sqrt(4) is more than 5.2 - 1 / sqrt(1)."""
    often, once, bad = ((4.0, 6.0, 5.0), (), (-INF, 7.0))
    candidates = [Candidate(torch.full((2,), float(i)), shown) for i, shown in enumerate((often, once, bad))]
    kept, best = judged(candidates, [5.0, 5.2, -INF], [], room=4)
    assert best.values is candidates[0].values
    assert len(kept) == 3


@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("fitness", [INF, -INF])
def test_a_batch_of_only_infinite_fitness_is_evaluated_and_runs_the_hooks(sense, fitness):
    """EvoTorch records the best and the worst solution so far, and here one of them does not exist."""
    problem = Problem(sense, lambda x: torch.full((len(x),), fitness), solution_length=2, initial_bounds=(-1, 1),
                      vectorized=True, seed=0)  # fmt: skip
    problem.after_eval_hook.append(lambda batch: {"hooked": len(batch)})
    batch = problem.generate_batch(3)
    for _ in range(2):
        evaluate(problem, batch, obj_index=0)
        assert batch.evals.tolist() == [[fitness]] * 3
        assert problem.status == {"hooked": 3}


def test_an_attribute_error_in_user_code_is_raised():
    def drive(x):
        return x.wheels

    problem = Problem("min", drive, solution_length=2, initial_bounds=(-1, 1), vectorized=True, seed=0)
    with pytest.raises(AttributeError, match="wheels"):
        evaluate(problem, problem.generate_batch(3), obj_index=0)
