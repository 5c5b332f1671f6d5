"""Threshold: a weight is kept if its score is above a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import check_real, check_rescale

if TYPE_CHECKING:
    from ..networks._layer import Layer


class Threshold:
    """Keep a weight whose score is above a value (paper, section 5: "thresholding above 0").

    Sparsity is free: about 50 % at ``value`` 0 with scores symmetric around it. A search that starts all children from
    a mean of solutions, whose scores are closer to 0 than theirs, removes nearly all weights where ``value`` is above
    0; to enforce a sparsity under any search take ``TopK``.

    Args:
        value: The threshold, in the units of the scores.
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density). Off in the paper. Or
            factors, as for ``TopK``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The value is NaN or infinite, or a factor is not finite and above 0.
    """

    def __init__(self, value: float = 0.0, *, rescale: bool | Sequence[float] = False) -> None:
        self.value = check_real("value", value)
        self.rescale = check_rescale("rescale", rescale)

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Scores ``(N, D)`` to bits ``(N, D)``."""
        return scores > self.value

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """``value``, ``(1,)``."""
        return torch.full((1,), self.value, dtype=scores.dtype, device=scores.device)

    def __repr__(self) -> str:
        return f"Threshold({self.value:g}, rescale={self.rescale})"
