"""``test``, ``show``, ``record`` and ``export``: commands for one policy."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .._checks import naming
from .._json import split
from ..subnetworks._formula import MAX_WEIGHTS
from ..subnetworks._pruning import masked_layers, reached
from ..subnetworks._subnetwork import Subnetwork, summary
from ..subnetworks.export import EXPORTS
from ._options import Elsewhere, File, Form, OtherConfig, OtherLength, out, print_tests, read_config


def play(
    file: File,
    num_episodes: Annotated[int, typer.Option(help="Number of fresh episodes on Gymnasium itself.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.", min=0)] = 0,
    env: Elsewhere = None,
    env_config: OtherConfig = None,
    episode_length: OtherLength = None,
) -> None:
    """Test a policy on fresh episodes: print mean, standard error, and whether the task is solved."""
    subnet = player(file, env)
    with of_the_file(env):
        task = subnet.make_task(env, env_config=_other(env_config), episode_length=episode_length)
    returns = subnet.test(num_episodes=num_episodes, seed=seed, env=task, episode_length=episode_length)
    print_tests(summary(returns, seed=seed), task.reward_threshold)


def show(
    file: File,
    plot: Annotated[Path | None, typer.Option(help="Picture file for a plot of its masks.", show_default=False)] = None,
) -> None:
    """Print the contents of a policy file, its dead units, the formula of a small policy; optionally plot its masks."""
    if plot is not None:
        from ..pictures._saving import check_picture

        check_picture("--plot", plot)
    subnet = Subnetwork.load(file)
    network = subnet.network
    table = Table(show_header=False, box=None)
    formula = ""
    lines = {
        "file": f"{file}, {file.stat().st_size:,} bytes",
        "task": f"{subnet.env or 'unknown'} {json.dumps(split(subnet.env_config)[0]) if subnet.env_config else ''}",
        "network": f"{network.architecture}, {network.obs_length} observations, {network.act_length} outputs",
        "weights": f"{network.weight_init or 'kept in the file'}, gain {network.weight_gain:g}, seed {network.seed}",
        "kept": f"{subnet.num_active:,} of {subnet.num_weights:,}, sparsity {subnet.sparsity:.3f}",
    }
    try:
        layers = masked_layers(subnet)
        units, alive = subnet.live_units(), subnet.prune().num_active
        dead = ", ".join(f"{(~level).sum()} of {len(level)}" for level in units[1:-1]) or "no hidden layers"
        paths = reached(layers)
        lines["dead units"] = f"{dead}; {alive:,} weights are left without them"
        lines["inputs"] = f"{paths.any(axis=0).sum()} of {paths.shape[1]} reach an output"
        formula = subnet.formula() if alive <= MAX_WEIGHTS else ""
    except ValueError:
        lines["dead units"] = "unknown: the network is not a chain of linear layers"
    lines["normalized"] = "yes" if subnet.normalizer is not None else "no"
    for name, text in lines.items():
        table.add_row(name, text)
    out.print(table, highlight=False)
    try:
        threshold = subnet.make_task().reward_threshold
    except ValueError:  # the task is not registered here
        threshold = None
    print_tests(subnet.tests, threshold)
    if formula:
        out.print(formula)
    if plot is not None:
        from ..pictures import plot_mask, save_figure

        save_figure(plot_mask(subnet)[0], plot)
        out.print(f"masks: {plot}")


def record(
    file: File,
    path: Annotated[Path, typer.Argument(help="The video file: .gif, or .mp4 (needs moviepy).", show_default=False)],
    seed: Annotated[int, typer.Option(help="Seed of the episode.", min=0)] = 0,
    env: Elsewhere = None,
    env_config: OtherConfig = None,
    episode_length: OtherLength = None,
) -> None:
    """Record a video of one episode."""
    from ..pictures import record_video

    subnet, config = player(file, env), _other(env_config)
    with of_the_file(env):
        record_video(subnet, env, path, env_config=config, episode_length=episode_length, seed=seed)
    out.print(f"{path}")


def player(file: Path, env: str | None) -> Subnetwork:
    """Load the policy of a file; it must have a task if ``env`` is None."""
    subnet = Subnetwork.load(file)
    if env is None and subnet.env is None:
        raise ValueError(
            f"FILE: expected a policy of a task with a Gymnasium id, got {file}, which has no task: give --env"
        )
    return subnet


def of_the_file(env: str | None) -> AbstractContextManager[None]:
    """Context in which errors of the environment name FILE, unless ``--env`` is given."""
    return naming(env="FILE") if env is None else nullcontext()


def _other(env_config: str | None) -> Any:
    return None if env_config is None else read_config(env_config)


def export(
    file: File,
    path: Annotated[Path, typer.Argument(help="An .onnx file, or a folder for the C header.", show_default=False)],
    form: Annotated[
        Form | None,
        typer.Option(
            help="; ".join(f"{name}: {target.description}" for name, target in EXPORTS.items())
            + ". Default: the first one that fits the file's suffix, or a folder.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the header and prefix of everything in it: lander.h, lander_act. Default: the folder's name. "
            "Not for ONNX.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a policy as an ONNX model, or as one C99 header without allocation."""
    suffix = path.suffix.lower()
    if form is None:
        suited = [name for name, target in EXPORTS.items() if target.suffix == suffix]
        form = next(iter(suited), next(name for name, target in EXPORTS.items() if not target.suffix))
    target = EXPORTS[form]
    expected = f"a file {target.suffix}" if target.suffix else "a folder"
    others = {other.suffix for other in EXPORTS.values()} | {".c", ".h"}
    if suffix != target.suffix if target.suffix else path.is_file() or (suffix and suffix in others):
        raise ValueError(f"path: expected {expected} for {form}, got {path}")
    if name is not None and not target.has_name:
        raise ValueError(f"--name: expected none for {form}, which is named by its path, got {name!r}")
    path = target.write(Subnetwork.load(file), path, name)
    out.print(f"{path}, {path.stat().st_size:,} bytes")
