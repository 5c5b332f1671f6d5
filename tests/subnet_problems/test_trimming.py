"""A policy is made smaller weight by weight, beginning with those that change its outputs least."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from subnet_problems import MaskedGymProblem, TopK
from subnet_problems._trimming import trimmed
from subnet_problems.pruning import live_masks

TASKS = {"CartPole-v1": {}, "LunarLander-v3": {"continuous": True}}


def problem(env="CartPole-v1", **options):
    rule = TopK(0.5, scope="erdos_renyi", rescale="fixed")
    defaults = {"hidden_sizes": (6, 5), "mask": rule, "env_config": TASKS[env], "seed": 3, "episode_length": 60}
    return MaskedGymProblem(env, **defaults | options)


def a_policy(masked, seed=0):
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, masked.solution_length)))
    return live_masks(masked.network, masked.mask(scores))[0]


def observations(masked, subnet, num_episodes=4):
    """What the policy sees in the episodes that trimming looks at, and the steps of these."""
    seen, steps = [], 0
    with gym.make(masked.task.env, max_episode_steps=60, **masked.task.env_config) as env:
        for seed in range(num_episodes):
            obs, ended = env.reset(seed=seed)[0], False
            while not ended:
                seen.append(obs)
                obs, _, *ends, _ = env.step(subnet.act(obs))
                steps, ended = steps + 1, any(ends)
            seen.append(obs)
    return np.stack(seen)[np.linspace(0, len(seen) - 1, 100).astype(int)], steps


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("env", TASKS)
def test_the_weight_goes_that_changes_the_outputs_least(env, normalized):
    masked = problem(env, observation_normalization=normalized)
    if normalized:
        masked.evaluate(masked.generate_batch(8))
    mask = a_policy(masked)
    subnet = masked.mask_to_subnetwork(mask)
    obs, steps = observations(masked, subnet)
    before = masked.interaction_count
    (without,) = trimmed(masked, mask, depth=1)
    assert masked.interaction_count - before == steps

    def outputs(one):
        with torch.no_grad():
            return masked.mask_to_subnetwork(one).to_policy()(torch.from_numpy(obs)).numpy()

    changes = {}
    for n in torch.nonzero(mask)[:, 0].tolist():
        fewer = mask.clone()
        fewer[n] = False
        changes[n] = float(np.abs(outputs(live_masks(masked.network, fewer[None])[0]) - outputs(mask)).mean())
    least = min(changes.values())
    assert np.abs(outputs(without) - outputs(mask)).mean() == pytest.approx(least, abs=1e-5)
    removed = torch.nonzero(mask & ~without)[:, 0].tolist()
    assert min(changes[n] for n in removed) == pytest.approx(least, abs=1e-5)


def test_masks_are_of_live_weights_and_ever_smaller():
    masked = problem(hidden_sizes=(12, 9))
    mask = a_policy(masked)
    smaller = trimmed(masked, mask, depth=1000)
    for more, fewer in zip([mask, *smaller], smaller, strict=False):
        assert not (fewer & ~more).any()
        assert 0 < fewer.count_nonzero() < more.count_nonzero()
        assert torch.equal(live_masks(masked.network, fewer[None])[0], fewer)
    assert smaller[-1].count_nonzero() == 3  # a path through two hidden layers: with one weight fewer none is left
    assert len(trimmed(masked, mask, depth=4)) == 4
