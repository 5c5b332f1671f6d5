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
    """Keep the weights whose scores are above a value (paper, section 5: "thresholding above 0").

    The sparsity is not enforced: it is about 50 % at ``value`` 0 if scores are symmetric around 0. If ``value`` is
    above 0, a search that samples all children around a mean of solutions removes nearly all weights, because the
    mean's scores are closer to 0. Use ``TopK`` to enforce a sparsity under any search.

    Args:
        value: The threshold, in the units of the scores. Default: 0.
        rescale: True to multiply the kept weights of a layer by 1 / sqrt(its density). Or factors, as for ``TopK``.
            Default: False, as in the paper.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The value is NaN or infinite, or a factor is not finite and above 0.
    """

    def __init__(self, value: float = 0.0, *, rescale: bool | Sequence[float] = False) -> None:
        self.value = check_real("value", value)
        self.rescale = check_rescale("rescale", rescale)

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Turn scores ``(N, D)`` into bits ``(N, D)``."""
        return scores > self.value

    def cutoffs(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Return ``value`` as a tensor ``(1, 1)``."""
        return torch.full((1, 1), self.value, dtype=scores.dtype, device=scores.device)

    def __repr__(self) -> str:
        return f"Threshold({self.value:g}, rescale={self.rescale})"
