"""Sparse subnetworks of frozen random networks as optimisation problems for EvoTorch and pymoo."""

from typing import TYPE_CHECKING, Any

from .base_problem import GymProblem
from .gym_problem import DenseGymProblem, MaskedGymProblem
from .masks import MaskRule, Threshold, TopK
from .networks import FrozenNetwork
from .rollout import EvaluationError, Normalizer
from .spaces import BoxActions, DiscreteActions
from .subnetwork import Subnetwork, SubnetworkFileError
from .task import GymTask
from .workers import WorkersLostError

if TYPE_CHECKING:
    from .pareto_problem import ParetoSparsityProblem

__all__ = [
    "BoxActions",
    "DenseGymProblem",
    "DiscreteActions",
    "EvaluationError",
    "FrozenNetwork",
    "GymProblem",
    "GymTask",
    "MaskRule",
    "MaskedGymProblem",
    "Normalizer",
    "ParetoSparsityProblem",
    "Subnetwork",
    "SubnetworkFileError",
    "Threshold",
    "TopK",
    "WorkersLostError",
]


def __getattr__(name: str) -> Any:
    if name == "ParetoSparsityProblem":  # pymoo is loaded when it is first needed
        from .pareto_problem import ParetoSparsityProblem

        return ParetoSparsityProblem
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
