"""Run: the settings of one seeded run of an experiment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evotorch import Solution
from evotorch.algorithms import SearchAlgorithm

from .._checks import check_count, check_path


@dataclass(frozen=True)
class Run:
    """One search with one seed.

    Attributes:
        name: Name of the run; name and seed identify it.
        seed: Seed of the network, the search and the tests.
        make: Creates the search from the seed and the number of threads that it may use.
        budget: Environment steps of the search.
        num_tests: Number of tests, at equal intervals of environment steps (fewer if a generation takes more steps than
            an interval); 0 for a test after every generation. Default: 20.
        test_episodes: Number of fresh episodes per test. Default: 100.
        keep: File for the policy with the highest test reward, on a masked problem. It is written when the run ends,
            not for a run that is finished already. Default: None, no file.

    Raises:
        TypeError: An attribute has the wrong type.
        ValueError: A number is out of range, or the name is not suitable as a file name.
    """

    name: str
    seed: int
    make: Callable[[int, int], SearchAlgorithm]
    budget: int
    num_tests: int = 20
    test_episodes: int = 100
    keep: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected a string, got {self.name!r}")
        if not self.name.isprintable() or not 0 < len(self.name.encode()) <= 200 or {"/", os.sep} & set(self.name):
            raise ValueError(f"name: expected a string that can be a file name, got {self.name!r}")
        check_count("seed", self.seed, minimum=0, maximum=2**46)  # seeds of tests are computed from it
        if not callable(self.make):
            raise TypeError(f"make: expected a callable that creates a search, got {self.make!r}")
        check_count("budget", self.budget)
        check_count("num_tests", self.num_tests, minimum=0)
        check_count("test_episodes", self.test_episodes, minimum=2)  # a standard error needs two
        if self.keep is not None:
            object.__setattr__(self, "keep", check_path("keep", self.keep))


def hand_out(searcher: SearchAlgorithm) -> torch.Tensor:
    """The current solution of a search: the center of its distribution if it has one, else its best solution.

    For EvoTorch's restarters (``Restart``, ``IPOP``) it is the solution of the inner search until the first restart.
    After that, it is the best solution of all evaluations, since the inner search starts without earlier results.

    Returns:
        ``(solution_length,)``.

    Raises:
        TypeError: ``searcher`` is not an EvoTorch search.
        ValueError: It has neither a center nor a best solution, as before its first step or with several objectives.
    """
    if not isinstance(searcher, SearchAlgorithm):
        raise TypeError(f"searcher: expected an EvoTorch SearchAlgorithm, got {searcher!r}")
    status = searcher.status
    while "search_algorithm" in status and (status["num_restarts"] == 1 or "best" not in status):
        status = status["search_algorithm"]
    name = next((name for name in ("center", "pop_best", "best") if name in status), None)
    solution = None if name is None else status[name]
    solution = solution.values if isinstance(solution, Solution) else solution
    if not isinstance(solution, torch.Tensor):
        raise ValueError(
            f"searcher: expected one that has a center, a pop_best or a best solution, got {searcher!r}, whose "
            f"status has {sorted(status)}"
        )
    return torch.as_tensor(solution)


def mean_eval(status: Mapping[str, Any]) -> float:
    """The mean fitness of the last population; EvoTorch's restarters have it only in the inner search."""
    while "mean_eval" not in status:
        status = status["search_algorithm"]
    return float(status["mean_eval"])
