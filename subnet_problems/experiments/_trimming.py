"""Smaller versions of a policy without a search: weights are removed, and hidden units are replaced."""

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

#: Number of observations on which outputs are compared.
_NUM_OBSERVATIONS = 100
#: Number of versions that are proposed, those that change the outputs least: versions without a weight, fitted
#: versions.
_PLAIN, _FITTED = 16, 12
#: Maximum number of replaced units of a version, and how much each must reduce the change of the outputs.
_REPLACED, _LEAST = 4, 1e-4
#: From a policy with many weights, 1 in 20 weights is removed in total, and 1 in 80 at once.
_PART, _AT_ONCE = 20, 80


def smaller(masked: MaskedGymProblem, mask: Tensor, *, num_episodes: int = 4) -> Tensor:
    """Masks with one weight fewer (or 1 in 20 fewer, if there are many) whose outputs are closest to the policy's own.

    In a frozen network no weight can be trained to compensate for a removed one. But all units of a layer are random,
    so another unit may compute what the old unit computed with the weight. So each of the most promising versions also
    has a fitted version: its hidden units are replaced by others of their layer, always by the replacement that brings
    the outputs closest to the policy's own, until none brings them closer. The new unit takes over the connections of
    the old one.

    Outputs are clipped to the actions' bounds and compared by their mean absolute difference on observations from the
    policy's own episodes. Weights that become dead by a removal are removed too. The factors of the mask rule must not
    depend on the mask, so that the remaining weights keep their values.

    Args:
        masked: The problem; the episodes are played on its task, and it counts them.
        mask: ``(D,)``, of live weights of a chain of layers.
        num_episodes: Number of episodes that provide observations. Default: 4.

    Returns:
        ``(N, D)`` distinct masks of live weights; N is 0 if no weight can be removed.
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
    """The live weights of a mask ``(D,)`` without each of its weights in turn: ``(n, D)``, empty masks left out."""
    kept = torch.nonzero(mask)[:, 0]
    without = mask.repeat(len(kept), 1)
    without[torch.arange(len(kept)), kept] = False
    without = live_masks(masked.network, without)
    return without[without.any(dim=1)]


class _Chain:
    """A chain of layers with all its weights, as one matrix per layer; biases, if any, are the last column.

    Attributes:
        size: D.
        weights: Per layer ``(out, in)``, multiplied by the mask rule's factors.
        index: Per layer ``(out, in)``, the indices of the weights in the ``(D,)`` vector.
        has_bias: Per layer, whether it has biases.
        activations: Per layer, its activation function.
        limits: Bounds to which outputs are clipped, or None.
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
        """Rows and columns of a layer's matrix for the weights between the given units, including biases."""
        columns = np.append(units[n], self.weights[n].shape[1] - 1) if self.has_bias[n] else units[n]
        return units[n + 1][:, None], columns[None]

    def with_ones(self, n: int, values: Floats) -> Floats:
        """The inputs of a layer: values of units ``(..., M, in)``, plus a 1 for the biases, if it has any."""
        if not self.has_bias[n]:
            return values
        return np.concatenate([values, np.ones((*values.shape[:-1], 1), np.float32)], axis=-1)

    def clipped(self, outputs: Floats) -> Floats:
        """Outputs, clipped to the actions' bounds."""
        return outputs if self.limits is None else np.clip(outputs, *self.limits)


class _Units:
    """A policy's live units, and their values for M observations ``(M, obs_length)``.

    Args:
        chain: The network.
        units: Indices of the units: all inputs, the live units of each hidden layer, all outputs.
        kept: Per layer, which of the weights between these units are kept, ``(out, in)``; biases are the last column.
        observations: The observations, ``(M, obs_length)``.

    Attributes:
        weights: Per layer ``(out, in)``; removed weights are 0.
        values: Per layer, its inputs, ``(M, in)``.
        sums: Per layer, its outputs before the activation, ``(M, out)``.
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
        """The units of a mask ``(D,)`` of live weights."""
        kept = [mask.numpy()[index] for index in chain.index]
        hidden = [np.flatnonzero(some.any(axis=1)) for some in kept[:-1]]
        units = [np.arange(observations.shape[1]), *hidden, np.arange(len(kept[-1]))]
        return cls(chain, units, [some[chain.between(n, units)] for n, some in enumerate(kept)], observations)

    def mask(self) -> NDArray[np.bool_]:
        """The mask of the kept weights, ``(D,)``."""
        mask = np.zeros(self.chain.size, dtype=bool)
        for n, kept in enumerate(self.kept):
            mask[self.chain.index[n][self.chain.between(n, self.units)]] = kept
        return mask

    def with_another(self, wanted: Floats) -> tuple[_Units, float]:
        """Replace the hidden unit that brings the outputs closest to ``wanted``; also return the difference left."""
        best, least = self, np.inf
        for n, units in enumerate(self.units[1:-1]):
            for i in range(len(units)):
                changes = self._changes(n, i, wanted)
                changes[units] = np.inf  # these units are in use already
                other = int(np.argmin(changes))
                if changes[other] < least:
                    least, place, unit = float(changes[other]), (n + 1, i), other
        if np.isfinite(least):
            replaced = [some.copy() for some in self.units]
            replaced[place[0]][place[1]] = unit
            best = _Units(self.chain, replaced, self.kept, self.values[0][:, : len(self.units[0])])
        return best, least

    def _changes(self, n: int, i: int, wanted: Floats) -> Floats:
        """Change of the outputs from ``wanted`` if each unit of the layer replaces unit ``i``: ``(units,)``."""
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
    """Replace units of a policy until its outputs come no closer to ``wanted``, at most 4 times."""
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
    """A network that records its inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[Tensor] = []

    def forward(self, obs: Tensor) -> Any:
        self.inputs.append(obs)
        return self.network(obs)


def _observed(masked: MaskedGymProblem, mask: Tensor, num_episodes: int) -> Floats:
    """Network inputs of a policy from its episodes, normalized if the policy normalizes: ``(100, obs_length)``."""
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
