"""``resume``: continue in a folder, whichever command started there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ._many import resume_comparison, resume_front
from ._options import read_settings, write_settings
from ._search import resume_search

_RESUME: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "search": resume_search,
    "pareto": resume_front,
    "sparsify": resume_front,
    "compare": resume_comparison,
}


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of search, pareto, sparsify or compare.", show_default=False)],
    budget: Annotated[
        int | None,
        typer.Option(help="A new total budget in environment steps, except for compare.", min=1, show_default=False),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="A new number of seeds, for compare.", min=1, show_default=False)
    ] = None,
) -> None:
    """Continue what was stopped in a folder, with identical results.

    What is finished continues with a larger --budget, and a comparison with more --seeds.

    A checkpoint is a pickle, and loading one can run any code: resume only checkpoints that you trust.
    """
    settings = read_settings("FOLDER", folder)
    command = settings.get("command")
    if command not in _RESUME:
        raise ValueError(
            f"FOLDER: expected {folder / 'settings.json'} to name one of {sorted(_RESUME)}, got {command!r}"
        )
    if seeds is not None and command != "compare":
        raise ValueError(f"--seeds: expected none for a folder of the command {command}, got {seeds}")
    if budget is not None and command == "compare":
        raise ValueError(
            f"--budget: expected none for a folder of the command compare, whose tests are spread over its budget, got "
            f"{budget}; compare again in another folder"
        )
    changes = {name: value for name, value in (("budget", budget), ("seeds", seeds)) if value is not None}
    if changes:
        write_settings(folder, settings | changes)
    try:
        _RESUME[command](folder, {name: value for name, value in (settings | changes).items() if name != "command"})
    except (TypeError, ValueError):  # they may not suit the folder
        if changes:
            write_settings(folder, settings)
        raise
