"""Plots of the progress of single searches."""

import numpy as np
import pytest

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import CSVLogger, plot_log, read_log
from subnet_problems.pictures import save_figure


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The folder of a search with a log row every second generation, and the statuses of these generations."""
    folder = tmp_path_factory.mktemp("search")
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0, num_threads=1)
    searcher = ElitistGaussianResampling(problem, popsize=8)
    CSVLogger(searcher, folder / "log.csv", interval=2)
    seen = []
    for _ in range(4):
        searcher.step()
        seen.append({name: float(searcher.status[name]) for name in ("mean_eval", "total_interaction_count")})
    return folder, seen[1::2]


def test_read_log_returns_the_logged_values(logged):
    folder, seen = logged
    for log in (folder, folder / "log.csv", str(folder)):
        rows = read_log(log)
        assert [{name: row[name] for name in seen[0]} for row in rows] == seen


def test_a_log_is_plotted_over_millions_of_environment_steps(logged, tmp_path):
    folder, seen = logged
    axes = plot_log(folder, threshold=475.0)
    line, solved = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [row["total_interaction_count"] / 1e6 for row in seen])
    np.testing.assert_array_equal(line.get_ydata(), [row["mean_eval"] for row in seen])
    assert set(solved.get_ydata()) == {475.0}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment steps (millions)", "mean_eval")
    save_figure(axes, tmp_path / "log.png")
    assert (tmp_path / "log.png").stat().st_size > 1_000


def test_several_logs_are_plotted_together_despite_missing_columns_and_values(logged, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("iter,mean_eval\n1.0,5.0\n2.0,\n3.0,7.0\n")
    axes = plot_log([logged[0], other], labels=["ours", "theirs"])
    lines = dict(zip([text.get_text() for text in axes.get_legend().get_texts()], axes.get_lines(), strict=True))
    assert list(lines) == ["ours", "theirs"]
    np.testing.assert_array_equal(lines["ours"].get_xdata(), [2.0, 4.0])  # generations, which both logs have
    np.testing.assert_array_equal(lines["theirs"].get_xdata(), [1.0, 3.0])
    np.testing.assert_array_equal(lines["theirs"].get_ydata(), [5.0, 7.0])
    assert plot_log(other, ax=axes) is axes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^log: expected a table with a row for each generation, got .*bad\.csv, which has no rows"),
        ("iter,mean_eval\n", r"^log: expected a table with a row for each generation"),
        ("iter,mean_eval\n1.0,good\n", r"^log: expected numbers in line 2 of .*: could not convert .* 'good'"),
        ("iter,mean_eval\n1.0,2.0,3.0\n", r"^log: expected numbers in line 2 of "),
        ("iter,mean_eval\n1.0\n", r"^log: expected numbers in line 2 of "),
    ],
)
def test_errors_in_a_log_are_reported_with_the_line(text, message, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        plot_log(tmp_path / "bad.csv")


def test_errors_name_the_invalid_argument(logged):
    folder, _ = logged
    with pytest.raises(ValueError, match=r"^quantity: expected one of \['best_eval', .*, which .* has, got 'reward'"):
        plot_log(folder, quantity="reward")
    with pytest.raises(ValueError, match=r"^labels: expected one for each of 1 logs, got \['a', 'b'\]"):
        plot_log(folder, labels=["a", "b"])
    with pytest.raises(ValueError, match=r"^logs: expected one at least, got none"):
        plot_log([])
    with pytest.raises(TypeError, match=r"^log: expected a path, got 3"):
        plot_log([3])
    with pytest.raises(FileNotFoundError, match=r"log\.csv"):
        plot_log(folder.parent)
