"""How subnetworks are searched: works on any EvoTorch or pymoo problem, and knows nothing of masks."""

from typing import TYPE_CHECKING, Any

from .elitist_gaussian import ElitistGaussianResampling

if TYPE_CHECKING:
    from .pareto import (
        GaussianResampling,
        GaussianSampling,
        MeanRecombination,
        NeighbourSelection,
        NicheSurvival,
        ReevaluatingSurvival,
        evaluate_again,
        pareto_operators,
    )

__all__ = [
    "ElitistGaussianResampling",
    "GaussianResampling",
    "GaussianSampling",
    "MeanRecombination",
    "NeighbourSelection",
    "NicheSurvival",
    "ReevaluatingSurvival",
    "evaluate_again",
    "pareto_operators",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # pymoo is loaded when it is first needed
        from . import pareto

        return getattr(pareto, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
