"""A network depends only on its seed, weights and file; the file contains outputs that verify the policy."""

import base64
import copy
import random
import warnings

import numpy as np
import pytest
import torch
from environments import Echo
from evaluations import fitness
from evotorch.decorators import pass_info
from small_subnetworks import BOX, NORMALIZER, assert_same, make, parts_of, write
from torch import nn

from subnet_problems import FrozenNetwork, MaskedGymProblem, Subnetwork, SubnetworkFileError
from subnet_problems.networks._probe import probe_inputs


@pass_info
class Fourier(nn.Module):
    """Linear layers on features whose random frequencies are a buffer or a plain tensor."""

    def __init__(self, obs_length, act_length, *, draw=torch.randn, buffer=True, width=3, **_):
        super().__init__()
        frequencies = torch.as_tensor(draw(obs_length, width), dtype=torch.float32)
        if buffer:
            self.register_buffer("frequencies", frequencies)
        else:
            self.frequencies = frequencies
        self.out = nn.Linear(width, act_length)

    def forward(self, obs):
        return self.out(torch.sin(obs @ self.frequencies))


@pass_info
class Grid(nn.Module):
    """A convolution over observations that are not flattened."""

    def __init__(self, obs_shape, act_length, channels=2, **_):
        super().__init__()
        self.shape = obs_shape
        self.conv = nn.Conv1d(obs_shape[0], channels, 2)
        self.out = nn.Linear(channels * (obs_shape[1] - 1), act_length)

    def forward(self, obs):
        return self.out(torch.tanh(self.conv(obs.reshape(1, *self.shape))).reshape(-1))


def python_draw(*shape):
    return np.array([random.gauss(0, 1) for _ in range(np.prod(shape))]).reshape(shape)


DRAWS = {"torch": torch.randn, "numpy": np.random.randn, "python": python_draw}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


def outputs_of(network, seed=3):
    obs = torch.randn((4, network.obs_length), generator=torch.Generator().manual_seed(seed))
    return network.to_module(network.weights)(obs).detach()


@each_draw
@pytest.mark.parametrize("buffer", [True, False])
def test_random_draws_in_a_module_depend_only_on_the_seed_of_the_network(draw, buffer):
    def drawn(seed, state):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        random.seed(state)
        args = {"draw": draw, "buffer": buffer}
        return outputs_of(FrozenNetwork(Fourier, obs_length=4, act_length=2, seed=seed, network_args=args))

    assert torch.equal(drawn(5, state=0), drawn(5, state=1))
    assert not torch.equal(drawn(5, state=0), drawn(6, state=0))


@each_draw
def test_creating_a_network_does_not_change_global_generators(draw):
    before = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    assert before != expected
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    FrozenNetwork(Fourier, obs_length=4, act_length=2, network_args={"draw": draw})
    assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002


def test_fitness_does_not_depend_on_the_global_generator():
    def fitness_after(state):
        torch.manual_seed(state)
        problem = MaskedGymProblem("CartPole-v1", Fourier, network_seed=2, seed=1)
        return fitness(problem, torch.randn((5, problem.solution_length), generator=torch.Generator().manual_seed(0)))

    assert torch.equal(fitness_after(0), fitness_after(1))


@pytest.mark.parametrize(
    "again",
    [Fourier, pass_info(lambda obs_length, act_length, **_: Fourier(obs_length, act_length))],
    ids=["class", "function"],
)
def test_buffers_are_in_the_file(tmp_path, again):
    subnet = make(Fourier(4, 2))  # drawn from the global generator, so not reproducible
    subnet.save(tmp_path / "a.safetensors")
    assert_same(Subnetwork.load(tmp_path / "a.safetensors", network=again), subnet)
    assert_same(Subnetwork.load(tmp_path / "a.safetensors", network=Fourier(4, 2)), subnet)


def test_running_statistics_are_in_the_file(tmp_path):
    norm = nn.BatchNorm1d(4)
    network = nn.Sequential(nn.Unflatten(0, (1, 4)), norm, nn.Linear(4, 2), nn.Flatten(0))
    norm.train()(torch.randn((50, 4), generator=torch.Generator().manual_seed(0)) * 3 + 1)
    subnet = make(network.eval())
    subnet.save(tmp_path / "a.safetensors")
    fresh = nn.Sequential(nn.Unflatten(0, (1, 4)), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Flatten(0))
    assert_same(Subnetwork.load(tmp_path / "a.safetensors", network=fresh), subnet)


def test_the_arguments_of_a_callable_are_in_the_file(tmp_path):
    subnet = make(Fourier, options={"network_args": {"width": 7}})
    subnet.save(tmp_path / "a.safetensors")
    assert_same(Subnetwork.load(tmp_path / "a.safetensors", network=Fourier), subnet)
    with pytest.raises(ValueError, match=r"^network: expected layers \[\(2, 7\), \(2,\)\], got "):
        Subnetwork.load(tmp_path / "a.safetensors", network=Fourier, network_args={"width": 2})


def test_an_argument_that_the_file_cannot_hold_must_be_given_at_loading(tmp_path):
    subnet = make(Fourier, options={"network_args": {"draw": torch.rand, "width": 2}})
    with pytest.warns(UserWarning, match=r"^network_args: a policy's file cannot hold 'draw'"):
        subnet.save(tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"^network_args: expected values for \['draw'\], which the file could not hold"
    ):
        Subnetwork.load(tmp_path / "a.safetensors", network=Fourier)
    loaded = Subnetwork.load(tmp_path / "a.safetensors", network=Fourier, network_args={"draw": torch.rand})
    assert_same(loaded, subnet)


def test_a_loaded_network_has_the_shape_of_observations(tmp_path):
    frozen = FrozenNetwork(Grid, obs_length=6, act_length=2, obs_shape=(2, 3))
    subnet = Subnetwork(frozen, torch.ones(frozen.num_weights, dtype=torch.bool), actions=BOX)
    subnet.save(tmp_path / "a.safetensors")
    loaded = Subnetwork.load(tmp_path / "a.safetensors", network=Grid)
    assert_same(loaded, subnet)
    assert loaded.network.obs_shape == (2, 3)


@pytest.mark.parametrize(
    "other",
    [
        Fourier(4, 2, buffer=False),
        pass_info(lambda obs_length, act_length, **_: Fourier(obs_length, act_length, buffer=False, draw=torch.rand)),
    ],
    ids=["a module", "a callable"],
)
def test_a_network_with_other_outputs_is_refused(tmp_path, other):
    make(Fourier(4, 2, buffer=False)).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected the outputs \[.*\] .*, got \[.*\].* something else"):
        Subnetwork.load(tmp_path / "a.safetensors", network=other)


def test_a_missing_buffer_is_named(tmp_path):
    make(Fourier(4, 2)).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected a module with a buffer 'frequencies' of \(\(4, 3\), "):
        Subnetwork.load(tmp_path / "a.safetensors", network=Fourier(4, 2, buffer=False))


@pytest.mark.parametrize("name", ["seed", "gain"])
def test_a_file_whose_outputs_do_not_match_its_proof_is_refused(tmp_path, name):
    make().save(tmp_path / "a.safetensors")
    description, tensors = parts_of(tmp_path / "a.safetensors")
    changed = copy.deepcopy(description)
    changed["weights"][name] += 1
    with pytest.raises(SubnetworkFileError, match=r"^proof: expected the outputs \[.*\] .*, got \["):
        Subnetwork.load(write(tmp_path / "b.safetensors", changed, tensors))
    del changed["proof"]  # older files have no proof
    assert Subnetwork.load(write(tmp_path / "b.safetensors", changed, tensors)).num_active > 0


class Dithered(nn.Linear):
    def forward(self, obs):
        return super().forward(obs) + 0.1 * torch.randn(2)


class PythonNoise(nn.Linear):
    def forward(self, obs):
        return super().forward(obs) + 0.1 * random.gauss(0, 1)


class NumpyFactor(nn.Linear):
    def forward(self, obs):
        return super().forward(obs) * torch.as_tensor(np.random.uniform(0.9, 1.1, 2), dtype=torch.float32)  # noqa: NPY002


class LateCounter(nn.Linear):
    calls = 0

    def forward(self, obs):
        self.calls += 1
        return super().forward(obs) * (1.0 if self.calls < 30 else 2.0)


class Counting(nn.Linear):
    calls = 0

    def forward(self, obs):
        self.calls += 1
        return super().forward(obs) * self.calls


class Running(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, obs):
        output = super().forward(obs)
        self.mean += 0.1 * (output.detach() - self.mean)
        return output


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Dithered, "another call"),
        (PythonNoise, "another call"),
        (NumpyFactor, "another call"),
        (LateCounter, "another call"),
        (Counting, "another call"),
        (Running, r"its forward pass changes its buffers \['mean'\]|in-place"),
    ],
)
def test_random_and_stateful_networks_are_refused(kind, reason):
    for seed in range(5):
        with pytest.raises(ValueError, match=rf"^network: expected a module that .*({reason})"):
            FrozenNetwork(kind(4, 2), obs_length=4, act_length=2, seed=seed)


def test_lazy_layers_are_initialized():
    lazy = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(2))
    network = FrozenNetwork(lazy, obs_length=4, act_length=2, seed=3)
    assert [layer.shape for layer in network.layers] == [(5, 4), (5,), (2, 5), (2,)]
    assert torch.equal(network.weights, FrozenNetwork(lazy, obs_length=4, act_length=2, seed=3).weights)
    assert nn.parameter.is_lazy(lazy[0].weight)  # the given module is unchanged
    with pytest.raises(ValueError, match=r"^network: expected a module that turns an observation"):
        FrozenNetwork(nn.Sequential(nn.LazyConv2d(3, 3)), obs_length=4, act_length=2)


def test_a_problem_warns_at_once_about_values_that_no_file_can_hold():
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook' \(type object\)") as caught:
        MaskedGymProblem(Echo, hidden_sizes=(2,), env_config={"hook": object(), "steps": 3})
    assert caught[0].filename == __file__


# All implementations compute the same network


def bias_first():
    """The bias is registered before the weight, as after ``torch.nn.utils.prune`` and parametrizations."""
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    for layer in (module[0], module[2]):
        weight = layer.weight
        del layer.weight
        layer.weight = weight
    return module


def with_custom_forward():
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    module[1].forward = torch.sin
    return module


@pytest.mark.parametrize("weight_init", [None, "kaiming_normal"])
@pytest.mark.parametrize("make_module", [bias_first, with_custom_forward])
def test_a_population_computes_the_same_outputs_as_the_module(make_module, weight_init):
    network = FrozenNetwork(make_module(), obs_length=4, act_length=2, weight_init=weight_init)
    obs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    policy = network.population(network.weights[None], num_episodes=3)
    with torch.no_grad():
        expected = network.to_module(network.weights)(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(policy.act(np.arange(3, dtype=np.int32), obs), expected, rtol=1e-5, atol=1e-5)
    assert {layer.fan_in for layer in network.layers} == {4, 5}


def test_a_module_with_global_hooks_is_refused():
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: output + 1)
    try:
        with pytest.raises(ValueError, match=r"^network: expected a module that gives the same outputs for one obs"):
            FrozenNetwork((3, 2), obs_length=4, act_length=2)
    finally:
        handle.remove()


class Clipped(nn.Linear):
    clip = 10.0

    def forward(self, obs):
        return super().forward(obs.clamp(-self.clip, self.clip))


def test_a_module_that_differs_only_on_large_observations_is_refused(tmp_path):
    make(Clipped(4, 2)).save(tmp_path / "a.safetensors")
    other = Clipped(4, 2)
    other.clip = 1.0
    with pytest.raises(ValueError, match=r"^network: expected the outputs "):
        Subnetwork.load(tmp_path / "a.safetensors", network=other)


def test_a_network_sensitive_to_rounding_can_be_loaded(tmp_path):
    """Its outputs in double and single precision differ by some percent, as those of different machines may."""
    network = FrozenNetwork((256,) * 6, obs_length=8, act_length=2, weight_gain=6.0)
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=BOX)
    subnet.save(tmp_path / "a.safetensors")
    description, tensors = parts_of(tmp_path / "a.safetensors")
    with torch.no_grad():
        exact = [
            network.to_module(network.weights).double()(torch.from_numpy(obs)) for obs in probe_inputs(8).astype(float)
        ]
    proof = torch.stack(exact).float().numpy()
    assert np.abs(proof / subnet.probe() - 1).max() > 1e-4
    description["proof"] = base64.b64encode(proof.tobytes()).decode()
    Subnetwork.load(write(tmp_path / "b.safetensors", description, tensors))
    description["proof"] = base64.b64encode((1.5 * proof).tobytes()).decode()
    with pytest.raises(SubnetworkFileError, match=r"^proof: "):
        Subnetwork.load(write(tmp_path / "b.safetensors", description, tensors))


def test_network_arguments_are_refused_if_the_file_describes_the_network(tmp_path):
    make().save(tmp_path / "a.safetensors")
    for options in ({"network": Fourier}, {"network_args": {"width": 3}}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: expected None, because the file describes"):
            Subnetwork.load(tmp_path / "a.safetensors", **options)


@pytest.mark.parametrize(
    "buffer",
    [
        torch.tensor([1 + 2j, 3 - 1j]),
        torch.tensor([np.nan, 1.0]),
        torch.tensor([True, False]),
        torch.ones(1).expand(2),
        torch.zeros(0),
    ],
    ids=["complex", "NaN", "bool", "expanded", "empty"],
)
def test_buffers_of_every_dtype_are_preserved(buffer, tmp_path):
    module = nn.Linear(4, 2)
    module.register_buffer("extra", buffer)
    subnet = make(module)
    kept = subnet.network.buffers["extra"]
    assert kept.dtype == buffer.dtype
    np.testing.assert_array_equal(kept.numpy(), buffer.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file cannot hold complex numbers
        subnet.save(tmp_path / "a.safetensors")
    assert_same(Subnetwork.load(tmp_path / "a.safetensors", network=module), subnet)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_parameters_that_are_not_real_numbers_are_refused(dtype):
    module = nn.Linear(4, 2)
    module.odd = nn.Parameter(torch.ones(2, dtype=dtype), requires_grad=False)
    with pytest.raises(ValueError, match=r"^network: expected non-empty parameters of real numbers, got "):
        FrozenNetwork(module, obs_length=4, act_length=2)


def test_networks_can_be_created_inside_callables():
    def maker():
        inner = FrozenNetwork((3,), obs_length=4, act_length=2)
        return inner.to_module(inner.weights)

    assert FrozenNetwork(maker, obs_length=4, act_length=2).num_weights == 18


def test_acting_does_not_change_the_observation():
    subnet = make(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)))
    obs = np.array([5, -0.1, 0.2, -3], dtype=np.float32)
    before = obs.copy()
    subnet.act(obs)
    np.testing.assert_array_equal(obs, before)


@pytest.mark.parametrize("change", ["mask by NumPy", "normalizer"])
def test_acting_follows_changes_that_bypass_pytorch(change):
    subnet = make(normalizer=NORMALIZER)
    obs = np.ones(4)
    subnet.act(obs)
    mean = NORMALIZER.mean.copy()
    try:
        if change == "normalizer":
            subnet.normalizer.mean[:] = 50
        else:
            subnet.mask.numpy()[::2] ^= True
        np.testing.assert_array_equal(subnet.act(obs), copy.copy(subnet).act(obs))
        fresh = Subnetwork(subnet.network, subnet.mask, actions=BOX, normalizer=subnet.normalizer)
        np.testing.assert_array_equal(subnet.act(obs), fresh.act(obs))
    finally:
        NORMALIZER.mean[:] = mean


def test_infinite_outputs_raise():
    subnet = make((), options={"weight_gain": 1e38}, sparsity=0.0)
    with pytest.raises(ValueError, match=r"^obs: expected an observation with finite outputs"):
        subnet.act(np.full(4, 1e38))
