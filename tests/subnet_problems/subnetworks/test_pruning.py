"""Dead units cannot affect outputs; removing them does not change any output."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_subnetworks import DISCRETE, NORMALIZER, RNN, bits, make
from torch import nn

from subnet_problems import FrozenNetwork, Subnetwork
from subnet_problems.masks._live import chain_layers, live_units, live_weights
from subnet_problems.subnetworks._pruning import compact, masked_layers, reached, to_module

OBS = torch.randn((50, 4), generator=torch.Generator().manual_seed(1))


@st.composite
def subnetworks(draw):
    sizes = tuple(draw(st.lists(st.integers(1, 6), max_size=3)))
    bias = draw(st.booleans())
    network = FrozenNetwork(sizes, obs_length=4, act_length=2, bias=bias, seed=draw(st.integers(0, 9)))
    kept = draw(st.lists(st.booleans(), min_size=network.num_weights, max_size=network.num_weights))
    return Subnetwork(network, torch.tensor(kept), actions=DISCRETE, rescale=draw(st.booleans()))


@st.composite
def populations(draw):
    """A network and masks ``(N, D)`` for it, with densities from 0 to 1."""
    sizes = tuple(draw(st.lists(st.integers(1, 6), max_size=3)))
    network = FrozenNetwork(sizes, obs_length=4, act_length=2, bias=draw(st.booleans()))
    densities = np.array(draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return network, rng.random((len(densities), network.num_weights)) < densities[:, None]


def outputs(subnet):
    with torch.no_grad():
        return subnet.to_policy()(OBS)


@given(subnetworks())
@settings(deadline=None)
def test_a_pruned_policy_has_the_same_outputs_and_cannot_be_pruned_further(subnet):
    pruned = subnet.prune()
    assert torch.equal(outputs(pruned), outputs(subnet))
    assert not (pruned.mask & ~subnet.mask).any()
    assert torch.equal(pruned.prune().mask, pruned.mask)


@given(subnetworks())
@settings(deadline=None)
def test_each_weight_of_a_pruned_policy_lies_on_a_path_to_an_output(subnet):
    """By brute force: a weight is kept if it lies on a path from a source (an input or a bias) to an output."""
    pruned = subnet.prune()
    layers = masked_layers(subnet)
    fed = [np.ones(4, dtype=bool)]
    for layer in layers:
        fed.append(np.array([any(row & fed[-1]) for row in layer.mask]) | layer.bias_mask)
    seen = np.ones(2, dtype=bool)
    for number in reversed(range(len(layers))):
        layer = layers[number]
        for i, j in np.ndindex(layer.mask.shape):
            expected = layer.mask[i, j] and fed[number][j] and seen[i]
            assert bool(pruned.mask[layer.index[i, j]]) == expected
        seen = np.array([any(column & seen) for column in layer.mask.T])


@given(populations())
@settings(deadline=None)
def test_live_weights_and_units_of_many_masks_equal_those_of_each(population):
    network, mask = population
    layers = chain_layers(network, mask)
    weights, units = live_weights(layers, network.num_weights), live_units(layers)
    assert weights.shape == mask.shape
    for i, row in enumerate(mask):
        subnet = Subnetwork(network, row, actions=DISCRETE)
        np.testing.assert_array_equal(weights[i], subnet.prune().mask.numpy())
        for level, expected in zip(units, subnet.live_units(), strict=True):
            np.testing.assert_array_equal(level[i], expected)


@given(subnetworks())
@settings(deadline=None)
def test_the_compact_network_has_only_live_units_and_the_same_outputs(subnet):
    layers = masked_layers(subnet)
    small = compact(layers)
    assert [len(layer.weight) for layer in small[:-1]] == [max(1, units.sum()) for units in live_units(layers)[1:-1]]
    with torch.no_grad():
        assert torch.allclose(to_module(small)(OBS), outputs(subnet), atol=1e-5)


@given(subnetworks())
@settings(deadline=None)
def test_an_input_changes_only_outputs_that_it_reaches(subnet):
    paths = reached(masked_layers(subnet))
    for i in range(4):
        changed = OBS.clone()
        changed[:, i] += 1.0
        with torch.no_grad():
            same = subnet.to_policy()(changed) == outputs(subnet)
        assert same[:, ~paths[:, i]].all()


def test_live_units_lie_between_an_input_and_an_output():
    network = FrozenNetwork((3,), obs_length=2, act_length=1)
    #               unit 0 has inputs and an output, unit 1 only inputs, unit 2 only an output
    mask = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 1]).bool()
    subnet = Subnetwork(network, mask, actions=type(DISCRETE)(1))
    assert [units.tolist() for units in subnet.live_units()] == [[True, False], [True, False, False], [True]]
    assert subnet.prune().num_active == 2


def test_a_rescaled_policy_keeps_its_scales_in_its_file(tmp_path):
    subnet = make((20, 20), sparsity=0.9, rescale=True, normalizer=NORMALIZER, options={"bias": True})
    pruned = subnet.prune()
    assert pruned.num_active < subnet.num_active
    assert pruned.rescale == tuple(subnet.scales)
    pruned.save(tmp_path / "pruned.safetensors")
    loaded = Subnetwork.load(tmp_path / "pruned.safetensors")
    assert bits(loaded.weights) == bits(pruned.weights)
    assert loaded.rescale == pruned.rescale
    assert torch.equal(outputs(loaded), outputs(subnet))


@pytest.mark.parametrize("network", [RNN, nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=-1))])
def test_networks_that_are_not_chains_are_refused(network):
    with pytest.raises(ValueError, match="network: expected a chain of linear layers, tanh and ReLU"):
        make(network).prune()
    with pytest.raises(ValueError, match="network: expected a chain of linear layers, tanh and ReLU"):
        make(network).live_units()


@pytest.mark.parametrize(
    ("rescale", "error", "message"),
    [
        ("yes", TypeError, "rescale: expected True, False or 3 factors, got 'yes'"),
        ([1.0, 2.0], ValueError, "rescale: expected a factor for each of 3 layers"),
        ([1.0, 2.0, 0.0], ValueError, "rescale: expected a finite number > 0"),
        ([1.0, 2.0, float("nan")], ValueError, "rescale: expected a finite number > 0"),
    ],
)
def test_invalid_factors_are_refused(rescale, error, message):
    with pytest.raises(error, match=message):
        make(rescale=rescale)
