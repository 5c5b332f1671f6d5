"""``pareto``, ``sparsify`` and ``compare``: commands for many policies or many searches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..experiments import SEARCHES
from ._options import (
    Backend,
    Bias,
    Budget,
    Elsewhere,
    Env,
    EnvConfig,
    Episodes,
    File,
    Gain,
    Hidden,
    Init,
    Length,
    MaxSparsity,
    MinReward,
    Network,
    NetworkSeed,
    Normalize,
    OtherConfig,
    OtherLength,
    ParetoAlgorithm,
    Popsize,
    Rule,
    Seed,
    Sparsity,
    Tests,
    Wide,
    check_new,
    check_settings,
    layers_or,
    make_problem,
    out,
    read_config,
    resumed,
    resuming,
    write_settings,
)
from ._policy import of_the_file, player

if TYPE_CHECKING:
    from evotorch.algorithms import SearchAlgorithm

    from ..experiments import Row


def pareto(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("results/pareto"),
    algorithm: Annotated[ParetoAlgorithm, typer.Option(help="The search algorithm.")] = "continuation",
    env_config: EnvConfig = "{}",
    hidden_sizes: Wide = None,
    network: Network = None,
    bias: Bias = False,
    weight_init: Init = "uniform",
    weight_gain: Gain = 1.0,
    episode_length: Length = None,
    observation_normalization: Normalize = False,
    popsize: Popsize = None,
    min_sparsity: Annotated[
        float | None,
        typer.Option(
            help="Minimum sparsity. Each search has its own default: 0.9 for continuation, 0 for nsga2; or what keeps "
            "10 weights if that is lower.",
            show_default=False,
        ),
    ] = None,
    max_sparsity: MaxSparsity = None,
    first_steps: Annotated[
        int, typer.Option(help="Minimum environment steps at the first level, for a hard task.", min=0)
    ] = 0,
    backend: Backend = "auto",
    budget: Budget = 1_600_000,
    seed: Seed = 0,
    network_seed: NetworkSeed = None,
    min_reward: MinReward = None,
    test_episodes: Tests = 100,
) -> None:
    """Search for a front of policies, reward against sparsity; test, draw and save all of them.

    The smallest policy that earns enough also gets a video, a C header, and a graph with its formula. After Ctrl-C,
    [bold]resume FOLDER[/] continues with identical results. A finished search continues with a larger --budget.
    """
    from ..experiments import pareto_search

    options: dict[str, Any] = {
        "env": env, "env_config": env_config, "hidden_sizes": layers_or("87,87", hidden_sizes, network),
        "network": network, "bias": bias, "weight_init": weight_init, "weight_gain": weight_gain, "backend": backend,
        "network_seed": network_seed, "episode_length": episode_length,
        "observation_normalization": observation_normalization, "seed": seed,
    }  # fmt: skip
    check_new(output)
    preset = pareto_search.FRONT_SEARCHES[algorithm]
    masked = make_problem(
        **options,
        num_episodes=1,
        mask_rule=preset.mask_rule,
        common_random_numbers=preset.common_random_numbers,
    )
    searching = pareto_search.begin(
        masked, output, algorithm=algorithm, popsize=popsize, seed=seed, min_sparsity=min_sparsity,
        max_sparsity=max_sparsity, first_interactions=first_steps,
    )  # fmt: skip
    _start_front("pareto", searching, output, budget=budget, min_reward=min_reward, test_episodes=test_episodes)


def sparsify(
    file: File,
    output: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("results/sparsify"),
    env: Elsewhere = None,
    env_config: OtherConfig = None,
    episode_length: OtherLength = None,
    popsize: Popsize = None,
    max_sparsity: Annotated[
        float | None,
        typer.Option(
            help="Sparsity at which it ends. Default: 0.998, or what keeps a tenth of its weights if that is higher.",
            show_default=False,
        ),
    ] = None,
    budget: Budget = 1_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the search and the episodes.", min=0)] = 0,
    min_reward: MinReward = None,
    test_episodes: Tests = 100,
) -> None:
    """Make a policy sparser and sparser while it earns enough; test, draw and save the policies found.

    The folder has the same files as that of [bold]pareto[/]: smallest.safetensors is the smallest policy that earns
    enough. After Ctrl-C, [bold]resume FOLDER[/] continues with identical results. A finished search continues with a
    larger --budget.
    """
    from ..experiments._sparsify import begin

    check_new(output)
    options: dict[str, Any] = {"episode_length": episode_length}
    if env_config is not None:
        options["env_config"] = read_config(env_config)
    subnet = player(file, env)
    with of_the_file(env):
        searching = begin(subnet, output, env=env, max_sparsity=max_sparsity, popsize=popsize, seed=seed, **options)
    _start_front("sparsify", searching, output, budget=budget, min_reward=min_reward, test_episodes=test_episodes)


def _start_front(name: str, searching: Any, output: Path, **options: Any) -> None:
    """Write what ``resume`` needs to know of a search for a front, and search."""
    write_settings(output, {"command": name, **options})
    _run_front(searching, output, **options)


def resume_front(output: Path, settings: dict[str, Any]) -> None:
    """Continue the search for a front in a folder, finished or not."""
    check_settings(output, settings, {"budget", "min_reward", "test_episodes"})
    _run_front(resumed(output, "checkpoint"), output, **settings)


def _run_front(searching: Any, output: Path, **options: Any) -> None:
    """Search, and print a summary."""
    from ..experiments import pareto_search

    try:
        found, stopped = pareto_search.run(searching, output, console=out, **options)
    except Exception as error:
        error.add_note(f"To continue from the last checkpoint: {resuming(output)}")
        raise
    if found:
        files = sorted(path.name for path in output.iterdir() if path.name != "settings.json")
        out.print(f"{output}: {', '.join(files)}")
    if stopped:
        out.print(f"Stopped. To continue: {resuming(output)}")
        raise typer.Exit(130)


def compare(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("results/compare"),
    algorithms: Annotated[str, typer.Option(help="The search algorithms.", metavar="NAME,NAME,...")] = ",".join(
        SEARCHES
    ),
    env_config: EnvConfig = "{}",
    hidden_sizes: Hidden = None,
    network: Network = None,
    bias: Bias = False,
    weight_init: Init = "uniform",
    weight_gain: Gain = 1.0,
    sparsity: Sparsity = None,
    mask: Rule = None,
    popsize: Popsize = None,
    num_episodes: Episodes = None,
    episode_length: Length = None,
    observation_normalization: Normalize = False,
    backend: Backend = "auto",
    budget: Budget = 600_000,
    seeds: Annotated[int, typer.Option(help="Number of seeds, starting at 0.", min=1)] = 3,
    num_tests: Annotated[int, typer.Option(help="Number of tests per run.", min=1)] = 12,
    test_episodes: Tests = 20,
    jobs: Annotated[int | None, typer.Option(help="Number of runs at a time. Default: one per CPU.", min=1)] = None,
) -> None:
    """Compare search algorithms on one task with the same seeds and budget: a table and learning curves."""
    names = list(dict.fromkeys(name for name in algorithms.split(",") if name))
    if not names or not set(names) <= set(SEARCHES):
        raise ValueError(f"--algorithms: expected some of {','.join(SEARCHES)}, got {algorithms!r}")
    options: dict[str, Any] = {
        "env": env, "env_config": env_config, "hidden_sizes": layers_or("64,64", hidden_sizes, network),
        "network": network, "network_seed": None, "bias": bias, "weight_init": weight_init, "weight_gain": weight_gain,
        "sparsity": sparsity, "mask": mask, "observation_normalization": observation_normalization,
        "episode_length": episode_length, "backend": backend,
    }  # fmt: skip
    comparison = _Comparison(
        names=names, popsize=popsize, num_episodes=num_episodes, num_tests=num_tests, test_episodes=test_episodes,
        budget=budget, seeds=seeds, jobs=jobs, options=options,
    )  # fmt: skip
    check_new(output)
    _run_comparison(output, comparison, is_new=True)


@dataclass(frozen=True)
class _Comparison:
    """What ``resume`` needs to know of a comparison; ``options`` are those of the problem."""

    names: list[str]
    popsize: int | None
    num_episodes: int | None
    num_tests: int
    test_episodes: int
    budget: int
    seeds: int
    jobs: int | None
    options: dict[str, Any]


def resume_comparison(output: Path, settings: dict[str, Any]) -> None:
    """Continue the runs that were stopped in a folder."""
    check_settings(output, settings, {field.name for field in fields(_Comparison)})
    _run_comparison(output, _Comparison(**settings), is_new=False)


def _run_comparison(output: Path, settings: _Comparison, *, is_new: bool) -> None:
    """Perform the runs of a comparison that are not finished, and print a summary."""
    from algorithms import ElitistGaussianResampling

    from ..experiments import Run, finished, make_search, perform

    problem = make_problem(seed=0, num_episodes=1, **settings.options)  # report mistakes before anything runs
    searches = {name: make_search(name, problem, popsize=settings.popsize) for name in settings.names}
    if is_new:
        write_settings(output, {"command": "compare", **asdict(settings)})
    make = partial(_make, popsize=settings.popsize, num_episodes=settings.num_episodes, options=settings.options)
    runs = [
        Run(name, seed, partial(make, name=name), settings.budget, settings.num_tests, settings.test_episodes)
        for seed in range(settings.seeds) for name in settings.names
    ]  # fmt: skip
    stopped = False
    try:
        perform(runs, output / "tests.csv", num_jobs=settings.jobs)
    except KeyboardInterrupt:
        stopped = True
    except Exception as error:
        error.add_note(f"Finished runs are kept. To continue: {resuming(output)}")
        raise
    if rows := finished(runs, output / "tests.csv"):
        title = f"{settings.options['env']}, {problem.network.architecture}"
        _print_comparison(rows, settings.names, problem.task.reward_threshold, title, output)
        for name, searcher in searches.items():
            if isinstance(searcher, ElitistGaussianResampling):
                _print_levels(rows, name, searcher.last_level_from)
    if stopped:
        out.print(f"Stopped. To continue: {resuming(output)}")
        raise typer.Exit(130)


def _print_comparison(rows: list[Row], names: list[str], threshold: float | None, title: str, output: Path) -> None:
    """Print the table and draw the curves of a comparison."""
    from ..experiments import comparison, plot_learning_curves
    from ..pictures import drawn_if_possible, save_figure

    names = [name for name in names if any(row["name"] == name for row in rows)]
    out.print(comparison(rows, names, solved=threshold))
    with drawn_if_possible(output / "learning_curves.png"):
        axes = plot_learning_curves(rows, names, threshold=threshold)
        axes.set_title(title)
        save_figure(axes, output / "learning_curves.png")
    out.print(f"{output}: tests.csv, learning_curves.png")


def _print_levels(rows: list[Row], name: str, last_level_from: int) -> None:
    """Print whether runs ended before they reached the requested sparsity."""
    from ..experiments import by_run

    ends = [run[-1]["generation"] for (whose, _), run in by_run(rows).items() if whose == name]
    if early := sum(generation < last_level_from for generation in ends):
        out.print(
            f"{name}: {early} of {len(ends)} runs ended before the search reached the requested sparsity, which takes "
            f"{last_level_from - 1} generations; until then it searches at lower ones. A larger --budget helps."
        )


def _make(
    seed: int, num_threads: int, *, name: str, popsize: int | None, num_episodes: int | None, options: dict[str, Any]
) -> SearchAlgorithm:
    from ..experiments import make_search

    num_episodes = num_episodes or SEARCHES[name].num_episodes
    problem = make_problem(seed=seed, num_episodes=num_episodes, num_threads=num_threads, **options)
    return make_search(name, problem, popsize=popsize)
