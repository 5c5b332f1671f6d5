"""``search`` and ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..experiments import SEARCHES
from ._options import (
    Algorithm,
    Backend,
    Bias,
    Budget,
    Env,
    EnvConfig,
    Episodes,
    Gain,
    Hidden,
    Init,
    Length,
    Network,
    NetworkSeed,
    Normalize,
    Popsize,
    Rule,
    Seed,
    Sparsity,
    Tests,
    check_new,
    check_settings,
    err,
    layers_or,
    make_problem,
    out,
    print_tests,
    resumed,
    resuming,
    write_settings,
)

if TYPE_CHECKING:
    from evotorch.algorithms import SearchAlgorithm


def search(
    env: Env,
    output: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("results/search"),
    env_config: EnvConfig = "{}",
    hidden_sizes: Hidden = None,
    network: Network = None,
    bias: Bias = False,
    weight_init: Init = "uniform",
    weight_gain: Gain = 1.0,
    sparsity: Sparsity = None,
    mask: Rule = None,
    algorithm: Annotated[Algorithm, typer.Option(help="The search algorithm.")] = "elitist",
    popsize: Popsize = None,
    num_episodes: Episodes = None,
    episode_length: Length = None,
    observation_normalization: Normalize = False,
    backend: Backend = "auto",
    budget: Budget = 1_000_000,
    seed: Seed = 0,
    network_seed: NetworkSeed = None,
    num_actors: Annotated[int, typer.Option(help="Number of Ray actors; 0 or 1 for none.", min=0)] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Generations between two checkpoints.", min=1)] = 20,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
    test_episodes: Tests = 100,
) -> None:
    """Search for a mask that solves a task, test the policy, and save it to a file.

    The folder has log.csv (one row per generation), subnetwork.safetensors and run.checkpoint. After Ctrl-C or a kill,
    [bold]resume FOLDER[/] continues with identical results. A finished search continues with a larger --budget.
    """
    import torch

    from algorithms import Checkpointer

    from ..experiments import CSVLogger, TensorBoardLogger, make_search

    check_new(output)
    num_episodes = num_episodes or SEARCHES[algorithm].num_episodes
    problem = make_problem(
        env=env, env_config=env_config, hidden_sizes=layers_or("64,64", hidden_sizes, network), network=network,
        bias=bias, weight_init=weight_init, weight_gain=weight_gain, network_seed=network_seed, sparsity=sparsity,
        mask=mask, observation_normalization=observation_normalization, num_episodes=num_episodes,
        episode_length=episode_length, backend=backend, seed=seed, num_actors=num_actors or None,
    )  # fmt: skip
    torch.manual_seed(seed)  # some of EvoTorch's searches draw from the global generator
    searcher = make_search(algorithm, problem, popsize=popsize)
    CSVLogger(searcher, output / "log.csv")
    if tensorboard:
        TensorBoardLogger(searcher, output / "tensorboard")
    settings = {"budget": budget, "test_episodes": test_episodes}
    write_settings(output, {"command": "search", **settings})
    Checkpointer(searcher, output / "run.checkpoint", every=checkpoint_every)
    _run(searcher, output, **settings)


def resume_search(folder: Path, settings: dict[str, Any]) -> None:
    """Continue the search of a folder, finished or not."""
    from ..experiments import CSVLogger, TensorBoardLogger

    check_settings(folder, settings, {"budget", "test_episodes"})
    searcher = resumed(folder, "run.checkpoint")
    for logger in searcher.log_hook:  # the folder may have been moved
        if isinstance(logger, CSVLogger):
            logger.path = (folder / "log.csv").absolute()
        elif isinstance(logger, TensorBoardLogger):
            logger.folder = (folder / "tensorboard").absolute()
    _run(searcher, folder, **settings)


def plot(
    logs: Annotated[list[Path], typer.Argument(help="Folders of searches, or their logs.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("log.png"),
    quantity: Annotated[str, typer.Option(help="A column of log.csv.")] = "mean_eval",
) -> None:
    """Draw how searches progress: one number of each generation against environment steps."""
    from ..experiments import plot_log
    from ..pictures._saving import check_picture, save_figure

    check_picture("--output", output)
    save_figure(plot_log(logs, quantity=quantity), output)
    out.print(f"{output}")


def _run(searcher: SearchAlgorithm, folder: Path, *, budget: int, test_episodes: int) -> None:
    """Search until the budget is spent, with a progress bar, then test and save the policy."""
    from algorithms import ElitistGaussianResampling

    from ..experiments import hand_out, spend

    problem, path = searcher.problem, folder / "subnetwork.safetensors"
    stopped = False
    try:
        spend(searcher, budget, console=err)
    except KeyboardInterrupt:
        stopped = True
    except Exception as error:
        error.add_note(f"To continue from the last checkpoint: {resuming(folder)}")
        raise
    if searcher.step_count:
        subnet = problem.to_subnetwork(hand_out(searcher))
        subnet.save(path)
        if not stopped:
            try:
                with err.status(f"Testing on {test_episodes} fresh episodes"):
                    subnet = subnet.tested(num_episodes=test_episodes, seed=12345, env=problem.task)
                subnet.save(path)
            except KeyboardInterrupt:
                stopped = True
        out.print(f"{path}: {subnet.num_active:,} of {subnet.num_weights:,} weights, sparsity {subnet.sparsity:.3f}")
        print_tests(subnet.tests, problem.task.reward_threshold)
    if stopped:
        out.print(f"Stopped. To continue: {resuming(folder)}")
        raise typer.Exit(130)
    if isinstance(searcher, ElitistGaussianResampling) and searcher.step_count < searcher.last_level_from:
        out.print(
            f"The search stopped at sparsity {searcher.status['mean_sparsity']:.3f}, before it reached the requested "
            "one. The policy was found there and earns less at the requested sparsity. To continue:\n"
            f"{resuming(folder)} --budget {2 * budget}"
        )
