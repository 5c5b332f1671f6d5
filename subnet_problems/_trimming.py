"""Smaller versions of a policy without a search: the weights go first that change its outputs least."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import torch
from evotorch.neuroevolution.net.statefulmodule import ensure_stateful
from numpy.typing import NDArray
from torch import Tensor, nn

from ._episode import play_episode
from .gym_problem import MaskedGymProblem
from .masks import apply_mask
from .observations import PolicyModule
from .pruning import live_masks

#: How many observations say how much a weight matters.
_NUM_OBSERVATIONS = 100


def without_one(masked: MaskedGymProblem, mask: Tensor) -> Tensor:
    """What is live of a mask ``(D,)`` of live weights without each of them, where something is: ``(n, D)``."""
    kept = torch.nonzero(mask)[:, 0]
    without = mask.repeat(len(kept), 1)
    without[torch.arange(len(kept)), kept] = False
    without = live_masks(masked.network, without)
    return without[without.any(dim=1)]


def trimmed(masked: MaskedGymProblem, mask: Tensor, *, depth: int, num_episodes: int = 4) -> list[Tensor]:
    """A policy's mask with one weight fewer, two fewer and so on: each time without the one that matters least.

    A weight matters by how much it changes the outputs (clipped to the actions' bounds): the mean absolute change
    without it, over observations of the policy's own episodes. Weights that are dead without it go with it. The factors
    of the mask rule must not depend on the mask, so that what stays remains what it is.

    Args:
        masked: The problem, on whose task the episodes are played; it counts them.
        mask: ``(D,)``, of live weights of a chain of layers.
        depth: How many weights go, one after the other.
        num_episodes: Episodes that give observations.

    Returns:
        ``(D,)`` masks of live weights, of fewer and fewer weights.
    """
    observations, result = _observed(masked, mask, num_episodes), []
    for _ in range(depth):
        without = without_one(masked, mask)
        if not len(without):
            break
        outputs = _outputs(masked, torch.cat([mask[None], without]), observations)
        changes = np.abs(outputs[1:] - outputs[:1]).mean(axis=(1, 2))
        mask = without[int(np.argmin(changes))]
        result.append(mask)
    return result


class _Recorder(nn.Module):
    """A network that remembers what it is asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[Tensor] = []

    def forward(self, obs: Tensor) -> Any:
        self.inputs.append(obs)
        return self.network(obs)


def _observed(masked: MaskedGymProblem, mask: Tensor, num_episodes: int) -> NDArray[np.float32]:
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
    masked._add_counts(steps, num_episodes)
    inputs = torch.stack(recorder.inputs).numpy()
    return np.ascontiguousarray(inputs[np.linspace(0, len(inputs) - 1, _NUM_OBSERVATIONS).astype(int)])


def _outputs(masked: MaskedGymProblem, masks: Tensor, observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """What N policies put out for M observations, clipped to the actions' bounds: ``(N, M, act_length)``."""
    network = masked.network
    weights = apply_mask(network.weights, masks.cpu(), network.layers, rescale=masked.mask_rule.rescale)
    population = network.population([weights], popsize=len(masks), num_episodes=len(observations))
    rows = np.arange(len(masks) * len(observations), dtype=np.int32)
    outputs = population.act(rows, np.tile(observations, (len(masks), 1)))
    limits = masked.task.actions.limits
    if limits is not None:
        outputs = np.clip(outputs, *limits)
    return outputs.reshape(len(masks), len(observations), -1)
