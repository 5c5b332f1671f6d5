"""The command: its files, its output, and its exit codes."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import get_args

import gymnasium as gym
import pytest
import torch
from environments import SHORT_POLE
from small_subnetworks import lander, make, smallest

from algorithms import ElitistGaussianResampling
from subnet_problems import DiscreteActions, EvaluationError, FrozenNetwork, MaskedGymProblem, Subnetwork
from subnet_problems.command import main
from subnet_problems.command._many import _print_levels
from subnet_problems.command._options import Algorithm
from subnet_problems.experiments import SEARCHES, make_search, read_tests

CHECKPOINTS = {"checkpoint", "checkpoint.previous"}
SMALL = ["--hidden-sizes", "8", "--popsize", "8", "--test-episodes", "5"]


@dataclass
class Done:
    code: int
    out: str
    err: str


def command(*words):
    """Run ``python -m subnet_problems WORDS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["subnet_problems", *map(str, words)])
        patch.setenv("COLUMNS", "200")
        return Done(main(), out.getvalue(), err.getvalue())


def accepted(*words):
    done = command(*words)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    out = accepted("search", "CartPole-v1", "--budget", 10_000, "--sparsity", 0.5, "--output", folder, *SMALL)
    return folder, out


def test_plot_draws_the_progress_of_searches(found, tmp_path):
    folder, _ = found
    picture = tmp_path / "progress.png"
    assert accepted("plot", folder, folder / "log.csv", "--output", picture) == f"{picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    for words, message in [
        ([folder, "--quantity", "reward"], "--quantity: expected one of ['best_eval'"),
        ([folder, "--output", tmp_path / "a.xyz"], "--output: expected a name that ends in one of"),
        ([folder / "settings.json"], "LOGS: expected "),
        ([folder / "nowhere"], "No such file or directory"),
    ]:
        done = command("plot", *words)
        assert done.code == 1
        assert message in done.err


def test_a_search_writes_a_tested_policy_and_a_log(found):
    folder, out = found
    subnet = Subnetwork.load(folder / "subnetwork.safetensors")
    assert subnet.num_active == subnet.num_weights / 2
    assert subnet.tests["num_episodes"] == 5
    assert f"test reward {subnet.tests['mean']:.1f}" in out
    assert "(the task requires 475)" in out
    with open(folder / "log.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["total_interaction_count"]) >= 10_000
    names = {file.name for file in folder.iterdir()} - {"run.checkpoint.previous"}
    assert names == {"log.csv", "run.checkpoint", "settings.json", "subnetwork.safetensors"}


def test_a_search_that_ends_before_its_last_level_says_so_and_can_continue(tmp_path):
    network = ["--hidden-sizes", "16,16", "--sparsity", 0.97, "--popsize", 8, "--test-episodes", 2]
    search = ["search", "Pendulum-v1", "--episode-length", 5, *network]
    out = accepted(*search, "--budget", 400, "--output", tmp_path / "run")
    assert "The search stopped at sparsity 0.900, before it reached" in out
    assert f"resume {tmp_path / 'run'} --budget 800" in "".join(out.splitlines())
    assert Subnetwork.load(tmp_path / "run" / "subnetwork.safetensors").sparsity == pytest.approx(0.97, abs=0.01)
    out = accepted("resume", tmp_path / "run", "--budget", 3000)
    assert "before it reached" not in out
    for algorithm in ("paper", "snes"):
        out = accepted(*search, "--budget", 400, "--algorithm", algorithm, "--output", tmp_path / algorithm)
        assert "before it reached" not in out
    words = ["compare", *search[1:], "--algorithms", "elitist,snes", "--seeds", 1, "--num-tests", 1, "--jobs", 1]
    early = "elitist: 1 of 1 runs ended before the search reached the requested sparsity, which takes"
    out = accepted(*words, "--budget", 400, "--output", tmp_path / "few")
    assert early in out
    assert "snes:" not in out
    (row,) = (row for row in read_tests(tmp_path / "few" / "tests.csv") if row["name"] == "elitist")
    printed = io.StringIO()
    with redirect_stdout(printed):
        _print_levels([row], "elitist", row["generation"])
    assert printed.getvalue() == ""


def test_a_policy_is_tested_shown_recorded_and_exported(found, tmp_path):
    file = found[0] / "subnetwork.safetensors"
    returns = Subnetwork.load(file).test(num_episodes=7, seed=3)
    assert f"test reward {returns.mean():.1f}" in accepted("test", file, "--num-episodes", 7, "--seed", 3)
    shown = accepted("show", file, "--plot", tmp_path / "mask.png")
    assert "24 of 48, sparsity 0.500" in shown
    assert "without them" in shown
    assert (tmp_path / "mask.png").stat().st_size > 1000
    accepted("record", file, tmp_path / "film.gif")
    assert (tmp_path / "film.gif").stat().st_size > 1000
    accepted("export", file, tmp_path / "policy.onnx")
    accepted("export", file, tmp_path / "rows", "--form", "c")
    accepted("export", file, tmp_path / "seed", "--form", "c-seed")
    accepted("export", file, tmp_path / "seed", "--form", "c", "--name", "Cart_2")
    assert "SEED_SEED" in (tmp_path / "seed" / "seed.h").read_text()
    assert "ROWS_SEED" not in (tmp_path / "rows" / "rows.h").read_text()
    assert "void Cart_2_act(const float *obs, float *act)" in (tmp_path / "seed" / "Cart_2.h").read_text()
    done = command("export", file, tmp_path / "named.onnx", "--name", "cart")
    assert (done.code, "Error: --name: expected none for onnx, which is named by its path, got 'cart'" in done.err) == (
        1,
        True,
    )
    assert not (tmp_path / "named.onnx").exists()


def enable_ctrl_c():
    """Enable Ctrl-C also if the tests run in the background, where SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_resumed_search_gives_bit_identical_results(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    task = ["search", "CartPole-v1", "--sparsity", "0.5", *SMALL]
    words = [sys.executable, "-m", "subnet_problems", *task, "--budget", "99000000", "--output", str(stopped)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=enable_ctrl_c
    )
    log = stopped / "log.csv"
    deadline = time.monotonic() + 300.0
    while not (log.exists() and log.read_text().count("\n") > 30) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300.0)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"python -m subnet_problems resume {stopped}" in out
    assert (stopped / "subnetwork.safetensors").exists()
    budget = 5_000 + int(float(list(csv.DictReader(log.read_text().splitlines()))[-1]["total_interaction_count"]))
    accepted("resume", stopped, "--budget", budget)
    accepted(*task, "--budget", budget, "--output", whole)
    assert log.read_bytes() == (whole / "log.csv").read_bytes()
    ours, theirs = (Subnetwork.load(folder / "subnetwork.safetensors") for folder in (stopped, whole))
    assert (ours.mask == theirs.mask).all()
    assert ours.tests == theirs.tests
    accepted("resume", stopped, "--budget", 2 * budget)  # both are finished, and continue
    accepted("resume", whole, "--budget", 2 * budget)
    assert log.read_bytes() == (whole / "log.csv").read_bytes()
    taken = f"to continue there: python -m subnet_problems resume {whole}"
    assert taken in command(*task, "--budget", budget, "--output", whole).err.replace("\n", "")


def test_a_search_resumes_from_another_working_directory_and_in_a_moved_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["search", "CartPole-v1", "--checkpoint-every", 1, "--tensorboard", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subnetwork, "test", stop)
        assert command(*words, "--budget", 2_000, "--output", "run").code == 130
    assert not Subnetwork.load("run/subnetwork.safetensors").tests
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    accepted("resume", "../moved", "--budget", 4_000)
    accepted(*words, "--budget", 4_000, "--output", "whole")
    assert not (tmp_path / "run").exists()
    for name in ("log.csv", "subnetwork.safetensors"):
        assert (tmp_path / "moved" / name).read_bytes() == (tmp_path / "elsewhere" / "whole" / name).read_bytes()
    assert len(list((tmp_path / "moved" / "tensorboard").iterdir())) == 2
    (tmp_path / "moved" / "run.checkpoint").unlink()
    (tmp_path / "moved" / "run.checkpoint.previous").unlink(missing_ok=True)
    over = command("resume", "../moved")
    assert (over.code, "FOLDER: expected a search with a checkpoint, got ../moved, which has none" in over.err) == (
        1,
        True,
    )


def stop(*args, **options):
    raise KeyboardInterrupt


@pytest.fixture
def endless():
    gym.register("EndlessCartPole-v0", gym.spec("CartPole-v1").entry_point)
    yield "EndlessCartPole-v0"
    del gym.registry["EndlessCartPole-v0"]


def test_a_policy_of_a_task_without_a_step_limit_is_tested_with_the_episode_length_of_the_search(endless, tmp_path):
    words = ["--episode-length", 40, "--budget", 2_000, "--output", tmp_path / "run"]
    accepted("search", endless, *words, *SMALL)
    assert 0 < Subnetwork.load(tmp_path / "run" / "subnetwork.safetensors").tests["mean"] <= 40


def test_searches_are_compared(tmp_path):
    words = ["compare", "CartPole-v1", "--algorithms", "elitist,snes,elitist", "--seeds", 2, "--budget", 2_000]
    words += ["--num-tests", 2, "--output", tmp_path / "out", *SMALL]
    out = accepted(*words)
    assert "elitist" in out
    assert "snes" in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "learning_curves.png",
        "settings.json",
        "tests.csv",
    ]
    again = command(*words)
    assert again.code == 1
    resuming = f"to continue there: python -m subnet_problems resume {tmp_path / 'out'}"
    assert resuming in again.err.replace("\n", "")
    assert accepted("resume", tmp_path / "out") == out
    settings = (tmp_path / "out" / "settings.json").read_text()
    refused = command("resume", tmp_path / "out", "--budget", 4_000)
    assert (refused.code, "--budget: expected none for a folder of the command compare" in refused.err) == (1, True)
    assert (tmp_path / "out" / "settings.json").read_text() == settings
    accepted("resume", tmp_path / "out", "--seeds", 3)
    rows = read_tests(tmp_path / "out" / "tests.csv")
    assert {row["seed"] for row in rows} == {0, 1, 2}


def test_a_front_is_searched(tmp_path):
    words = [SHORT_POLE, "--hidden-sizes", 8, "--popsize", 4, "--budget", 3_000, "--test-episodes", 3]
    accepted("pareto", *words, "--output", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == CHECKPOINTS | {"front.csv", "front.png", "policies", "progress.csv", "settings.json"}
    with open(tmp_path / "out" / "front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "out" / "policies").iterdir()))
    out = accepted("pareto", *words, "--output", tmp_path / "nsga2", "--algorithm", "nsga2", "--min-reward", 5)
    names = {file.name for file in (tmp_path / "nsga2").iterdir()}
    assert names >= {"smallest.safetensors", "smallest.gif", "smallest.h", "smallest.png"}
    assert "The smallest policy that earns 5 has " in out


def test_a_resumed_front_is_identical(tmp_path):
    words = ["pareto", SHORT_POLE, "--hidden-sizes", 8, "--popsize", 4, "--budget", 3_000, "--test-episodes", 3]
    accepted(*words, "--output", tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subnetwork, "test", stop)
        stopped = command(*words, "--output", tmp_path / "out")
    resuming = f"python -m subnet_problems resume {tmp_path / 'out'}"
    assert (stopped.code, resuming in stopped.out.replace("\n", "")) == (130, True)
    assert not (tmp_path / "out" / "front.csv").exists()
    other = command("resume", tmp_path / "out", "--seeds", 2)
    assert (other.code, "--seeds: expected none for a folder of the command pareto, got 2" in other.err) == (1, True)
    accepted("resume", tmp_path / "out")
    for name in ("front.csv", "progress.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    accepted("resume", tmp_path / "out", "--budget", 4_000)
    with open(tmp_path / "out" / "progress.csv", newline="") as file:
        assert int(list(csv.DictReader(file))[-1]["steps"]) >= 4_000


@pytest.fixture(scope="module")
def sparsified(found, tmp_path_factory):
    """A finished run of the command: its words, its folder, and its output."""
    file, folder = found[0] / "subnetwork.safetensors", tmp_path_factory.mktemp("sparsify") / "out"
    words = [
        "sparsify",
        file,
        "--env",
        SHORT_POLE,
        "--popsize",
        4,
        "--budget",
        3_000,
        "--min-reward",
        5,
        "--test-episodes",
        3,
    ]
    return words, folder, accepted(*words, "--output", folder)


def test_a_policy_is_sparsified(sparsified):
    (_, file, *_), folder, out = sparsified
    before, small = Subnetwork.load(file), Subnetwork.load(folder / "smallest.safetensors")
    assert small.num_active < before.num_active
    assert small.tests["mean"] >= 5
    assert f"The smallest policy that earns 5 has {small.num_active} weights" in out
    assert {path.name for path in folder.iterdir()} == CHECKPOINTS | {
        "front.csv", "front.png", "policies", "progress.csv", "settings.json", "smallest.gif", "smallest.h",
        "smallest.png", "smallest.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("evaluations", [0, 1])
def test_a_resumed_sparsify_gives_identical_results(evaluations, sparsified, tmp_path):
    words, whole, _ = sparsified
    words, left = [*words, "--output", tmp_path / "out"], [evaluations]

    def play(problem, payload):
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return in_full(problem, payload)

    in_full = MaskedGymProblem._run_round
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedGymProblem, "_run_round", play)
        stopped = command(*words)
    resuming = f"python -m subnet_problems resume {tmp_path / 'out'}"
    assert (stopped.code, resuming in stopped.out.replace("\n", "")) == (130, True)
    assert (tmp_path / "out" / "front.csv").exists() == (evaluations > 0)  # no result in the first generation
    if evaluations:
        accepted("resume", tmp_path / "out")
    else:
        early = command("resume", tmp_path / "out")
        assert (early.code, "it was stopped too early; run its command again" in early.err) == (1, True)
        accepted(*words)
    for name in ("front.csv", "progress.csv", "smallest.safetensors", "smallest.h"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_errors_of_sparsify_name_the_option(found, tmp_path):
    file = found[0] / "subnetwork.safetensors"
    make().save(tmp_path / "unknown.safetensors")
    make(env="Nowhere-v7").save(tmp_path / "nowhere.safetensors")
    policy = Subnetwork.load(file)
    empty = replace(policy, mask=torch.zeros_like(policy.mask))
    empty.save(tmp_path / "empty.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"nonsense")
    for words, message in [
        (["missing.safetensors"], "No such file or directory: 'missing.safetensors'"),
        ([tmp_path / "damaged.safetensors"], "not a safetensors file"),
        ([tmp_path / "unknown.safetensors"], "FILE: expected a policy of a task with a Gymnasium id, got "),
        ([tmp_path / "nowhere.safetensors"], "FILE: 'Nowhere-v7' with env_config={} cannot be made"),
        ([tmp_path / "empty.safetensors"], "FILE: expected a policy that keeps at least one weight, got "),
        ([file, "--env", "Nowhere-v7"], "--env: 'Nowhere-v7'"),
        ([file, "--env", "Acrobot-v1"], "--env: expected"),
        ([file, "--env-config", "{"], "--env-config: expected JSON, got '{'"),
        ([file, "--max-sparsity", 0.1], "--max-sparsity: expected at least 0.5, the sparsity of start, got 0.1"),
        (
            [file, "--max-sparsity", 0.999],
            "--max-sparsity: expected one that keeps at least 1 of 48 weights, got 0.999",
        ),
        ([file, "--popsize", 1], "--popsize: expected a whole number >= 4, got 1"),
        ([file, "--seed", 2**63], "--seed: expected a whole number in [0, 2**63)"),
    ]:
        done = command("sparsify", *words, "--output", tmp_path / "out")
        assert done.code == 1
        assert f"Error: {message}" in done.err or message in done.err.partition("Error: ")[2]
        assert not (tmp_path / "out").exists()
    done = command("sparsify", file, "--output", tmp_path / "damaged.safetensors")
    assert (done.code, "Error: --output: expected a path of folders, got " in done.err) == (1, True)


def test_the_bias_option_adds_biases_to_the_weights(tmp_path):
    small = ["--hidden-sizes", 8, "--popsize", 4, "--budget", 500, "--test-episodes", 3, "--bias"]
    accepted("search", "CartPole-v1", *small, "--output", tmp_path / "search")
    accepted("pareto", SHORT_POLE, *small, "--output", tmp_path / "pareto")
    accepted("compare", "CartPole-v1", *small, "--output", tmp_path / "compare", "--algorithms", "snes", "--seeds", 1)
    for file in [tmp_path / "search" / "subnetwork.safetensors", *(tmp_path / "pareto" / "policies").iterdir()]:
        assert Subnetwork.load(file).num_weights == 4 * 8 + 8 + 8 * 2 + 2
    assert json.loads((tmp_path / "compare" / "settings.json").read_text())["options"]["bias"] is True


def test_the_algorithm_option_offers_all_searches():
    assert set(get_args(Algorithm)) == set(SEARCHES)


@pytest.mark.parametrize(
    ("name", "popsize", "error", "message"),
    [
        ("sgd", None, ValueError, r"^name: expected one of \['cem', "),
        (3, None, TypeError, r"^name: expected one of"),
        ("pgpe", 33, ValueError, r"^popsize: expected an even number for pgpe, got 33$"),
        ("cem", 7, ValueError, r"^popsize: expected a whole number >= 8, got 7$"),
        ("elitist", 2.5, TypeError, r"^popsize: expected a whole number >= 1, got 2.5$"),
    ],
)
def test_errors_of_make_search_name_the_argument(name, popsize, error, message):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0)
    with pytest.raises(error, match=message):
        make_search(name, problem, popsize=popsize)


def test_the_papers_search_has_the_settings_of_the_paper():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0)
    found, by_hand = (
        make_search("paper", problem),
        ElitistGaussianResampling(problem, popsize=32, num_elites=3, stdev=0.05, recombination="uniform"),
    )
    settings = ("_popsize", "_num_elites", "_stdev", "_recombination", "_clone_elites")
    assert [getattr(found, name) for name in settings] == [getattr(by_hand, name) for name in settings]


def test_the_papers_search_evaluates_three_episodes_per_solution(tmp_path):
    words = ["CartPole-v1", "--budget", 3_000, "--output", tmp_path / "run", "--algorithm", "paper"]
    accepted("search", *words, *SMALL[:2], "--test-episodes", 5)
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["total_episode_count"]) == 32 * 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, ""),
        (["dance"], 2, "No such command 'dance'"),
        (["search"], 2, "Missing argument"),
        (["search", "CartPole-v1", "--budget", "soon"], 2, "--budget"),
        (["search", "CartPole-v1", "--algorithm", "sgd"], 2, "--algorithm"),
        (["search", "CartPole-v99"], 1, "Error: ENV: 'CartPole-v99'"),
        (["search", "phys2d/CartPole-v1"], 1, "Error: ENV: "),
        (["search", "CartPole-v1", "--env-config", "{"], 1, "Error: --env-config: expected JSON, got '{'"),
        (["search", "CartPole-v1", "--env-config", "[1]"], 1, "Error: --env-config: expected a mapping"),
        (["search", "CartPole-v1", "--hidden-sizes", "8;8"], 1, "Error: --hidden-sizes: expected whole numbers"),
        (["search", "CartPole-v1", "--hidden-sizes", "8,0"], 1, "Error: --hidden-sizes[1]: expected a whole number"),
        (["search", "CartPole-v1", "--sparsity", "1.5"], 1, "Error: --sparsity: expected"),
        (["search", "CartPole-v1", "--mask", "layer", "--sparsity", "0.99999"], 1, "Error: --mask: expected one that"),
        (["search", "CartPole-v1", "--weight-gain", "nan"], 1, "Error: --weight-gain: expected"),
        (["search", "CartPole-v1", "--seed", str(2**63)], 1, "Error: --seed: expected a whole number in [0, 2**63)"),
        (["search", "CartPole-v1", "--popsize", "1", "--algorithm", "cmaes"], 1, "Error: --popsize: expected a whole"),
        (["test", "missing.safetensors"], 1, "Error: [Errno 2] No such file or directory: 'missing.safetensors'"),
        (["resume", "missing"], 1, "Error: FOLDER: expected a folder of an earlier run, got missing"),
        (["pareto", "CartPole-v1", "--seed", str(2**63)], 1, "Error: --seed: expected a whole number in [0, 2**63)"),
        (["pareto", "CartPole-v1", "--max-sparsity", "0.99999"], 1, "Error: --max-sparsity: expected one that keeps a"),
        (
            ["pareto", "CartPole-v1", "--max-sparsity", "0.3"],
            1,
            "Error: --max-sparsity: expected at least 0.9, the default min_sparsity",
        ),
        (["pareto", "CartPole-v1", "--min-sparsity", "0.999"], 1, "Error: --min-sparsity: expected at most"),
        (
            ["pareto", "CartPole-v1", "--first-steps", "9", "--algorithm", "nsga2"],
            1,
            "Error: --first-steps: expected 0 for a search other than continuation",
        ),
        (["pareto", "CartPole-v1", "--popsize", "1"], 1, "Error: --popsize: expected a whole number >= 4, got 1"),
        (["compare", "CartPole-v1", "--hidden-sizes", "0"], 1, "Error: --hidden-sizes[0]: expected a whole number"),
        (["compare", "CartPole-v1", "--algorithms", "sgd"], 1, "Error: --algorithms: expected some of elitist,"),
        (
            ["compare", "CartPole-v1", "--popsize", "7", "--algorithms", "cem"],
            1,
            "Error: --popsize: expected a whole number >= 8",
        ),
        (
            ["compare", "CartPole-v1", "--popsize", "33", "--algorithms", "pgpe"],
            1,
            "Error: --popsize: expected an even number for pgpe, got 33",
        ),
    ],
)
def test_user_errors_name_the_option_and_have_no_traceback(words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command(*words)
    assert done.code == code
    assert message in done.err + done.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["search"], ["pareto"], ["compare"]])
def test_an_unusable_output_folder_is_refused_before_the_search(words, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "new"):
        done = command(*words, "CartPole-v1", "--output", output)
        assert done.code == 1
        assert "Error: --output: expected a path of folders, got " in done.err
    done = command(*words, "CartPole-v1", "--output", tmp_path)
    assert "Error: --output: expected a new or empty folder" in done.err


def test_show_and_record_check_the_output_path_first(tmp_path):
    lander().save(tmp_path / "lander.safetensors")
    for plot, message in (
        ("mask.xyz", "Error: --plot: expected a name that ends in one of "),
        ("lander.safetensors/mask.png", "Error: --plot: expected a path of folders"),
    ):
        done = command("show", tmp_path / "lander.safetensors", "--plot", tmp_path / plot)
        assert (done.code, done.out) == (1, "")
        assert message in done.err
    for film, message in (
        ("film.avi", "Error: PATH: expected a name that ends in .mp4 or .gif"),
        ("lander.safetensors/film.gif", "Error: PATH: expected a path of folders"),
    ):
        done = command("record", tmp_path / "lander.safetensors", tmp_path / film)
        assert (done.code, done.out) == (1, "")
        assert message in done.err


def test_a_policy_without_a_known_task_is_reported_as_file(tmp_path):
    make().save(tmp_path / "unknown.safetensors")
    make(env="Nowhere-v7").save(tmp_path / "nowhere.safetensors")
    for words in (["test"], ["record", tmp_path / "film.gif"]):
        done = command(words[0], tmp_path / "unknown.safetensors", *words[1:])
        assert done.code == 1
        assert "Error: FILE: expected a policy of a task with a Gymnasium id, got " in done.err
        done = command(words[0], tmp_path / "nowhere.safetensors", *words[1:])
        assert done.code == 1
        assert "Error: FILE: 'Nowhere-v7' with env_config={} cannot be made" in done.err


def test_ctrl_c_exits_with_code_130(found, monkeypatch):
    monkeypatch.setattr(Subnetwork, "test", stop)
    done = command("test", found[0] / "subnetwork.safetensors")
    assert (done.code, done.err) == (130, "Stopped.\n")


def test_an_error_during_a_search_says_how_to_continue(tmp_path):
    words = ["CartPole-v1", "--output", tmp_path / "run", *SMALL]

    def broken(*_, **__):
        raise EvaluationError(1, 0, 3, "the environment's step raised")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedGymProblem, "evaluate", broken)
        done = command("search", *words)
    assert done.code == 1
    assert "Error: solution 1, episode 0, step 3: the environment's step raised\nTo continue from the last" in done.err
    assert f"python -m subnet_problems resume {tmp_path / 'run'}" in done.err
    accepted("resume", tmp_path / "run", "--budget", 500)


def test_resume_refuses_invalid_settings(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    assert "FOLDER: expected " in command("resume", tmp_path).err
    for settings, message in [
        ({"env": "CartPole-v1"}, "to name one of ['compare', 'pareto', 'search', 'sparsify'], got None"),
        ({"command": "show"}, "to name one of ['compare', 'pareto', 'search', 'sparsify'], got 'show'"),
        ({"command": "search", "budget": 10}, "to have ['budget', 'test_episodes'], got ['budget']"),
        ({"command": "pareto", "budget": 10}, "to have ['budget', 'min_reward', 'test_episodes'], got ['budget']"),
        ({"command": "compare"}, "to have ['budget', 'jobs', "),
    ]:
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        done = command("resume", tmp_path)
        assert (done.code, message in done.err.replace("\n", " ")) == (1, True)


def test_show_ignores_custom_test_results(tmp_path):
    replace(lander(), tests={"note": "in the wind"}).save(tmp_path / "lander.safetensors")
    assert "test reward" not in accepted("show", tmp_path / "lander.safetensors")


def test_a_small_policy_is_shown_as_a_formula(tmp_path):
    smallest().save(tmp_path / "smallest.safetensors")
    assert accepted("show", tmp_path / "smallest.safetensors").endswith(smallest().formula() + "\n")
    make().save(tmp_path / "unnamed.safetensors")
    assert make().formula() in accepted("show", tmp_path / "unnamed.safetensors")
    lander().save(tmp_path / "lander.safetensors")
    assert "tanh(" not in accepted("show", tmp_path / "lander.safetensors")


def test_a_path_may_contain_markup(found, tmp_path):
    folder = tmp_path / "a[bold]b[" / "x]"
    folder.mkdir(parents=True)
    assert str(folder) in accepted("export", found[0] / "subnetwork.safetensors", folder, "--form", "c")


def test_a_damaged_file_and_a_folder_in_use_are_refused(tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(b"nonsense")
    done = command("show", tmp_path / "damaged.safetensors")
    assert (done.code, "not a safetensors file" in done.err) == (1, True)
    done = command("search", "CartPole-v1", "--output", tmp_path, *SMALL)
    assert (done.code, "expected a new or empty folder" in done.err) == (1, True)
    lander().save(tmp_path / "lander.safetensors")
    done = command("record", tmp_path / "lander.safetensors", tmp_path / "film.avi")
    assert (done.code, "PATH: expected a name that ends in .mp4 or .gif" in done.err) == (1, True)


def test_a_policy_can_be_tested_and_recorded_in_another_environment(tmp_path):
    file = tmp_path / "policy.safetensors"
    network = FrozenNetwork((3,), obs_length=8, act_length=4)
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=DiscreteActions(4))
    subnet.save(file)
    assert "give --env" in command("test", file).err
    told = [accepted("test", file, "--num-episodes", 2, "--env", "LunarLander-v3", *words) for words in (
        [], ["--env-config", '{"gravity": -2.0}'], ["--episode-length", 3],
    )]  # fmt: skip
    for words, options in ((told[0], {}), (told[1], {"gravity": -2.0})):
        returns = subnet.test(env="LunarLander-v3", env_config=options, num_episodes=2)
        assert f"test reward {returns.mean():.1f} " in words
    assert len(set(told)) == 3
    accepted("record", file, tmp_path / "film.gif", "--env", "LunarLander-v3", "--episode-length", 4)
    assert (tmp_path / "film.gif").exists()
    assert "--env-config: expected JSON" in command("test", file, "--env", "LunarLander-v3", "--env-config", "{").err


def test_a_folder_with_only_settings_counts_as_new(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    accepted("search", "CartPole-v1", "--hidden-sizes", 3, "--budget", 200, "--test-episodes", 2, "--output", tmp_path)
    assert (tmp_path / "subnetwork.safetensors").exists()


def test_export_does_not_treat_a_file_as_a_folder(found, tmp_path):
    file = found[0] / "subnetwork.safetensors"
    before = file.read_bytes()
    assert "expected a folder for c, got" in command("export", file, file).err
    assert file.read_bytes() == before
    accepted("export", file, tmp_path / "POLICY.ONNX")
    assert (tmp_path / "POLICY.ONNX").is_file()


def test_options_select_the_network_and_the_mask_rule(tmp_path):
    string = "Linear(obs_length, 5) >> Tanh() >> Linear(5, act_length)"
    words = ["search", SHORT_POLE, "--budget", 300, "--test-episodes", 2, "--popsize", 4, "--seed", 3]
    accepted(
        *words, "--network", string, "--weight-init", "signed_constant", "--network-seed", 7, "--mask", "erdos_renyi",
        "--sparsity", 0.5, "--backend", "gymnasium", "--output", tmp_path / "string",
    )  # fmt: skip
    policy = Subnetwork.load(tmp_path / "string" / "subnetwork.safetensors")
    network = policy.network
    assert (network.architecture, network.weight_init, network.seed) == (string, "signed_constant", 7)
    kept = [int(policy.mask[layer.slice].sum()) for layer in network.layers if len(layer.shape) == 2]
    assert (policy.num_active, kept[0] == kept[1]) == (round(0.5 * policy.num_weights), False)
    accepted(*words, "--hidden-sizes", 5, "--output", tmp_path / "sizes")
    assert Subnetwork.load(tmp_path / "sizes" / "subnetwork.safetensors").network.seed == 3
    for wrong, message in [
        (["--network", string, "--hidden-sizes", 5], "--network: expected none when --hidden-sizes is given, got"),
        (["--mask", "layer"], "--sparsity: expected the fraction of weights removed for layer, got none"),
        (["--mask", "threshold", "--sparsity", 0.5], "--sparsity: expected none for threshold (its sparsity is free)"),
        (["--network", "Linear("], "--network: EvoTorch cannot read the network string 'Linear('"),
    ]:
        done = command(*words, *wrong, "--output", tmp_path / "wrong")
        assert (done.code, message in done.err) == (1, True), done.err
        assert not (tmp_path / "wrong").exists()
