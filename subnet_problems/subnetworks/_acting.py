"""Acting: a policy's forward pass, prepared once for many observations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..networks._weights import DenseWeights
from ..networks.forward._chain import ChainPolicy, as_chain, plan_of
from ._parts import PolicyParts
from ._pruning import compact, masked_layers, to_module

FloatArray = NDArray[np.float32]


class Acting:
    """Computes the outputs of one policy for flat observations.

    A chain of linear layers, tanh and ReLU runs without its dead units, in the kernel that searches use. So its outputs
    have the same bits as in a search. Any other network runs as a module, one observation at a time.

    Args:
        parts: The policy.

    Attributes:
        all_finite: Returns whether ``(n, m)`` numbers are all finite, as in a search.
    """

    def __init__(self, parts: PolicyParts) -> None:
        from ..tasks._step_kernel import all_finite  # Numba takes a while to load

        self.all_finite = all_finite
        self._parts = parts
        self._made_of = self._contents()
        self._module = parts.to_policy(clip_actions=False)
        self._chain: ChainPolicy | None = None
        if as_chain(self._module.network) is not None:
            module = to_module(compact(masked_layers(parts)))
            chain = as_chain(module)
            assert chain is not None
            weights = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])
            self._chain = ChainPolicy(DenseWeights(weights[None]), plan_of(chain), num_episodes=2**31 - 1)

    def _contents(self) -> tuple[bytes, ...]:
        """Bytes of the policy's arrays, which a user may change in place."""
        normalizer = self._parts.normalizer
        scaling = () if normalizer is None else (normalizer.mean.tobytes(), normalizer.scale.tobytes())
        factors = () if self._parts.factors is None else (self._parts.factors.numpy().tobytes(),)
        return (self._parts.mask.numpy().tobytes(), *factors, *scaling)

    @property
    def is_current(self) -> bool:
        """True if the policy has not changed since this object was made."""
        return self._contents() == self._made_of

    def outputs(self, rows: FloatArray) -> FloatArray:
        """Outputs ``(n, act_length)`` for flat observations ``(n, obs_length)``."""
        if self._chain is not None:
            normalizer = self._parts.normalizer
            if normalizer is not None:
                rows = (rows - normalizer.mean) * normalizer.scale
            return self._chain.act(np.arange(len(rows), dtype=np.int32), rows)
        outputs = np.empty((len(rows), self._parts.actions.length), dtype=np.float32)
        with torch.no_grad():
            for output, row in zip(outputs, torch.tensor(rows), strict=True):
                result = self._module(row)
                output[:] = (result[0] if isinstance(result, tuple) else result).numpy()
        return outputs
