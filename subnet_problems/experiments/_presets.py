"""The searches that the command offers, by name, with settings tuned on LunarLander."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._checks import check_choice, check_count

if TYPE_CHECKING:
    from evotorch import Problem
    from evotorch.algorithms import SearchAlgorithm


@dataclass(frozen=True)
class Preset:
    """A search with its settings. A new line in ``SEARCHES`` adds a search to the command and to ``compare``.

    Attributes:
        make: Creates the search from a problem and a population size.
        popsize: Default number of solutions per generation.
        num_episodes: Default number of episodes per evaluation.
        least_popsize: Minimum number of solutions per generation.
        in_pairs: Whether the number of solutions must be even.
    """

    make: Callable[[Problem, int], SearchAlgorithm]
    popsize: int = 64
    num_episodes: int = 1
    least_popsize: int = 1
    in_pairs: bool = False


def _elitist(problem: Problem, popsize: int) -> SearchAlgorithm:
    from algorithms import ElitistGaussianResampling

    return ElitistGaussianResampling(problem, popsize=popsize)


def _paper(problem: Problem, popsize: int) -> SearchAlgorithm:
    from algorithms import ElitistGaussianResampling

    return ElitistGaussianResampling.paper(problem, popsize=popsize)


def _genetic(problem: Problem, popsize: int) -> SearchAlgorithm:
    from evotorch.algorithms import GeneticAlgorithm
    from evotorch.operators import GaussianMutation, TwoPointCrossOver

    operators = [TwoPointCrossOver(problem, tournament_size=4), GaussianMutation(problem, stdev=0.05)]
    return GeneticAlgorithm(problem, popsize=popsize, operators=operators)


def _evotorch(name: str, **settings: Any) -> Callable[[Problem, int], SearchAlgorithm]:
    """A factory of an EvoTorch search, by the name of its class."""

    def make(problem: Problem, popsize: int) -> SearchAlgorithm:
        from evotorch import algorithms

        return getattr(algorithms, name)(problem, popsize=popsize, **settings)

    return make


#: ``elitist`` is this package's default search and ``paper`` the paper's; the others are EvoTorch's.
SEARCHES: dict[str, Preset] = {
    "elitist": Preset(_elitist),
    "paper": Preset(_paper, popsize=32, num_episodes=3, least_popsize=3),
    "pgpe": Preset(
        _evotorch(
            "PGPE", center_learning_rate=0.3, stdev_learning_rate=0.1, stdev_init=0.1, optimizer="clipup",
            optimizer_config={"max_speed": 0.6}, ranking_method="centered",
        ),
        in_pairs=True,  # solutions are mirrored pairs
    ),
    "snes": Preset(_evotorch("SNES", stdev_init=0.1)),
    "cem": Preset(_evotorch("CEM", parenthood_ratio=0.25, stdev_init=0.1), least_popsize=8),
    "cmaes": Preset(_evotorch("CMAES", stdev_init=0.05, separable=True), least_popsize=2),
    "genetic": Preset(_genetic, popsize=32),
}  # fmt: skip


def make_search(name: str, problem: Problem, *, popsize: int | None = None) -> SearchAlgorithm:
    """Create a search by its name.

    Args:
        name: One of ``SEARCHES``.
        problem: The problem to search.
        popsize: Number of solutions per generation. Default: that of the search's preset.

    Raises:
        ValueError: ``name`` is unknown, or ``popsize`` is too small for it (or odd, for PGPE).
    """
    preset = SEARCHES[check_choice("name", name, SEARCHES)]
    if popsize is None:
        return preset.make(problem, preset.popsize)
    popsize = check_count("popsize", popsize, minimum=preset.least_popsize)
    if preset.in_pairs and popsize % 2:
        raise ValueError(f"popsize: expected an even number for {name}, got {popsize}")
    return preset.make(problem, popsize)
