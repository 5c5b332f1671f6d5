"""The forward pass of a population: correct, and bit-identical for an episode regardless of the others."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from subnet_problems import FrozenNetwork
from subnet_problems.networks import _weights

OBS, ACT = 5, 3


class Opaque(nn.Sequential):
    """A chain of layers that is not recognized as one, so that vmap runs it."""


class Alternating(nn.Module):
    """One layer used twice."""

    def __init__(self):
        super().__init__()
        self.inner, self.middle, self.outer = nn.Linear(OBS, 6), nn.Linear(6, 6), nn.Linear(6, ACT)

    def forward(self, obs):
        x = torch.tanh(self.inner(obs))
        return self.outer(torch.tanh(self.middle(torch.tanh(self.middle(x)))))


def twice() -> nn.Module:
    shared = nn.Linear(6, 6)
    return nn.Sequential(nn.Linear(OBS, 6), nn.Tanh(), shared, nn.Tanh(), shared, nn.ReLU(), nn.Linear(6, ACT))


def tied() -> nn.Module:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(nn.Linear(OBS, 6), nn.Tanh(), first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, ACT))


#: Networks that run in the compiled kernel if Numba is installed.
CHAINS = {
    "no hidden layer": (),
    "one hidden layer": (7,),
    "the paper's": (87, 87),
    "deep": (6,) * 8,
    "one unit": (1, 1),
    "ReLU": "Linear(obs_length, 9) >> ReLU() >> Linear(9, 6, bias=False) >> ReLU() >> Linear(6, act_length)",
    "tanh at the end": "Linear(obs_length, 9) >> Linear(9, act_length) >> Tanh()",
    "nested": nn.Sequential(nn.Sequential(nn.Linear(OBS, 9), nn.Identity(), nn.Tanh()), nn.Linear(9, ACT)),
}
#: Networks that run with vmap.
OTHERS = {
    "opaque": Opaque(nn.Linear(OBS, 9), nn.Tanh(), nn.Linear(9, ACT)),
    "sigmoid": "Linear(obs_length, 7) >> Sigmoid() >> Linear(7, act_length)",
    "ELU": "Linear(obs_length, 7) >> ELU() >> Linear(7, act_length)",
    "softplus": "Linear(obs_length, 7) >> Softplus() >> Linear(7, act_length)",
    "layer norm": "Linear(obs_length, 7) >> LayerNorm(7) >> GELU() >> Linear(7, act_length)",
    "activation first": nn.Sequential(nn.Tanh(), nn.Linear(OBS, ACT)),
    "a layer used twice": twice(),
    "a layer called twice": Alternating(),
    "two layers with one weight": tied(),
    "wide": Opaque(nn.Linear(OBS, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, ACT)),
}
RECURRENT = {
    "RNN": "RNN(obs_length, 8) >> Linear(8, act_length)",
    "LSTM": "LSTM(obs_length, 7) >> Linear(7, act_length)",
    "a layer before and after": "Linear(obs_length, 4) >> Tanh() >> RNN(4, 5) >> Linear(5, act_length)",
}


def make(network, *, popsize=4, **options) -> tuple[FrozenNetwork, torch.Tensor]:
    """A network, and different weights for each solution of a population."""
    options.setdefault("weight_init", "uniform_fan_in")
    frozen = FrozenNetwork(network, obs_length=OBS, act_length=ACT, **options)
    masks = torch.rand((popsize, frozen.num_weights), generator=torch.Generator().manual_seed(0)) > 0.3
    return frozen, frozen.weights * masks


def observations(steps: int, rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(steps, rows, OBS)).astype(np.float32)


def rows_of(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


def bits(outputs: np.ndarray) -> list[list[int]]:
    return outputs.view(np.uint32).tolist()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [v for v in CHAINS.values() if isinstance(v, tuple)], ids=str)
def test_hidden_sizes_match_the_plain_module(hidden, bias):
    assert_matches_plain_modules(hidden, bias=bias)


@pytest.mark.parametrize("name", [*CHAINS, *OTHERS])
def test_a_population_matches_the_plain_modules(name):
    assert_matches_plain_modules((CHAINS | OTHERS)[name])


@pytest.mark.parametrize("init", ["uniform", "kaiming_normal", "signed_constant"])
def test_a_population_matches_the_plain_modules_with_large_weights(init):
    assert_matches_plain_modules((87, 87), weight_init=init)


def assert_matches_plain_modules(network, **options) -> None:
    frozen, weights = make(network, **options)
    policy = frozen.population(weights, num_episodes=3)
    obs = observations(1, 12)[0]
    outputs = policy.act(rows_of(12), obs)
    assert outputs.dtype == np.float32
    with torch.no_grad():
        expected = [frozen.to_module(weights[row // 3])(torch.from_numpy(obs[row])).numpy() for row in range(12)]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["the paper's", "ReLU", "opaque"])
def test_weights_are_converted_in_chunks_of_any_size(name, monkeypatch):
    frozen, weights = make((CHAINS | OTHERS)[name], popsize=5)
    obs = observations(1, 10)[0]
    whole = frozen.population(weights, num_episodes=2).act(rows_of(10), obs)
    monkeypatch.setattr(_weights, "_CHUNK", 2 * frozen.num_weights)
    assert [len(chunk) for chunk in _weights.DenseWeights(weights).chunks(frozen.num_weights)] == [2, 2, 1]
    assert bits(frozen.population(weights, num_episodes=2).act(rows_of(10), obs)) == bits(whole)


def test_the_kernel_and_vmap_agree_on_one_network():
    layers = [nn.Linear(OBS, 87), nn.Tanh(), nn.Linear(87, 87), nn.Tanh(), nn.Linear(87, ACT)]
    obs, outputs = observations(1, 12)[0], []
    for module in (nn.Sequential(*layers), Opaque(*layers)):
        frozen, weights = make(module, weight_init=None)
        outputs.append(frozen.population(weights, num_episodes=3).act(rows_of(12), obs))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-3, 1.0, 30.0, 1e20])
def test_tanh_is_accurate_for_inputs_of_any_size(size):
    frozen = FrozenNetwork("Linear(1, 1, bias=False) >> Tanh()", obs_length=1, act_length=1)
    policy = frozen.population(torch.ones((1, 1)), num_episodes=8)
    obs = (np.linspace(-1, 1, 8, dtype=np.float32) * np.float32(size))[:, None]
    np.testing.assert_allclose(policy.act(rows_of(8), obs), np.tanh(obs), rtol=1e-6)


@pytest.mark.parametrize("name", [*CHAINS, *OTHERS])
def test_outputs_of_an_episode_do_not_depend_on_other_episodes(name):
    frozen, weights = make((CHAINS | OTHERS)[name])
    obs = observations(1, 12)[0]
    together = bits(frozen.population(weights, num_episodes=3).act(rows_of(12), obs))
    for row in range(12):
        everyone = frozen.population(weights, num_episodes=3)
        assert bits(everyone.act(np.array([row], dtype=np.int32), obs[row : row + 1])) == together[row : row + 1]
    some = np.array([0, 4, 5, 11], dtype=np.int32)
    everyone = frozen.population(weights, num_episodes=3)
    assert bits(everyone.act(some, obs[some])) == [together[row] for row in some]


@pytest.mark.parametrize("num_episodes", [1, 3])
@pytest.mark.parametrize("name", [*CHAINS, *OTHERS])
def test_outputs_of_an_episode_do_not_depend_on_how_the_population_is_split(name, num_episodes):
    frozen, weights = make((CHAINS | OTHERS)[name], popsize=5)
    obs = observations(1, 5 * num_episodes)[0]

    def play(start: int, stop: int) -> list[list[int]]:
        policy = frozen.population(weights[start:stop], num_episodes=num_episodes)
        return bits(policy.act(rows_of((stop - start) * num_episodes), obs[start * num_episodes : stop * num_episodes]))

    together = play(0, 5)
    for bounds in ([0, 1, 2, 3, 4, 5], [0, 2, 5], [0, 4, 5]):
        assert [answer for start, stop in pairwise(bounds) for answer in play(start, stop)] == together


@pytest.mark.parametrize("name", ["the paper's", "opaque"])
def test_the_given_weights_are_not_changed(name):
    frozen, weights = make((CHAINS | OTHERS)[name])
    before = weights.clone()
    frozen.population(weights, num_episodes=3).act(rows_of(12), observations(1, 12)[0])
    assert torch.equal(weights, before)


@pytest.mark.parametrize("name", [*OTHERS, *RECURRENT])
def test_ended_episodes_do_not_affect_the_remaining_ones(name):
    frozen, weights = make((OTHERS | RECURRENT)[name], popsize=5)
    obs = observations(5, 15)
    everyone = frozen.population(weights, num_episodes=3)
    together = [bits(everyone.act(rows_of(15), step)) for step in obs]
    alive = [rows_of(15), np.delete(rows_of(15), [1, 9, 10, 11]), np.array([0, 2, 3, 12]), np.array([2, 12]), [12]]
    policy = frozen.population(weights, num_episodes=3)
    for step, rows, expected in zip(obs, alive, together, strict=True):
        rows = np.asarray(rows, dtype=np.int32)
        assert bits(policy.act(rows, step[rows])) == [expected[row] for row in rows]


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_network_keeps_the_state_of_each_episode_while_others_end(name):
    frozen, weights = make(RECURRENT[name])
    policy = frozen.population(weights, num_episodes=3)
    obs = observations(5, 12)
    alive = rows_of(12)
    states = dict.fromkeys(range(12))
    modules = [frozen.to_module(solution) for solution in weights]
    for step, ended in zip(obs, ([], [1, 3, 4, 5], [0], [2, 8, 9], [7]), strict=True):
        alive = np.setdiff1d(alive, ended).astype(np.int32)
        outputs = policy.act(alive, step[alive])
        for row, output in zip(alive.tolist(), outputs, strict=True):
            with torch.no_grad():
                expected, states[row] = modules[row // 3](torch.from_numpy(step[row]), states[row])
            np.testing.assert_allclose(output, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_recurrent_network_uses_its_state():
    frozen, weights = make(RECURRENT["RNN"])
    policy = frozen.population(weights, num_episodes=3)
    obs = observations(1, 12)[0]
    assert bits(policy.act(rows_of(12), obs)) != bits(policy.act(rows_of(12), obs))


def test_each_population_starts_without_a_state():
    frozen, weights = make(RECURRENT["RNN"])
    obs = observations(1, 12)[0]
    first, second = (frozen.population(weights, num_episodes=3).act(rows_of(12), obs) for _ in range(2))
    assert bits(first) == bits(second)


def test_forward_hooks_of_a_module_run_in_a_population():
    module = nn.Sequential(nn.Linear(OBS, 4), nn.Tanh(), nn.Linear(4, ACT))
    module.register_forward_hook(lambda part, inputs, output: 100.0 * output)
    network = FrozenNetwork(module, obs_length=OBS, act_length=ACT)
    obs = np.random.default_rng(0).normal(size=(1, OBS)).astype(np.float32)
    outputs = network.population(network.weights[None], num_episodes=1).act(np.zeros(1, np.int32), obs)
    with torch.no_grad():
        np.testing.assert_allclose(outputs[0], module(torch.from_numpy(obs[0])).numpy(), rtol=1e-5)


def test_a_population_on_another_device_does_not_move_the_network():
    network = FrozenNetwork((4,), obs_length=OBS, act_length=ACT)
    network.population(network.weights[None], num_episodes=1, device="meta")
    assert {parameter.device.type for parameter in network.to_module(network.weights).parameters()} == {"cpu"}
