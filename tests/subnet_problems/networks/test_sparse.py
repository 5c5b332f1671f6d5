"""Masks that keep few weights have the same outputs, to the bit, as their dense weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policies import ACT, CHAINS, OBS, bits, observations, rows_of

from subnet_problems import FrozenNetwork
from subnet_problems.masks._apply import masked_weights
from subnet_problems.networks.forward import _sparse
from subnet_problems.networks.forward._chain import ChainPolicy
from subnet_problems.networks.forward._sparse import MixedPolicy, SparsePolicy


def masks_of(network, density, *, popsize=4, seed=0, values=(0, 1)):
    """Random masks: bool, or int8 of other values."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand((popsize, network.num_weights), generator=generator) < density
    if values == (0, 1):
        return kept
    numbers = torch.tensor([value for value in values if value != 0], dtype=torch.int8)
    return numbers[torch.randint(len(numbers), kept.shape, generator=generator)] * kept


def assert_same_outputs(network, mask, *, num_episodes=3, rescale=True):
    weights = masked_weights(network.weights, mask, network.layers, rescale=rescale)
    rows = rows_of(len(mask) * num_episodes)
    obs = observations(1, len(rows))[0]
    sparse = network.population(weights, num_episodes=num_episodes)
    dense = network.population(weights.dense(), num_episodes=num_episodes)
    assert isinstance(sparse, SparsePolicy)
    assert isinstance(dense, ChainPolicy)
    expected = bits(dense.act(rows, obs))
    assert bits(sparse.act(rows, obs)) == expected
    some = np.flatnonzero(np.random.default_rng(0).random(len(rows)) < 0.6).astype(np.int32)
    assert bits(sparse.act(some, obs[some])) == [expected[row] for row in some]


@pytest.fixture(autouse=True)
def _any_density(monkeypatch):
    monkeypatch.setattr(_sparse, "_MOST_OF_SMALL", 1.0)
    monkeypatch.setattr(_sparse, "_MOST_OF_LARGE", 1.0)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 1.0])
@pytest.mark.parametrize("name", CHAINS)
def test_sparse_masks_have_the_outputs_of_their_dense_weights(name, density):
    network = FrozenNetwork(CHAINS[name], obs_length=OBS, act_length=ACT, weight_init="uniform_fan_in")
    assert_same_outputs(network, masks_of(network, density))


@given(
    hidden=st.lists(st.integers(1, 12), max_size=3).map(tuple), bias=st.booleans(), density=st.floats(0.0, 1.0),
    popsize=st.integers(1, 4), num_episodes=st.integers(1, 9), seed=st.integers(0, 99),
    rescale=st.booleans() | st.just("given"), values=st.sampled_from([(0, 1), (-1, 0, 1), (-3, 0, 7)]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_masks_have_the_outputs_of_their_dense_weights(
    hidden, bias, density, popsize, num_episodes, seed, rescale, values
):
    network = FrozenNetwork(hidden, obs_length=OBS, act_length=ACT, bias=bias, seed=seed)
    if rescale == "given":
        rescale = [0.5 + i for i in range(len(network.layers))]
    mask = masks_of(network, density, popsize=popsize, seed=seed, values=values)
    assert_same_outputs(network, mask, num_episodes=num_episodes, rescale=rescale)


def test_a_layer_may_have_more_units_than_16_bits_count():
    network = FrozenNetwork((70_000,), obs_length=OBS, act_length=ACT)
    mask = torch.zeros((1, network.num_weights), dtype=torch.bool)
    mask[0, 69_999 * OBS] = mask[0, -1] = True  # the first input, the last hidden unit and the last output
    assert_same_outputs(network, mask)
    outputs = network.population(masked_weights(network.weights, mask, network.layers, rescale=False), num_episodes=1)
    assert np.count_nonzero(outputs.act(rows_of(1), observations(1, 1)[0])) == 1


def test_masks_of_which_only_some_keep_few_weights_have_the_outputs_of_their_dense_weights(monkeypatch):
    monkeypatch.undo()
    network = FrozenNetwork((30, 30), obs_length=OBS, act_length=ACT, bias=True)
    mask = torch.cat([masks_of(network, density, popsize=2, seed=int(100 * density)) for density in (0.05, 0.5, 0.1)])
    for rescale in (True, False):
        weights = masked_weights(network.weights, mask, network.layers, rescale=rescale)
        rows = rows_of(18)
        obs = observations(1, 18)[0]
        mixed = network.population(weights, num_episodes=3)
        assert isinstance(mixed, MixedPolicy)
        expected = bits(network.population(weights.dense(), num_episodes=3).act(rows, obs))
        assert bits(mixed.act(rows, obs)) == expected
        for some in (rows[:5], rows[6:12], rows[::2]):
            assert bits(mixed.act(some, obs[some])) == [expected[row] for row in some]


def test_outputs_with_infinite_activations_do_not_depend_on_the_other_masks(monkeypatch):
    monkeypatch.undo()
    network = FrozenNetwork("Linear(5, 64) >> ReLU() >> Linear(64, 3)", obs_length=OBS, act_length=ACT, seed=0)
    mask = torch.cat([masks_of(network, density, popsize=3, seed=1) for density in (0.05, 0.9)])
    obs = np.full((6, OBS), 3e38, dtype=np.float32)

    def outputs(chosen):
        weights = masked_weights(network.weights, mask[chosen], network.layers, rescale=True)
        return bits(network.population(weights, num_episodes=1).act(rows_of(len(chosen)), obs[chosen]))

    together = outputs([0, 1, 2, 3, 4, 5])
    assert [outputs([i])[0] for i in range(6)] == together


def test_a_population_may_be_empty():
    network = FrozenNetwork((6,), obs_length=OBS, act_length=ACT)
    weights = masked_weights(network.weights, masks_of(network, 0.1, popsize=0), network.layers, rescale=True)
    policy = network.population(weights, num_episodes=2)
    assert policy.act(rows_of(0), observations(1, 0)[0]).shape == (0, ACT)


def test_the_default_dtype_of_pytorch_does_not_matter():
    network = FrozenNetwork((6,), obs_length=OBS, act_length=ACT)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert_same_outputs(network, masks_of(network, 0.5), rescale=[0.1, 0.7])
    finally:
        torch.set_default_dtype(before)


def test_the_density_and_the_size_decide_which_kernel_computes_masks(monkeypatch):
    monkeypatch.undo()
    small, large = (FrozenNetwork(sizes, obs_length=OBS, act_length=ACT) for sizes in ((87, 87), (300, 300)))
    cases = ((small, 0.05, SparsePolicy), (small, 0.12, ChainPolicy), (large, 0.12, SparsePolicy))
    for network, density, kind in (*cases, (large, 0.2, ChainPolicy)):
        weights = masked_weights(network.weights, masks_of(network, density), network.layers, rescale=True)
        assert type(network.population(weights, num_episodes=1)) is kind
