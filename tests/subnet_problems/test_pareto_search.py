"""The search for a front: what it leaves behind."""

import csv
import io

import numpy as np
import pytest
from conftest import Echo
from rich.console import Console

from subnet_problems import MaskedGymProblem, Subnetwork, TopK, pareto_search


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
