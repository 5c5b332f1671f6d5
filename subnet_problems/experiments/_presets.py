"""Searches by name, with settings that were looked at on LunarLander: what the command offers."""

from __future__ import annotations

from collections.abc import Callable

from evotorch import Problem
from evotorch.algorithms import CEM, CMAES, PGPE, SNES, GeneticAlgorithm, SearchAlgorithm
from evotorch.operators import GaussianMutation, TwoPointCrossOver

from algorithms import ElitistGaussianResampling

from .._checks import check_choice, check_count


def _elitist(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return ElitistGaussianResampling(problem, popsize=popsize or 64)


def _paper(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return ElitistGaussianResampling(problem, popsize=popsize or 32, num_elites=3, recombination="uniform")


def _pgpe(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return PGPE(
        problem, popsize=popsize or 64, center_learning_rate=0.3, stdev_learning_rate=0.1, stdev_init=0.1,
        optimizer="clipup", optimizer_config={"max_speed": 0.6}, ranking_method="centered",
    )  # fmt: skip


def _snes(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return SNES(problem, popsize=popsize or 64, stdev_init=0.1)


def _cem(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return CEM(problem, popsize=popsize or 64, parenthood_ratio=0.25, stdev_init=0.1)


def _cmaes(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    return CMAES(problem, popsize=popsize or 64, stdev_init=0.05, separable=True)


def _genetic(problem: Problem, popsize: int | None) -> SearchAlgorithm:
    operators = [TwoPointCrossOver(problem, tournament_size=4), GaussianMutation(problem, stdev=0.05)]
    return GeneticAlgorithm(problem, popsize=popsize or 32, operators=operators)


#: ``elitist`` is this package's default search and ``paper`` the paper's; the others are EvoTorch's.
SEARCHES: dict[str, Callable[[Problem, int | None], SearchAlgorithm]] = {
    "elitist": _elitist,
    "paper": _paper,
    "pgpe": _pgpe,
    "snes": _snes,
    "cem": _cem,
    "cmaes": _cmaes,
    "genetic": _genetic,
}


#: The least numbers of solutions that they work with, where it is not 1.
_LEAST_POPSIZES = {"paper": 3, "cem": 8, "cmaes": 2}


def make_search(name: str, problem: Problem, *, popsize: int | None = None) -> SearchAlgorithm:
    """A search by its name.

    Args:
        name: One of ``SEARCHES``.
        problem: What it searches.
        popsize: How many solutions a generation has; None takes the search's usual number (64, or 32).

    Raises:
        ValueError: There is no search of this name, or ``popsize`` is too small for it (or odd, for PGPE).
    """
    check_choice("name", name, SEARCHES)
    if popsize is not None:
        popsize = check_count("popsize", popsize, minimum=_LEAST_POPSIZES.get(name, 1))
        if name == "pgpe" and popsize % 2:  # its solutions come in pairs that mirror each other
            raise ValueError(f"popsize: expected an even number for pgpe, got {popsize}")
    return SEARCHES[name](problem, popsize)
