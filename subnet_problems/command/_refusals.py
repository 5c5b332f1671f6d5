"""Error messages of the command line, which name options as the user typed them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import gymnasium
import typer

from algorithms import CheckpointError

from ..experiments._processes import ProcessLostError
from ..problems._errors import WorkersLostError
from ..tasks._episodes import EvaluationError
from ._options import err

#: Errors that a user or the machine may cause. All others are bugs of this package and get a traceback.
_MISTAKES = (
    ValueError, TypeError, OSError, ImportError, gymnasium.error.Error, CheckpointError, EvaluationError,
    ProcessLostError, WorkersLostError,
)  # fmt: skip

#: Argument names of this package, and options that a command may have for them: the first one that it has is named.
_OTHER_NAMES = {
    "network_seed": ("seed",),
    "num_jobs": ("jobs",),
    "mask_rule": ("mask",),
    "env": ("file",),  # the file names the task
    "log": ("logs",),
    "first_interactions": ("first_steps",),
    "policy": ("file",),
    "folder": ("output",),
    "path": ("output", "file"),
}


class Refused(Exception):  # noqa: N818
    """An error message for the user."""


def in_the_users_words(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: a user's mistakes raise ``Refused``, and Ctrl-C exits with code 130."""
    words = _words(command)

    @wraps(command)
    def worded(**arguments: Any) -> None:
        try:
            command(**arguments)
        except KeyboardInterrupt:
            err.print("Stopped.")
            raise typer.Exit(130) from None
        except _MISTAKES as error:
            message = re.sub(r"^\w+(?=(\[\d+\])?: )", lambda name: words.get(name[0], name[0]), str(error))
            raise Refused("\n".join([message, *getattr(error, "__notes__", ())])) from error

    return worded


def _words(command: Callable[..., None]) -> dict[str, str]:
    """Map the names of Python's arguments to their spelling on the command line: ``--hidden-sizes``, ``ENV``."""
    words = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        (info,) = parameter.annotation.__metadata__
        is_option = isinstance(info, typer.models.OptionInfo)
        spelled = (info.param_decls or (f"--{name.replace('_', '-')}",))[0]
        words[name] = spelled if is_option else name.upper()
    for name, others in _OTHER_NAMES.items():
        word = next((words[other] for other in others if other in words), None)
        if word is not None:
            words.setdefault(name, word)
    return words
