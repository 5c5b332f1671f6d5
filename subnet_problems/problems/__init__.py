"""Optimization problems for EvoTorch and pymoo."""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._dense import DenseGymProblem
    from ._errors import WorkersLostError
    from ._genotypes import Genotype, MaskGenotype, WeightGenotype
    from ._gym_problem import GymProblem
    from ._masked import MaskedGymProblem
    from ._masks import Masked
    from ._options import GymOptions
    from ._pareto import ParetoSparsityProblem
    from ._rounds import Rounds

__all__ = [
    "DenseGymProblem",
    "Genotype",
    "GymOptions",
    "GymProblem",
    "MaskGenotype",
    "Masked",
    "MaskedGymProblem",
    "ParetoSparsityProblem",
    "Rounds",
    "WeightGenotype",
    "WorkersLostError",
]

__getattr__ = lazy(
    __name__,
    {
        "DenseGymProblem": "._dense",
        "GymProblem": "._gym_problem",
        "GymOptions": "._options",
        "Genotype": "._genotypes",
        "MaskGenotype": "._genotypes",
        "WeightGenotype": "._genotypes",
        "Masked": "._masks",
        "MaskedGymProblem": "._masked",
        "ParetoSparsityProblem": "._pareto",
        "Rounds": "._rounds",
        "WorkersLostError": "._errors",
    },
)
