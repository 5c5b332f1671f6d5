"""Simulator: the four methods that every simulator has."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Simulator(Protocol):
    """B episodes, each with its own seed, that are stepped together; those that ended are stepped no more."""

    def reset(self) -> NDArray[np.float32]:
        """Begin all episodes; their first observations ``(B, obs_length)``."""
        ...

    def send(self, rows: NDArray[np.int32], actions: NDArray[Any]) -> None:
        """Begin one step of the episodes ``rows``, ``(n,)``, with ``actions``, ``(n, ...)``."""
        ...

    def recv(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
        """End it: observations ``(n, obs_length)``, rewards ``(n,)`` and whether each episode ended ``(n,)``.

        Raises:
            SimulatorError: An environment raised.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class SimulatorError(RuntimeError):
    """An environment raised; ``row`` says which."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row
