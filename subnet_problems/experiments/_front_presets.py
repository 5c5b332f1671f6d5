"""The searches for a front that the command offers, by name, with settings tuned on LunarLander."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..masks._top_k import TopK

if TYPE_CHECKING:
    from pymoo.core.algorithm import Algorithm


@dataclass(frozen=True)
class FrontPreset:
    """A pymoo search for a front, with its settings. A new line in ``FRONT_SEARCHES`` adds a search to the command.

    A front that starts from a policy, or has ``first_interactions``, is always searched by ``algorithms.Continuation``.

    Attributes:
        make: Creates the search from a population size, at least 4.
        popsize: Default population size.
        sparsities: Default minimum and maximum sparsity of the front.
        mask_rule: The mask rule that suits the search; its sparsity is replaced by that of each individual.
        common_random_numbers: Whether all individuals of a generation should play the same episodes.
    """

    make: Callable[[int], Algorithm]
    popsize: int
    sparsities: tuple[float, float]
    mask_rule: TopK
    common_random_numbers: bool


def _continuation(popsize: int) -> Algorithm:
    from algorithms import Continuation

    return Continuation(popsize)


def _nsga2(popsize: int) -> Algorithm:
    from pymoo.algorithms.moo.nsga2 import NSGA2

    from algorithms import pareto_operators

    return NSGA2(popsize, n_offsprings=5 * popsize, **pareto_operators(0.1))


#: ``continuation`` is this package's default; ``nsga2`` is pymoo's, with the operators of ``algorithms``.
FRONT_SEARCHES: dict[str, FrontPreset] = {
    # It removes weights, so the kept weights must keep their values. Its center learns more from different episodes.
    "continuation": FrontPreset(
        _continuation, 64, (0.9, 0.998), TopK(0.9, scope="erdos_renyi", rescale="fixed"), common_random_numbers=False
    ),
    "nsga2": FrontPreset(_nsga2, 24, (0.0, 0.99), TopK(0.5, scope="erdos_renyi"), common_random_numbers=True),
}
