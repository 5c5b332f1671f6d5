"""MaskRule and LevelRule: what a rule that turns scores into bits must offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from ..networks._layer import Layer


@runtime_checkable
class MaskRule(Protocol):
    """What a mask rule is: a class of your own that has these two works wherever ``Threshold`` and ``TopK`` do.

    Each row must depend on that row's scores alone, else fitness would depend on the population's company.

    Attributes:
        rescale: Whether the kept weights of a layer are multiplied by 1 / sqrt(its density); or factors in the place of
            these, one for each of the network's ``layers``.
    """

    @property
    def rescale(self) -> bool | Sequence[float]:
        """See above; a plain attribute will do."""
        ...

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Scores ``(N, D)`` to bits ``(N, D)`` bool, True where a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors; ``layer.slice`` says which of the D weights are its own.
        """
        ...


@runtime_checkable
class LevelRule(MaskRule, Protocol):
    """A mask rule that keeps what is above a level. A search that knows the level learns more from each policy."""

    def level(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """The score above which a weight is kept.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors.

        Returns:
            ``(D,)``, for each weight the mean over the rows, or ``(1,)``, the same for all.
        """
        ...
