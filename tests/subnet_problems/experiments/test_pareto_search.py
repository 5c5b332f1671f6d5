"""The search for a front: the policies it chooses, its files, and the effect of Ctrl-C and errors."""

import csv
import io
from dataclasses import replace
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from environments import SHORT_POLE, Dim, Echo
from interruptions import contents, stop_at
from rich.console import Console
from small_subnetworks import RNN, module

from algorithms import ParetoCheckpointer, resume
from subnet_problems import EvaluationError, MaskedGymProblem, Subnetwork, TopK
from subnet_problems.experiments import _found as _front
from subnet_problems.experiments import pareto_search

CHECKPOINTS = {"checkpoint", "checkpoint.previous"}
SMALLEST = {"smallest.safetensors", "smallest.gif", "smallest.h", "smallest.png"}


class Endless(Echo):
    """The environment has no step limit."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.spec = None


def quiet():
    return Console(file=io.StringIO(), width=200)


def echo(env=Echo, **options):
    options = {"hidden_sizes": (3,), "episode_length": 5, "mask_rule": TopK(0.5), "seed": 0, **options}
    return MaskedGymProblem(env, **options)


def begin_search(folder, env=Echo, *, popsize=12, algorithm="continuation", **options):
    return pareto_search.begin(echo(env, **options), folder, popsize=popsize, algorithm=algorithm)


def rows_of(folder, name="front.csv"):
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def names_in(folder):
    return {file.name for file in folder.iterdir()}


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("algorithm", ["continuation", "nsga2"])
@pytest.mark.parametrize("env", [Echo, Endless])
def test_a_front_of_a_custom_task_has_one_policy_for_each_number_of_weights(env, algorithm, tmp_path):
    search = begin_search(tmp_path, env, algorithm=algorithm, hidden_sizes=(5,))
    masked = search.problem.masked
    found, stopped = pareto_search.run(search, tmp_path, budget=3_000, test_episodes=3, console=quiet())
    assert not stopped
    kept = [one.subnet.num_active for one in found]
    assert kept == sorted(set(kept))
    seen = [one.seen for one in found]
    assert seen == sorted(set(seen))  # policies with more weights earn more
    # Here, returns depend only on the policy, so the front is the exact front of all candidates.
    groups = [[one.X] for one in search.pop]
    if algorithm == "continuation":
        groups = [list(group[:8]) for group in pareto_search.groups_of(search)]
        sizes = [set(search.problem.mask(np.stack(group)).sum(dim=1).tolist()) for group in groups]
        assert len(sizes) > 1
        (counts,) = zip(*sizes, strict=True)  # one group per number of weights, despite 20 levels
        assert list(counts) == sorted(set(counts), reverse=True)
        assert sum(map(len, pareto_search.groups_of(search))) == sum(map(len, search.promising()))
    candidates = [search.problem.to_subnetwork(x) for group in groups for x in group]
    steps = 10 if env is Echo else 5  # the limit of the search if the environment has none
    points = [(-steps * float(one.act([1.0])[0]), one.num_active) for one in candidates]
    front = {(f, g) for f, g in points if not any(a <= f and b <= g and (a, b) != (f, g) for a, b in points)}
    drawn = [(-one.seen, one.subnet.num_active) for one in found]
    np.testing.assert_allclose(sorted(drawn), sorted(front), rtol=1e-5)
    assert all(one.num_evaluations == 60 for one in found)
    assert [[float(value) for value in row.values()] for row in rows_of(tmp_path)] == [
        [
            one.subnet.sparsity, one.subnet.num_active, one.seen, one.num_evaluations,
            one.subnet.tests["mean"], one.subnet.tests["standard_error"],
        ]
        for one in found
    ]  # fmt: skip
    assert all(one.subnet.prune().num_active == one.subnet.num_active for one in found)  # no policy has dead weights
    assert names_in(tmp_path / "policies") == {f"{count}_weights.safetensors" for count in kept}
    for one in found:
        policy = Subnetwork.load(tmp_path / "policies" / f"{one.subnet.num_active}_weights.safetensors")
        assert policy.tests == one.subnet.tests
        assert policy.tests["mean"] == pytest.approx(steps * float(policy.act([1.0])[0]), rel=1e-5)
    assert (masked.backend, masked.episode_length) == ("gymnasium", 5)
    assert names_in(tmp_path) - CHECKPOINTS == {"policies", "front.csv", "progress.csv", "front.png"}


def test_individuals_are_chosen_by_whole_episodes_on_gymnasium():
    masked = MaskedGymProblem(
        "CartPole-v1", hidden_sizes=(4,), mask_rule=TopK(0.5), seed=0, episode_length=30, common_random_numbers=False
    )
    problem = pareto_search.ParetoSparsityProblem(masked)
    x = np.random.default_rng(0).normal(size=(5, problem.n_var))
    x[:, -1] = -1.0
    before = masked.backend, masked.episode_length
    (found,) = pareto_search.choose(problem, [x])
    assert (masked.backend, masked.episode_length) == before == ("envpool", 30)
    assert found.num_evaluations == 60
    means = [problem.to_subnetwork(row).test(num_episodes=50).mean() for row in x]
    assert max(means) > 30.0
    assert found.subnet.test(num_episodes=50).mean() == max(means)
    assert found.seen == pytest.approx(max(means), rel=0.3)


def test_earlier_policies_are_kept_until_new_ones_exist(tmp_path, monkeypatch):
    algorithm = begin_search(tmp_path)
    run = partial(pareto_search.run, algorithm, tmp_path, test_episodes=3, console=quiet())
    with pytest.raises(ValueError, match="test_seed: expected"):
        run(budget=3_000, test_seed=-1)
    assert algorithm.problem.interaction_count == 0
    earlier = tmp_path / "policies" / "99_weights.safetensors"
    earlier.parent.mkdir()
    earlier.touch()
    (tmp_path / "smallest.h").touch()
    with monkeypatch.context() as patch:
        patch.setattr(pareto_search, "choose", interrupt)
        found, stopped = run(budget=3_000)
    assert (found, stopped) == ([], True)
    assert earlier.exists()
    assert (tmp_path / "smallest.h").exists()
    assert (tmp_path / "checkpoint").exists()
    found, stopped = run(budget=3_000)
    assert not stopped
    assert not earlier.exists()
    assert not (tmp_path / "smallest.h").exists()
    assert len(list(earlier.parent.iterdir())) == len(found) > 0


def run_with(fault, run, monkeypatch):
    """Run a search with a fault in its second test: the tested policies, and after Ctrl-C what the search found."""
    tested, in_full = [], Subnetwork.test

    def test(subnet, **options):
        if len(tested) == 1:
            raise fault
        tested.append(subnet)
        return in_full(subnet, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Subnetwork, "test", test)
        if isinstance(fault, EvaluationError):
            with pytest.raises(EvaluationError, match="a fault"):
                run(budget=3_000)
            return tested, None
        found, stopped = run(budget=3_000)
    assert stopped
    return tested, found


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), EvaluationError(0, 0, 1, "a fault")])
def test_an_error_during_tests_keeps_tested_and_earlier_policies(fault, tmp_path, monkeypatch):
    algorithm = begin_search(tmp_path, hidden_sizes=(8,))
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "99_weights.safetensors").touch()
    for name in SMALLEST:
        (tmp_path / name).touch()
    run = partial(pareto_search.run, algorithm, tmp_path, test_episodes=3, console=quiet())
    tested, found = run_with(fault, run, monkeypatch)
    if found is not None:
        assert [one.subnet.mask.tolist() for one in found] == [one.mask.tolist() for one in tested]
        assert (tmp_path / "front.png").exists()
    assert [int(row["weights_kept"]) for row in rows_of(tmp_path)] == [one.num_active for one in tested]
    assert names_in(tmp_path / "policies") == {
        "99_weights.safetensors", *(f"{one.num_active}_weights.safetensors" for one in tested)
    }  # fmt: skip
    assert not SMALLEST & names_in(tmp_path)  # the old files belong to no policy of this table
    assert (tmp_path / "checkpoint").exists()
    found, _ = run(budget=3_000)
    assert len(found) == len(list((tmp_path / "policies").iterdir())) > 1


@pytest.mark.filterwarnings("ignore:.*smallest.gif could not be drawn")  # the environment does not render
@pytest.mark.parametrize("fault", [KeyboardInterrupt(), EvaluationError(0, 0, 1, "a fault")])
def test_an_error_during_tests_keeps_the_whole_earlier_front(fault, tmp_path, monkeypatch):
    algorithm = begin_search(tmp_path, hidden_sizes=(8,))
    run = partial(pareto_search.run, algorithm, tmp_path, test_episodes=3, console=quiet(), min_reward=-1e9)
    run(budget=2_000)
    shown = [path for path in tmp_path.rglob("*") if path.suffix and "checkpoint" not in path.name]
    before = {path: path.read_bytes() for path in shown if path.name != "progress.csv"}
    assert {"front.csv", "front.png", *SMALLEST} - {path.name for path in before} == {"smallest.gif"}
    run_with(fault, run, monkeypatch)
    assert {path: path.read_bytes() for path in before} == before
    found, _ = run(budget=3_000)
    assert names_in(tmp_path / "policies") == {f"{one.subnet.num_active}_weights.safetensors" for one in found}
    assert not (tmp_path / "policies.new").exists()


def test_a_figure_that_cannot_be_drawn_causes_only_a_warning(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(_front, "plot_front", broken)
    algorithm = begin_search(tmp_path)
    (tmp_path / "front.png").write_bytes(b"an older one")
    with pytest.warns(UserWarning, match=r"front\.png could not be drawn: RuntimeError\('no ink'\)"):
        found, stopped = pareto_search.run(algorithm, tmp_path, budget=3_000, test_episodes=3, console=quiet())
    assert not stopped
    assert len(rows_of(tmp_path)) == len(found)
    assert (tmp_path / "front.png").read_bytes() == b"an older one"


def test_an_unusable_folder_is_refused_before_the_search(tmp_path):
    masked = echo()
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
    for name in ("front.csv", "progress.csv", "front.png", *SMALLEST):
        (tmp_path / name).mkdir()
        with pytest.raises(IsADirectoryError, match=rf"^folder: expected a file, got the folder .*{name}"):
            pareto_search.run(algorithm, tmp_path, budget=3_000)
        (tmp_path / name).rmdir()
    (tmp_path / "checkpoint").touch()
    with pytest.raises(FileExistsError, match=r"^folder: expected a file that does not exist, got .*checkpoint"):
        pareto_search.begin(masked, tmp_path)
    assert masked.interaction_count == 0


def test_policies_are_saved_without_a_configuration_that_no_file_can_hold(tmp_path):
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook'"):
        masked = MaskedGymProblem(Echo, env_config={"hook": object()}, hidden_sizes=(3,), mask_rule=TopK(0.5), seed=0)
    algorithm = pareto_search.begin(masked, tmp_path, popsize=4)
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook'"):
        found, _ = pareto_search.run(algorithm, tmp_path, budget=500, test_episodes=2, console=quiet())
    policies = [Subnetwork.load(path) for path in (tmp_path / "policies").iterdir()]
    assert len(policies) == len(found) > 0
    assert {policy.missing_config for policy in policies} == {("hook",)}
    assert (tmp_path / "front.csv").exists()


def test_the_smallest_sufficient_policy_has_a_file_a_film_a_header_and_a_picture(tmp_path):
    algorithm, console = begin_search(tmp_path, Dim), quiet()
    found, _ = pareto_search.run(algorithm, tmp_path, budget=3_000, min_reward=0.1, test_episodes=3, console=console)
    enough = [one for one in found if one.subnet.tests["mean"] >= 0.1]
    fewest = min(one.subnet.num_active for one in enough)
    policy = Subnetwork.load(tmp_path / "smallest.safetensors")
    assert policy.num_active == fewest
    assert policy.tests["mean"] >= 0.1
    assert policy.tests["mean"] == pytest.approx(10 * float(policy.act([1.0])[0]), rel=1e-5)
    assert names_in(tmp_path) >= SMALLEST
    assert "smallest_act" in (tmp_path / "smallest.h").read_text()
    text = f"The smallest policy that earns 0.1 has {fewest} weights: {policy.tests['mean']:.1f} ± 0.0 in its test."
    assert text in console.file.getvalue()


@pytest.mark.parametrize(
    ("min_reward", "sentence"),
    [
        (1e6, "No policy earns 1e+06; a longer search (or another seed) may find one."),
        (None, "There is no smallest policy: the task has no reward threshold, and min_reward is not given."),
    ],
)
def test_without_a_smallest_policy_a_message_says_why_and_old_files_are_removed(min_reward, sentence, tmp_path):
    algorithm, console = begin_search(tmp_path), quiet()
    for name in SMALLEST:
        (tmp_path / name).touch()
    found, stopped = pareto_search.run(
        algorithm, tmp_path, budget=1_000, min_reward=min_reward, test_episodes=2, console=console
    )
    assert (len(found) > 0, stopped) == (True, False)
    assert sentence in console.file.getvalue()
    assert not SMALLEST & names_in(tmp_path)


def test_among_smallest_policies_the_one_with_the_highest_reward_is_chosen():
    masked = MaskedGymProblem("CartPole-v1", hidden_sizes=(2,), seed=0)

    def found(num_weights, mean):
        subnet = masked.mask_to_subnetwork(np.arange(masked.network.num_weights) < num_weights)
        return pareto_search.Found(replace(subnet, tests={"mean": mean}), 0.0, 1)

    policies = [found(2, 9.0), found(2, 10.0), found(2, 8.0), found(1, 1.0)]
    assert _front.smallest(policies, 5.0) is policies[1]
    assert _front.smallest(policies, 11.0) is None


@pytest.mark.parametrize("stage", ["search", "choosing"])
@pytest.mark.parametrize("algorithm", ["continuation", "nsga2"])
def test_an_interrupted_search_keeps_its_policies_and_resumes_to_identical_files(
    algorithm, stage, tmp_path, monkeypatch
):
    per_generation = 20 if algorithm == "continuation" else 120  # steps
    run = partial(
        pareto_search.run, budget=28 * per_generation, min_reward=0.0, test_episodes=2, console=quiet()
    )  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = {"popsize": 4, "algorithm": algorithm, "common_random_numbers": algorithm == "nsga2"}
    run(search := begin_search(whole, Dim, **options), whole)
    generations = len(rows_of(whole, "progress.csv"))
    assert 24 < generations == search.n_iter - 1 < 30  # several checkpoints were written
    with monkeypatch.context() as patch:
        last = int(rows_of(whole, "progress.csv")[22 if stage == "search" else -1]["steps"])
        stop_at(patch, last if stage == "search" else last + 1)
        found, was_stopped = run(begin_search(stopped, Dim, **options), stopped)
    assert was_stopped
    if stage == "choosing":
        assert names_in(stopped) == {"checkpoint", "checkpoint.previous", "progress.csv"}
    else:
        assert len(rows_of(stopped, "progress.csv")) == 23
        assert len(found) == len(rows_of(stopped)) == len(names_in(stopped / "policies")) > 0
        assert names_in(stopped) >= {"front.png", *SMALLEST}
    run(resume(stopped / "checkpoint", allow_pickle=True), stopped)
    assert contents(stopped) == contents(whole)


@pytest.mark.parametrize("algorithm", ["continuation", "nsga2"])
def test_extending_the_budget_of_a_finished_search_equals_a_larger_budget(algorithm, tmp_path):
    whole, extended = tmp_path / "whole", tmp_path / "extended"
    options = {"popsize": 4, "algorithm": algorithm, "common_random_numbers": algorithm == "nsga2"}
    run = partial(pareto_search.run, min_reward=0.0, test_episodes=2, console=quiet())
    run(begin_search(whole, Dim, **options), whole, budget=3_000)
    _, stopped = run(begin_search(extended, Dim, **options), extended, budget=1_500)
    assert not stopped
    assert (extended / "progress.csv").read_bytes() != (whole / "progress.csv").read_bytes()
    run(resume(extended / "checkpoint", allow_pickle=True), extended, budget=3_000)
    assert contents(extended) == contents(whole)


def test_ctrl_c_in_the_first_generation_leaves_no_files(tmp_path, monkeypatch):
    stop_at(monkeypatch, 0)
    console = quiet()
    assert pareto_search.run(begin_search(tmp_path), tmp_path, budget=3_000, console=console) == ([], True)
    assert not names_in(tmp_path)
    assert "Stopped before the end of the first generation." in console.file.getvalue()


def test_ctrl_c_at_the_end_of_the_first_generation_starts_the_tests(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ParetoCheckpointer, "_update", interrupt)
        found, stopped = pareto_search.run(
            begin_search(tmp_path), tmp_path, budget=3_000, test_episodes=2, console=quiet()
        )
    assert (len(found), stopped) == (1, True)
    assert names_in(tmp_path) == {"policies", "front.csv", "progress.csv", "front.png"}


def test_a_second_ctrl_c_ends_the_tests_without_pictures(tmp_path, monkeypatch):
    tested, in_full = [], Subnetwork.test

    def test(subnet, **options):
        if tested:
            raise KeyboardInterrupt
        tested.append(in_full(subnet, **options))
        return tested[-1]

    monkeypatch.setattr(Subnetwork, "test", test)
    stop_at(monkeypatch, 1_200)
    found, stopped = pareto_search.run(
        begin_search(tmp_path, popsize=4, hidden_sizes=(8,)), tmp_path, budget=3_000, test_episodes=2, console=quiet()
    )  # fmt: skip
    assert (len(found), stopped) == (1, True)
    assert len(rows_of(tmp_path)) == 1
    assert names_in(tmp_path) - CHECKPOINTS == {"policies", "front.csv", "progress.csv"}
    assert "checkpoint" in names_in(tmp_path)


def test_ctrl_c_while_pictures_are_drawn_keeps_the_tests_and_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(_front, "plot_front", interrupt)
    found, stopped = pareto_search.run(
        begin_search(tmp_path), tmp_path, budget=3_000, min_reward=0.0, test_episodes=2, console=quiet()
    )
    assert stopped
    assert len(rows_of(tmp_path)) == len(found) > 0
    assert names_in(tmp_path) - CHECKPOINTS == {"policies", "front.csv", "progress.csv", "smallest.safetensors"}
    assert "checkpoint" in names_in(tmp_path)


NETWORKS = {
    "a layer's norm": {"network": module()},
    "recurrent": {"network": RNN},
    "normalized": {"hidden_sizes": (4,), "observation_normalization": True},
    "biased": {"hidden_sizes": (4,), "bias": True},
    "short episodes": {"hidden_sizes": (4,), "episode_length": 20},
    "no hidden layer": {"hidden_sizes": ()},
}


@pytest.mark.parametrize("algorithm", ["continuation", "nsga2"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_fronts_of_all_kinds_of_networks_are_searched(kind, algorithm, tmp_path):
    masked = MaskedGymProblem(SHORT_POLE, mask_rule=TopK(0.5), seed=0, **NETWORKS[kind])
    before = masked.backend, masked.episode_length
    search = pareto_search.begin(masked, tmp_path, algorithm=algorithm, popsize=4)
    found, _ = pareto_search.run(search, tmp_path, budget=600, min_reward=1.0, test_episodes=2, console=quiet())
    assert (masked.backend, masked.episode_length) == before
    is_chain = kind not in ("a layer's norm", "recurrent")
    assert search.problem.count == ("live" if is_chain else "kept")
    assert (tmp_path / "smallest.gif").exists()
    assert SMALLEST & names_in(tmp_path) == (SMALLEST if is_chain else {"smallest.safetensors", "smallest.gif"})
    template = module() if kind == "a layer's norm" else None
    policy = Subnetwork.load(tmp_path / "smallest.safetensors", network=template)
    smallest = _front.smallest(found, 1.0)
    assert policy.num_active == smallest.subnet.num_active
    assert (policy.normalizer is None) == (kind != "normalized")
    obs = np.array([0.02, -0.5, 0.03, 0.4], np.float32)
    assert policy.act(obs) == smallest.subnet.act(obs)
    assert [row["weights_kept"] for row in rows_of(tmp_path)] == [str(one.subnet.num_active) for one in found]


def test_a_network_of_one_weight_has_a_front_of_one_policy(tmp_path):
    masked = MaskedGymProblem(Dim, hidden_sizes=(), mask_rule=TopK(0.0), seed=0)
    assert masked.network.num_weights == 1
    search = pareto_search.begin(masked, tmp_path, popsize=4)
    found, _ = pareto_search.run(search, tmp_path, budget=200, min_reward=-99.0, test_episodes=2, console=quiet())
    assert [one.subnet.num_active for one in found] == [1]
    assert names_in(tmp_path) >= SMALLEST


def test_a_small_network_is_searched_from_ten_weights_down_to_one(tmp_path):
    def densities(num_weights, **options):
        masked = MaskedGymProblem(Echo, hidden_sizes=(num_weights // 2,), mask_rule=TopK(0.5), seed=0)
        problem = pareto_search.begin(masked, tmp_path, **options).problem
        return (num_weights * 2 ** np.array([problem.xl[-1], problem.xu[-1]])).round(6).tolist()

    assert densities(6) == [1, 6]
    assert densities(30) == [1, 10]
    assert densities(1000) == [2, 100]
    assert densities(30, algorithm="nsga2") == [1, 30]
    assert densities(1000, algorithm="nsga2") == [10, 1000]
    start = np.arange(1000) < 40
    assert densities(1000, start=start) == [2, 40]
    assert densities(1000, start=np.arange(1000) < 400) == [2, 400]
    assert densities(1000, start=np.arange(1000) < 1) == [1, 1]
    assert densities(1000, start=np.arange(1000) < 1000) == [2, 1000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sparsity": 0.99}, r"^max_sparsity: expected one that keeps at least 1 of 30 weights, got 0\.99$"),
        ({"max_sparsity": 1.0}, r"^max_sparsity: expected"),
        (
            {"max_sparsity": 0.2},
            r"^max_sparsity: expected at least 0\.666667, the default min_sparsity, got 0\.2$",
        ),
        ({"max_sparsity": float("nan")}, r"^max_sparsity: expected"),
        ({"min_sparsity": 0.99}, r"^min_sparsity: expected at most max_sparsity = 0\.966"),
        ({"min_sparsity": 0.5, "max_sparsity": 0.4}, r"^min_sparsity: expected at most max_sparsity = 0\.4, got 0\.5$"),
        ({"min_sparsity": 0.5, "max_sparsity": 0.4, "algorithm": "nsga2"}, r"^min_sparsity: expected at most"),
        ({"min_sparsity": -0.1}, r"^min_sparsity: expected"),
        ({"popsize": 3}, r"^popsize: expected a whole number >= 4, got 3$"),
        ({"first_interactions": -1}, r"^first_interactions: expected a whole number >= 0, got -1$"),
        (
            {"first_interactions": 9, "algorithm": "nsga2"},
            r"^first_interactions: expected 0 for a search other than continuation",
        ),
        ({"algorithm": "nsga3"}, r"^algorithm: expected one of"),
        (
            {"start": np.arange(30) < 15, "max_sparsity": 0.4},
            r"^max_sparsity: expected at least 0\.5, the sparsity of start",
        ),
        ({"start": np.arange(30) < 15, "min_sparsity": 0.4}, r"^start: expected None"),
        ({"start": np.arange(30) < 15, "algorithm": "nsga2"}, r"^start: expected None"),
        ({"start": np.arange(29) < 15}, r"^start: expected"),
        ({"start": np.zeros(30, bool)}, r"^start: expected"),
    ],
)
def test_invalid_arguments_are_named_before_any_file_is_written(options, message, tmp_path):
    masked = echo(hidden_sizes=(15,))
    with pytest.raises(ValueError, match=message):
        pareto_search.begin(masked, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_first_level_may_have_a_share_of_the_budget(tmp_path):
    masked = MaskedGymProblem(
        "Pendulum-v1", hidden_sizes=(15,), mask_rule=TopK(0.5), common_random_numbers=False, episode_length=20, seed=0
    )
    # No two returns are equal, so the level does not end early.
    search = pareto_search.begin(masked, tmp_path, popsize=8, min_sparsity=0.5, first_interactions=6_000)
    while search.n_iter is None or search.level == 0:
        before = masked.interaction_count
        search.next()
    assert before < 6_000 <= masked.interaction_count
    assert search.n_iter - 1 > search.first_generations


def test_arguments_of_wrong_types_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"^masked: expected a MaskedGymProblem"):
        pareto_search.begin(None, tmp_path)
    with pytest.raises(TypeError, match=r"^algorithm: expected a search from begin or resume"):
        pareto_search.run(None, tmp_path, budget=100)


@pytest.mark.usefixtures("ray_cluster")
def test_actors_do_not_change_a_front(tmp_path):
    options = {"popsize": 4, "observation_normalization": True}
    fronts = []
    for num_actors in (0, 2):
        folder = tmp_path / str(num_actors)
        search = begin_search(folder, num_actors=num_actors, **options)
        pareto_search.run(search, folder, budget=1_000, test_episodes=2, console=quiet())
        search.problem.masked.kill_actors()
        fronts.append(contents(folder))
    assert fronts[0] == fronts[1]
    assert len(fronts[0]) > 2


def test_gymnasium_ids_with_box_actions_are_searched(tmp_path):
    masked = MaskedGymProblem("Pendulum-v1", hidden_sizes=(2,), mask_rule=TopK(0.5), seed=0, episode_length=20)
    assert isinstance(masked.task.make_env().action_space, gym.spaces.Box)
    search = pareto_search.begin(masked, tmp_path, popsize=4)
    found, _ = pareto_search.run(search, tmp_path, budget=300, min_reward=-1e5, test_episodes=2, console=quiet())
    assert found[0].subnet.tests["mean"] < -300.0  # of 200 steps
    assert names_in(tmp_path) >= SMALLEST
