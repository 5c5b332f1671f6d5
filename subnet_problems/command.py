"""What ``python -m subnet_problems`` does: search, resume, test, show, record, export, pareto, compare."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from evotorch.algorithms import SearchAlgorithm
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from algorithms import Checkpointer, remove_checkpoint, resume

from . import experiments
from .gym_problem import MaskedGymProblem
from .masks import TopK
from .plots import plot_learning_curves, plot_mask
from .pruning import masked_layers, reached
from .searches import SEARCHES, make_search
from .subnetwork import Subnetwork
from .video import record_video

app = typer.Typer(
    name="python -m subnet_problems",
    help="Sparse subnetworks of frozen random networks: search them, test them, look at them, take them away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_out, _err = Console(soft_wrap=True), Console(stderr=True)

Algorithm = Literal["elitist", "paper", "pgpe", "snes", "cem", "cmaes", "genetic"]
Form = Literal["onnx", "c", "c-seed"]

Env = Annotated[str, typer.Argument(help="A Gymnasium id, such as LunarLander-v3.", show_default=False)]
EnvConfig = Annotated[str, typer.Option(help="Its options, as JSON: '{\"continuous\": true}'.", metavar="JSON")]
Hidden = Annotated[str, typer.Option(help="Sizes of the hidden layers.", metavar="N,N,...")]
Sparsity = Annotated[
    float | None, typer.Option(help="Share of the weights removed, exactly; left free where not given.", min=0.0)
]
Gain = Annotated[float, typer.Option(help="Weights are uniform between -GAIN and GAIN.", metavar="GAIN")]
Episodes = Annotated[
    int | None, typer.Option(help="Episodes of one evaluation: 1 by default, 3 for the paper's search.", min=1)
]
Budget = Annotated[int, typer.Option(help="Environment steps of a search.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the network, the search and the episodes.", min=0)]
Popsize = Annotated[int | None, typer.Option(help="Solutions of a generation; each search has its own default.", min=1)]
Tests = Annotated[int, typer.Option(help="Fresh episodes of a test, on Gymnasium itself.", min=2)]
File = Annotated[Path, typer.Argument(help="A subnetwork file.", show_default=False)]
Normalize = Annotated[bool, typer.Option("--observation-normalization", help="Normalise observations, as GymNE does.")]


def main() -> int:
    """Run the command, and tell a user's mistakes without a traceback.

    Returns:
        The exit code: 0, 1 where something was refused or failed, 2 for a command line that is wrong, 130 after Ctrl-C.
    """
    matplotlib.use("Agg")
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    try:
        app()
    except SystemExit as end:
        return int(end.code or 0)
    except (ValueError, TypeError, OSError, ImportError) as error:
        _err.print(Text("Error: ", style="bold red").append(str(error), style="not bold default"), soft_wrap=True)
        return 1
    return 0


def _problem(
    *, env: str, env_config: str, hidden_sizes: str, seed: int, num_episodes: int, **options: Any
) -> MaskedGymProblem:
    """The problem that the options of the command line describe."""
    try:
        config = json.loads(env_config)
    except json.JSONDecodeError as error:
        raise ValueError(f"--env-config: expected JSON, got {env_config!r}: {error}") from None
    try:
        sizes = tuple(int(size) for size in hidden_sizes.split(",") if size.strip())
    except ValueError:
        raise ValueError(f"--hidden-sizes: expected whole numbers with commas, got {hidden_sizes!r}") from None
    return MaskedGymProblem(
        env, env_config=config, hidden_sizes=sizes, num_episodes=num_episodes, network_seed=seed, seed=seed, **options
    )


def _new_folder(folder: Path, *, force: bool = False) -> None:
    if folder.exists() and any(folder.iterdir()) and not force:
        raise FileExistsError(f"--output: expected a new or an empty folder, and {folder} is not")
    folder.mkdir(parents=True, exist_ok=True)


@app.command()
def search(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all that comes of it.")] = Path("results/search"),
    env_config: EnvConfig = "{}",
    hidden_sizes: Hidden = "64,64",
    sparsity: Sparsity = None,
    algorithm: Annotated[Algorithm, typer.Option(help="The search.")] = "elitist",
    popsize: Popsize = None,
    num_episodes: Episodes = None,
    weight_gain: Gain = 1.0,
    observation_normalization: Normalize = False,
    budget: Budget = 1_000_000,
    seed: Seed = 0,
    num_actors: Annotated[int, typer.Option(help="Ray actors; 0 for none.", min=0)] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Generations between two checkpoints.", min=1)] = 20,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard, too.")] = False,
    test_episodes: Tests = 100,
) -> None:
    """Search a mask for a task, test what was found, and keep it as a file.

    The folder has log.csv (each generation), subnetwork.safetensors and, until the search is over, run.checkpoint.
    After Ctrl-C or a kill, [bold]resume FOLDER[/] goes on, to the same bits.
    """
    from .logs import CSVLogger, TensorBoardLogger

    num_episodes = num_episodes or (3 if algorithm == "paper" else 1)
    problem = _problem(
        env=env, env_config=env_config, hidden_sizes=hidden_sizes, seed=seed, num_episodes=num_episodes,
        sparsity=sparsity, weight_gain=weight_gain, observation_normalization=observation_normalization,
        num_actors=num_actors or None,
    )  # fmt: skip
    torch.manual_seed(seed)  # some of EvoTorch's searches draw from the global generator
    searcher = make_search(algorithm, problem, popsize=popsize)
    _new_folder(output)
    CSVLogger(searcher, output / "log.csv")
    if tensorboard:
        TensorBoardLogger(searcher, output / "tensorboard")
    settings = {"budget": budget, "test_episodes": test_episodes}
    (output / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    Checkpointer(searcher, output / "run.checkpoint", every=checkpoint_every)
    _run(searcher, output, **settings)


@app.command("resume")
def resume_search(
    folder: Annotated[Path, typer.Argument(help="The folder of a search that was stopped.", show_default=False)],
    budget: Annotated[int | None, typer.Option(help="Another number of environment steps.", min=1)] = None,
) -> None:
    """Go on with a search that was stopped. A checkpoint is a pickle: resume only those that you trust."""
    searcher = resume(folder / "run.checkpoint", allow_pickle=True)
    settings = json.loads((folder / "settings.json").read_text())
    _run(searcher, folder, **{**settings, **({"budget": budget} if budget else {})})


def _run(searcher: SearchAlgorithm, folder: Path, *, budget: int, test_episodes: int) -> None:
    """Search until the budget is spent, show how it goes, test, save."""
    problem, path = searcher.problem, folder / "subnetwork.safetensors"
    first, start = problem.interaction_count, time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    stopped = False
    with Progress(*columns, TimeRemainingColumn(), console=_err) as progress:
        bar = progress.add_task("", total=budget, completed=first)
        try:
            while problem.interaction_count < budget:
                searcher.step()
                status, rate = searcher.status, (problem.interaction_count - first) / (time.perf_counter() - start)
                text = f"generation {status['iter']}: mean return {status['mean_eval']:.1f}, "
                text += f"sparsity {status['mean_sparsity']:.3f}, {rate / 1000:.1f}k steps/s"
                progress.update(bar, completed=min(problem.interaction_count, budget), description=text)
        except KeyboardInterrupt:
            stopped = True
    if searcher.step_count:
        subnet = problem.to_subnetwork(experiments.hand_out(searcher))
        if not stopped:
            with _err.status(f"Testing on {test_episodes} fresh episodes"):
                problem_returns = problem.test(experiments.hand_out(searcher), num_episodes=test_episodes, seed=12345)
            subnet.tests = {
                "mean": float(problem_returns.mean()),
                "standard_error": float(problem_returns.std(ddof=1) / test_episodes**0.5),
                "num_episodes": test_episodes,
                "seed": 12345,
            }
        subnet.save(path)
        _out.print(f"{path}: {subnet.num_active:,} of {subnet.num_weights:,} weights, sparsity {subnet.sparsity:.3f}")
        _tell_tests(subnet, problem.task.reward_threshold)
    if stopped:
        _out.print(f"Stopped. To go on: python -m subnet_problems resume {folder}")
        raise typer.Exit(130)
    remove_checkpoint(folder / "run.checkpoint")


def _tell_tests(subnet: Subnetwork, threshold: float | None) -> None:
    if not subnet.tests:
        return
    tests = subnet.tests
    verdict = "the task names no threshold"
    if threshold is not None:
        verdict = f"{'solved' if tests['mean'] >= threshold else 'not solved'} (the task asks for {threshold:g})"
    error = f" ± {tests['standard_error']:.1f}" if tests.get("standard_error") is not None else ""
    _out.print(f"test reward {tests['mean']:.1f}{error} ({tests['num_episodes']} fresh episodes): {verdict}")


@app.command("test")
def play(
    file: File,
    num_episodes: Annotated[int, typer.Option(help="Fresh episodes, on Gymnasium itself.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Of the episodes.", min=0)] = 0,
) -> None:
    """Test a policy on fresh episodes: mean, standard error, solved or not by the task's own threshold."""
    subnet = Subnetwork.load(file)
    subnet.test(num_episodes=num_episodes, seed=seed)
    _tell_tests(subnet, subnet.task().reward_threshold)


@app.command()
def show(
    file: File,
    plot: Annotated[Path | None, typer.Option(help="A file for the picture of its masks.", show_default=False)] = None,
) -> None:
    """Tell what a file holds, how many units are dead, and draw its masks."""
    subnet = Subnetwork.load(file)
    network = subnet.network
    table = Table(show_header=False, box=None)
    lines = {
        "file": f"{file}, {file.stat().st_size:,} bytes",
        "task": f"{subnet.env or 'unknown'} {json.dumps(subnet.env_config) if subnet.env_config else ''}",
        "network": f"{network.architecture}, {network.obs_length} observations, {network.act_length} outputs",
        "weights": f"{network.weight_init or 'kept in the file'}, gain {network.weight_gain:g}, seed {network.seed}",
        "kept": f"{subnet.num_active:,} of {subnet.num_weights:,}, sparsity {subnet.sparsity:.3f}",
    }
    try:
        layers = masked_layers(subnet)
        units, alive = subnet.live_units(), subnet.prune().num_active
        dead = ", ".join(f"{(~level).sum()} of {len(level)}" for level in units[1:-1]) or "no hidden layers"
        paths = reached(layers)
        lines["dead units"] = f"{dead}; without them {alive:,} weights do the same"
        lines["inputs"] = f"{paths.any(axis=0).sum()} of {paths.shape[1]} reach an output"
    except ValueError:
        lines["dead units"] = "unknown: the network is no chain of linear layers"
    lines["normalised"] = "yes" if subnet.normalizer is not None else "no"
    for name, text in lines.items():
        table.add_row(name, text)
    _out.print(table, highlight=False)
    if subnet.tests:
        _tell_tests(subnet, subnet.task().reward_threshold if subnet.env else None)
    if plot is not None:
        figure = plot_mask(subnet)[0].get_figure(root=True)
        assert isinstance(figure, Figure)
        figure.savefig(plot, dpi=150)
        plt.close(figure)
        _out.print(f"masks: {plot}")


@app.command()
def record(
    file: File,
    path: Annotated[Path, typer.Argument(help="The film: .gif, or .mp4 (which needs moviepy).", show_default=False)],
    seed: Annotated[int, typer.Option(help="Of the episode.", min=0)] = 0,
) -> None:
    """Film one episode."""
    _out.print(f"{record_video(Subnetwork.load(file), None, path, seed=seed)}")


@app.command()
def export(
    file: File,
    path: Annotated[Path, typer.Argument(help="An .onnx file, or a folder for policy.h.", show_default=False)],
    form: Annotated[
        Form, typer.Option(help="ONNX; C with the kept weights, row by row; or C with the seed and the mask alone.")
    ] = "onnx",
) -> None:
    """Write a policy as an ONNX model, or as one C99 header without allocation."""
    subnet = Subnetwork.load(file)
    if form == "onnx":
        subnet.export_onnx(path)
    else:
        path = subnet.export_c(path, form="rows" if form == "c" else "seed")
    _out.print(f"{path}, {path.stat().st_size:,} bytes")


@app.command()
def pareto(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all that comes of it.")] = Path("results/pareto"),
    env_config: EnvConfig = "{}",
    hidden_sizes: Hidden = "87,87",
    weight_gain: Gain = 1.0,
    popsize: Annotated[int, typer.Option(help="Survivors of a generation.", min=1)] = 24,
    budget: Budget = 8_000_000,
    seed: Seed = 0,
    test_episodes: Tests = 100,
    go_on: Annotated[bool, typer.Option("--resume", help="Go on with the search that was stopped there.")] = False,
) -> None:
    """Search a front of policies, reward against sparsity, by NSGA-II; test, draw and keep all of them."""
    from . import pareto_search

    if go_on:
        algorithm = resume(output / "checkpoint", allow_pickle=True)
    else:
        masked = _problem(
            env=env, env_config=env_config, hidden_sizes=hidden_sizes, seed=seed, num_episodes=1, mask=TopK(0.5),
            weight_gain=weight_gain,
        )  # fmt: skip
        _new_folder(output)
        algorithm = pareto_search.begin(masked, output, popsize=popsize, seed=seed)
    pareto_search.run(algorithm, output, budget=budget, test_episodes=test_episodes, console=_out)
    _out.print(f"{output}: front.csv, front.png, policies")
    if algorithm.problem.interaction_count < budget:
        raise typer.Exit(130)


@app.command()
def compare(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all that comes of it.")] = Path("results/compare"),
    algorithms: Annotated[str, typer.Option(help="The searches.", metavar="NAME,NAME,...")] = ",".join(SEARCHES),
    env_config: EnvConfig = "{}",
    hidden_sizes: Hidden = "64,64",
    sparsity: Sparsity = None,
    popsize: Popsize = None,
    num_episodes: Episodes = None,
    weight_gain: Gain = 1.0,
    observation_normalization: Normalize = False,
    budget: Budget = 600_000,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.", min=1)] = 3,
    num_tests: Annotated[int, typer.Option(help="Tests in each run.", min=1)] = 12,
    test_episodes: Tests = 20,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; one for each processor by default.", min=1)] = None,
    go_on: Annotated[bool, typer.Option("--resume", help="Go on with what was stopped there.")] = False,
) -> None:
    """Compare searches on one task, with the same seeds and an equal budget: a table and learning curves."""
    names = [name for name in algorithms.split(",") if name]
    if not names or not set(names) <= set(SEARCHES):
        raise ValueError(f"--algorithms: expected some of {','.join(SEARCHES)}, got {algorithms!r}")
    tests = output / "tests.csv"
    if experiments.has_begun(tests) and not go_on:
        raise FileExistsError(f"{output} holds results: --resume goes on with them, --output takes another folder")
    options: dict[str, Any] = {
        "env": env, "env_config": env_config, "hidden_sizes": hidden_sizes, "sparsity": sparsity,
        "weight_gain": weight_gain, "observation_normalization": observation_normalization,
    }  # fmt: skip
    task = _problem(seed=0, num_episodes=1, **options).task  # what is wrong is told before anything runs
    runs = [
        experiments.Run(
            name, seed, partial(_make, name=name, popsize=popsize, num_episodes=num_episodes, options=options),
            budget, num_tests, test_episodes,
        )
        for seed in range(seeds) for name in names
    ]  # fmt: skip
    rows = experiments.perform(runs, tests, num_jobs=jobs)
    if not rows:
        raise typer.Exit(130)
    names = [name for name in names if any(row["name"] == name for row in rows)]
    _out.print(_comparison(rows, names, task.reward_threshold))
    axes = plot_learning_curves(rows, names, threshold=task.reward_threshold)
    axes.set_title(f"{env}, hidden layers {hidden_sizes}")
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.savefig(output / "learning_curves.png", dpi=150)
    plt.close(figure)
    _out.print(f"Every test: {tests}; curves: {output / 'learning_curves.png'}")
    if len({(row["name"], row["seed"]) for row in rows}) < len(runs):
        raise typer.Exit(130)


def _make(
    seed: int, num_threads: int, *, name: str, popsize: int | None, num_episodes: int | None, options: dict[str, Any]
) -> SearchAlgorithm:
    num_episodes = num_episodes or (3 if name == "paper" else 1)
    problem = _problem(seed=seed, num_episodes=num_episodes, num_threads=num_threads, **options)
    return make_search(name, problem, popsize=popsize)


def _comparison(rows: list[experiments.Row], names: list[str], threshold: float | None) -> Table:
    """What each search came to."""
    result = Table(title="Test reward on fresh episodes")
    for column in ("search", "seeds", "final, median", "least", "most", "seeds that solve", "steps to it, median"):
        result.add_column(column, justify="left" if column == "search" else "right", no_wrap=column == "search")
    for name in names:
        found = experiments.outcome(rows, name, solved=np.inf if threshold is None else threshold)
        steps = float(np.median(found.samples))
        result.add_row(
            name, str(found.num_seeds), *(f"{f(found.final):.1f}" for f in (np.median, np.min, np.max)),
            "-" if threshold is None else f"{found.num_solved} of {found.num_seeds}",
            f"{steps:,.0f}" if np.isfinite(steps) else "-",
        )  # fmt: skip
    return result
