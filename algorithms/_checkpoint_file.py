"""The checkpoint file: written atomically, with a checksum; the previous file is kept.

``magic | length of the header (8 bytes, little-endian) | header (JSON) | payload | SHA-256 of the above (32 bytes)``
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

MAGIC = b"subnet-problems checkpoint 1\n"
_DIGEST_BYTES = 32


class CheckpointError(RuntimeError):
    """A file cannot be read: it is a damaged checkpoint, or not a checkpoint."""


def previous_of(path: Path) -> Path:
    """Path of the previous checkpoint."""
    return path.with_name(path.name + ".previous")


def _unfinished_of(path: Path) -> Path:
    return path.with_name(path.name + ".unfinished")


def write(path: Path, header: dict[str, Any], payload: bytes) -> None:
    """Write a checkpoint; an existing one becomes the previous one.

    At every instant a complete checkpoint is on the disk and ``read`` finds it.

    Raises:
        OSError: It could not be written, for example on a full disk. Existing checkpoints are kept.
    """
    text = json.dumps(header).encode()
    head = MAGIC + len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(head)
    digest.update(payload)
    unfinished = _unfinished_of(path)
    try:
        with open(unfinished, "wb") as file:
            file.write(head)
            file.write(payload)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if path.exists():
        path.replace(previous_of(path))
    unfinished.replace(path)
    _sync_folder(path.parent)


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return header and payload of the checkpoint; if it is damaged, warn and return those of the previous one.

    Raises:
        FileNotFoundError: Neither exists, and no complete one was ever written.
        CheckpointError: All are damaged.
    """
    if not path.exists() and _unfinished_of(path).exists():  # killed between the two renames of ``write``
        candidates = [_unfinished_of(path), previous_of(path)]
    else:
        candidates = [path, previous_of(path)]
    problems = []
    for candidate in candidates:
        try:
            content = _read_one(candidate)
        except FileNotFoundError:
            problems.append(f"{candidate} does not exist")
        except CheckpointError as error:
            problems.append(str(error))
        else:
            if problems:
                warnings.warn(f"{problems[0]}; continuing from the previous checkpoint, {candidate}", stacklevel=3)
            return content
    if not path.exists() and not previous_of(path).exists():  # a kill during the first write leaves only a torn file
        raise FileNotFoundError(f"path: expected a checkpoint, got {path}, which does not exist")
    raise CheckpointError("; ".join(problems))


def remove(path: Path) -> None:
    """Remove all files of ``write``, the checkpoint last, so that a kill never leaves only the other files."""
    for file in (_unfinished_of(path), previous_of(path), path):
        file.unlink(missing_ok=True)


def _read_one(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise CheckpointError(f"{path} is not a checkpoint, or its first bytes are damaged")
    body = memoryview(content)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != content[-_DIGEST_BYTES:]:
        raise CheckpointError(f"{path} is damaged: its checksum does not match its {len(content)} bytes")
    start = len(MAGIC) + 8
    stop = start + int.from_bytes(body[len(MAGIC) : start], "little")
    return json.loads(bytes(body[start:stop])), bytes(body[stop:])


def _sync_folder(folder: Path) -> None:
    """Make renames survive a loss of power, if the system supports it (Windows does not)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
