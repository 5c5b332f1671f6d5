"""Resumed searches are bit-identical; damaged files; errors when a checkpointer is created."""

import os
import pickle
import random
import resource
import signal
import warnings
from ast import literal_eval
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from evotorch.algorithms import PGPE, SNES, GeneticAlgorithm
from evotorch.algorithms.restarter import IPOP, Restart
from evotorch.logging import PandasLogger, PicklingLogger, ScalarLogger
from evotorch.operators import GaussianMutation
from killing import (
    EVERY,
    SEARCHES,
    Run,
    bits,
    in_a_child,
    most_generations_lost,
    problem,
    run_in_a_child,
    runs_in,
    wait,
)
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.cmaes import CMAES
from pymoo.problems import get_problem
from pymoo.util.archive import MultiObjectiveArchive

from algorithms import (
    Checkpointer,
    CheckpointError,
    ElitistGaussianResampling,
    ParetoCheckpointer,
    Race,
    remove_checkpoint,
    resume,
)
from algorithms._checkpoint import versions
from algorithms._checkpoint_file import MAGIC, read, write
from subnet_problems import DenseGymProblem, MaskedGymProblem

NAMES = [*SEARCHES, "NSGA2"]


def searcher_of(p=None, **options) -> ElitistGaussianResampling:
    return ElitistGaussianResampling(p or problem(hidden_sizes=(4,)), popsize=8, num_elites=2, **options)


def load(path: Path):
    return resume(path, allow_pickle=True)


# Killed and resumed


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_and_resumed_run_is_bit_identical_to_an_uninterrupted_one(name, tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "killed").mkdir()
    run_in_a_child(name, tmp_path / "alone", None)
    assert not run_in_a_child(name, tmp_path / "killed", 0.0, generation=EVERY + 1)
    run_in_a_child(name, tmp_path / "killed", 0.0, generation=2 * EVERY + 1, while_writing=True)  # if it is seen
    run_in_a_child(name, tmp_path / "killed", None)
    alone, killed = (literal_eval((tmp_path / folder / "result").read_text()) for folder in ("alone", "killed"))
    assert alone == killed
    first, second, third = (run[0] for run in runs_in(tmp_path / "killed" / "log"))
    assert first == 0
    assert second >= EVERY
    assert third >= 2 * EVERY
    assert most_generations_lost(tmp_path / "killed" / "log") <= EVERY


@pytest.mark.parametrize("name", NAMES)
def test_random_draws_before_a_resume_do_not_change_its_results(name, tmp_path):
    path = tmp_path / "checkpoint"
    expected = Run(name, None).finish()
    first = Run(name, path)
    while first.generation < EVERY + 1:
        first.step()
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    again = Run(name, path, resumed=True)
    assert again.generation == EVERY
    assert again.finish() == expected


def test_resuming_restores_the_global_random_generators(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    Checkpointer(searcher_of(), tmp_path / "checkpoint")
    expected = draw()
    assert draw() != expected
    load(tmp_path / "checkpoint")
    assert draw() == expected


@pytest.mark.parametrize("at_rename", [1, 2])
def test_a_kill_between_the_renames_of_a_write_loses_nothing(at_rename, tmp_path):
    path, searcher = tmp_path / "checkpoint", searcher_of()
    Checkpointer(searcher, path, every=1)
    searcher.run(2)

    def die_renaming() -> None:
        rename, calls = Path.replace, []

        def replace(self, target):
            calls.append(target)
            if len(calls) == at_rename:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.replace = replace
        searcher.run(2)

    assert wait(in_a_child(die_renaming)) == -signal.SIGKILL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = load(path)
    assert again.step_count >= 2
    again.run(6 - again.step_count)
    searcher.run(4)
    assert bits(again.population.values) == bits(searcher.population.values)


@pytest.mark.parametrize("make", [MaskedGymProblem, DenseGymProblem])
def test_searches_on_both_problems_resume(make, tmp_path):
    options = {"hidden_sizes": (4,), "episode_length": 20, "seed": 1}
    expected = searcher_of(make("CartPole-v1", **options))
    expected.run(5)
    searcher = searcher_of(make("CartPole-v1", **options))
    Checkpointer(searcher, tmp_path / "checkpoint", every=2)
    searcher.run(3)
    again = load(tmp_path / "checkpoint")
    again.run(2)
    assert bits(again.population.values) == bits(expected.population.values)
    assert bits(again.population.evals) == bits(expected.population.evals)


def test_a_resumed_search_writes_to_the_file_it_was_resumed_from(tmp_path):
    searcher = searcher_of()
    Checkpointer(searcher, tmp_path / "checkpoint", every=1)
    searcher.run(2)
    moved = (tmp_path / "checkpoint").rename(tmp_path / "moved")
    again = load(moved)
    again.run(3)
    assert load(moved).step_count == 5
    assert not (tmp_path / "checkpoint").exists()


def test_checkpoints_are_written_at_the_end_of_a_run_and_by_save(tmp_path):
    searcher = searcher_of()
    checkpointer = Checkpointer(searcher, tmp_path / "checkpoint", every=100)
    assert load(tmp_path / "checkpoint").step_count == 0
    searcher.run(3)
    assert load(tmp_path / "checkpoint").step_count == 3
    searcher.step()
    checkpointer.save()
    assert load(tmp_path / "checkpoint").step_count == 4


def test_a_resumed_logger_has_each_generation_once(tmp_path):
    searcher = searcher_of()
    logger = PandasLogger(searcher)
    Checkpointer(searcher, tmp_path / "checkpoint", every=2)
    for _ in range(5):
        searcher.step()
    again = load(tmp_path / "checkpoint")
    assert again.step_count == 4
    again.run(4)
    searcher.run(3)
    resumed_logger = again.log_hook[0]
    assert resumed_logger.to_dataframe().equals(logger.to_dataframe())


RESTARTED = {
    "ElitistGaussianResampling": lambda p: (ElitistGaussianResampling, {"popsize": 8}),
    "SNES": lambda p: (SNES, {"popsize": 8, "stdev_init": 0.1}),
    "GeneticAlgorithm": lambda p: (GeneticAlgorithm, {"popsize": 8, "operators": [GaussianMutation(p, stdev=0.1)]}),
}


@pytest.mark.parametrize("raced", [False, True], ids=["alone", "raced"])
@pytest.mark.parametrize("name", RESTARTED)
def test_a_resumed_restarting_search_makes_the_same_restarts_and_results(name, raced, tmp_path):
    def make():
        searchers = []
        for seed in (3, 4) if raced else (3,):
            p = problem(hidden_sizes=(4,), seed=seed)
            searchers.append(IPOP(p, *RESTARTED[name](p), min_fitness_stdev=8.0, popsize_multiplier=1.5))
        return searchers, Race(searchers, steps=100_000) if raced else searchers[0]

    (first, *_), whole = make()
    restarts = []
    for _ in range(9 * (1 + raced)):
        whole.step()
        restarts.append(first.num_restarts)
    _, stopped = make()
    Checkpointer(stopped, tmp_path / "checkpoint", every=4)
    for _ in range(6):
        stopped.step()
    resumed = load(tmp_path / "checkpoint")
    assert resumed.step_count == 4
    for _ in range(9 * (1 + raced) - 4):
        resumed.step()
    again = resumed.searchers[0] if raced else resumed
    assert again.num_restarts == restarts[-1] > restarts[3]
    assert bits(again.problem.generator.get_state()) == bits(first.problem.generator.get_state())
    assert bits(resumed.status["best"].values) == bits(whole.status["best"].values)
    assert resumed.status["total_interaction_count"] == whole.status["total_interaction_count"]


def test_a_search_whose_environment_is_a_lambda_resumes(tmp_path):
    import gymnasium as gym

    p = MaskedGymProblem(lambda: gym.make("CartPole-v1"), hidden_sizes=(4,), episode_length=10, seed=0)
    searcher = searcher_of(p)
    Checkpointer(searcher, tmp_path / "checkpoint", every=1)
    searcher.run(2)
    again = load(tmp_path / "checkpoint")
    again.run(1)
    searcher.run(1)
    assert bits(again.population.evals) == bits(searcher.population.evals)


# Files


def test_a_full_disk_leaves_the_older_checkpoint_and_does_not_stop_the_search(tmp_path):
    path, searcher = tmp_path / "checkpoint", searcher_of()
    Checkpointer(searcher, path, every=1)
    searcher.run(2)

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # longer files cannot be written
        with pytest.warns(UserWarning, match="could not be written, the older one is kept"):
            searcher.run(3)
        assert searcher.step_count == 5

    assert wait(in_a_child(fill)) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", "checkpoint.previous"]
    assert load(path).step_count == 2


@pytest.fixture
def two_checkpoints(tmp_path) -> Path:
    searcher = searcher_of()
    Checkpointer(searcher, tmp_path / "checkpoint", every=1)
    searcher.run(3)
    return tmp_path / "checkpoint"


def damaged_versions(content: bytes) -> list[bytes]:
    rng = random.Random(0)
    cut = [content[: rng.randrange(len(content))] for _ in range(20)]
    flipped = []
    for _ in range(50):
        position = rng.randrange(len(content))
        flipped.append(
            content[:position] + bytes([content[position] ^ (1 << rng.randrange(8))]) + content[position + 1 :]
        )
    return [b"", *cut, *flipped, content + b"\0"]


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(two_checkpoints):
    content = two_checkpoints.read_bytes()
    for damaged in damaged_versions(content):
        two_checkpoints.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"continuing from the previous checkpoint, .*checkpoint\.previous"):
            header, _ = read(two_checkpoints)
        assert header["generation"] == 2


def test_resuming_from_two_damaged_checkpoints_raises(two_checkpoints):
    for file in (two_checkpoints, two_checkpoints.with_name("checkpoint.previous")):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged: its checksum .*previous is damaged"):
        load(two_checkpoints)


def test_resuming_reports_packages_of_other_versions(two_checkpoints):
    header, payload = read(two_checkpoints)
    header["versions"]["torch"] = "1.0"
    del header["versions"]["Box2D"]  # as if it had not been installed
    write(two_checkpoints, header, payload)
    with pytest.warns(UserWarning, match=r"other versions .*'torch': \('1\.0', .*'Box2D': \(None, "):
        assert load(two_checkpoints).step_count == 3
    write(two_checkpoints, header, pickle.dumps(0)[:-1])
    with pytest.raises(CheckpointError, match=r"is undamaged, written by other versions .*'torch': \('1\.0', "):
        load(two_checkpoints)


BOX2D = {"Box2D": "2.3.10", "box2d": "2.3.10", "box2d-py": "2.3.8 (box2d-py)"}


@pytest.mark.parametrize("installed", [[], ["Box2D"], ["box2d"], ["box2d-py"], ["box2d", "box2d-py"]], ids=str)
def test_a_package_version_is_found_under_each_distribution_name(installed, tmp_path, monkeypatch):
    for name in installed:
        folder = tmp_path / f"{name.replace('-', '_')}-{BOX2D[name].split()[0]}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {BOX2D[name].split()[0]}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])  # nothing else is installed
    noted = versions()
    monkeypatch.undo()
    del noted["python"]
    assert noted == ({"Box2D": ", ".join(BOX2D[name] for name in installed)} if installed else {})


def test_versions_of_packages_that_affect_results_are_recorded():
    noted = versions()
    for name in ("evotorch", "pymoo", "torch", "numpy", "numba", "llvmlite", "scipy", "cma", "gymnasium"):
        assert noted[name] == version(name)


def test_a_checkpoint_is_loaded_only_with_allow_pickle(two_checkpoints):
    with pytest.raises(ValueError, match="allow_pickle: expected True, since a checkpoint is a pickle"):
        resume(two_checkpoints)
    with pytest.raises(ValueError, match="allow_pickle"):
        resume(two_checkpoints, allow_pickle=1)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: expected a checkpoint, got .*nowhere, which does not exist"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", MAGIC, b"\0" * 5000])
def test_a_kill_during_the_first_write_leaves_no_checkpoint_and_does_not_block_a_new_run(tmp_path, content):
    (tmp_path / "checkpoint.unfinished").write_bytes(content)
    with pytest.raises(FileNotFoundError, match="path: expected a checkpoint"):
        load(tmp_path / "checkpoint")
    Checkpointer(searcher_of(), tmp_path / "checkpoint")
    assert load(tmp_path / "checkpoint").step_count == 0


def test_removing_a_checkpoint_removes_all_its_files(two_checkpoints):
    (two_checkpoints.parent / "other").touch()
    (two_checkpoints.parent / "checkpoint.unfinished").touch()
    for _ in range(2):  # the second call finds no checkpoint and does nothing
        remove_checkpoint(str(two_checkpoints))
        assert [file.name for file in two_checkpoints.parent.iterdir()] == ["other"]


# Errors when a checkpointer is created


@pytest.mark.parametrize(
    "make",
    [lambda path: Checkpointer(searcher_of(), path), lambda path: ParetoCheckpointer(path)],
    ids=["Checkpointer", "ParetoCheckpointer"],
)
def test_a_run_does_not_overwrite_the_checkpoint_of_another(make, two_checkpoints):
    with pytest.raises(FileExistsError, match=r"expected a file that does not exist, got .*: resume or remove it"):
        make(two_checkpoints)
    two_checkpoints.unlink()
    with pytest.raises(FileExistsError, match="previous"):
        make(two_checkpoints)
    with pytest.raises(FileNotFoundError, match="path: expected a file in an existing folder"):
        make(two_checkpoints.parent / "no folder" / "checkpoint")


def test_unpicklable_parts_are_named_before_the_first_generation(tmp_path):
    searcher = searcher_of()
    with open(tmp_path / "log", "w") as file:
        searcher.after_step_hook.append(lambda: file.write("a generation\n"))
        with pytest.raises(TypeError, match=r"searcher: expected one that can be pickled, .*_after_step_hook\.\[0\]"):
            Checkpointer(searcher, tmp_path / "checkpoint")
    assert [file.name for file in tmp_path.iterdir()] == ["log"]
    assert len(searcher.before_step_hook) == len(searcher.end_of_run_hook) == 0


@pytest.mark.parametrize(
    ("algorithm", "lost"),
    [(CMAES(popsize=8), "CMAES, which loses es"), (NSGA2(8, archive=MultiObjectiveArchive()), "archive.max_size")],
)
def test_a_pymoo_algorithm_that_pickling_leaves_incomplete_is_refused(algorithm, lost, tmp_path):
    problem = get_problem("sphere" if isinstance(algorithm, CMAES) else "zdt1")
    algorithm.setup(problem, termination=("n_gen", 5), seed=0, callback=ParetoCheckpointer(tmp_path / "checkpoint"))
    with pytest.raises(TypeError, match=f"algorithm: expected one that can be pickled completely, got .*{lost}"):
        algorithm.run()
    assert not (tmp_path / "checkpoint").exists()


def test_an_unpicklable_environment_is_named(tmp_path):
    import gymnasium as gym

    with open(tmp_path / "log", "w") as file:

        def make():
            file.write("an environment\n")
            return gym.make("CartPole-v1")

        searcher = searcher_of(MaskedGymProblem(make, hidden_sizes=(4,), episode_length=10, seed=0))
        with pytest.raises(TypeError, match=r"_problem\._task\.env .*Give environments as"):
            Checkpointer(searcher, tmp_path / "checkpoint")


def test_an_unpicklable_logger_is_left_out_with_a_warning(tmp_path):
    searcher = searcher_of()
    PicklingLogger(searcher, interval=100, directory=tmp_path / "pickles", verbose=False)
    PandasLogger(searcher)
    with pytest.warns(UserWarning, match="PicklingLogger .* is left out of checkpoints"):
        Checkpointer(searcher, tmp_path / "checkpoint", every=1)
    searcher.run(2)  # without another warning
    assert [type(logger) for logger in searcher.log_hook] == [PicklingLogger, PandasLogger]
    assert [type(logger) for logger in load(tmp_path / "checkpoint").log_hook] == [PandasLogger]


@pytest.mark.parametrize("part", ["search", "search in a race", "restarted search", "restarted search in a race"])
def test_a_logger_that_becomes_unpicklable_at_its_first_write_is_left_out_with_a_warning(part, tmp_path):
    class Lazy(ScalarLogger):
        file = None

        def _log(self, status):
            self.file = self.file or open(tmp_path / "log", "w")  # noqa: SIM115
            self.file.write(f"{status['iter']}\n")

    searcher = inner = searcher_of()
    if "restarted" in part:
        searcher = Restart(problem(hidden_sizes=(4,)), ElitistGaussianResampling, {"popsize": 8, "num_elites": 2})
        inner = searcher.search_algorithm
    if "race" in part:
        searcher = Race([searcher, searcher_of(problem(hidden_sizes=(5,)))], steps=10_000)
    logger = Lazy(inner)
    Checkpointer(searcher, tmp_path / "checkpoint", every=2)
    with pytest.warns(UserWarning, match="Lazy .* is left out of checkpoints"):
        searcher.run(8)
    logger.file.close()
    assert load(tmp_path / "checkpoint").step_count == 8
    assert list(inner.log_hook) == [logger]
    assert len((tmp_path / "log").read_text().splitlines()) == inner.step_count


def test_errors_name_the_invalid_argument(tmp_path):
    path = tmp_path / "checkpoint"
    with pytest.raises(TypeError, match="searcher: expected an EvoTorch SearchAlgorithm, got 3"):
        Checkpointer(3, path)
    for make in (lambda: Checkpointer(searcher_of(), 3), lambda: ParetoCheckpointer(3), lambda: load(3)):
        with pytest.raises(TypeError, match="path: expected a path, got 3"):
            make()
    for folder in (tmp_path, "/", "."):
        makes = [lambda at: Checkpointer(searcher_of(), at), ParetoCheckpointer, load, remove_checkpoint]
        for make in makes:
            with pytest.raises(ValueError, match=r"^path: expected a file, got the folder "):
                make(folder)
    with pytest.raises(ValueError, match="every: expected a whole number >= 1, got 0"):
        Checkpointer(searcher_of(), path, every=0)
    with pytest.raises(ValueError, match="every: expected a whole number >= 1, got 0"):
        ParetoCheckpointer(path, every=0)
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_samples_in_actors_is_refused(tmp_path):
    options = {"center_learning_rate": 0.1, "stdev_learning_rate": 0.1, "stdev_init": 0.1}
    arguments = {"popsize": 8, "distributed": True, **options}
    searcher = PGPE(problem(num_actors=2), **arguments)
    race = Race([ElitistGaussianResampling(problem(), popsize=8), searcher], steps=1_000)
    for refused in (searcher, race, Restart(problem(num_actors=2), PGPE, arguments)):
        with pytest.raises(ValueError, match="searcher: expected one that samples in the main process"):
            Checkpointer(refused, tmp_path / "checkpoint")


def test_an_unpicklable_pymoo_algorithm_is_reported_as_algorithm(tmp_path):
    algorithm = NSGA2(8)
    with open(tmp_path / "log", "w") as file:
        algorithm.file = file
        algorithm.setup(get_problem("zdt1"), seed=0, callback=ParetoCheckpointer(tmp_path / "checkpoint"))
        with pytest.raises(TypeError, match=r"^algorithm: expected one that can be pickled, got one whose .*file"):
            algorithm.next()
