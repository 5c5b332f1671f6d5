"""Numba's compiler as all kernels use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that compiles a function; it keeps the result on disk, where there is a place for it.

    Without fast-math the compiler may neither reorder sums nor fuse products into them: the bits of an output depend on
    the weights and the observation alone, and are the same on every CPU.
    """
    options = {"nogil": True, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            result: Callable[..., Any] = njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            result = njit(**options)(function)
        return result

    return decorate
