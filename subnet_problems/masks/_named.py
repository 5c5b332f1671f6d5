"""The mask rules that the command line offers, by name. To add one, add a line to ``MASK_RULES``."""

from __future__ import annotations

from collections.abc import Callable

from ._rule import MaskRule
from ._threshold import Threshold
from ._top_k import TopK


def _threshold(sparsity: float | None) -> MaskRule:
    if sparsity is not None:
        raise ValueError(f"sparsity: expected none for threshold (its sparsity is free), got {sparsity}")
    return Threshold(0.0)


def _top_k(scope: str) -> Callable[[float | None], MaskRule]:
    def make(sparsity: float | None) -> MaskRule:
        if sparsity is None:
            raise ValueError(f"sparsity: expected the fraction of weights removed for {scope}, got none")
        return TopK(sparsity, scope=scope)

    return make


#: Each entry makes a rule from a sparsity or None. The rules of ``TopK`` have the names of its scopes.
MASK_RULES: dict[str, Callable[[float | None], MaskRule]] = {
    "threshold": _threshold,
    "global": _top_k("global"),
    "layer": _top_k("layer"),
    "erdos_renyi": _top_k("erdos_renyi"),
}
