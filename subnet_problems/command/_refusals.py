"""Errors in the words of the command line: they name options as the user typed them."""

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

#: What a user may have done, or the machine; all else is a fault of this package, and is shown as one.
_MISTAKES = (
    ValueError, TypeError, OSError, ImportError, gymnasium.error.Error, CheckpointError, EvaluationError,
    ProcessLostError, WorkersLostError,
)  # fmt: skip

#: What functions of this package call what a command has under another name: the first of these that it has.
_OTHER_NAMES = {
    "network_seed": ("seed",),
    "num_jobs": ("jobs",),
    "env": ("file",),  # which says what is played
    "log": ("logs",),
    "policy": ("file",),
    "folder": ("output",),
    "path": ("output", "file"),
}


class Refused(Exception):  # noqa: N818
    """What is wrong, as the user is to read it."""


def in_the_users_words(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose mistakes are ``Refused``, and which ends with code 130 wherever Ctrl-C comes."""
    words = _words(command)

    @wraps(command)
    def worded(**arguments: Any) -> None:
        try:
            command(**arguments)
        except KeyboardInterrupt:
            err.print("Stopped.")
            raise typer.Exit(130) from None
        except _MISTAKES as error:
            told = re.sub(r"^\w+(?=(\[\d+\])?: )", lambda name: words.get(name[0], name[0]), str(error))
            raise Refused("\n".join([told, *getattr(error, "__notes__", ())])) from error

    return worded


def _words(command: Callable[..., None]) -> dict[str, str]:
    """From the names of Python's arguments to what is typed for them: ``--hidden-sizes``, ``ENV``."""
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
