"""The weights of a population of networks: numbers, or masks of frozen weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._layer import Layer

#: Number of weights (at least those of one network) that ``chunks`` returns at a time.
_CHUNK = 2**18


class PopulationWeights(ABC):
    """The weights of N networks of one architecture; ``len`` is N, and a slice has the weights of some of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, part: slice) -> PopulationWeights: ...

    @abstractmethod
    def dense(self) -> Tensor:
        """All weights, ``(N, D)`` float32."""

    def chunks(self, num_weights: int) -> Iterator[Tensor]:
        """The dense weights ``(n, D)`` of a few networks at a time, D = ``num_weights``."""
        step = max(1, _CHUNK // num_weights)
        for start in range(0, len(self), step):
            yield self[start : start + step].dense()


class DenseWeights(PopulationWeights):
    """Weights as numbers.

    Args:
        values: ``(N, D)`` float32.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, part: slice) -> DenseWeights:
        return DenseWeights(self._values[part])

    def dense(self) -> Tensor:
        """See ``PopulationWeights``."""
        return self._values


class MaskedWeights(PopulationWeights):
    """Weights that all networks share, multiplied by masks and by a factor for each layer.

    Args:
        frozen: ``(D,)`` float32, the weights that the networks share.
        mask: ``(N, D)`` bool or int8, by which they are multiplied.
        layers: The parameter tensors.
        scales: ``(N, L)`` float32, the factors of the L layers. None: no factors.
    """

    def __init__(self, frozen: Tensor, mask: Tensor, layers: Sequence[Layer], scales: Tensor | None) -> None:
        self.frozen, self.mask, self.layers, self.scales = frozen, mask, layers, scales

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, part: slice) -> MaskedWeights:
        scales = None if self.scales is None else self.scales[part]
        return MaskedWeights(self.frozen, self.mask[part], self.layers, scales)

    def take(self, chosen: NDArray[np.bool_]) -> MaskedWeights:
        """The weights of the networks that are True in ``chosen``, ``(N,)``."""
        index = torch.from_numpy(np.flatnonzero(chosen)).to(self.mask.device)
        scales = None if self.scales is None else self.scales[index]
        return MaskedWeights(self.frozen, self.mask[index], self.layers, scales)

    def dense(self) -> Tensor:
        """See ``PopulationWeights``."""
        masked = (self.mask * self.frozen).add_(0.0)  # turns -0.0 into 0.0; takes half the time of torch.where
        if self.scales is not None:
            for layer, scale in zip(self.layers, self.scales.T[:, :, None], strict=True):
                masked[:, layer.slice] *= scale
        return masked


def num_kept(mask: Tensor) -> Tensor:
    """The number of values other than 0 in each of the masks ``(N, D)``, as ``(N,)`` int64."""
    if not mask.is_cpu:
        return mask.count_nonzero(dim=1)
    # NumPy counts a row a hundred times as fast as PyTorch counts along a dimension.
    return torch.tensor([np.count_nonzero(row) for row in mask.numpy()], dtype=torch.int64)


def as_weights(weights: PopulationWeights | Tensor) -> PopulationWeights:
    """Weights of a population; a tensor ``(N, D)`` becomes ``DenseWeights``."""
    return DenseWeights(weights) if isinstance(weights, torch.Tensor) else weights
