"""The checkpoint file: written whole or not at all, with a checksum, and the one before it kept.

``magic | length of the header (8 bytes, little-endian) | header (JSON) | payload | SHA-256 of all before (32 bytes)``
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
    """A checkpoint cannot be read: it is damaged, or not one."""


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(path.name + ".previous")


def _unfinished_of(path: Path) -> Path:
    return path.with_name(path.name + ".unfinished")


def write(path: Path, header: dict[str, Any], payload: bytes) -> None:
    """Write a checkpoint; the one that was there becomes the previous one.

    At every instant a whole checkpoint is on the disk, where ``read`` finds it.

    Raises:
        OSError: It could not be written, as on a full disk. What was there is still there.
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
    """Header and payload of the checkpoint; where it is damaged, with a warning, of the one before.

    Raises:
        FileNotFoundError: There is neither, nor ever was a whole one.
        CheckpointError: None of them is sound.
    """
    if not path.exists() and _unfinished_of(path).exists():  # a kill came between the two renames of ``write``
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
                warnings.warn(f"{problems[0]}; going on from the checkpoint before, {candidate}", stacklevel=3)
            return content
    if not path.exists() and not previous_of(path).exists():  # a kill in the very first write leaves a torn file alone
        raise FileNotFoundError(f"path: expected a checkpoint, got {path}, which does not exist")
    raise CheckpointError("; ".join(problems))


def remove(path: Path) -> None:
    """Remove all that ``write`` may have left, the checkpoint last: a kill leaves it, or nothing."""
    for file in (_unfinished_of(path), previous_of(path), path):
        file.unlink(missing_ok=True)


def _read_one(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise CheckpointError(f"{path} is not a checkpoint, or its beginning is damaged")
    body = memoryview(content)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != content[-_DIGEST_BYTES:]:
        raise CheckpointError(f"{path} is damaged: its checksum does not agree with its {len(content)} bytes")
    start = len(MAGIC) + 8
    stop = start + int.from_bytes(body[len(MAGIC) : start], "little")
    return json.loads(bytes(body[start:stop])), bytes(body[stop:])


def _sync_folder(folder: Path) -> None:
    """Make renames last through a loss of power, where the system can (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
