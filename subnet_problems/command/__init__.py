"""The command line: search, resume, plot, test, show, record, export, pareto, sparsify, compare."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from rich.text import Text

from . import _many as many
from . import _policy as policy
from . import _search as search
from ._options import app, err
from ._refusals import Refused, in_the_users_words
from ._resume import resume

__all__ = ["main"]

_COMMANDS: dict[str, Callable[..., None]] = {
    "search": search.search,
    "resume": resume,
    "plot": search.plot,
    "test": policy.play,
    "show": policy.show,
    "record": policy.record,
    "export": policy.export,
    "pareto": many.pareto,
    "sparsify": many.sparsify,
    "compare": many.compare,
}
for _name, _function in _COMMANDS.items():
    app.command(_name)(in_the_users_words(_function))


def main() -> int:
    """Run the command. A user's mistakes are reported without a traceback.

    Returns:
        The exit code: 0 for success, 1 for an error, 2 for a wrong command line, 130 after Ctrl-C.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    try:
        app()
    except SystemExit as end:
        return int(end.code or 0)
    except Refused as error:
        err.print(Text("Error: ", style="bold red").append(str(error), style="not bold default"), soft_wrap=True)
        return 1
    return 0
