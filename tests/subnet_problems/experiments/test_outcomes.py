"""Outcomes of runs, computed from given tables of tests."""

import numpy as np
import pytest
from disks import full_disk

from subnet_problems.experiments import comparison, learning_curves, outcome, read_tests, write_table
from subnet_problems.experiments._outcomes import FIELDS


def test_an_outcome_has_seeds_and_the_steps_of_the_first_test_that_solved_the_task():
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


def test_names_without_runs_have_no_outcome_and_no_curve():
    assert outcome([], "a", solved=1.0).num_seeds == 0
    with pytest.raises(ValueError, match=r"^name: expected the name of a run, got 'a'"):
        learning_curves([], "a")
    with pytest.raises(ValueError, match=r"^names: expected names of runs, got 'a'"):
        comparison([], ["a"], solved=None)


def a_test(**changes):
    return {
        **dict.fromkeys(FIELDS, 1.0),
        "name": "a",
        "seed": 0,
        "generation": 2,
        "steps": 10,
        "episodes": 3,
        **changes,
    }


def test_tables_with_custom_columns_are_written_and_read_unchanged(tmp_path):
    path = tmp_path / "new" / "tests.csv"
    rows = [a_test(note="a windy day"), a_test(steps=20, again_mean="", again_standard_error="", note="")]
    assert read_tests(path) == []
    write_table(path, rows)
    assert read_tests(path) == rows
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_table(path, rows)
    with pytest.raises(ValueError, match="dict contains fields not in fieldnames"):
        write_table(path, rows, FIELDS)
    assert read_tests(path) == rows
    write_table(path, [], FIELDS)
    assert read_tests(path) == []
    with pytest.raises(ValueError, match=r"^fields: expected the columns, since there are no rows"):
        write_table(path, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^path: expected a file of tests, got .*tests\.csv, which has no columns name, seed, generation, "),
        ("name,seed\na,0\n", r"which has no columns generation, steps, "),
        (",".join(FIELDS) + "\na,0\n", r"^path: expected a test in line 2 of .*tests\.csv: "),
        (",".join(FIELDS) + "\na,zero,1,1,1,1,1,1,1,1,1\n", r"^path: expected a test in line 2 of .*: .*'zero'"),
        (",".join(FIELDS) + "\na,0,1,1,1,1,1,1,1,1,1,1,1\n", r"^path: expected a test in line 2 of "),
    ],
)
def test_read_tests_refuses_other_files(text, message, tmp_path):
    (tmp_path / "tests.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tests(tmp_path / "tests.csv")
