"""What ``python -m subnet_problems`` does: search, resume, test, show, record, export, pareto, compare."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gymnasium
import matplotlib
from rich.text import Text

from algorithms import CheckpointError

from ..experiments import ProcessLostError
from ..rollout import EvaluationError
from ..workers import WorkersLostError
from . import many, policy, search
from .options import app, err

__all__ = ["main"]

#: What a user may have done, or the machine; all else is a fault of this package, and is shown as one.
_MISTAKES = (
    ValueError, TypeError, OSError, ImportError, gymnasium.error.Error, CheckpointError, EvaluationError,
    ProcessLostError, WorkersLostError,
)  # fmt: skip

_COMMANDS: dict[str, Callable[..., None]] = {
    "search": search.search,
    "resume": search.resume_search,
    "test": policy.play,
    "show": policy.show,
    "record": policy.record,
    "export": policy.export,
    "pareto": many.pareto,
    "compare": many.compare,
}
for _name, _function in _COMMANDS.items():
    app.command(_name)(_function)


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
    except _MISTAKES as error:
        err.print(Text("Error: ", style="bold red").append(str(error), style="not bold default"), soft_wrap=True)
        return 1
    return 0
