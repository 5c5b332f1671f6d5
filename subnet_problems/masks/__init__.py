"""Masks: rules that turn scores into bits, and the application of bits to weights."""

from ._apply import apply_mask
from ._expectation import expected_scores
from ._initial_scores import scores_from_mask
from ._live import live_masks
from ._named import MASK_RULES
from ._rule import CutoffRule, MaskRule
from ._threshold import Threshold
from ._top_k import TopK, erdos_renyi, num_kept_at

__all__ = [
    "MASK_RULES",
    "CutoffRule",
    "MaskRule",
    "Threshold",
    "TopK",
    "apply_mask",
    "erdos_renyi",
    "expected_scores",
    "live_masks",
    "num_kept_at",
    "scores_from_mask",
]
