"""Search algorithms for any EvoTorch or pymoo problem; nothing here depends on masks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._checkpoint import Checkpointer, remove_checkpoint, resume
    from ._checkpoint_file import CheckpointError
    from ._continuation import Continuation
    from ._decoding import DecodingProblem, LeveledDecodingProblem, LeveledProblem
    from ._elitist_gaussian import ElitistGaussianResampling
    from ._pareto import (
        GaussianResampling,
        GaussianSampling,
        MeanRecombination,
        NeighborSelection,
        NicheSurvival,
        pareto_operators,
    )
    from ._pareto_algorithms import pareto_algorithm
    from ._pareto_checkpoint import ParetoCheckpointer
    from ._race import Race
    from ._reevaluation import ReevaluatingSurvival, evaluate_again

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "Continuation",
    "DecodingProblem",
    "ElitistGaussianResampling",
    "GaussianResampling",
    "GaussianSampling",
    "LeveledDecodingProblem",
    "LeveledProblem",
    "MeanRecombination",
    "NeighborSelection",
    "NicheSurvival",
    "ParetoCheckpointer",
    "Race",
    "ReevaluatingSurvival",
    "evaluate_again",
    "pareto_algorithm",
    "pareto_operators",
    "remove_checkpoint",
    "resume",
]

#: A module is imported when one of its names is first used, because EvoTorch and pymoo take seconds to load.
_MODULES = {
    "Checkpointer": "_checkpoint",
    "remove_checkpoint": "_checkpoint",
    "resume": "_checkpoint",
    "CheckpointError": "_checkpoint_file",
    "Continuation": "_continuation",
    "DecodingProblem": "_decoding",
    "ElitistGaussianResampling": "_elitist_gaussian",
    "LeveledDecodingProblem": "_decoding",
    "LeveledProblem": "_decoding",
    "GaussianResampling": "_pareto",
    "GaussianSampling": "_pareto",
    "MeanRecombination": "_pareto",
    "NeighborSelection": "_pareto",
    "NicheSurvival": "_pareto",
    "pareto_operators": "_pareto",
    "pareto_algorithm": "_pareto_algorithms",
    "ParetoCheckpointer": "_pareto_checkpoint",
    "Race": "_race",
    "ReevaluatingSurvival": "_reevaluation",
    "evaluate_again": "_reevaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
