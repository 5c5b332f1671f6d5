"""What runs came to: the law of each number, on tests that are written down."""

import numpy as np
import pytest

from subnet_problems.outcomes import comparison, learning_curves, outcome


def test_an_outcome_counts_seeds_and_the_samples_of_the_first_test_that_reached_it():
    def row(seed, steps, test_mean):
        return {"name": "a", "seed": seed, "steps": steps, "test_mean": test_mean, "again_mean": 1.0, "sparsity": 0.5}

    rows = [row(0, 10, 5.0), row(0, 20, 9.0), row(0, 30, 7.0), row(1, 10, 1.0), row(1, 20, 2.0), row(1, 30, 3.0)]
    found = outcome(reversed(rows), "a", solved=7.0)
    assert found.samples.tolist() == [20, np.inf]
    assert (found.num_seeds, found.num_solved) == (2, 1)
    assert found.highest.tolist() == [9.0, 3.0]
    assert found.final.tolist() == [7.0, 3.0]
    at, lines = learning_curves(rows, "a")
    assert (at[0], at[-1]) == (10, 30)
    assert lines[:, 100].tolist() == [9.0, 2.0]


def test_names_without_runs_come_to_nothing_and_have_no_curve():
    assert outcome([], "a", solved=1.0).num_seeds == 0
    with pytest.raises(ValueError, match=r"^name: expected that of some runs, got 'a'"):
        learning_curves([], "a")
    with pytest.raises(ValueError, match=r"^names: expected those of some runs, got 'a'"):
        comparison([], ["a"], solved=None)
