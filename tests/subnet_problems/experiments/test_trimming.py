"""Making a policy smaller: removing a weight, and replacing units by others."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from subnet_problems import MaskedGymProblem, TopK
from subnet_problems.experiments._trimming import _Chain, _fitted, _observed, _Units, smaller, without_one
from subnet_problems.masks import live_masks

TASKS = {"CartPole-v1": {}, "LunarLander-v3": {"continuous": True}}
NETWORKS = {
    "two hidden layers": {},
    "one": {"hidden_sizes": (9,)},
    "biases": {"bias": True},
    "normalized": {"observation_normalization": True},
    "relu": {
        "network": "Linear(obs_length, 14) >> ReLU() >> Linear(14, 13, bias=False) >> Tanh() >> Linear(13, act_length)",
        "mask_rule": TopK(0.85, rescale=False),
    },
}


def problem(env="CartPole-v1", **options):
    rule = TopK(0.5, scope="erdos_renyi", rescale="fixed")
    defaults = {"mask_rule": rule, "env_config": TASKS[env], "seed": 3, "episode_length": 60}
    if "network" not in options:
        defaults["hidden_sizes"] = (6, 5)
    masked = MaskedGymProblem(env, **defaults | options)
    if masked.observation_normalization:
        masked.evaluate(masked.generate_batch(8))
    return masked


def a_policy(masked, seed=0):
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, masked.solution_length)))
    return live_masks(masked.network, masked.mask(scores))[0]


def outputs(masked, mask, obs):
    """Outputs of a mask's policy, clipped to the bounds of the actions, computed without the code under test."""
    subnet = masked.mask_to_subnetwork(mask)
    with torch.no_grad():
        values = subnet.network.to_module(subnet.weights)(torch.from_numpy(obs)).numpy()
    limits = masked.task.actions.limits
    return values if limits is None else np.clip(values, *limits)


def test_observations_of_a_policy_come_from_new_episodes_whose_steps_are_counted():
    masked = problem()
    mask = a_policy(masked)
    subnet, seen, steps = masked.mask_to_subnetwork(mask), [], 0
    with gym.make("CartPole-v1", max_episode_steps=60) as env:
        for seed in range(4):
            obs, ended = env.reset(seed=seed)[0], False
            while not ended:
                seen.append(obs)
                obs, _, *ends, _ = env.step(subnet.act(obs))
                steps, ended = steps + 1, any(ends)
    observed = _observed(masked, mask, 4)
    np.testing.assert_array_equal(observed, np.stack(seen)[np.linspace(0, len(seen) - 1, 100).astype(int)])
    assert masked.interaction_count == steps


@pytest.mark.parametrize("env", TASKS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_live_units_compute_the_outputs_of_the_policy(kind, env):
    masked = problem(env, **NETWORKS[kind])
    mask = a_policy(masked)
    observations = _observed(masked, mask, 2)
    policy = _Units.of(_Chain(masked), mask, observations)
    np.testing.assert_allclose(policy.outputs, outputs(masked, mask, observations), atol=1e-5)
    np.testing.assert_array_equal(policy.mask(), mask)


@pytest.mark.parametrize("env", TASKS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_unit_is_replaced_by_the_best_alternative(kind, env):
    """Compares with all alternatives: the connections of each hidden unit are moved to each other unit of its layer."""
    masked = problem(env, **NETWORKS[kind])
    mask = a_policy(masked)
    observations = _observed(masked, mask, 2)
    wanted = outputs(masked, a_policy(masked, seed=1), observations)
    chain = _Chain(masked)
    policy = _Units.of(chain, mask, observations)
    least = np.inf
    for n, (index, after) in enumerate(zip(chain.index, chain.index[1:], strict=False)):
        for unit in policy.units[n + 1]:
            for other in set(range(len(index))) - set(policy.units[n + 1]):
                moved = mask.clone()
                moved[index[unit]], moved[after[:, unit]] = False, False
                moved[index[other]], moved[after[:, other]] = mask[index[unit]], mask[after[:, unit]]
                least = min(least, np.abs(outputs(masked, moved, observations) - wanted).mean())
    best, change = policy.with_another(wanted)
    assert change == pytest.approx(least, abs=1e-5)
    assert np.isfinite(change)
    found = torch.from_numpy(best.mask())
    assert np.abs(outputs(masked, found, observations) - wanted).mean() == pytest.approx(least, abs=1e-5)
    assert found.count_nonzero() == mask.count_nonzero()
    assert torch.equal(live_masks(masked.network, found), found)
    fitted = _fitted(policy, wanted)
    np.testing.assert_allclose(
        fitted.outputs, outputs(masked, torch.from_numpy(fitted.mask()), observations), atol=1e-5
    )
    assert np.abs(fitted.outputs - wanted).mean() <= min(least, np.abs(policy.outputs - wanted).mean()) + 1e-5


def test_without_unused_or_hidden_units_nothing_is_replaced():
    for masked in (problem(hidden_sizes=()), problem(hidden_sizes=(2, 2))):
        mask = torch.ones(masked.solution_length, dtype=torch.bool)
        policy = _Units.of(_Chain(masked), mask, _observed(masked, mask, 1))
        same, change = policy.with_another(policy.outputs + 1.0)
        assert (same, change) == (policy, np.inf)
        assert _fitted(policy, policy.outputs + 1.0) is policy


@pytest.mark.parametrize("kind", NETWORKS)
def test_versions_have_fewer_live_weights_and_include_the_one_that_changes_outputs_least(kind):
    masked = problem("LunarLander-v3", **NETWORKS[kind])
    mask = a_policy(masked)
    observations = _observed(masked, mask, 4)
    versions = smaller(masked, mask)
    assert 1 < len(versions) <= 28
    assert torch.equal(live_masks(masked.network, versions), versions)
    assert (versions.sum(dim=1) < mask.count_nonzero()).all()
    wanted = outputs(masked, mask, observations)

    def change(one):
        return np.abs(outputs(masked, one, observations) - wanted).mean()

    if mask.count_nonzero() < 40:
        without = without_one(masked, mask)
        assert min(map(change, versions)) <= min(map(change, without)) + 1e-6
        plain = {one.numpy().tobytes() for one in versions if not (one & ~mask).any()}
        assert {one.numpy().tobytes() for one in sorted(without, key=change)[:10]} <= plain


def test_a_policy_is_made_smaller_down_to_one_path():
    masked = problem(hidden_sizes=(12, 9))
    mask, sizes = a_policy(masked), []
    while len(versions := smaller(masked, mask, num_episodes=1)):
        mask = versions[0]
        sizes.append(int(mask.count_nonzero()))
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == 3  # a path through two hidden layers, which needs three weights


def test_large_policies_lose_several_weights_at_once():
    masked = problem(hidden_sizes=(20, 20))
    mask = a_policy(masked)
    many = int(mask.count_nonzero())
    assert many > 100
    assert many - 20 < max(smaller(masked, mask).sum(dim=1)) <= many - many // 20
