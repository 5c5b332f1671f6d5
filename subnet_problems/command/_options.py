"""Shared by the commands: their options, the problem that these describe, and the printing of tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from .._files import check_folder, write_whole
from ..experiments._front_presets import FRONT_SEARCHES
from ..experiments._presets import SEARCHES
from ..masks._named import MASK_RULES
from ..networks._inits import INITS
from ..subnetworks.export import EXPORTS
from ..tasks._gym_task import backends

if TYPE_CHECKING:
    from ..problems import MaskedGymProblem

app = typer.Typer(
    name="python -m subnet_problems",
    help="Sparse subnetworks of frozen random networks: search, test, inspect and export them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out, err = Console(soft_wrap=True, markup=False, highlight=False), Console(stderr=True)

if TYPE_CHECKING:
    Algorithm: TypeAlias = str
    ParetoAlgorithm: TypeAlias = str
    Form: TypeAlias = str
    _Rule: TypeAlias = str
    _Init: TypeAlias = str
    _Backend: TypeAlias = str
else:  # the names in the registries
    Algorithm = Literal[tuple(SEARCHES)]
    ParetoAlgorithm = Literal[tuple(FRONT_SEARCHES)]
    Form = Literal[tuple(EXPORTS)]
    _Rule = Literal[tuple(MASK_RULES)]
    _Init = Literal[tuple(INITS)]
    _Backend = Literal[backends()]

Env = Annotated[str, typer.Argument(help="A Gymnasium id, such as LunarLander-v3.", show_default=False)]
EnvConfig = Annotated[
    str, typer.Option(help="Options of the environment as JSON: '{\"continuous\": true}'.", metavar="JSON")
]
Hidden = Annotated[
    str | None,
    typer.Option(help="Sizes of the hidden layers, tanh between them.", metavar="N,N,...", show_default="64,64"),
]
Wide = Annotated[
    str | None,
    typer.Option(help="Sizes of the hidden layers, tanh between them.", metavar="N,N,...", show_default="87,87"),
]
Network = Annotated[
    str | None,
    typer.Option(
        help="An EvoTorch network string instead of hidden layers: 'Linear(obs_length, 8) >> Tanh() >> Linear(8, "
        "act_length)'.",
        show_default=False,
    ),
]
Rule = Annotated[
    _Rule | None,
    typer.Option(
        "--mask",
        help="Mask rule. threshold keeps weights with scores above 0. The others keep an exact share: of all weights "
        "(global), of each layer (layer), or of layers by their sizes (erdos_renyi, for very few weights). Default: "
        "threshold, or global with --sparsity.",
        show_default=False,
    ),
]
Init = Annotated[_Init, typer.Option(help="Distribution of the random weights.")]
NetworkSeed = Annotated[
    int | None, typer.Option(help="Seed of the network's weights. Default: --seed.", min=0, show_default=False)
]
Backend = Annotated[_Backend, typer.Option(help="Simulator for evaluations.")]
Sparsity = Annotated[float | None, typer.Option(help="Exact share of removed weights, in [0, 1). Default: free.")]
Bias = Annotated[
    bool, typer.Option("--bias", help="Add biases to the network; they are masked like all other weights.")
]
Gain = Annotated[float, typer.Option(help="Factor on the random weights.", metavar="GAIN")]
Episodes = Annotated[
    int | None, typer.Option(help="Episodes per evaluation. Default: 1, or 3 for the paper's search.", min=1)
]
Length = Annotated[
    int | None,
    typer.Option(
        "--episode-length", help="Maximum steps of an episode in the search; tests play full episodes.", min=1
    ),
]
Budget = Annotated[int, typer.Option(help="Environment steps of the search.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of the network, the search and the episodes.", min=0)]
Popsize = Annotated[int | None, typer.Option(help="Solutions per generation; each search has its own default.", min=1)]
MaxSparsity = Annotated[
    float | None,
    typer.Option(
        help="Maximum sparsity. Each search has its own default: 0.998 for continuation, 0.99 for nsga2.",
        show_default=False,
    ),
]
MinReward = Annotated[
    float | None,
    typer.Option(help="Reward that a policy must earn. Default: the task's threshold.", show_default=False),
]
Tests = Annotated[int, typer.Option(help="Fresh episodes per test on Gymnasium itself.", min=2)]
File = Annotated[Path, typer.Argument(help="A policy file (.safetensors).", show_default=False)]
Normalize = Annotated[bool, typer.Option("--observation-normalization", help="Normalize observations as GymNE does.")]


Elsewhere = Annotated[
    str | None, typer.Option("--env", help="Gymnasium id of a task other than its own.", show_default=False)
]
OtherConfig = Annotated[
    str | None,
    typer.Option(
        "--env-config",
        help="Options of the environment as JSON, instead of its own.",
        metavar="JSON",
        show_default=False,
    ),
]
OtherLength = Annotated[
    int | None, typer.Option("--episode-length", help="Maximum steps of an episode.", min=1, show_default=False)
]


def read_config(text: str) -> Any:
    """Parse the value of ``--env-config``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--env-config: expected JSON, got {text!r}: {error}") from None


def layers_or(default: str, hidden_sizes: str | None, network: str | None) -> str | None:
    """The sizes of the hidden layers; None if a network string is given instead."""
    if hidden_sizes is not None and network is not None:
        raise ValueError(f"--network: expected none when --hidden-sizes is given, got {network!r}")
    return default if hidden_sizes is None and network is None else hidden_sizes


def make_problem(
    *,
    env: str,
    env_config: str,
    hidden_sizes: str | None,
    seed: int,
    network: str | None = None,
    network_seed: int | None = None,
    mask: str | None = None,
    sparsity: float | None = None,
    **options: Any,
) -> MaskedGymProblem:
    """Create the problem that the options of the command line describe."""
    from ..problems import MaskedGymProblem

    config, sizes = read_config(env_config), None
    if hidden_sizes is not None:
        try:
            sizes = tuple(int(size) for size in hidden_sizes.split(",") if size.strip())
        except ValueError:
            raise ValueError(
                f"--hidden-sizes: expected whole numbers separated by commas, got {hidden_sizes!r}"
            ) from None
    if mask is not None:
        options["mask_rule"] = MASK_RULES[mask](sparsity)
    elif sparsity is not None:
        options["sparsity"] = sparsity
    return MaskedGymProblem(
        env, network, env_config=config, hidden_sizes=sizes, seed=seed,
        network_seed=seed if network_seed is None else network_seed, **options,
    )  # fmt: skip


def check_new(folder: Path) -> None:
    """Refuse a folder that is not empty or not writable; the error says how to continue in it."""
    check_folder("--output", folder)
    if folder.exists() and {file.name for file in folder.iterdir()} - {"settings.json"}:  # Ctrl-C may leave this file
        raise FileExistsError(
            f"--output: expected a new or empty folder, got {folder}, which has files; to continue there: "
            f"{resuming(folder)}"
        )


def resuming(folder: Path) -> str:
    """The command that continues in a folder."""
    return f"python -m subnet_problems resume {folder}"


def resumed(folder: Path, checkpoint: str) -> Any:
    """Load the search of a folder from its checkpoint.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
        CheckpointError: It cannot be read.
    """
    from algorithms import resume

    try:
        return resume(folder / checkpoint, allow_pickle=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"FOLDER: expected a search with a checkpoint, got {folder}, which has none: it was stopped too early; run "
            "its command again"
        ) from None


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``settings.json``, into a new folder if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())


def read_settings(name: str, folder: Path) -> dict[str, Any]:
    """Read what ``write_settings`` wrote into a folder; errors call the folder ``name``."""
    check_folder(name, folder)
    try:
        settings = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{name}: expected a folder of an earlier run, got {folder}, which has no settings.json"
        ) from None
    except ValueError as error:
        raise ValueError(f"{name}: expected {folder / 'settings.json'} to be unchanged, got {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{name}: expected {folder / 'settings.json'} to be unchanged, got {settings!r}")
    return settings


def check_settings(folder: Path, settings: Mapping[str, Any], names: set[str]) -> None:
    """Refuse settings with other names than a command writes."""
    if settings.keys() != names:
        raise ValueError(f"FOLDER: expected {folder / 'settings.json'} to have {sorted(names)}, got {sorted(settings)}")


def print_tests(tests: Mapping[str, Any], threshold: float | None) -> None:
    """Print the results of a policy's tests, if it has any, and whether they solve the task."""
    if not {"mean", "num_episodes"} <= tests.keys() or not isinstance(tests["mean"], int | float):
        return
    verdict = "the task has no reward threshold"
    if threshold is not None:
        verdict = f"{'solved' if tests['mean'] >= threshold else 'not solved'} (the task requires {threshold:g})"
    error = f" ± {tests['standard_error']:.1f}" if isinstance(tests.get("standard_error"), int | float) else ""
    episodes = f"{tests['num_episodes']} fresh episodes" + (f", seed {tests['seed']}" if "seed" in tests else "")
    out.print(f"test reward {tests['mean']:.1f}{error} ({episodes}): {verdict}")
