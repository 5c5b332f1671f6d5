"""What the commands share: their options, the problem these describe, and how tests are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from .._files import check_folder, write_whole
from ..experiments._presets import SEARCHES
from ..subnetworks.export import EXPORTS

if TYPE_CHECKING:
    from ..problems import MaskedGymProblem

app = typer.Typer(
    name="python -m subnet_problems",
    help="Sparse subnetworks of frozen random networks: search them, test them, look at them, take them away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out, err = Console(soft_wrap=True, markup=False, highlight=False), Console(stderr=True)

if TYPE_CHECKING:
    Algorithm: TypeAlias = str
    Form: TypeAlias = str
else:  # the names in the registries
    Algorithm = Literal[tuple(SEARCHES)]
    Form = Literal[tuple(EXPORTS)]
ParetoAlgorithm = Literal["continuation", "nsga2"]

Env = Annotated[str, typer.Argument(help="A Gymnasium id, such as LunarLander-v3.", show_default=False)]
EnvConfig = Annotated[str, typer.Option(help="Its options, as JSON: '{\"continuous\": true}'.", metavar="JSON")]
Hidden = Annotated[str, typer.Option(help="Sizes of the hidden layers.", metavar="N,N,...")]
Sparsity = Annotated[
    float | None, typer.Option(help="Share of the weights removed, exactly, in [0, 1); left free where not given.")
]
Bias = Annotated[bool, typer.Option("--bias", help="Give the network biases: masked weights like all others.")]
Gain = Annotated[float, typer.Option(help="Weights are drawn uniformly between -GAIN and GAIN.", metavar="GAIN")]
Episodes = Annotated[
    int | None, typer.Option(help="Episodes of one evaluation: 1 by default, 3 for the paper's search.", min=1)
]
Length = Annotated[
    int | None,
    typer.Option("--episode-length", help="The most steps of an episode of the search; tests play whole ones.", min=1),
]
Budget = Annotated[int, typer.Option(help="Environment steps of a search.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the network, the search and the episodes.", min=0)]
Popsize = Annotated[int | None, typer.Option(help="Solutions of a generation; each search has its own default.", min=1)]
MaxSparsity = Annotated[float | None, typer.Option(help="Where it ends: 0.998, or 0.99 for nsga2.", show_default=False)]
MinReward = Annotated[
    float | None,
    typer.Option(help="Policies that earn less are not shown; by default the task's threshold.", show_default=False),
]
Tests = Annotated[int, typer.Option(help="Fresh episodes of a test, on Gymnasium itself.", min=2)]
File = Annotated[Path, typer.Argument(help="A subnetwork file.", show_default=False)]
Normalize = Annotated[bool, typer.Option("--observation-normalization", help="Normalize observations, as GymNE does.")]


Elsewhere = Annotated[
    str | None, typer.Option("--env", help="Another task than its own: a Gymnasium id.", show_default=False)
]
OtherConfig = Annotated[
    str | None,
    typer.Option("--env-config", help="Options in the place of its own, as JSON.", metavar="JSON", show_default=False),
]
OtherLength = Annotated[
    int | None, typer.Option("--episode-length", help="The most steps of an episode.", min=1, show_default=False)
]


def read_config(text: str) -> Any:
    """The value of ``--env-config``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--env-config: expected JSON, got {text!r}: {error}") from None


def make_problem(
    *, env: str, env_config: str, hidden_sizes: str, seed: int, num_episodes: int, **options: Any
) -> MaskedGymProblem:
    """The problem that the options of the command line describe."""
    config = read_config(env_config)
    try:
        sizes = tuple(int(size) for size in hidden_sizes.split(",") if size.strip())
    except ValueError:
        raise ValueError(f"--hidden-sizes: expected whole numbers with commas, got {hidden_sizes!r}") from None
    from ..problems import MaskedGymProblem

    return MaskedGymProblem(
        env, env_config=config, hidden_sizes=sizes, num_episodes=num_episodes, network_seed=seed, seed=seed, **options
    )


def check_new(folder: Path) -> None:
    """Refuse a folder in which something was begun, or in which nothing can be written."""
    check_folder("--output", folder)
    if folder.exists() and {file.name for file in folder.iterdir()} - {"settings.json"}:  # Ctrl-C may leave that alone
        raise FileExistsError(
            f"--output: expected a new or an empty folder, and {folder} is not; to go on with what is there: --resume, "
            "or the command resume for a search"
        )


def new_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder with ``settings.json``; one that is there must be empty."""
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder, settings)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``settings.json``."""
    write_whole(folder / "settings.json", (json.dumps(settings, indent=2) + "\n").encode())


def read_settings(name: str, folder: Path) -> dict[str, Any]:
    """What ``write_settings`` wrote into a folder that the user calls ``name``."""
    check_folder(name, folder)
    try:
        settings = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{name}: expected a folder in which something was begun, got {folder}, which has no settings.json"
        ) from None
    except ValueError as error:
        raise ValueError(f"{name}: expected {folder / 'settings.json'} as it was written, got {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{name}: expected {folder / 'settings.json'} as it was written, got {settings!r}")
    return settings


def same_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder with other settings than it was made with."""
    before = read_settings("--output", folder)
    for name, value in settings.items():
        if before.get(name) != value:
            raise ValueError(f"{name}: expected {before.get(name)!r}, with which {folder} was begun, got {value!r}")


def tell_tests(tests: Mapping[str, Any], threshold: float | None) -> None:
    """Print the results of a policy's tests, if it has any, and whether they solve the task."""
    if not {"mean", "num_episodes"} <= tests.keys() or not isinstance(tests["mean"], int | float):
        return
    verdict = "the task names no threshold"
    if threshold is not None:
        verdict = f"{'solved' if tests['mean'] >= threshold else 'not solved'} (the task asks for {threshold:g})"
    error = f" ± {tests['standard_error']:.1f}" if isinstance(tests.get("standard_error"), int | float) else ""
    out.print(f"test reward {tests['mean']:.1f}{error} ({tests['num_episodes']} fresh episodes): {verdict}")
