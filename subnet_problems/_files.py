"""Atomic, durable writes (a file appears whole or not at all), and checks that a path is writable."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_file(name: str, path: Path) -> Path:
    """Return ``path`` if a file can probably be written there; only the write itself can be sure.

    Its folders need not exist yet.

    Raises:
        OSError: ``path`` is a folder, lies beneath a file, or its nearest existing folder is not writable.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name}: expected a file, got the folder {path}")
    check_folder(name, path.parent)
    return path


def check_folder(name: str, path: Path) -> Path:
    """Return ``path`` if it is a writable folder, or if such a folder can probably be created.

    Raises:
        OSError: ``path`` is or lies beneath a file, or the nearest existing folder is not writable.
    """
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{name}: expected a path of folders, got {path}, where {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{name}: expected a folder that can be written to, got {nearest}")
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, with the process's default permissions for new files.

    Raises:
        OSError: The file cannot be written. An older file at ``path`` stays unchanged.
    """
    with whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(data)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Make an ``OSError`` about the temporary file name ``path`` instead."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename) != temporary:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, with the same suffix, for a library that writes files itself.

    On exit the temporary file replaces ``path``; after an error it is removed.

    Raises:
        OSError: The file cannot be written. An older file at ``path`` stays unchanged.
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
    if os.name == "posix":  # so that the new name, too, survives a loss of power
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
