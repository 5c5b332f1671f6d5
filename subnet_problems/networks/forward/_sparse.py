"""The forward pass of masks of chains that keep few weights: removed weights and dead units are not computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._weights import MaskedWeights, num_kept
from ._chain import ChainPolicy, as_chain, plan_of
from ._way import FloatArray, Population, PopulationPolicy

Bools = NDArray[np.bool_]

#: A network is computed by this kernel if its mask keeps at most this share of the weights. Above it, the dense kernel
#: is as fast. Large networks do not fit into the CPU's cache with all of their weights, so their share is larger.
_MOST_OF_SMALL, _MOST_OF_LARGE = 0.08, 0.15
#: Number of weights from which a network is large.
_LARGE = 2**16


class SparsePolicy:
    """A policy of masked linear layers and activations, by a compiled kernel.

    It gives the same bits as ``ChainPolicy`` with the dense weights, if no activation is infinite.
    """

    def __init__(self, weights: MaskedWeights, plan: NDArray[np.int64], *, num_episodes: int) -> None:
        from ._sparse_kernel import EPISODES, Kept, forward, pack  # Numba takes a while to load

        self._forward, self._num_episodes, self._plan = forward, num_episodes, plan
        widest, popsize = int(plan[:, :2].max()), len(weights)
        self._width = EPISODES * widest
        mask = weights.mask.numpy().view(np.int8)
        first = np.zeros(popsize + 1, dtype=np.int64)
        np.cumsum(num_kept(weights.mask).numpy(), out=first[1:])
        kept = Kept(
            first=first,
            widths=np.empty((popsize, len(plan) + 1), dtype=np.int32),
            ends=np.empty((popsize, int(plan[:, 0].sum())), dtype=np.int32),
            targets=np.empty(first[-1], dtype=np.uint16 if widest < 2**16 else np.int32),
            values=np.empty(first[-1], dtype=np.float32),
            biases=np.empty((popsize, int(plan[:, 1].sum())), dtype=np.float32),
        )
        self._packed = tuple(kept)
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


class MixedPolicy:
    """Networks of which some keep few weights: each is computed by the kernel that its own mask calls for."""

    def __init__(self, weights: MaskedWeights, is_sparse: Bools, plan: NDArray[np.int64], *, num_episodes: int) -> None:
        self._num_episodes, self._is_sparse = num_episodes, is_sparse
        self._length = int(plan[-1, 1])
        self._places = np.where(is_sparse, np.cumsum(is_sparse), np.cumsum(~is_sparse)) - 1
        self._sparse = SparsePolicy(weights.take(is_sparse), plan, num_episodes=num_episodes)
        self._dense = ChainPolicy(weights.take(~is_sparse), plan, num_episodes=num_episodes)

    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        networks, episodes = np.divmod(rows, self._num_episodes)
        theirs = (self._places[networks] * self._num_episodes + episodes).astype(np.int32)
        outputs = np.empty((len(rows), self._length), dtype=np.float32)
        for policy, chosen in ((self._sparse, self._is_sparse[networks]), (self._dense, ~self._is_sparse[networks])):
            if chosen.any():
                outputs[chosen] = policy.act(theirs[chosen], np.ascontiguousarray(obs[chosen]))
        return outputs


def sparse_population(population: Population) -> PopulationPolicy | None:
    """See ``Way``. It computes masks of chains on the CPU, if some of them keep few weights.

    The kernel of a network depends only on its own mask. They differ if an activation is infinite, so a solution's
    fitness would otherwise depend on the rest of the population.
    """
    weights = population.weights
    chain = as_chain(population.module) if population.device.type == "cpu" else None
    if chain is None or not isinstance(weights, MaskedWeights):
        return None
    num_weights = weights.mask.shape[1]
    most = _MOST_OF_LARGE if num_weights >= _LARGE else _MOST_OF_SMALL
    is_sparse: Bools = num_kept(weights.mask).numpy() <= most * num_weights
    if not is_sparse.any():
        return None
    plan = plan_of(chain)
    if is_sparse.all():
        return SparsePolicy(weights, plan, num_episodes=population.num_episodes)
    return MixedPolicy(weights, is_sparse, plan, num_episodes=population.num_episodes)
