"""User values as JSON for a policy's file. Tags mark the values that plain JSON would silently change."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The NumPy dtype kinds that can be stored: booleans, whole numbers, floats.
_KINDS = "biuf"
#: The greatest size of an array in bytes. It is limited because a file's description is read whole.
_LARGE = 2**20


def to_json(value: Any) -> Any:
    """Turn a value into JSON, from which ``from_json`` restores an equal value of the same type.

    None, booleans, whole numbers, finite floats, strings, lists, and dicts whose keys are strings without a leading
    ``$`` stay unchanged. Tuples, non-finite floats, other dicts, and NumPy scalars and arrays of numbers (up to 1 MiB)
    become objects with one key that begins with ``$``: ``{"$tuple": [...]}``, ``{"$float": "inf"}``,
    ``{"$dict": [[key, value], ...]}``, ``{"$scalar": {"dtype": "<f4", "base64": "..."}}``,
    ``{"$array": {"dtype": "<f8", "base64": "...", "shape": [2]}}``.

    Raises:
        TypeError: The value, or a value inside it, has another type. The message names the type.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is list:
        return [to_json(item) for item in value]
    if type(value) is tuple:
        return {"$tuple": [to_json(item) for item in value]}
    if type(value) is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if type(value) is np.ndarray or isinstance(value, np.generic):
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"a NumPy array of {value.dtype}")
        if value.nbytes > _LARGE:
            raise TypeError(f"a NumPy array of {value.nbytes} bytes")
        data = np.asarray(value, dtype=value.dtype.newbyteorder("<"))
        content = {"dtype": data.dtype.str, "base64": base64.b64encode(data.tobytes()).decode()}
        return {"$array": content | {"shape": list(data.shape)}} if type(value) is np.ndarray else {"$scalar": content}
    raise TypeError(f"type {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", ""))


def from_json(data: Any) -> Any:
    """Restore the value that was passed to ``to_json``.

    Raises:
        ValueError: ``data`` does not come from ``to_json``.
    """
    if isinstance(data, list):
        return [from_json(item) for item in data]
    if not isinstance(data, dict):
        return data
    tag = next((key for key in data if key.startswith("$")), None)
    if tag is None:
        return {key: from_json(item) for key, item in data.items()}
    content = data[tag]
    if len(data) == 1 and tag == "$tuple" and isinstance(content, list):
        return tuple(from_json(item) for item in content)
    if len(data) == 1 and tag == "$dict" and isinstance(content, list):
        return _dict(content)
    if len(data) == 1 and tag == "$float" and content in ("inf", "-inf", "nan"):
        return float(content)
    if len(data) == 1 and tag in ("$array", "$scalar") and isinstance(content, dict):
        return _array(content) if tag == "$array" else _array({**content, "shape": []})[()]
    raise ValueError(f"expected a value written by this package, got an object with the key {tag!r}")


def _dict(content: list[Any]) -> dict[Any, Any]:
    try:
        return {from_json(key): from_json(item) for key, item in content}
    except (TypeError, ValueError) as error:  # a list as a key, or items that are not pairs
        raise ValueError(f"expected pairs of keys and values, got {content!r}: {error}") from error


def _array(content: dict[str, Any]) -> NDArray[Any]:
    try:
        dtype, shape = np.dtype(content["dtype"]), content["shape"]
        if dtype.kind not in _KINDS or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"dtype {dtype} and shape {shape}")
        data = base64.b64decode(content["base64"], validate=True)
        return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected an array written by this package, got {content!r}: {error}") from error


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a mapping as JSON without the entries that JSON cannot hold, and a description of each such entry."""
    left_out = {}
    for name, value in values.items():
        try:
            to_json(value)
        except TypeError as error:
            left_out[name] = str(error)
    kept = {name: value for name, value in values.items() if name not in left_out}
    return to_json(kept), left_out
