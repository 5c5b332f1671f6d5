"""The registration of a Gymnasium id: in this process, and as Gymnasium itself ships it."""

from __future__ import annotations

import ast
import json
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy, deepcopy
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from .._json import split

#: The folder of Gymnasium's own code.
_FOLDER = f"{Path(gym.__file__).parent}{os.sep}"

#: The registration of an id as JSON: all that decides which environment ``gymnasium.make`` makes.
Description = Mapping[str, Any]


class Registration:
    """A copy of an entry of Gymnasium's registry.

    A later registration of the same id does not change it. A pickle contains the entry, so that other processes need
    not register it.

    Args:
        env_id: The full id, with its version.

    Attributes:
        env_id: The full id.
        description: What is registered.
    """

    def __init__(self, env_id: str) -> None:
        self._spec = copy(gym.registry[env_id])
        self._spec.kwargs = deepcopy(self._spec.kwargs)
        entry_point = self._spec.entry_point
        if isinstance(entry_point, str) and entry_point.startswith("__main__:"):  # __main__ is another script elsewhere
            self._spec.entry_point = load_env_creator(entry_point)  # type: ignore[assignment]
        self.env_id = env_id
        self.description = describe(self._spec)

    def make(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """Make a new environment; ``kwargs`` as for ``gymnasium.make``."""
        return gym.make(self._spec, **kwargs)

    def __deepcopy__(self, memo: Any) -> Registration:
        return self  # nothing changes it

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            data = cloudpickle.dumps(self._spec)
        except Exception:  # the process that loads it must then register the id itself
            data = b""
        return _unpickled, (self.env_id, self.description, data)


def _unpickled(env_id: str, description: Description, data: bytes) -> Registration:
    if not data:
        if env_id not in gym.registry or describe(gym.registry[env_id]) != description:
            raise ValueError(
                f"env: expected {env_id!r} to be registered in this process as it was where the problem was made, "
                f"because its entry point cannot be pickled: {description}"
            )
        return Registration(env_id)
    result = object.__new__(Registration)
    result.env_id, result.description = env_id, description
    try:
        result._spec = cloudpickle.loads(data)
    except (AttributeError, ImportError) as error:
        raise ImportError(
            f"env: {env_id!r} is registered with an entry point that this process cannot import: {error}. Put its "
            "module where every process can import it (install it, or set PYTHONPATH)"
        ) from error
    return result


def pickled_registrations() -> bytes:
    """Pickle all registrations of this process that Gymnasium does not ship, except those that cannot be pickled."""
    specs = {}
    for env_id, spec in gym.registry.items():
        if describe(spec) != describe_shipped(env_id):
            try:
                specs[env_id] = cloudpickle.dumps(spec)
            except Exception:
                continue  # the other process may register the id itself
    data: bytes = cloudpickle.dumps(specs)
    return data


def register_pickled(data: bytes) -> None:
    """Register the result of ``pickled_registrations``, except ids that this process has already registered."""
    for env_id, spec in cloudpickle.loads(data).items():
        if env_id not in gym.registry or describe(gym.registry[env_id]) == describe_shipped(env_id):
            try:
                gym.registry[env_id] = cloudpickle.loads(spec)
            except Exception:
                continue  # whoever needs the id gets an error that it is not registered


def describe_callable(make_env: Callable[..., Any]) -> Description:
    """Describe the maker of an environment without an id, by its name."""
    return {"callable": _name_of(make_env)}


def describe(spec: EnvSpec) -> Description:
    """Describe what a spec makes: entry point, keyword arguments, time limit and wrappers.

    Fields that do not change the environment are left out, such as ``disable_env_checker`` and ``reward_threshold``.
    Keyword arguments that JSON cannot hold are described by their types, and callables by their names.
    """
    wrappers = [
        [_name_of(wrapper.entry_point), _arguments(wrapper.kwargs or {})] for wrapper in spec.additional_wrappers
    ]
    return {
        "entry_point": _name_of(spec.entry_point),
        "kwargs": _arguments(spec.kwargs),
        "max_episode_steps": spec.max_episode_steps,
        "additional_wrappers": wrappers,
    }


def where_they_differ(ours: Description, theirs: Description) -> str:
    """Say how two descriptions differ, as ``entry_point 'a:A' instead of 'b:B'``."""
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return ", ".join(f"{name} {ours[name]!r} instead of {theirs.get(name)!r}" for name in names)


def describe_shipped(env_id: str) -> Description | None:
    """Describe what Gymnasium itself registers under an id, even if the id was registered anew; None for other ids."""
    spec = _shipped_specs().get(env_id)
    return None if spec is None else describe(spec)


@cache
def _shipped_specs() -> dict[str, EnvSpec]:
    """Read the calls of ``register`` in Gymnasium's own source, which a user's call cannot replace.

    Calls with arguments that are not literals are skipped. An id that is not found counts as a user's own environment.
    """
    specs = {}
    for node in ast.walk(ast.parse(Path(gym.envs.__file__).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
            try:
                spec = EnvSpec(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords})
            except (TypeError, ValueError):
                continue
            specs[spec.id] = spec
    return specs


def _arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    kept, left_out = split(arguments)
    for name, kind in left_out.items():
        value = arguments[name]
        kept[name] = {"$callable": _name_of(value)} if callable(value) else {"$type": kind}
    return kept


def fingerprint(function: Callable[..., Any]) -> str:
    """Return a function's name, its arguments if it is a ``partial``, and a digest of its code."""
    return _name_of(function, digest=True)


def _name_of(entry_point: Any, *, digest: bool = False) -> str:
    """Return ``module:name``, without the module if it is the script that is run, whose module name varies.

    Functions without a unique name, such as lambdas, also get a digest of their code and of the values bound in it. The
    digest changes with the version of Python.
    """
    if isinstance(entry_point, str) or entry_point is None:
        return (entry_point or "").removeprefix("__main__:")
    if isinstance(entry_point, partial):
        arguments = {"args": entry_point.args, "keywords": entry_point.keywords}
        arguments_text = json.dumps(_arguments(arguments), sort_keys=True)
        return f"partial({_name_of(entry_point.func, digest=digest)}, {arguments_text})"
    module = getattr(entry_point, "__module__", "")
    name = getattr(entry_point, "__qualname__", type(entry_point).__qualname__)
    code = getattr(entry_point, "__code__", None)
    if (digest or "<" in name) and code is not None:
        contents = [_contents(code), _bound(entry_point)]
        name += f"#{zlib.crc32(repr(contents).encode()):08x}"
    return name if module in ("__main__", "__mp_main__") else f"{module}:{name}"


def _contents(code: CodeType) -> list[Any]:
    """Return the instructions, names and constants of a function, and of the functions inside it."""
    constants: list[Any] = []
    for part in code.co_consts:
        sortable = sorted(map(repr, part)) if isinstance(part, frozenset) else part  # its order varies
        constants.append(_contents(part) if isinstance(part, CodeType) else sortable)
    return [code.co_code, code.co_names, constants]


def _bound(function: Any) -> str:
    """Return a function's defaults and closure values as JSON text; values that JSON cannot hold appear by type."""
    values = {f"default {number}": value for number, value in enumerate(function.__defaults__ or ())}
    values |= function.__kwdefaults__ or {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # the variable is not bound yet
            values[name] = cell.cell_contents
    kept, left_out = split(values)
    return json.dumps([kept, left_out], sort_keys=True)


def foreign_methods(kind: type) -> list[str]:
    """Return the methods of a Gymnasium class and its bases that were replaced or added by code outside Gymnasium."""
    return [
        f"{base.__qualname__}.{name}"
        for base in kind.__mro__
        if base.__module__.startswith("gymnasium.")
        for name, method in vars(base).items()
        if isinstance(method, FunctionType) and not method.__code__.co_filename.startswith(_FOLDER)
    ]
