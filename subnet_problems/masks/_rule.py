"""MaskRule and CutoffRule: the interfaces of rules that turn scores into masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from ..networks._layer import Layer


@runtime_checkable
class MaskRule(Protocol):
    """The interface of a mask rule. A class with these two members works wherever ``Threshold`` and ``TopK`` do.

    A mask has one value per weight, by which the weight is multiplied. By default the values are 0 and 1, as bools: a
    weight is removed or kept. A rule with an attribute ``values``, a tuple of distinct whole numbers from -128 to 127
    with 0 among them, returns masks of these values as int8. With ``values = (-1, 0, 1)``, for example, a rule can
    also flip the sign of a weight.

    Each row of a mask must depend only on the same row of scores. Otherwise a solution's fitness would depend on the
    rest of the population.

    Attributes:
        rescale: True to multiply the kept weights of a layer by 1 / sqrt(its density), False for no rescaling, or
            factors to use instead, one for each of the network's ``layers``.
    """

    @property
    def rescale(self) -> bool | Sequence[float]:
        """See the class. A plain attribute works as well."""
        ...

    def __call__(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Turn scores ``(N, D)`` into masks ``(N, D)``: bool, True where a weight is kept; or int8 ``values``.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors; ``layer.slice`` selects a layer's weights out of the D.
        """
        ...


@runtime_checkable
class CutoffRule(MaskRule, Protocol):
    """A mask rule whose values belong to intervals of scores, one after the other, separated by cutoffs.

    ``TopK`` and ``Threshold`` have a single cutoff: scores above it keep their weights. A search that knows the cutoffs
    learns more from each policy (see ``expected_scores``).
    """

    def cutoffs(self, scores: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Return the scores that separate the intervals, from the lowest to the highest.

        Scores below the first cutoff have the first of the rule's ``values``, and so on.

        Args:
            scores: ``(N, D)`` float, no NaN.
            layers: The network's parameter tensors.

        Returns:
            ``(C, D)``, C = number of values - 1: for each weight its cutoffs, averaged over rows. Or ``(C, 1)``: the
            same cutoffs for all weights.
        """
        ...
