"""A network computes with its seed, its weights and its file, and the file proves that it gives the same policy."""

import copy
import random

import numpy as np
import pytest
import torch
from conftest import Echo, fitness
from evotorch.decorators import pass_info
from small_subnetworks import BOX, assert_same, make, parts_of, write
from torch import nn

from subnet_problems import FrozenNetwork, MaskedGymProblem, Subnetwork, SubnetworkFileError


@pass_info
class Fourier(nn.Module):
    """Features with frequencies that it draws itself, as a buffer or as a plain tensor, and linear layers."""

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
    """A convolution over observations in their own shape."""

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
def test_what_a_module_draws_for_itself_follows_from_the_networks_seed_alone(draw, buffer):
    def drawn(seed, state):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        random.seed(state)
        args = {"draw": draw, "buffer": buffer}
        return outputs_of(FrozenNetwork(Fourier, obs_length=4, act_length=2, seed=seed, network_args=args))

    assert torch.equal(drawn(5, state=0), drawn(5, state=1))
    assert not torch.equal(drawn(5, state=0), drawn(6, state=0))


@each_draw
def test_making_a_network_leaves_the_global_generators_where_they_were(draw):
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


def test_the_same_seeds_give_the_same_fitness_whatever_the_global_generator_did():
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
    subnet = make(Fourier(4, 2))  # drawn from the global generator, which nobody can ask again
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


def test_an_argument_that_the_file_cannot_hold_is_asked_for(tmp_path):
    subnet = make(Fourier, options={"network_args": {"draw": torch.rand, "width": 2}})
    with pytest.warns(UserWarning, match=r"^network_args: a policy's file cannot hold 'draw'"):
        subnet.save(tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"^network_args: expected values for \['draw'\], which the file could not hold"
    ):
        Subnetwork.load(tmp_path / "a.safetensors", network=Fourier)
    loaded = Subnetwork.load(tmp_path / "a.safetensors", network=Fourier, network_args={"draw": torch.rand})
    assert_same(loaded, subnet)


def test_a_network_gets_the_shape_of_observations_again(tmp_path):
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
def test_a_network_that_computes_something_else_is_refused(tmp_path, other):
    make(Fourier(4, 2, buffer=False)).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected the outputs \[.*\] .*, got \[.*\].* something else"):
        Subnetwork.load(tmp_path / "a.safetensors", network=other)


def test_a_buffer_that_the_module_has_not_is_named(tmp_path):
    make(Fourier(4, 2)).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected a module with a buffer 'frequencies' of \(\(4, 3\), "):
        Subnetwork.load(tmp_path / "a.safetensors", network=Fourier(4, 2, buffer=False))


@pytest.mark.parametrize("name", ["seed", "gain"])
def test_a_file_whose_network_gives_other_outputs_than_it_says_is_refused(tmp_path, name):
    make().save(tmp_path / "a.safetensors")
    description, tensors = parts_of(tmp_path / "a.safetensors")
    changed = copy.deepcopy(description)
    changed["weights"][name] += 1
    with pytest.raises(SubnetworkFileError, match=r"^proof: expected the outputs \[.*\] .*, got \["):
        Subnetwork.load(write(tmp_path / "b.safetensors", changed, tensors))
    del changed["proof"]  # as in older files
    assert Subnetwork.load(write(tmp_path / "b.safetensors", changed, tensors)).num_active > 0


class Dithered(nn.Linear):
    def forward(self, obs):
        return super().forward(obs) + 0.1 * torch.randn(2)


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
        (Dithered, "called twice|randomness"),
        (Counting, "called twice"),
        (Running, r"its forward pass changes its buffers \['mean'\]|in-place"),
    ],
)
def test_a_network_that_draws_or_remembers_is_refused_before_anything_runs(kind, reason):
    with pytest.raises(ValueError, match=rf"^network: expected a module that .*({reason})"):
        FrozenNetwork(kind(4, 2), obs_length=4, act_length=2)


def test_lazy_layers_find_their_sizes():
    lazy = nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(2))
    network = FrozenNetwork(lazy, obs_length=4, act_length=2, seed=3)
    assert [layer.shape for layer in network.layers] == [(5, 4), (5,), (2, 5), (2,)]
    assert torch.equal(network.weights, FrozenNetwork(lazy, obs_length=4, act_length=2, seed=3).weights)
    assert nn.parameter.is_lazy(lazy[0].weight)  # the user's own is as it was
    with pytest.raises(ValueError, match=r"^network: expected a module that turns an observation"):
        FrozenNetwork(nn.Sequential(nn.LazyConv2d(3, 3)), obs_length=4, act_length=2)


def test_a_problem_says_at_once_what_no_file_will_hold():
    with pytest.warns(UserWarning, match=r"^env_config: a policy's file cannot hold 'hook' \(type object\)") as caught:
        MaskedGymProblem(Echo, hidden_sizes=(2,), env_config={"hook": object(), "steps": 3})
    assert caught[0].filename == __file__
