"""How subnetworks are searched: works on any EvoTorch or pymoo problem, and knows nothing of masks."""

from typing import TYPE_CHECKING, Any

from ._checkpoint import Checkpointer, remove_checkpoint, resume
from ._checkpoint_file import CheckpointError
from ._elitist_gaussian import DecodingProblem, ElitistGaussianResampling, LeveledDecodingProblem
from ._race import Race

if TYPE_CHECKING:
    from ._continuation import Continuation, LeveledProblem
    from ._pareto import (
        GaussianResampling,
        GaussianSampling,
        MeanRecombination,
        NeighbourSelection,
        NicheSurvival,
        pareto_operators,
    )
    from ._pareto_algorithms import pareto_algorithm
    from ._pareto_checkpoint import ParetoCheckpointer
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
    "NeighbourSelection",
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


def __getattr__(name: str) -> Any:
    if name in __all__:  # pymoo is loaded when it is first needed
        from . import _continuation as continuation
        from . import _pareto as pareto
        from . import _pareto_algorithms as pareto_algorithms
        from . import _pareto_checkpoint as pareto_checkpoint
        from . import _reevaluation as reevaluation

        return next(
            getattr(module, name)
            for module in (continuation, pareto, pareto_algorithms, pareto_checkpoint, reevaluation)
            if hasattr(module, name)
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
