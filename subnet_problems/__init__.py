"""Sparse subnetworks of frozen random networks as optimization problems for EvoTorch and pymoo."""

import sys
from typing import TYPE_CHECKING

from ._lazy import PycmaFinder, lazy

if TYPE_CHECKING:
    from ._version import __version__ as __version__
    from .experiments import ProcessLostError, plot_front, plot_learning_curves, sparsify
    from .masks import CutoffRule, MaskRule, Threshold, TopK
    from .networks import FrozenNetwork
    from .pictures import plot_mask, plot_network, record_video
    from .problems import DenseGymProblem, GymProblem, MaskedGymProblem, ParetoSparsityProblem, WorkersLostError
    from .subnetworks import Subnetwork, SubnetworkFileError
    from .tasks import BoxActions, DiscreteActions, EvaluationError, GymTask, Normalizer

__all__ = [
    "BoxActions",
    "CutoffRule",
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

__getattr__ = lazy(
    __name__,
    {
        "__version__": "._version",
        "FrozenNetwork": ".networks",
        "CutoffRule": ".masks",
        "MaskRule": ".masks",
        "Threshold": ".masks",
        "TopK": ".masks",
        "BoxActions": ".tasks",
        "DiscreteActions": ".tasks",
        "EvaluationError": ".tasks",
        "GymTask": ".tasks",
        "Normalizer": ".tasks",
        "Subnetwork": ".subnetworks",
        "SubnetworkFileError": ".subnetworks",
        "DenseGymProblem": ".problems",
        "GymProblem": ".problems",
        "MaskedGymProblem": ".problems",
        "ParetoSparsityProblem": ".problems",
        "WorkersLostError": ".problems",
        "plot_mask": ".pictures",
        "plot_network": ".pictures",
        "record_video": ".pictures",
        "ProcessLostError": ".experiments",
        "plot_front": ".experiments",
        "plot_learning_curves": ".experiments",
        "sparsify": ".experiments",
    },
)

sys.meta_path.insert(0, PycmaFinder())
