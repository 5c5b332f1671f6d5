"""Import modules at their first use, because pymoo, Ray and matplotlib take seconds to load."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def lazy(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``.

    Args:
        package: The package's ``__name__``.
        modules: Maps each public name to the module that defines it, relative to the package.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return getattr_


def defer(name: str) -> None:
    """Let the next ``import name`` return at once; the module is loaded when one of its names is first used.

    The standard library's ``LazyLoader`` would not do: it loads a module whose ``__file__`` is read, and PyTorch reads
    that of all modules.

    Args:
        name: The module's name. Nothing changes if the module is already imported or not installed.
    """
    if name not in sys.modules and (spec := find_spec(name)) is not None:
        module = module_from_spec(spec)
        module.__class__ = _Deferred
        sys.modules[name] = module


class _Deferred(ModuleType):
    """A module that is loaded when one of its names is first used; names are then those of the loaded module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


_lock = threading.Lock()
