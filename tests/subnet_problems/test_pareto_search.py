"""The search for a front: what it leaves behind."""

import csv
import io
from functools import partial

import numpy as np
import pytest
from conftest import Echo
from rich.console import Console

from subnet_problems import EvaluationError, MaskedGymProblem, Subnetwork, TopK, pareto_search


class Endless(Echo):
    """Its episodes have no limit of their own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.spec = None


@pytest.mark.parametrize("env", [Echo, Endless])
def test_a_front_on_a_task_of_ones_own_has_one_policy_for_each_number_of_weights(env, tmp_path):
    masked = MaskedGymProblem(env, hidden_sizes=(3,), episode_length=5, mask=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=12)
    console = Console(file=io.StringIO())
    found, stopped = pareto_search.run(algorithm, tmp_path, budget=3_000, test_episodes=3, console=console)
    assert not stopped
    kept = [one.subnet.num_active for one in found]
    assert kept == sorted(set(kept))
    objectives = [(float(one.F[0]), float(one.F[1])) for one in algorithm.pop]
    front = {(f, g) for f, g in objectives if not any(a <= f and b <= g and (a, b) != (f, g) for a, b in objectives)}
    drawn = [(-one.seen, one.subnet.num_active / masked.network.num_weights) for one in found]
    np.testing.assert_allclose(sorted(drawn), sorted(front), rtol=1e-6)
    assert all(one.num_evaluations >= pareto_search.CLOSING_EVALUATIONS for one in found)
    with open(tmp_path / "front.csv", newline="") as file:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(file)]
    assert rows == [
        [
            one.subnet.sparsity, one.subnet.num_active, one.seen, one.num_evaluations, one.subnet.tests["mean"],
            one.subnet.tests["standard_error"],
        ]
        for one in found
    ]  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "policies").iterdir()) == sorted(
        f"{count}_weights.safetensors" for count in kept
    )
    for one in found:
        policy = Subnetwork.load(tmp_path / "policies" / f"{one.subnet.num_active}_weights.safetensors")
        assert policy.tests == one.subnet.tests
        steps = 10 if env is Echo else 5  # the search's, where the environment sets no limit
        assert policy.tests["mean"] == pytest.approx(steps * float(policy.act([1.0])[0]), rel=1e-5)


def test_earlier_policies_stay_until_there_are_new_ones(tmp_path, monkeypatch):
    masked = MaskedGymProblem(Echo, hidden_sizes=(3,), episode_length=5, mask=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=12)
    console = Console(file=io.StringIO())
    with pytest.raises(ValueError, match="test_seed: expected"):
        pareto_search.run(algorithm, tmp_path, budget=3_000, test_seed=-1, console=console)
    assert masked.interaction_count == 0
    earlier = tmp_path / "policies" / "99_weights.safetensors"
    earlier.parent.mkdir()
    earlier.touch()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pareto_search, "evaluate_again", interrupt)
        found, stopped = pareto_search.run(algorithm, tmp_path, budget=3_000, test_episodes=3, console=console)
    assert (found, stopped) == ([], True)
    assert earlier.exists()
    found, _ = pareto_search.run(algorithm, tmp_path, budget=3_000, test_episodes=3, console=console)
    assert not earlier.exists()
    assert len(list(earlier.parent.iterdir())) == len(found) > 0


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), EvaluationError(0, 0, 1, "a fault")])
def test_what_was_tested_before_a_fault_is_kept_with_its_table_and_so_is_what_was_there(fault, tmp_path, monkeypatch):
    masked = MaskedGymProblem(Echo, hidden_sizes=(8,), episode_length=5, mask=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=12)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "99_weights.safetensors").touch()
    tested = []

    def test(subnet, **options):
        if len(tested) == 1:
            raise fault
        tested.append(subnet)
        return in_full(subnet, **options)

    in_full = Subnetwork.test
    run = partial(pareto_search.run, algorithm, tmp_path, test_episodes=3, console=Console(file=io.StringIO()))
    with monkeypatch.context() as patch:
        patch.setattr(Subnetwork, "test", test)
        if isinstance(fault, EvaluationError):
            with pytest.raises(EvaluationError, match="a fault"):
                run(budget=3_000)
        else:
            assert run(budget=3_000)[1]
    with open(tmp_path / "front.csv", newline="") as file:
        assert [int(row["weights_kept"]) for row in csv.DictReader(file)] == [one.num_active for one in tested]
    assert {file.name for file in (tmp_path / "policies").iterdir()} == {
        "99_weights.safetensors", *(f"{one.num_active}_weights.safetensors" for one in tested)
    }  # fmt: skip
    assert (tmp_path / "checkpoint").exists()
    found, _ = run(budget=3_000)
    assert len(found) == len(list((tmp_path / "policies").iterdir())) > 1
    assert not (tmp_path / "checkpoint").exists()


def test_a_picture_that_cannot_be_drawn_costs_a_warning(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(pareto_search, "plot_front", broken)
    masked = MaskedGymProblem(Echo, hidden_sizes=(3,), episode_length=5, mask=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=12)
    (tmp_path / "front.png").write_bytes(b"an older one")
    console = Console(file=io.StringIO())
    with pytest.warns(UserWarning, match=r"front\.png could not be drawn: RuntimeError\('no ink'\)"):
        found, stopped = pareto_search.run(algorithm, tmp_path, budget=3_000, test_episodes=3, console=console)
    assert not stopped
    assert len((tmp_path / "front.csv").read_text().splitlines()) == len(found) + 1
    assert (tmp_path / "front.png").read_bytes() == b"an older one"
    assert not (tmp_path / "checkpoint").exists()


def test_where_nothing_can_be_kept_nothing_is_searched(tmp_path):
    masked = MaskedGymProblem(Echo, hidden_sizes=(3,), episode_length=5, mask=TopK(0.5), seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"^folder: "):
        pareto_search.begin(masked, tmp_path / "file", popsize=12)
    with pytest.raises(ValueError, match=r"^seed: expected"):
        pareto_search.begin(masked, tmp_path, seed=-1)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=12)
    (tmp_path / "policies").touch()
    with pytest.raises(NotADirectoryError, match=r"^folder: .*policies is a file"):
        pareto_search.run(algorithm, tmp_path, budget=3_000)
    (tmp_path / "policies").unlink()
    (tmp_path / "front.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"^folder: expected a file, got the folder .*front\.csv"):
        pareto_search.run(algorithm, tmp_path, budget=3_000)
    assert masked.interaction_count == 0


def test_a_configuration_that_no_file_holds_costs_no_policy(tmp_path):
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook'"):
        masked = MaskedGymProblem(Echo, env_config={"hook": object()}, hidden_sizes=(3,), mask=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=4)
    console = Console(file=io.StringIO())
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook'"):
        found, _ = pareto_search.run(algorithm, tmp_path, budget=500, test_episodes=2, console=console)
    policies = [Subnetwork.load(path) for path in (tmp_path / "policies").iterdir()]
    assert len(policies) == len(found) > 0
    assert {policy.missing_config for policy in policies} == {("hook",)}
    assert (tmp_path / "front.csv").exists()
