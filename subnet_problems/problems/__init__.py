"""Problems: what EvoTorch and pymoo search."""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._dense import DenseGymProblem
    from ._errors import WorkersLostError
    from ._gym_problem import GymProblem
    from ._masked import MaskedGymProblem
    from ._options import GymOptions
    from ._pareto import ParetoSparsityProblem

__all__ = [
    "DenseGymProblem",
    "GymOptions",
    "GymProblem",
    "MaskedGymProblem",
    "ParetoSparsityProblem",
    "WorkersLostError",
]

__getattr__ = lazy(
    __name__,
    {
        "DenseGymProblem": "._dense",
        "GymProblem": "._gym_problem",
        "GymOptions": "._options",
        "MaskedGymProblem": "._masked",
        "ParetoSparsityProblem": "._pareto",
        "WorkersLostError": "._errors",
    },
)
