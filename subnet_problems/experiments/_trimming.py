"""Smaller versions of a policy without a search: a weight goes, and other units do instead what its units did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np
import torch
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from numpy.typing import NDArray
from torch import Tensor, nn

from ..masks._apply import apply_mask
from ..masks._live import chain_layers, live_masks
from ..problems._masked import MaskedGymProblem
from ..subnetworks._policy_module import PolicyModule
from ..tasks._single_episode import play_episode

Floats: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.intp]

_ACTIVATIONS: dict[type[nn.Module], Callable[[Floats], Floats]] = {
    nn.Identity: lambda x: x, nn.Tanh: np.tanh, nn.ReLU: lambda x: np.maximum(x, 0.0, dtype=np.float32),
}  # fmt: skip

#: How many observations say how much a weight matters.
_NUM_OBSERVATIONS = 100
#: Of a policy, the versions that change its outputs least are proposed: so many without a weight, and so many fitted.
_PLAIN, _FITTED = 16, 12
#: How many units of a version are replaced at most, and by how much each has to lower the change of the outputs.
_REPLACED, _LEAST = 4, 1e-4
#: Of a policy of many weights, one in so many goes from one policy to the next, and one in so many at once.
_PART, _AT_ONCE = 20, 80


def smaller(masked: MaskedGymProblem, mask: Tensor, *, num_episodes: int = 4) -> Tensor:
    """A policy's masks with a weight fewer (one in 20, if it has many): those whose outputs are most like its own.

    In a frozen network no weight can be trained to make up for one that is gone, but there are other units: all of a
    layer are random, so that one of them may do what another did, and what the weight did. So of the most promising
    versions there is also one in which hidden units are replaced by others of their layer, as long as this brings the
    outputs nearer to the policy's own: of all replacements always the one that does most. A unit that replaces another
    has the other's connections.

    Outputs are compared, clipped to the actions' bounds, by their mean absolute difference on observations from the
    policy's own episodes. Weights that are dead without the one that goes are gone, too. The factors of the mask rule
    must not depend on the mask, so that what stays remains what it is.

    Args:
        masked: The problem, on whose task the episodes are played; it counts them.
        mask: ``(D,)``, of live weights of a chain of layers.
        num_episodes: Episodes that give observations.

    Returns:
        ``(N, D)`` masks of live weights, each once; none where no weight can go.
    """
    device, mask = mask.device, mask.cpu()
    chain, observations = _Chain(masked), _observed(masked, mask, num_episodes)
    wanted = _Units.of(chain, mask, observations).outputs
    size = int(mask.count_nonzero())
    left = max(1, size // _PART)
    while len(without := without_one(masked, mask)):
        versions = [_Units.of(chain, one, observations) for one in without]
        changes = np.array([_change(one.outputs, wanted) for one in versions])
        if left == 1:
            break
        first = np.argsort(changes, kind="stable")[: min(max(1, size // _AT_ONCE), left - 1)]
        mask, left = live_masks(masked.network, without[first].all(dim=0)), left - len(first)
    else:
        return without.to(device)
    order = np.argsort(changes, kind="stable")
    fitted = [_fitted(versions[n], wanted).mask() for n in order[:_FITTED]]
    return torch.from_numpy(np.unique(np.stack([*without[order[:_PLAIN]].numpy(), *fitted]), axis=0)).to(device)


def without_one(masked: MaskedGymProblem, mask: Tensor) -> Tensor:
    """What is live of a mask ``(D,)`` of live weights without each of them, where something is: ``(n, D)``."""
    kept = torch.nonzero(mask)[:, 0]
    without = mask.repeat(len(kept), 1)
    without[torch.arange(len(kept)), kept] = False
    without = live_masks(masked.network, without)
    return without[without.any(dim=1)]


class _Chain:
    """A chain of layers with all its weights, as matrices; where a layer has biases, they are the last column.

    Attributes:
        size: D.
        weights: Of each layer ``(out, in)``, times the mask rule's factors.
        index: Of the same shapes, where the weights are in the ``(D,)`` vector.
        has_bias: Of each layer, whether it has biases.
        activations: Of each layer, what comes after it.
        limits: Between which outputs matter, or None.
    """

    def __init__(self, masked: MaskedGymProblem) -> None:
        network = masked.network
        everything = torch.ones(1, network.num_weights, dtype=torch.bool)
        weights = apply_mask(network.weights.cpu(), everything, network.layers, rescale=masked.mask_rule.rescale)
        layers = chain_layers(network, everything[0].numpy())
        self.size = network.num_weights
        self.has_bias = [layer.has_bias for layer in layers]
        self.index = [
            np.column_stack([layer.index, layer.bias_index]) if layer.has_bias else layer.index for layer in layers
        ]
        self.weights = [weights[0].numpy()[index] for index in self.index]
        self.activations = [_ACTIVATIONS[layer.activation] for layer in layers]
        self.limits = masked.task.actions.limits

    def between(self, n: int, units: Sequence[Places]) -> tuple[Places, Places]:
        """Where the weights of a layer between such units are in its matrix; the column of biases is with them."""
        columns = np.append(units[n], self.weights[n].shape[1] - 1) if self.has_bias[n] else units[n]
        return units[n + 1][:, None], columns[None]

    def with_ones(self, n: int, values: Floats) -> Floats:
        """What goes into a layer: values of units ``(..., M, in)``, and 1 for the biases, if it has any."""
        if not self.has_bias[n]:
            return values
        return np.concatenate([values, np.ones((*values.shape[:-1], 1), np.float32)], axis=-1)

    def clipped(self, outputs: Floats) -> Floats:
        """Outputs, clipped to the actions' bounds."""
        return outputs if self.limits is None else np.clip(outputs, *self.limits)


class _Units:
    """A policy's live units, and what they are for M observations ``(M, obs_length)``.

    Args:
        chain: The network.
        units: Of the inputs and of each layer, which units there are: all inputs, live hidden ones, all outputs.
        kept: Of each layer, which of the weights between these are kept, ``(out, in)``; biases are the last column.
        observations: The observations.

    Attributes:
        weights: Of each layer ``(out, in)``, 0 where removed.
        values: What goes into each layer, ``(M, in)``.
        sums: What comes of each layer before its activation, ``(M, out)``.
        outputs: ``(M, act_length)``, clipped to the actions' bounds.
    """

    def __init__(self, chain: _Chain, units: list[Places], kept: list[NDArray[np.bool_]], observations: Floats) -> None:
        self.chain, self.units, self.kept = chain, units, kept
        self.weights: list[Floats] = []
        self.values: list[Floats] = []
        self.sums: list[Floats] = []
        outputs = observations
        for n, activation in enumerate(chain.activations):
            self.weights.append(chain.weights[n][chain.between(n, units)] * kept[n])
            self.values.append(chain.with_ones(n, outputs))
            self.sums.append(self.values[n] @ self.weights[n].T)
            outputs = activation(self.sums[n])
        self.outputs = chain.clipped(outputs)

    @classmethod
    def of(cls, chain: _Chain, mask: Tensor, observations: Floats) -> _Units:
        """Those of a mask ``(D,)`` of live weights."""
        kept = [mask.numpy()[index] for index in chain.index]
        hidden = [np.flatnonzero(some.any(axis=1)) for some in kept[:-1]]
        units = [np.arange(observations.shape[1]), *hidden, np.arange(len(kept[-1]))]
        return cls(chain, units, [some[chain.between(n, units)] for n, some in enumerate(kept)], observations)

    def mask(self) -> NDArray[np.bool_]:
        """``(D,)``."""
        mask = np.zeros(self.chain.size, dtype=bool)
        for n, kept in enumerate(self.kept):
            mask[self.chain.index[n][self.chain.between(n, self.units)]] = kept
        return mask

    def with_another(self, wanted: Floats) -> tuple[_Units, float]:
        """With one hidden unit replaced, so that the outputs are as near to ``wanted`` as they can be; and how near."""
        best, least = self, np.inf
        for n, units in enumerate(self.units[1:-1]):
            for i in range(len(units)):
                changes = self._changes(n, i, wanted)
                changes[units] = np.inf  # those are there
                other = int(np.argmin(changes))
                if changes[other] < least:
                    least, place, unit = float(changes[other]), (n + 1, i), other
        if np.isfinite(least):
            replaced = [some.copy() for some in self.units]
            replaced[place[0]][place[1]] = unit
            best = _Units(self.chain, replaced, self.kept, self.values[0][:, : len(self.units[0])])
        return best, least

    def _changes(self, n: int, i: int, wanted: Floats) -> Floats:
        """How far outputs are from ``wanted`` with each of the layer's units in the place of one: ``(units,)``."""
        chain, kept = self.chain, self.kept[n + 1][:, i, None]
        before = chain.between(n, self.units)[1]
        weights = chain.weights[n][:, before[0]] * self.kept[n][i]
        values = chain.activations[n](self.values[n] @ weights.T)
        onward = chain.weights[n + 1][self.units[n + 2], : len(weights)] * kept
        others = self.sums[n + 1] - self.values[n + 1][:, i, None] * self.weights[n + 1][:, i]
        sums = others + values.T[:, :, None] * onward.T[:, None, :]
        outputs = chain.activations[n + 1](sums)
        for later in range(n + 2, len(self.weights)):
            outputs = chain.activations[later](chain.with_ones(later, outputs) @ self.weights[later].T)
        return _change(chain.clipped(outputs), wanted)


def _fitted(policy: _Units, wanted: Floats) -> _Units:
    """A policy with units replaced until its outputs come no nearer to ``wanted``."""
    change = float(_change(policy.outputs, wanted))
    for _ in range(_REPLACED):
        other, least = policy.with_another(wanted)
        if least > change - _LEAST:
            break
        policy, change = other, least
    return policy


def _change(outputs: Floats, wanted: Floats) -> Floats:
    """The mean absolute difference of outputs ``(..., M, act_length)``: ``(...)``."""
    return np.asarray(np.abs(outputs - wanted).mean(axis=(-2, -1)))


class _Recorder(nn.Module):
    """A network that remembers what it is asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[Tensor] = []

    def forward(self, obs: Tensor) -> Any:
        self.inputs.append(obs)
        return self.network(obs)


def _observed(masked: MaskedGymProblem, mask: Tensor, num_episodes: int) -> Floats:
    """What the network of a policy sees in some episodes, normalized if that is on: ``(n, obs_length)``."""
    subnet, task = masked.mask_to_subnetwork(mask), masked.task
    recorder, steps = _Recorder(subnet.network.to_module(subnet.weights)), 0
    policy = PolicyModule(recorder, subnet.normalizer, None)
    with closing(task.make_env()) as env:
        for seed in range(num_episodes):
            episode = play_episode(
                env, ensure_stateful(policy), observations=task.observations, actions=task.actions,
                max_steps=task.max_steps, seed=seed, number=seed,
            )  # fmt: skip
            steps += sum(1 for _ in episode) - 1
    masked.add_counts(steps, num_episodes)
    inputs = torch.stack(recorder.inputs).numpy()
    return np.ascontiguousarray(inputs[np.linspace(0, len(inputs) - 1, _NUM_OBSERVATIONS).astype(int)])
