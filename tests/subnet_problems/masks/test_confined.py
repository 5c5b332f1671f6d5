"""At a sparser level, a center is narrowed to weights between units in use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, TopK
from subnet_problems.masks._live import chain_layers, live_units


def front(**options):
    defaults = {"hidden_sizes": (30, 20), "mask_rule": TopK(0.5, scope="erdos_renyi"), "episode_length": 40, "seed": 5}
    return ParetoSparsityProblem(MaskedGymProblem("LunarLander-v3", **defaults | options))


def an_individual(problem, sparsity, *, seed=0):
    scores = np.random.default_rng(seed).normal(0.0, 0.1, size=problem.n_var - 1)
    return np.append(scores, np.log2(1.0 - sparsity))


def between_units_in_use(problem, x):
    """A mask of the weights between units in use, for a network with two hidden layers of 30 and 20 units."""
    wide = np.append(x[:-1], min(0.0, x[-1] + 2.0))
    network = problem.masked.network
    units = live_units(chain_layers(network, problem.mask(wide[None])[0].numpy()))
    first, second = (torch.from_numpy(unit) for unit in units[1:-1])
    every = torch.ones(8, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    weights = {(30, 8): (first, every[0]), (20, 30): (second, first), (4, 20): (every[1], second)}
    biases = {(30,): first, (20,): second, (4,): every[1]}
    parts = []
    for layer in network.layers:
        if layer.shape in biases:
            parts.append(biases[layer.shape])
        else:
            after, before = weights[layer.shape]
            parts.append((after[:, None] & before).flatten())
    return torch.cat(parts)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sparsity=st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.97]),
    scope=st.sampled_from(["global", "layer", "erdos_renyi"]),
    bias=st.booleans(),
)
def test_narrowing_keeps_only_weights_between_units_in_use(seed, sparsity, scope, bias):
    problem = front(mask_rule=TopK(0.5, scope=scope), bias=bias)
    layers, x = problem.masked.network.layers, an_individual(problem, sparsity, seed=seed)
    in_use = between_units_in_use(problem, x)
    narrowed = problem.narrowed(x)
    before, after = (problem.mask(one[None])[0] for one in (x, narrowed))
    assert narrowed[-1] == x[-1]
    noise = 0.05 * np.random.default_rng(seed).normal(size=(64, len(x)))
    noise[:, -1] = 0.0
    children = problem.mask(narrowed + noise)
    for part, num_kept in TopK(sparsity, scope=scope).parts(layers):
        assert after[part].count_nonzero() == num_kept
        if not 0 < num_kept < in_use[part].count_nonzero():
            np.testing.assert_allclose(narrowed[:-1][part], x[:-1][part], rtol=1e-6)  # not enough units are in use
        else:
            assert not (after & ~in_use)[part].any()
            assert not (before & in_use & ~after)[part].any()  # kept weights in use stay
            assert not (children[:, part] & ~in_use[part]).any()


def test_narrowing_increases_the_number_of_live_weights_of_sparse_masks():
    problem = front()
    network, live = problem.masked.network, []
    for make in (problem.confined, problem.narrowed):
        x = np.stack([make(an_individual(problem, 0.97, seed=seed)) for seed in range(20)])
        live.append(sum(problem.to_subnetwork(row).prune().num_active for row in x))
    assert live[1] > 2 * live[0]
    assert network.num_weights == 920


def test_narrowing_does_not_change_dense_masks():
    problem = front()
    x = an_individual(problem, 0.5)
    np.testing.assert_array_equal(problem.narrowed(x), np.append(x[:-1].astype(np.float32), x[-1]))


def test_narrowing_does_not_change_networks_that_are_not_chains():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 20, bias=False), nn.Linear(20, 4, bias=False)

        def forward(self, obs):
            return self.last(torch.sigmoid(self.first(obs)))

    problem = front(network=Gated(), hidden_sizes=None)
    x = an_individual(problem, 0.95)
    np.testing.assert_allclose(problem.narrowed(x), x, rtol=1e-6)


def test_errors_name_the_invalid_argument():
    problem = front()
    with pytest.raises(ValueError, match=r"^center: expected shape \(D \+ 1,\)"):
        problem.narrowed(np.zeros(3))
    with pytest.raises(ValueError, match=r"^center: "):
        problem.narrowed(np.full(problem.n_var, np.nan))
    with pytest.raises(TypeError, match=r"^center: "):
        problem.narrowed("here")
