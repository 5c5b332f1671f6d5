"""The Numba options that all kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that compiles a function, and caches the result if a cache folder is writable.

    Fast-math is off, so the compiler neither reorders sums nor fuses products into them. The bits of an output depend
    only on the weights and the observation, and are the same on every CPU.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            result: Callable[..., Any] = njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache is writable
            result = njit(**options)(function)
        return result

    return decorate
