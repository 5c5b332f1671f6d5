"""FrozenNetwork: weights that depend only on a seed, for any architecture."""

import math

import numpy as np
import pytest
import torch
from evotorch.decorators import pass_info
from torch import nn

from subnet_problems import FrozenNetwork
from subnet_problems.networks import INITS

#: The first four weights of FrozenNetwork((87, 87), obs_length=8, act_length=2, seed=0), exact float32.
GOLDEN = {
    "uniform": [-0.9769064784049988, -0.5169015526771545, -0.7771483063697815, 0.12882930040359497],
    "uniform_fan_in": [-0.34538859128952026, -0.18275229632854462, -0.27476340532302856, 0.04554803669452667],
    "kaiming_normal": [0.07926692068576813, -0.9628459811210632, -0.10125163942575455, 0.1651022583246231],
    "signed_constant": [-1.0, -1.0, -1.0, 1.0],
    "signed_kaiming_constant": [-0.5, -0.5, -0.5, 0.5],
}

STRING = "Linear(obs_length, 5) >> ReLU() >> Linear(5, act_length)"


def lander(hidden=(87, 87), **options) -> FrozenNetwork:
    """A network for LunarLander's continuous form."""
    return FrozenNetwork(hidden, obs_length=8, act_length=2, **options)


def weight_by_hand(init: str, words: list[int], index: int, fan_in: int, gain: float = 1.0) -> np.float32:
    """Weight ``index`` from the formulas in FrozenNetwork's docstring, in Python arithmetic."""
    if init == "kaiming_normal":
        p, q = (((word >> 11) + 0.5) / 2**53 for word in words[2 * index : 2 * index + 2])
        return np.float32(gain * (math.sqrt(-2 * math.log(p)) * math.cos(2 * math.pi * q) * math.sqrt(2 / fan_in)))
    word = words[index]
    uniform, sign = (2 * (word >> 40) + 1 - 2**24) / 2**24, 1.0 if word >> 63 else -1.0
    unit = {
        "uniform": uniform,
        "uniform_fan_in": uniform / math.sqrt(fan_in),
        "signed_constant": sign,
        "signed_kaiming_constant": sign * math.sqrt(2 / fan_in),
    }
    return np.float32(gain * unit[init])


@pytest.mark.parametrize("init", INITS)
def test_seed_0_gives_the_same_weights_on_every_platform_and_release(init):
    assert lander(weight_init=init, seed=0).weights[:4].tolist() == GOLDEN[init]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_every_weight_depends_only_on_the_random_words_of_its_index(init, seed):
    network = FrozenNetwork((5, 3), obs_length=4, act_length=2, bias=True, weight_init=init, weight_gain=0.7, seed=seed)
    words = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(2 * network.num_weights).tolist()
    fan_ins = [4] * 25 + [5] * 18 + [3] * 8  # a bias has the fan-in of its layer
    expected = [weight_by_hand(init, words, i, fan_in, gain=0.7) for i, fan_in in enumerate(fan_ins)]
    assert network.weights.dtype == torch.float32
    if init == "kaiming_normal":  # logarithm and cosine may differ in the last bit between platforms
        np.testing.assert_allclose(network.weights.numpy(), expected, rtol=2e-7)
    else:
        np.testing.assert_array_equal(network.weights.numpy(), expected)


@pytest.mark.parametrize("init", INITS)
def test_weights_depend_only_on_the_seed(init):
    torch.manual_seed(1)
    first = lander(weight_init=init, seed=5).weights
    torch.manual_seed(2)
    assert torch.equal(lander(weight_init=init, seed=5).weights, first)
    assert not torch.equal(lander(weight_init=init, seed=6).weights, first)


@pytest.mark.parametrize(
    "network",
    [(16,), STRING, lambda: nn.Linear(8, 2), nn.Linear(8, 2)],
    ids=["hidden sizes", "string", "callable", "module"],
)
def test_global_generators_do_not_change(network):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    made = lander(network)
    made.to_module(made.weights)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


@pytest.mark.parametrize(("hidden", "count"), [((87, 87), 8439), ((704,), 7040), ((64, 64, 64), 8832), ((), 16)])
def test_continuous_lunar_lander_networks_have_the_number_of_weights_in_the_paper(hidden, count):
    network = lander(hidden)
    assert network.num_weights == count
    assert network.weights.shape == (count,)


def test_biases_add_one_weight_per_unit():
    assert lander((87, 87), bias=True).num_weights == 8439 + 87 + 87 + 2


@pytest.mark.parametrize("bias", [False, True])
def test_layers_tile_the_vector_of_weights(bias):
    network = lander((7, 5), bias=bias)
    end = 0
    for layer in network.layers:
        assert layer.start == end
        assert layer.slice == slice(end, end + layer.size)
        assert layer.size == math.prod(layer.shape)
        end += layer.size
    assert end == network.num_weights
    assert [layer.shape for layer in network.layers if len(layer.shape) == 2] == [(7, 8), (5, 7), (2, 5)]


def test_a_module_holds_the_weights_of_each_layer_in_order():
    network = lander((7,), bias=True)
    weights = torch.arange(network.num_weights, dtype=torch.float32)
    module = network.to_module(weights)
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in module.parameters()]), weights)
    for layer, (name, parameter) in zip(network.layers, module.named_parameters(), strict=True):
        assert layer.name == name
        assert torch.equal(parameter.detach().reshape(-1), weights[layer.slice])


def test_modules_of_a_network_share_no_parameters():
    network = lander((7,))
    first, second = network.to_module(network.weights), network.to_module(network.weights)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(bool((p != 0).all()) for p in second.parameters())
    assert bool((network.weights != 0).all())


def test_weights_cannot_be_changed_from_outside():
    network = lander((7,))
    network.weights.zero_()
    assert bool((network.weights != 0).all())


@pytest.mark.parametrize("sizes", [(), (2,), (3, 2)])
def test_networks_with_canceling_terms_pass_the_consistency_checks(sizes):
    """In small networks of signed constants, many sums are exactly or almost 0, depending on the order of addition."""
    for seed in range(150):
        FrozenNetwork(sizes, obs_length=4, act_length=2, weight_init="signed_constant", weight_gain=0.01, seed=seed)


def test_hidden_sizes_give_fully_connected_layers_with_tanh_between_them():
    network = lander((7, 5))
    w = [network.weights[layer.slice].view(layer.shape) for layer in network.layers]
    obs = torch.linspace(-1, 1, 8)
    expected = w[2] @ torch.tanh(w[1] @ torch.tanh(w[0] @ obs))
    torch.testing.assert_close(network.to_module(network.weights)(obs), expected)


def test_a_given_module_keeps_its_weights_and_is_not_changed():
    module = nn.Sequential(nn.Linear(8, 4), nn.Dropout(), nn.Linear(4, 2)).double().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    network = lander(module)
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).float()
    assert torch.equal(network.weights, expected)
    assert network.weight_init is None
    network.to_module(torch.zeros(network.num_weights))
    assert module.training
    assert all(
        value.dtype == torch.float64 and torch.equal(value, before[name]) for name, value in module.state_dict().items()
    )


def test_later_changes_of_a_given_module_do_not_affect_the_network():
    module = nn.Linear(8, 2)
    network = lander(module)
    before = network.weights
    with torch.no_grad():
        module.weight.zero_()
    assert torch.equal(network.weights, before)


def test_a_module_returned_by_a_callable_is_not_changed():
    module = nn.Sequential(nn.Linear(8, 2), nn.Dropout()).double().train()
    lander(lambda: module)
    assert module.training
    assert module[0].weight.dtype == torch.float64


def test_weight_init_redraws_the_weights_of_a_given_module():
    network = lander(nn.Sequential(nn.Linear(8, 87, bias=False), nn.Linear(87, 2, bias=False)), weight_init="uniform")
    assert network.weights[:4].tolist() == GOLDEN["uniform"]


def test_a_string_can_use_lengths_shapes_and_constants():
    network = FrozenNetwork(
        "Unflatten(0, obs_shape) >> Linear(obs_shape[1], width) >> Flatten(0) >> Linear(6, act_length)",
        obs_length=8,
        act_length=2,
        obs_shape=(2, 4),
        network_args={"width": 3},
    )
    assert [layer.shape for layer in network.layers] == [(3, 4), (3,), (2, 6), (2,)]


def test_a_string_gives_the_same_weights_as_hidden_sizes():
    string = "Linear(obs_length, 87, bias=False) >> Tanh() >> Linear(87, act_length, bias=False)"
    assert torch.equal(lander(string, seed=3).weights, lander((87,), seed=3).weights)


def test_a_callable_is_called_with_the_network_arguments_and_its_weights_are_drawn():
    network = lander(lambda width: nn.Sequential(nn.Linear(8, width), nn.Linear(width, 2)), network_args={"width": 3})
    assert network.num_weights == 8 * 3 + 3 + 3 * 2 + 2
    assert network.weights[:4].tolist() == GOLDEN["uniform"]


def test_a_callable_with_pass_info_gets_information_about_the_task():
    seen = {}

    @pass_info
    def make(*, obs_length, act_length, width, **rest):
        seen.update(rest)
        return nn.Sequential(nn.Linear(obs_length, width), nn.Linear(width, act_length))

    network = lander(make, network_args={"width": 3}, obs_shape=(2, 4))
    assert [layer.shape for layer in network.layers] == [(3, 8), (3,), (2, 3), (2,)]
    assert seen == {"obs_shape": (2, 4), "act_shape": (2,)}


def test_a_module_class_works_as_a_callable():
    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inner, self.outer = nn.Linear(8, width), nn.Linear(width, 2)

        def forward(self, obs):
            return self.outer(torch.sin(self.inner(obs)))

    assert lander(Wide, network_args={"width": 3}).num_weights == 35


def test_uniform_fan_in_weights_fill_the_range_of_one_over_the_root_of_fan_in():
    network = lander((87, 87), weight_init="uniform_fan_in", bias=True)
    for layer, fan_in in zip(network.layers, [8, 8, 87, 87, 87, 87], strict=True):
        largest = float(network.weights[layer.slice].abs().max()) * math.sqrt(fan_in)
        assert layer.fan_in == fan_in
        assert largest < 1
        assert largest > (0.95 if layer.size > 60 else 0.2)


def test_a_normalization_layer_before_any_linear_layer_has_its_size_as_fan_in():
    network = lander(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2)))
    assert [layer.fan_in for layer in network.layers] == [8, 8, 8, 8]


def test_uniform_weights_are_uniform_between_minus_one_and_one():
    weights = lander(weight_init="uniform").weights.double()
    assert float(weights.abs().max()) < 1
    assert abs(float(weights.mean())) < 5 * math.sqrt(1 / 3 / len(weights))
    assert abs(float(weights.var()) - 1 / 3) < 0.01


@pytest.mark.parametrize("init", ["signed_constant", "signed_kaiming_constant"])
def test_signed_weights_have_one_magnitude_per_layer_and_balanced_signs(init):
    network = lander(weight_init=init, weight_gain=3.0)
    for layer in network.layers:
        size = np.float32(3.0 * (math.sqrt(2 / layer.fan_in) if "kaiming" in init else 1.0))
        assert set(network.weights[layer.slice].tolist()) == {-float(size), float(size)}
    assert abs(float(network.weights.sign().mean())) < 5 / math.sqrt(network.num_weights)


def test_kaiming_normal_weights_have_mean_0_and_the_standard_deviation_from_he_et_al():
    network = lander((87, 87), weight_init="kaiming_normal")
    middle = network.weights[network.layers[1].slice].double()
    stdev = math.sqrt(2 / 87)
    assert abs(float(middle.mean())) < 5 * stdev / math.sqrt(len(middle))
    assert abs(float(middle.std()) / stdev - 1) < 5 / math.sqrt(2 * len(middle))
    within = float((middle.abs() < stdev).double().mean())
    assert abs(within - 0.6827) < 0.03


@pytest.mark.parametrize("init", INITS)
def test_the_gain_multiplies_every_weight(init):
    assert torch.equal(lander(weight_init=init, weight_gain=0.25).weights, lander(weight_init=init).weights * 0.25)


def test_with_weights_sets_the_weights_that_the_mask_keeps():
    network = lander((3,))
    mask = torch.arange(network.num_weights) % 3 == 0
    kept = torch.arange(1, int(mask.sum()) + 1, dtype=torch.float32)
    other = network.with_weights(mask, kept)
    assert torch.equal(other.weights[mask], kept)
    assert bool((other.weights[~mask] == 0).all())
    assert other.weight_init is None
    assert torch.equal(network.weights, lander((3,)).weights)


def test_the_repr_describes_the_network():
    assert repr(lander(seed=4)) == "<FrozenNetwork (87, 87), 8439 weights, weight_init='uniform', seed=4>"
    assert "Linear" in repr(lander(nn.Linear(8, 2)))


@pytest.mark.parametrize(
    ("sizes", "index", "error"),
    [([0], 0, ValueError), ([4, -1], 1, ValueError), ([2.5], 0, TypeError), ([4, True], 1, TypeError)],
)
def test_an_invalid_hidden_size_is_reported_with_its_index(sizes, index, error):
    with pytest.raises(error, match=rf"^network\[{index}\]: expected a whole number >= 1, got "):
        lander(sizes)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"weight_init": "xavier"}, ValueError, "weight_init"),
        ({"weight_init": 3}, TypeError, "weight_init"),
        ({"weight_gain": math.nan}, ValueError, "weight_gain"),
        ({"weight_gain": math.inf}, ValueError, "weight_gain"),
        ({"weight_gain": 0.0}, ValueError, "weight_gain"),
        ({"weight_gain": -1.0}, ValueError, "weight_gain"),
        ({"weight_gain": "1"}, TypeError, "weight_gain"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**63}, ValueError, "seed"),
        ({"seed": 1.0}, TypeError, "seed"),
        ({"seed": True}, TypeError, "seed"),
        ({"bias": 1}, TypeError, "bias"),
        ({"network_args": 3}, TypeError, "network_args"),
    ],
)
def test_errors_name_the_invalid_option(options, error, name):
    with pytest.raises(error, match=f"^{name}: expected "):
        lander((3,), **options)


@pytest.mark.parametrize(("name", "value", "error"), [("obs_length", 0, ValueError), ("act_length", 2.5, TypeError)])
def test_errors_name_the_invalid_length(name, value, error):
    with pytest.raises(error, match=f"^{name}: expected a whole number >= 1, got {value}"):
        FrozenNetwork((3,), **{"obs_length": 8, "act_length": 2, name: value})


@pytest.mark.parametrize("network", [5, None, 2.5, {3}])
def test_a_network_of_a_wrong_type_is_refused(network):
    with pytest.raises(TypeError, match=r"^network: expected hidden sizes, an EvoTorch network string"):
        lander(network)


@pytest.mark.parametrize("string", ["Linear(", "Linaer(8, 2)", "Linear(8, missing)", "", "Linear(8, 2) + Tanh()"])
def test_an_invalid_string_is_quoted_in_the_error(string):
    with pytest.raises(ValueError, match=r"^network: EvoTorch cannot read the network string") as caught:
        lander(string)
    assert repr(string) in str(caught.value)


def test_a_callable_that_returns_no_module_is_refused():
    with pytest.raises(TypeError, match=r"^network: expected the callable to return an nn\.Module, got 'policy'"):
        lander(lambda: "policy")


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Identity())])
def test_a_module_with_no_parameters_is_refused(module):
    with pytest.raises(ValueError, match=r"^network: expected a module with parameters"):
        FrozenNetwork(module, obs_length=2, act_length=2)


@pytest.mark.parametrize("last", [nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())])
def test_a_wrong_output_size_is_reported_with_both_sizes(last):
    with pytest.raises(ValueError, match=r"^network: expected an output of shape .*\(2,\), got \(3,\)"):
        lander(nn.Sequential(nn.Linear(8, 4), last))


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(9, 2),
        nn.Linear(3, 2),
        nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2)),
        nn.Sequential(nn.Linear(9, 4), nn.Sigmoid(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(20, 2)),
        nn.Sequential(nn.Linear(8, 20), nn.Tanh(), nn.Linear(4, 2)),
    ],
    ids=["one too wide", "one too narrow", "chain too narrow", "vmap too wide", "inner too wide", "inner too narrow"],
)
def test_a_network_with_mismatched_layer_sizes_is_refused(module):
    with pytest.raises(ValueError, match=r"^network: expected a module that turns an observation of shape \(8,\)"):
        lander(module)


def test_a_network_that_vmap_cannot_vectorize_is_refused():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 2)

        def forward(self, obs):
            return self.linear(obs) if obs.sum() > 0 else -self.linear(obs)

    with pytest.raises(ValueError, match=r"^network: expected a module .* that torch\.func\.vmap can vectorize"):
        lander(Branches())


def test_a_gain_outside_the_range_of_float32_is_refused():
    with pytest.raises(ValueError, match=r"^weight_gain: "):
        lander((3,), weight_gain=1e300)
