"""Atomic, durable writes: a file appears whole or not at all. And checks that something can be written at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_file(name: str, path: Path) -> Path:
    """Return ``path`` if a file can be written there, or as far as that can be said before it is tried.

    Folders that are not there yet are no hindrance.

    Raises:
        OSError: It is a folder, lies beneath a file, or in a folder that cannot be written to.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name}: expected a file, got the folder {path}")
    check_folder(name, path.parent)
    return path


def check_folder(name: str, path: Path) -> Path:
    """Return ``path`` if it is a folder that files can be written to, or can be made, as far as that can be said.

    Raises:
        OSError: It is, or lies beneath, a file or a folder that cannot be written to.
    """
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{name}: expected a path of folders, got {path}, where {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{name}: expected a folder that can be written to, got {nearest}")
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, with the permissions that the process gives to new files.

    Raises:
        OSError: It cannot be written. What was there is still there.
    """
    with whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(data)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Errors of the system name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename) != temporary:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, with its suffix, for a library that writes files itself.

    On leaving, the temporary file takes the place of ``path``; after an error it is removed instead.

    Raises:
        OSError: It cannot be written. What was there is still there.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        with _named(path, temporary):
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
