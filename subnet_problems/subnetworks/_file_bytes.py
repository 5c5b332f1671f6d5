"""The bytes of a policy's file: a safetensors file with a description and a checksum in its metadata."""

from __future__ import annotations

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from ._file_fields import SubnetworkFileError

#: Prefix of the names of tensors that are buffers of the module.
BUFFER = "buffer."
#: The bytes before the CRC-32 in the header, in which the description is a string within JSON.
_BEFORE_CRC32 = rb"\"crc32\":\""


def sealed(data: bytes) -> bytes:
    """Insert the correct CRC-32 into a file: the checksum of the file with eight zeros in its place.

    Raises:
        ValueError: The file has no place for a CRC-32.
    """
    start = data.index(_BEFORE_CRC32) + len(_BEFORE_CRC32)
    before, after = data[:start], data[start + 8 :]
    return before + b"%08x" % zlib.crc32(after, zlib.crc32(b"0" * 8, zlib.crc32(before))) + after


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], bytes]:
    """Read the description, the tensors and all bytes of a file.

    Raises:
        OSError: The file cannot be read.
        SubnetworkFileError: It is not a safetensors file with a description.
    """
    with open(path, "rb") as stream:  # a missing or unreadable file is an OSError
        data = stream.read(os.fstat(stream.fileno()).st_size)  # a device may be endless, but has size 0
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_without_duplicates)
        metadata = header.get("__metadata__") or {}
    except (SafetensorError, TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: not a safetensors file: {error}") from error
    if "subnetwork" not in metadata:
        raise SubnetworkFileError(f"{path}: a safetensors file, but its metadata has no entry 'subnetwork'")
    try:
        description = json.loads(metadata["subnetwork"], object_pairs_hook=_without_duplicates)
        if not _is_finite(description):
            raise ValueError("it contains a number that is not finite")
    except (TypeError, ValueError, RecursionError) as error:
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise SubnetworkFileError(f"{path}: the metadata 'subnetwork' is not a JSON object")
    return description, tensors, data


def check_sum(data: bytes) -> None:
    """Raise ``SubnetworkFileError`` if the checksum in a file is not that of its bytes."""
    try:
        sound = sealed(data) == data
    except ValueError:
        sound = False
    if not sound:
        raise SubnetworkFileError("crc32: expected the checksum of this file, got another: the file is damaged")


def _is_finite(value: Any) -> bool:
    """True if all numbers within a JSON value are finite."""
    if isinstance(value, dict | list):
        return all(_is_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a key occurs twice in {[key for key, _ in pairs]}")
    return values
