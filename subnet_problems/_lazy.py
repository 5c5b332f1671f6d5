"""Import modules at their first use, because pymoo, Ray and matplotlib take seconds to load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
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


class PycmaFinder(MetaPathFinder):
    """Lets EvoTorch be imported without pycma, which one of its algorithms needs and which takes long to load.

    Only ``evotorch.algorithms.pycmaes`` gets a stand-in for its ``import cma``. The stand-in loads pycma when one of
    its names is first used. All other imports of pycma are as usual.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "evotorch.algorithms.pycmaes" or "cma" in sys.modules or find_spec("cma") is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_with_stand_in, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _with_stand_in(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    sys.modules["cma"] = stand_in = _StandIn("cma")
    try:
        execute(module)
    finally:
        if sys.modules.get("cma") is stand_in:
            del sys.modules["cma"]


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            if name.startswith("__"):  # PyTorch looks through all modules
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
