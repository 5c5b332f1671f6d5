"""MaskRule and LevelRule: the interfaces of rules that turn scores into bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from ..networks._layer import Layer


@runtime_checkable
class MaskRule(Protocol):
    """The interface of a mask rule. A class with these two members works wherever ``Threshold`` and ``TopK`` do.

    Each row of bits must depend only on the same row of scores. Otherwise a solution's fitness would depend on the rest
    of the population.

    Attributes:
        rescale: True to multiply the kept weights of a layer by 1 / sqrt(its density), False for no rescaling, or
            factors to use instead, one for each of the network's ``layers``.
    """

    @property
    def rescale(self) -> bool | Sequence[float]:
        """See the class. A plain attribute works as well."""
        ...

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Turn scores ``(N, D)`` into bits ``(N, D)`` bool, True where a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors; ``layer.slice`` selects a layer's weights out of the D.
        """
        ...


@runtime_checkable
class LevelRule(MaskRule, Protocol):
    """A mask rule that keeps scores above a level. A search that knows the level learns more from each policy."""

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Return the score above which a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors.

        Returns:
            ``(D,)``, the mean over rows for each weight; or ``(1,)``, one level for all weights.
        """
        ...
