"""Sparse subnetworks of frozen random networks as optimisation problems for EvoTorch and pymoo."""

from .gym_problem import DenseGymProblem, MaskedGymProblem
from .masks import MaskRule, Threshold, TopK
from .networks import FrozenNetwork
from .rollout import EvaluationError
from .subnetwork import Subnetwork, SubnetworkFileError

__all__ = [
    "DenseGymProblem",
    "EvaluationError",
    "FrozenNetwork",
    "MaskRule",
    "MaskedGymProblem",
    "Subnetwork",
    "SubnetworkFileError",
    "Threshold",
    "TopK",
]
