"""Experiments: the tests of a run do not depend on jobs, kills or other runs in the file."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo
from evotorch.algorithms import CMAES
from evotorch.algorithms.restarter import IPOP
from evotorch.logging import PandasLogger

from algorithms import ElitistGaussianResampling, Race
from algorithms._checkpoint_file import read
from subnet_problems import DenseGymProblem, MaskedGymProblem, Subnetwork
from subnet_problems.experiments import (
    ProcessLostError,
    Run,
    by_run,
    finished,
    hand_out,
    has_begun,
    make_search,
    outcome,
    perform,
    read_tests,
)
from subnet_problems.experiments import _perform as experiments
from subnet_problems.experiments._outcomes import FIELDS

SCRIPT = """
import sys

if __name__ == "__main__":
    from test_experiments import long_runs
    from subnet_problems.experiments import finished, perform
    perform(long_runs(), sys.argv[1], num_jobs=2)
"""
LONG = 100_000  # kills happen after the first 20 generations


def search(seed, num_threads, *, problem=MaskedGymProblem, **options):
    made = problem("CartPole-v1", hidden_sizes=(8,), network_seed=seed, seed=seed, num_threads=num_threads, **options)
    return ElitistGaussianResampling(made, popsize=8)


def runs(budget=20_000, seeds=(0, 1), **options):
    options = {"num_tests": 4, "test_episodes": 5, **options}
    return [Run("masks", seed, search, budget, **options) for seed in seeds]


def long_runs():
    return [replace(run, name="long", budget=LONG) for run in runs()]


def racing(seed, num_threads):
    return Race([search(10 * seed + i, num_threads) for i in range(3)], steps=4_000)


def with_a_logger(seed, num_threads):
    searcher = search(seed, num_threads)
    PandasLogger(searcher)
    return searcher


normalized = partial(search, observation_normalization=True)


def registered(seed, num_threads):
    """A search on an environment that only the main process registers, with an option that no file can hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about this option
        problem = MaskedGymProblem("Echo-v9", hidden_sizes=(3,), env_config={"hook": object(), "steps": 7}, seed=seed)
    return ElitistGaussianResampling(problem, popsize=8)


def restarted(seed, num_threads):
    options = {"popsize": 4, "stdev_init": 0.1, "separable": True}
    return IPOP(search(seed, num_threads).problem, CMAES, options)


@pytest.fixture(scope="module")
def performed(tmp_path_factory):
    """The file and the rows by run of many runs, in one call since processes take seconds to start."""
    folder = tmp_path_factory.mktemp("experiment")
    keep = folder / "policies"
    asked = [
        *runs(),
        Run("weights", 0, partial(search, problem=DenseGymProblem), 20_000, num_tests=4, test_episodes=5),
        Run("each generation", 0, search, 20_000, num_tests=0, test_episodes=5, keep=keep / "each.safetensors"),
        Run("normalized", 0, normalized, 20_000, num_tests=0, test_episodes=5, keep=keep / "normalized.safetensors"),
        Run("race", 1, racing, 40_000, num_tests=8, test_episodes=5, keep=keep / "race.safetensors"),
        Run("registered", 0, registered, 2_000, num_tests=1, test_episodes=2, keep=keep / "registered.safetensors"),
        Run("restarted", 0, restarted, 2_000, num_tests=1, test_episodes=2),
        Run("logged", 0, with_a_logger, 2_000, num_tests=1, test_episodes=2),
        *long_runs(),
    ]
    path = folder / "tests.csv"
    gym.register("Echo-v9", Echo, max_episode_steps=1000)
    rows = by_run(perform(asked, path, num_jobs=2, quiet=True))
    del gym.registry["Echo-v9"]
    assert set(rows) == {(run.name, run.seed) for run in asked}
    return path, rows


def test_tests_are_evenly_spaced_over_the_budget(performed):
    _, rows = performed
    for run in (("masks", 0), ("masks", 1), ("weights", 0)):
        tests = rows[run]
        steps = np.array([row["steps"] for row in tests])
        assert len(tests) == 4
        assert (steps >= [5_000, 10_000, 15_000, 20_000]).all()
        assert (np.diff([0, *steps]) < 5_000 + 8 * 500).all()


def test_a_row_equals_a_test_of_the_same_search_at_that_generation(performed):
    _, rows = performed
    searcher = search(1, 1)
    for number, row in enumerate(rows["masks", 1]):
        while searcher.problem.interaction_count < row["steps"]:
            searcher.step()
        returns = searcher.problem.test(searcher.status["center"], num_episodes=5, seed=200_000 + number)
        assert row["generation"] == searcher.step_count
        assert row["test_mean"] == returns.mean()
        assert row["test_standard_error"] == pytest.approx(returns.std(ddof=1) / 5**0.5)
        assert row["sparsity"] == 1.0 - float(searcher.problem.mask(searcher.status["center"]).double().mean())


def test_a_search_on_weights_has_no_sparsity(performed):
    assert np.isnan(outcome(performed[1]["weights", 0], "weights", solved=1.0).sparsity).all()


def test_finished_runs_are_not_repeated_and_results_do_not_depend_on_num_jobs(performed, tmp_path):
    path, rows = performed
    before = path.stat().st_mtime_ns
    left = Path(f"{path}.unfinished") / "masks 1.checkpoint"
    left.parent.mkdir()
    left.touch()  # as after a kill
    assert perform(runs(seeds=(1,)), path, num_jobs=1, quiet=True) == rows["masks", 1]
    assert path.stat().st_mtime_ns == before
    assert not Path(f"{path}.unfinished").exists()
    assert perform(runs(seeds=(1,)), tmp_path / "alone.csv", num_jobs=1, quiet=True) == rows["masks", 1]


def kept(performed, name):
    """The policy that was saved at the highest test of a run."""
    return Subnetwork.load(performed[0].parent / "policies" / f"{name}.safetensors")


def test_a_run_tested_after_every_generation_keeps_its_best_policy(performed):
    rows = performed[1]["each generation", 0]
    assert [row["generation"] for row in rows] == list(range(1, len(rows) + 1))
    highest = max(rows, key=lambda row: row["test_mean"])
    policy = kept(performed, "each")
    assert policy.sparsity == highest["sparsity"]
    assert rows[-1]["again_mean"] == policy.test(num_episodes=5, seed=199_999).mean()


def test_keep_is_refused_at_once_for_policies_without_masks(tmp_path):
    run = Run("weights", 0, partial(search, problem=DenseGymProblem), 10**9, keep=tmp_path / "best.safetensors")
    with pytest.raises(ValueError, match=r"^keep: expected None, since .* has no masks"):
        perform([run], tmp_path / "tests.csv", num_jobs=1, quiet=True)


def test_a_kept_policy_has_the_observation_statistics_of_its_test(performed):
    rows = performed[1]["normalized", 0]
    highest = max(rows, key=lambda row: row["test_mean"])
    assert highest["generation"] < rows[-1]["generation"]
    searcher = normalized(0, 1)
    searcher.run(highest["generation"])
    expected, policy = searcher.problem.to_subnetwork(searcher.status["center"]), kept(performed, "normalized")
    np.testing.assert_array_equal(policy.normalizer.mean, expected.normalizer.mean)
    assert rows[-1]["again_mean"] == expected.test(num_episodes=5, seed=199_999).mean()


def test_the_searches_of_a_race_share_the_budget_of_the_run(performed):
    rows = performed[1]["race", 1]
    race, networks = racing(1, 1), []
    for number, row in enumerate(rows):
        while race.status.get("total_interaction_count", 0) < row["steps"]:
            race.step()
        assert row["steps"] == race.status["total_interaction_count"] >= (number + 1) * 5_000
        returns = race.problem.test(race.status["center"], num_episodes=5, seed=200_000 + number)
        assert row["test_mean"] == returns.mean()
        networks.append(race.problem.network.seed)
    assert len(race.searchers) == 1
    policy = kept(performed, "race")
    assert rows[-1]["again_mean"] == policy.test(num_episodes=5, seed=299_999).mean()
    assert policy.network.seed == networks[np.argmax([row["test_mean"] for row in rows])]


def test_a_search_may_have_loggers(performed):
    assert len(performed[1]["logged", 0]) == 1


def test_a_run_uses_environments_that_the_main_process_registered(performed):
    (row,) = performed[1]["registered", 0]
    policy = kept(performed, "registered")
    assert (policy.env_config, policy.missing_config) == ({"steps": 7}, ("hook",))
    returns = policy.test(env=Echo, env_config={"hook": object()}, num_episodes=2, seed=199_999)
    assert row["again_mean"] == row["test_mean"] == returns.mean() != 0


def test_a_restarting_search_can_be_run(performed):
    (row,) = performed[1]["restarted", 0]
    assert row["steps"] >= 2_000
    assert row["mean_eval"] > 1


def started_alone(script, path):
    """Start a script that performs runs into ``path``, in a new process group."""
    here = Path(__file__)
    folders = os.pathsep.join(map(str, (here.parent, here.parents[2] / "support", here.parents[3])))
    return subprocess.Popen(
        [sys.executable, str(script), str(path)],
        env={**os.environ, "PYTHONPATH": folders}, start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def started(script, path):
    """The same, and wait for a checkpoint."""
    process = started_alone(script, path)
    wait_for_generation(20, Path(f"{path}.unfinished"), process)
    return process


def test_runs_killed_and_performed_again_give_the_same_rows(performed, tmp_path):
    script, path = tmp_path / "script.py", tmp_path / "tests.csv"
    script.write_text(SCRIPT)
    process = started(script, path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=300.0)
    assert process.returncode == -signal.SIGKILL
    assert has_begun(path)
    assert not path.exists()
    again = by_run(perform(long_runs(), path, num_jobs=2, quiet=True))
    assert again == {("long", seed): performed[1]["long", seed] for seed in (0, 1)}
    assert not Path(f"{path}.unfinished").exists()


def wait_for_generation(generation, work, process):
    """Wait until a checkpoint in ``work`` has reached the generation."""
    deadline = time.monotonic() + 300.0
    while process.poll() is None and time.monotonic() < deadline:
        for checkpoint in work.glob("*.checkpoint"):
            with suppress(FileNotFoundError):  # between two renames
                if read(checkpoint)[0]["generation"] >= generation:
                    return
        time.sleep(0.01)
    raise AssertionError(f"it ended by itself, with {process.returncode}, or takes too long")


def test_an_error_in_a_run_is_raised_and_finished_runs_are_kept(tmp_path):
    path = tmp_path / "tests.csv"
    broken = Run("broken", 0, lambda seed, num_threads: 1 / 0, 1_000)
    with pytest.raises(ZeroDivisionError):
        perform([*runs(seeds=(0,)), broken], path, num_jobs=1, quiet=True)
    assert set(by_run(read_tests(path))) == {("masks", 0)}


def lost(seed, num_threads, *, path):
    """Kills its process once a run has finished and another one has started."""
    work = Path(f"{path}.unfinished")
    while not (path.exists() and any(work.glob("long*"))):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_loses_only_the_steps_since_the_last_checkpoint(tmp_path):
    path = tmp_path / "tests.csv"
    asked = [
        *runs(seeds=(0,)),
        Run("lost", 0, partial(lost, path=path), 1_000),
        replace(runs()[1], name="long", budget=10**9),
    ]
    with pytest.raises(ProcessLostError) as caught:
        perform(asked, path, num_jobs=2, quiet=True)
    assert str(caught.value) == (
        "the process of run 'lost' with seed 0 was killed by SIGKILL, as the system does when memory runs out. "
        f"Also stopped: 'long' with seed 1. Finished runs are in {path}; the same call continues the others from "
        "their last checkpoints."
    )
    assert set(by_run(read_tests(path))) == {("masks", 0)}
    assert [file.stem for file in Path(f"{path}.unfinished").glob("*.checkpoint")] == ["long 1"]


def test_a_script_without_a_main_guard_gets_one_error_and_starts_no_runs(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    process = started_alone(tmp_path / "script.py", tmp_path / "tests.csv")
    err = process.communicate(timeout=300.0)[1]
    assert process.returncode == 1
    assert err.count("Traceback") == err.count("Error:") == 1
    assert 'put its code, at least this call, under `if __name__ == "__main__":`' in err
    assert_all_gone(process.pid)


@pytest.fixture
def ctrl_c_enabled():
    """Enable Ctrl-C also if the tests run in the background, where SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


class InterruptsWhenPickled:
    """A ``make`` function that raises Ctrl-C when it is pickled."""

    def __call__(self, seed, num_threads):
        raise AssertionError

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return InterruptsWhenPickled, ()


def interrupts_at_exit(seed, num_threads):
    """Makes a search; at exit, this process sends Ctrl-C to its parent process."""
    atexit.register(os.kill, os.getppid(), signal.SIGINT)
    return search(seed, num_threads)


@pytest.mark.usefixtures("ctrl_c_enabled")
def test_ctrl_c_before_the_first_run_and_after_the_last_is_raised(tmp_path):
    path = tmp_path / "tests.csv"
    first = Run("first", 0, InterruptsWhenPickled(), 1_000)
    last = Run("last", 0, interrupts_at_exit, 1_000, num_tests=1, test_episodes=2)
    for run in (first, last):
        with pytest.raises(KeyboardInterrupt):
            perform([run], path, num_jobs=1, quiet=True)
    assert finished([first], path) == []
    assert set(by_run(finished([first, last], path))) == {("last", 0)}
    assert finished([last], path) == read_tests(path)
    assert not multiprocessing.active_children()


def test_a_search_without_a_center_returns_its_best_solution():
    searcher = make_search("genetic", MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0), popsize=8)
    searcher.run(2)
    assert torch.equal(hand_out(searcher), searcher.population.take_best(1).values[0].as_subclass(torch.Tensor))


def failing(seed, num_threads):
    searcher = search(seed, num_threads)
    searcher.after_step_hook.append(divide_by_zero)
    return searcher


def divide_by_zero():
    raise ZeroDivisionError


def test_a_run_does_not_resume_with_other_settings(tmp_path):
    path = tmp_path / "tests.csv"
    run = Run("masks", 0, failing, 1_000, num_tests=2)
    with pytest.raises(ZeroDivisionError):
        perform([run], path, num_jobs=1, quiet=True)
    (checkpoint,) = Path(f"{path}.unfinished").glob("*.checkpoint")
    for name, value in (("budget", 999), ("num_tests", 3), ("test_episodes", 5), ("keep", Path("policy"))):
        with pytest.raises(ValueError, match=f"{name}: expected .* as in the checkpoint .*checkpoint, got"):
            experiments._play(replace(run, **{name: value}), checkpoint, 1, int)


def test_ctrl_c_keeps_checkpoints_and_does_not_end_other_processes_of_the_caller(tmp_path):
    script, path = tmp_path / "script.py", tmp_path / "tests.csv"
    script.write_text(
        SCRIPT.replace(
            "    perform(long_runs(), sys.argv[1], num_jobs=2)\n",
            """\
    import multiprocessing, signal, time
    own = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own.start()
    time.sleep(2.0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        perform(long_runs(), sys.argv[1], num_jobs=2)
    except KeyboardInterrupt:
        print("stopped", own.is_alive(), finished(long_runs(), sys.argv[1]), file=sys.stderr)
""",
        )
    )
    process = started(script, path)
    for _ in range(2):  # the second one arrives during the shutdown
        os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=300.0)[1]
    assert_all_gone(process.pid)
    assert "stopped True []" in err
    assert "Traceback" not in err
    assert any(Path(f"{path}.unfinished").glob("*.checkpoint"))


def assert_all_gone(group):
    """Wait until all processes of a group have ended; the resource tracker of multiprocessing is the last one."""
    deadline = time.monotonic() + 60.0
    while members(group):
        assert time.monotonic() < deadline, f"{members(group)} are left"
        time.sleep(0.01)


def members(group):
    """The processes of a group that have not ended (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def test_only_one_process_at_a_time_writes_to_a_file(performed, tmp_path):
    path = tmp_path / "tests.csv"
    path.write_bytes(performed[0].read_bytes())
    fcntl = pytest.importorskip("fcntl")
    Path(f"{path}.unfinished").mkdir()
    with open(f"{path}.unfinished/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process performs runs in"):
            perform(runs(), path, num_jobs=1, quiet=True)
        assert Path(f"{path}.unfinished/lock").exists()  # it belongs to another process
    assert len(by_run(perform(runs(), path, num_jobs=1, quiet=True))) == 2


def test_an_incomplete_run_is_repeated_and_its_rows_replaced(performed, tmp_path):
    path = tmp_path / "tests.csv"
    header, *lines = performed[0].read_bytes().splitlines(keepends=True)
    ours = [line for line in lines if line.startswith(b"masks,0,")]
    others = [line for line in lines if not line.startswith(b"masks,")]
    path.write_bytes(b"".join([header, ours[0], *others]))
    assert perform(runs(seeds=(0,)), path, num_jobs=1, quiet=True) == performed[1]["masks", 0]
    header, *again = path.read_bytes().splitlines(keepends=True)
    assert [line for line in again if line not in ours] == others
    assert [line for line in again if line in ours] == ours


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": 3}, TypeError, "name: expected a string, got 3"),
        ({"name": "a/b"}, ValueError, "name: expected a string that can be a file name, got 'a/b'"),
        ({"name": ""}, ValueError, "name: expected a string that can be a file name"),
        ({"seed": -1}, ValueError, "seed: expected"),
        ({"make": "PGPE"}, TypeError, "make: expected a callable that creates a search, got 'PGPE'"),
        ({"seed": 2**50}, ValueError, "seed: expected"),
        ({"keep": 3}, TypeError, "keep: expected"),
        ({"budget": 0}, ValueError, "budget: expected"),
        ({"num_tests": -1}, ValueError, "num_tests: expected"),
        ({"test_episodes": 1}, ValueError, "test_episodes: expected"),
    ],
)
def test_errors_name_the_invalid_argument_of_a_run(change, error, message):
    with pytest.raises(error, match=message):
        Run(**{"name": "a", "seed": 0, "make": search, "budget": 10, **change})


def test_invalid_arguments_of_perform_raise_before_any_run(tmp_path):
    path = tmp_path / "tests.csv"
    with pytest.raises(ValueError, match="runs: expected each name with each seed once, got a duplicate"):
        perform(runs() + runs(), path)
    with pytest.raises(ValueError, match="num_jobs: expected"):
        perform(runs(), path, num_jobs=0)
    with pytest.raises(TypeError, match="path: expected"):
        perform(runs(), 3)
    with pytest.raises(TypeError, match="path: expected"):
        has_begun(3)
    (tmp_path / "other.csv").write_text("name,score\na,3\n")
    with pytest.raises(ValueError, match=r"path: expected a file of tests, got .*other\.csv, which has no columns"):
        perform(runs(), tmp_path / "other.csv")
    with pytest.raises(IsADirectoryError, match="keep: expected a file, got the folder"):
        perform(runs(keep=tmp_path), path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"path: expected a path of folders, got .*, where .*file is a file"):
        perform(runs(), tmp_path / "file" / "tests.csv")
    assert not has_begun(path)


def test_policies_do_not_overwrite_each_other_nor_the_tests(tmp_path):
    path = tmp_path / "tests.csv"
    path.write_text(header := ",".join(FIELDS) + "\n")
    work = tmp_path / "tests.csv.unfinished" / "a.safetensors"
    for keeps in ([path], [tmp_path / "a.st", tmp_path / "b" / ".." / "a.st"], [work]):
        asked = [Run(f"run {i}", 0, search, 10, keep=Path(os.path.normpath(keep))) for i, keep in enumerate(keeps)]
        with pytest.raises(ValueError, match=r"^keep: expected a separate file for 'run \d' with seed 0, got "):
            perform(asked, path, num_jobs=1, quiet=True)
    assert path.read_text() == header


def test_a_make_that_returns_no_search_or_cannot_be_pickled_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"^make: expected a callable that returns a search on a problem that counts"):
        perform([Run("none", 0, lambda seed, num_threads: None, 10)], tmp_path / "a.csv", num_jobs=1, quiet=True)
    lock = threading.Lock()
    with pytest.raises(ValueError, match=r"^make: expected a callable that can be pickled"):
        perform([Run("lock", 0, lambda *_: lock, 10)], tmp_path / "a.csv", num_jobs=1, quiet=True)
    with pytest.raises(TypeError, match=r"^runs: expected Runs, got 5"):
        perform(5, tmp_path / "a.csv")
    with pytest.raises(IsADirectoryError, match=r"^path: expected a file, got the folder"):
        perform([], tmp_path)
    for name in ("\0", "x" * 300, "\ud800", "a/b", ""):
        with pytest.raises(ValueError, match=r"^name: expected a string that can be a file name"):
            Run(name, 0, search, 10)


def test_a_run_does_not_resume_with_another_search(tmp_path):
    """Its checkpoint contains the function that made the search, and the arguments."""

    def started(make):
        checkpoint = tmp_path / "run.checkpoint"
        experiments._play(Run("run", 0, make, 2_000, num_tests=1, test_episodes=2), checkpoint, 1, advance)

    def advance(steps):
        if steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(partial(search, sparsity=0.5))
    with pytest.raises(KeyboardInterrupt):  # an equal function, made again
        started(partial(search, sparsity=0.5))
    for other in (partial(search, sparsity=0.9), search, lambda seed, threads: search(seed, threads, sparsity=0.5)):
        with pytest.raises(ValueError, match=r"^make: expected that of the checkpoint .*, got another: "):
            started(other)
