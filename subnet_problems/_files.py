"""Atomic, durable writes: a file appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, with the permissions that the process gives to new files.

    Raises:
        OSError: It cannot be written. What was there is still there.
    """
    with whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, with its suffix, for a library that writes files itself.

    On leaving, the temporary file takes the place of ``path``; after an error it is removed instead.

    Raises:
        OSError: It cannot be written. What was there is still there.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name survives a loss of power, too
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
