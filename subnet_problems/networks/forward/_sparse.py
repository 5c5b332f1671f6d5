"""The forward pass of masks of chains that keep few weights: removed weights and dead units are not computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._weights import MaskedWeights
from ._chain import as_chain, plan_of
from ._way import FloatArray, Population

#: A population is computed by this kernel if its masks keep at most this share of the weights. Above it, the dense
#: kernel is as fast. That one reads all weights of large networks from memory at each step, so its share is larger.
_MOST_OF_SMALL, _MOST_OF_LARGE = 0.15, 0.4
#: Number of weights from which a network is large.
_LARGE = 2**16


class SparsePolicy:
    """A policy of masked linear layers and activations, by a compiled kernel.

    It gives the same bits as ``ChainPolicy`` with the dense weights, if no activation is infinite.
    """

    def __init__(self, weights: MaskedWeights, plan: NDArray[np.int64], *, num_episodes: int) -> None:
        from ._sparse_kernel import LANES, Packed, forward, pack  # Numba takes a while to load

        self._forward, self._num_episodes, self._plan = forward, num_episodes, plan
        widest, popsize = int(plan[:, :2].max()), len(weights)
        self._width = LANES * widest
        mask = weights.mask.numpy().view(np.int8)
        first = np.concatenate([[0], np.cumsum([np.count_nonzero(row) for row in mask])])
        self._packed = Packed(
            first=first,
            widths=np.empty((popsize, len(plan) + 1), dtype=np.int32),
            ends=np.empty((popsize, int(plan[:, 0].sum())), dtype=np.int32),
            targets=np.empty(first[-1], dtype=np.uint16 if widest < 2**16 else np.int32),
            values=np.empty(first[-1], dtype=np.float32),
            biases=np.empty((popsize, int(plan[:, 1].sum())), dtype=np.float32),
        )
        scales = np.ones((popsize, len(weights.layers)), np.float32)
        if weights.scales is not None:
            scales[:] = weights.scales.numpy()
        pack(mask, weights.frozen.numpy(), scales, plan, self._packed)

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        outputs = np.empty((len(rows), int(self._plan[-1, 1])), dtype=np.float32)
        scratch = np.empty((2, self._width), dtype=np.float32)  # one for each call, since several threads may call
        self._forward(self._packed, self._plan, self._num_episodes, rows, obs, scratch, outputs)
        return outputs


def sparse_population(population: Population) -> SparsePolicy | None:
    """See ``Way``. It computes masks of chains on the CPU, if they keep few weights."""
    weights = population.weights
    chain = as_chain(population.module) if population.device.type == "cpu" else None
    if chain is None or not isinstance(weights, MaskedWeights):
        return None
    mask = weights.mask.numpy()
    most = _MOST_OF_LARGE if mask.shape[1] >= _LARGE else _MOST_OF_SMALL
    if np.count_nonzero(mask) > most * mask.size:
        return None
    return SparsePolicy(weights, plan_of(chain), num_episodes=population.num_episodes)
