"""Sparse subnetworks of frozen random networks as optimisation problems for EvoTorch and pymoo."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base_problem import GymProblem
from .gym_problem import DenseGymProblem, MaskedGymProblem
from .masks import LevelRule, MaskRule, Threshold, TopK
from .networks import FrozenNetwork
from .rollout import EvaluationError, Normalizer
from .spaces import BoxActions, DiscreteActions
from .subnetwork import Subnetwork, SubnetworkFileError
from .task import GymTask
from .workers import WorkersLostError

if TYPE_CHECKING:
    from ._sparsify import sparsify
    from .experiments import ProcessLostError
    from .pareto_problem import ParetoSparsityProblem
    from .plots import plot_front, plot_learning_curves, plot_mask, plot_network
    from .video import record_video

__all__ = [
    "BoxActions",
    "DenseGymProblem",
    "DiscreteActions",
    "EvaluationError",
    "FrozenNetwork",
    "GymProblem",
    "GymTask",
    "LevelRule",
    "MaskRule",
    "MaskedGymProblem",
    "Normalizer",
    "ParetoSparsityProblem",
    "ProcessLostError",
    "Subnetwork",
    "SubnetworkFileError",
    "Threshold",
    "TopK",
    "WorkersLostError",
    "plot_front",
    "plot_learning_curves",
    "plot_mask",
    "plot_network",
    "record_video",
    "sparsify",
]

#: Public names whose modules are loaded when they are first needed: pymoo and matplotlib take a while.
_LAZY = {
    "ParetoSparsityProblem": "pareto_problem",
    "ProcessLostError": "experiments",
    "plot_front": "plots",
    "plot_learning_curves": "plots",
    "plot_mask": "plots",
    "plot_network": "plots",
    "record_video": "video",
    "sparsify": "_sparsify",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
