"""Jobs whose rows are collected in a file."""

import pytest

from subnet_problems.experiments import collect, read_rows


def work(name, seed):
    if name == "fails":
        raise ValueError("seed: expected another")
    if name == "nothing":
        return []
    return [{"value": seed + 0.5, "text": f"{name} of {seed}"}, {"value": None, "text": ""}]


def jobs_of(*names, seeds=(0, 1)):
    return [{"name": name, "seed": seed} for name in names for seed in seeds]


def test_rows_are_saved_when_jobs_end_and_no_job_runs_twice(tmp_path):
    path = tmp_path / "rows.csv"
    rows = collect(work, jobs_of("a"), path, num_jobs=2, quiet=True)
    assert sorted((row["seed"], row["value"] or 0.0) for row in rows) == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 1.5)]
    assert rows == read_rows(path)
    assert next(row for row in rows if row["value"] == 1.5) == {
        "name": "a", "seed": 1, "value": 1.5, "text": "a of 1"
    }  # fmt: skip
    path.write_text(path.read_text().replace("a of 1", "as it was"))
    more = collect(work, jobs_of("a", "b", seeds=(1,)), path, num_jobs=1, quiet=True)
    assert len(more) == 6
    assert {"as it was", "b of 1"} <= {row["text"] for row in more}
    path.write_text("name,seed,value\na,0,0.5\n")  # a table without the columns that later jobs return
    more = collect(work, jobs_of("a", seeds=(0, 1)), path, num_jobs=1, quiet=True)
    assert [row["text"] for row in more] == [None, "a of 1", None]


def echoed(setting, other):
    return [{"value": other}]


def test_texts_that_look_like_numbers_do_not_make_jobs_run_again(tmp_path):
    path = tmp_path / "rows.csv"
    jobs = [{"setting": text, "other": other} for text in ('{"wind": true}', "1e-3", "true") for other in (1, 2)]
    collect(echoed, jobs[:5], path, num_jobs=1, quiet=True)
    lines = path.read_text()
    assert lines.count('"{""wind"": true}"') == 2
    rows = collect(echoed, jobs, path, num_jobs=1, quiet=True)
    assert path.read_text().startswith(lines)
    assert [row["value"] for row in rows] == [1, 2, 1, 2, 1, 2]


def test_rows_of_jobs_finished_before_an_error_are_kept(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(ValueError, match=r"^seed: expected another"):
        collect(work, jobs_of("a", "fails", seeds=(0,)), path, num_jobs=1, quiet=True)
    assert [row["name"] for row in read_rows(path)] == ["a", "a"]
    with pytest.raises(ValueError, match=r"^work: expected at least one row of each job, got none of .*'nothing'"):
        collect(work, jobs_of("nothing", seeds=(0,)), path, num_jobs=1, quiet=True)


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([], "jobs: expected at least one"),
        ([{"name": "a", "seed": 0}, {"seed": 0, "name": "b"}], "jobs: expected at least one, all with the same names"),
        (jobs_of("a", "a"), "jobs: expected no duplicates"),
    ],
)
def test_missing_inconsistent_or_duplicate_jobs_are_refused(jobs, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        collect(work, jobs, tmp_path / "rows.csv", quiet=True)
    assert not (tmp_path / "rows.csv").exists()


def test_a_file_of_other_jobs_is_refused_before_any_job_runs(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("task,reward\nlander,200\n")
    with pytest.raises(ValueError, match=r"^path: expected the rows of such jobs, .* no columns name, seed$"):
        collect(work, jobs_of("fails"), path, quiet=True)
    path.write_text("name,seed\na,0,1\n")
    with pytest.raises(ValueError, match=r"^path: expected a row in line 2 of .*: more cells than columns, \['1'\]"):
        read_rows(path)
