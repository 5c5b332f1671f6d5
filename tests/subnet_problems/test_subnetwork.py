"""Subnetwork: a policy that can be kept in a file, and read from it without this package."""

import copy
import json
import math
import os
import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from subnet_problems import FrozenNetwork, Subnetwork, SubnetworkFileError, TopK
from subnet_problems._philox import episode_seeds
from subnet_problems.networks import WEIGHT_INITS
from subnet_problems.rollout import Normalizer
from subnet_problems.spaces import BoxActions, DiscreteActions

BOX = BoxActions(low=(-1.0, -math.inf), high=(1.0, 2.0), shape=(2,))
DISCRETE = DiscreteActions(2, start=1)
NORMALIZER = Normalizer(np.array([1, -2, 0.1, 3e-5], dtype=np.float32), np.array([10, 0.5, 1, 3], dtype=np.float32))
STRING = "Linear(obs_length, width) >> ReLU() >> Linear(width, 5, bias=False) >> Tanh() >> Linear(5, act_length)"
RNN = "RNN(obs_length, 3) >> Linear(3, act_length)"


def own(*layers: nn.Module) -> nn.Module:
    """A module with weights of its own, of either sign."""
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(1, -2, parameter.numel()).view_as(parameter))
    return module


def module() -> nn.Module:
    return own(nn.Linear(4, 5), nn.LayerNorm(5), nn.Sigmoid(), nn.Linear(5, 2))


def untrained() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Sigmoid(), nn.Linear(5, 2))


#: Networks for four observed numbers and two outputs, and what makes the module anew where the file does not.
NETWORKS = {
    "hidden sizes": ((6, 5), {}, None),
    "hidden sizes with biases": ((6, 5), {"bias": True}, None),
    "no hidden layer": ((), {}, None),
    "string": (STRING, {"network_args": {"width": 3}}, None),
    "recurrent string": (RNN, {}, None),
    "module": (module(), {}, untrained()),
    "callable": (module, {}, untrained),
}


def make(network=(6, 5), *, sparsity=0.6, options=None, **arguments) -> Subnetwork:
    """A small subnetwork; its mask keeps every layer's highest of some fixed scores."""
    frozen = FrozenNetwork(network, obs_length=4, act_length=2, **(options or {}))
    scores = torch.randn((1, frozen.num_weights), generator=torch.Generator().manual_seed(0))
    arguments.setdefault("actions", BOX)
    return Subnetwork(frozen, TopK(sparsity)(scores, frozen.layers)[0], **arguments)


def lander(**arguments) -> Subnetwork:
    """A subnetwork of the paper's network, as a search leaves it."""
    frozen = FrozenNetwork((87, 87), obs_length=8, act_length=2, seed=0)
    scores = torch.randn((1, 8439), generator=torch.Generator().manual_seed(0))
    return Subnetwork(
        frozen,
        TopK(0.9)(scores, frozen.layers)[0],
        actions=BoxActions(low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,)),
        rescale=True,
        env="LunarLander-v3",
        env_config={"continuous": True},
        tests={"mean": 271.82818284590454, "standard_error": 3.1415926535897936, "num_episodes": 100, "seed": 12345},
        **arguments,
    )


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.view(torch.int32).tolist()


def assert_same(first: Subnetwork, second: Subnetwork) -> None:
    assert torch.equal(first.mask, second.mask)
    assert bits(first.weights) == bits(second.weights)
    assert [layer.shape for layer in first.network.layers] == [layer.shape for layer in second.network.layers]
    assert (first.rescale, first.actions) == (second.rescale, second.actions)
    assert (first.env, first.env_config, first.tests) == (second.env, second.env_config, second.tests)
    assert (first.sparsity, first.num_active, first.num_weights) == (
        second.sparsity,
        second.num_active,
        second.num_weights,
    )
    assert (first.normalizer is None) == (second.normalizer is None)
    if first.normalizer is not None:
        assert first.normalizer.mean.tobytes() == second.normalizer.mean.tobytes()
        assert first.normalizer.scale.tobytes() == second.normalizer.scale.tobytes()
    for seed in range(5):
        obs = np.random.default_rng(seed).normal(size=first.network.obs_length)
        np.testing.assert_array_equal(first.act(obs), second.act(obs))


# The policy -----------------------------------------------------------------------------------------------------


def test_it_counts_what_is_kept():
    subnet = make(sparsity=0.6)
    assert subnet.num_weights == 4 * 6 + 6 * 5 + 5 * 2
    assert subnet.num_active == round(64 * 0.4)
    assert subnet.sparsity == 1 - 26 / 64
    assert int((subnet.weights != 0).sum()) == subnet.num_active
    assert repr(make(env="CartPole-v1")) == "<Subnetwork for CartPole-v1: 26 of 64 weights, sparsity 0.594>"


def test_its_weights_are_the_frozen_ones_where_the_mask_keeps_them_and_plus_zero_elsewhere():
    subnet = make(rescale=False)
    expected = torch.where(subnet.mask, subnet.network.weights, torch.zeros(()))
    assert bits(subnet.weights) == bits(expected)


def test_its_kept_weights_are_rescaled_layer_by_layer():
    subnet = make(rescale=True)
    for layer in subnet.network.layers:
        kept = int(subnet.mask[layer.slice].sum())
        scale = np.float32(math.sqrt(layer.size / kept))
        expected = subnet.network.weights[layer.slice] * subnet.mask[layer.slice] * scale
        assert torch.equal(subnet.weights[layer.slice], expected)


def test_changing_the_mask_that_came_in_changes_nothing():
    mask = torch.ones(64, dtype=torch.bool)
    frozen = FrozenNetwork((6, 5), obs_length=4, act_length=2)
    subnet = Subnetwork(frozen, mask, actions=BOX)
    mask.zero_()
    assert subnet.num_active == 64


def test_its_policy_is_the_network_between_normaliser_and_bounds():
    subnet = make(normalizer=NORMALIZER, rescale=True)
    w = [subnet.weights[layer.slice].view(layer.shape) for layer in subnet.network.layers]
    obs = torch.randn((7, 4), generator=torch.Generator().manual_seed(1))
    x = (obs - torch.from_numpy(NORMALIZER.mean)) * torch.from_numpy(NORMALIZER.scale)
    output = torch.tanh(torch.tanh(x @ w[0].T) @ w[1].T) @ w[2].T
    clipped = torch.stack([output[:, 0].clamp(-1, 1), output[:, 1].clamp(max=2)], dim=1)
    torch.testing.assert_close(subnet.to_policy()(obs), clipped)
    torch.testing.assert_close(subnet.to_policy(clip_actions=False)(obs), output)
    assert not torch.equal(clipped, output)


def test_it_acts_as_its_policy_does_in_the_spaces_own_terms():
    obs = np.array([[0.3, -0.2], [0.5, 1.0]])
    box, discrete = make(actions=BOX), make(actions=DISCRETE)
    output = box.to_policy()(torch.tensor([0.3, -0.2, 0.5, 1.0])).detach().numpy()
    assert box.act(obs).dtype == np.float32
    np.testing.assert_array_equal(box.act(obs), output)
    assert discrete.act(obs) == 1 + output.argmax()
    assert gym.spaces.Discrete(2, start=1).contains(discrete.act(obs))


def test_a_recurrent_one_begins_anew_at_each_call():
    subnet = make(RNN, sparsity=0.2)
    obs = np.ones(4)
    np.testing.assert_array_equal(subnet.act(obs), subnet.act(obs))


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"network": nn.Linear(4, 2)}, TypeError, "network"),
        ({"mask": [True] * 64}, TypeError, "mask"),
        ({"mask": torch.ones(64)}, TypeError, "mask"),
        ({"mask": torch.ones(63, dtype=torch.bool)}, ValueError, "mask"),
        ({"mask": torch.ones((1, 64), dtype=torch.bool)}, ValueError, "mask"),
        ({"actions": DiscreteActions(3)}, ValueError, "actions"),
        ({"actions": gym.spaces.Discrete(2)}, TypeError, "actions"),
        ({"actions": None}, TypeError, "actions"),
        ({"rescale": 1}, TypeError, "rescale"),
        ({"normalizer": Normalizer(np.zeros(3, np.float32), np.ones(3, np.float32))}, ValueError, "normalizer"),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_by_name(change, error, name):
    good = {
        "network": FrozenNetwork((6, 5), obs_length=4, act_length=2),
        "mask": torch.ones(64, dtype=torch.bool),
        "actions": BOX,
    }
    with pytest.raises(error, match=f"^{name}: expected "):
        Subnetwork(**(good | change))


# Tests on fresh episodes ----------------------------------------------------------------------------------------


def cart_pole(**arguments) -> Subnetwork:
    return make(actions=DiscreteActions(2), env="CartPole-v1", **arguments)


def test_testing_twice_gives_the_same_returns_and_is_recorded():
    subnet = cart_pole()
    returns = subnet.test(num_episodes=5, seed=3)
    assert returns.shape == (5,)
    assert returns.min() >= 1
    assert returns.max() <= 500
    np.testing.assert_array_equal(subnet.test(num_episodes=5, seed=3), returns)
    assert subnet.tests == {
        "mean": pytest.approx(returns.mean()),
        "standard_error": pytest.approx(returns.std(ddof=1) / math.sqrt(5)),
        "num_episodes": 5,
        "seed": 3,
    }


def test_an_episode_does_not_depend_on_how_many_are_tested():
    subnet = cart_pole()
    assert subnet.test(num_episodes=2, seed=3).tolist() == subnet.test(num_episodes=6, seed=3)[:2].tolist()


def test_other_seeds_are_other_episodes():
    subnet = cart_pole()
    returns = subnet.test(num_episodes=8, seed=3)
    assert subnet.test(num_episodes=8, seed=4).tolist() != returns.tolist()
    assert subnet.tests["seed"] == 4


def test_testing_plays_the_policy_on_gymnasium_itself():
    subnet = cart_pole(normalizer=NORMALIZER, rescale=True)
    by_hand = []
    for seed in episode_seeds(5, 4, stream=2**64 - 1):
        env, ended, total = gym.make("CartPole-v1"), False, 0.0
        obs, _ = env.reset(seed=int(seed))
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(subnet.act(obs))
            total, ended = total + reward, terminated or truncated
        by_hand.append(total)
    assert subnet.test(num_episodes=4, seed=5).tolist() == by_hand


def test_one_episode_has_no_standard_error_and_can_be_saved(tmp_path):
    subnet = cart_pole()
    subnet.test(num_episodes=1)
    subnet.save(tmp_path / "one.safetensors")
    assert subnet.tests["standard_error"] is None
    assert Subnetwork.load(tmp_path / "one.safetensors").tests == subnet.tests


def test_results_of_tests_and_the_ability_to_repeat_them_are_saved(tmp_path):
    subnet = cart_pole()
    returns = subnet.test(num_episodes=4, seed=7)
    subnet.save(tmp_path / "tested.safetensors")
    again = Subnetwork.load(tmp_path / "tested.safetensors")
    assert again.tests == subnet.tests
    np.testing.assert_array_equal(again.test(num_episodes=4, seed=7), returns)


def test_a_task_of_ones_own_can_be_given_and_bounded():
    subnet = make(actions=DiscreteActions(2))
    returns = subnet.test(num_episodes=3, env=lambda: gym.make("CartPole-v1"), episode_length=4)
    assert returns.tolist() == [4.0] * 3


@pytest.mark.parametrize(
    ("subnet", "options", "error", "message"),
    [
        (make(), {}, ValueError, "env: expected a Gymnasium id or a callable"),
        (cart_pole(), {"env": "Acrobot-v1"}, ValueError, "env: expected observations of length 4 and 2 outputs"),
        (make(actions=BOX), {"env": "CartPole-v1"}, ValueError, "env: expected "),
        (cart_pole(), {"env": "NoSuchTask-v0"}, ValueError, "env: 'NoSuchTask-v0'"),
        (cart_pole(), {"num_episodes": 0}, ValueError, "num_episodes: expected "),
        (cart_pole(), {"num_episodes": 2.0}, TypeError, "num_episodes: expected "),
        (cart_pole(), {"seed": -1}, ValueError, "seed: expected "),
    ],
    ids=[
        "no task",
        "other lengths",
        "other actions",
        "unknown task",
        "no episodes",
        "half an episode",
        "negative seed",
    ],
)
def test_what_cannot_be_tested_is_refused(subnet, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        subnet.test(**({"num_episodes": 2} | options))
    assert subnet.tests == {}


# The file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [None, *WEIGHT_INITS])
@pytest.mark.parametrize("name", NETWORKS)
def test_saving_and_loading_is_the_identity(tmp_path, name, init):
    network, options, again = NETWORKS[name]
    subnet = make(
        network,
        options=options | {"weight_init": init, "weight_gain": 0.3, "seed": 2**63 - 1},
        actions=BOX,
        rescale=True,
        normalizer=NORMALIZER,
        env="Task-v0",
        env_config={"wind": [1, 2.5, None], "nested": {"on": True}},
        tests={"mean": -1.25, "standard_error": None, "num_episodes": 1, "seed": 2**62},
    )
    subnet.save(tmp_path / "a.safetensors")
    loaded = Subnetwork.load(tmp_path / "a.safetensors", network=again)
    assert_same(loaded, subnet)
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    if subnet.network.weight_init is not None:
        assert bits(loaded.network.weights) == bits(subnet.network.weights)


@pytest.mark.parametrize("actions", [DISCRETE, BOX], ids=["discrete", "box"])
def test_a_bare_subnetwork_too_comes_back_the_same(tmp_path, actions):
    subnet = make(actions=actions)
    subnet.save(tmp_path / "bare.safetensors")
    assert_same(Subnetwork.load(tmp_path / "bare.safetensors"), subnet)


@pytest.mark.parametrize("name", ["hidden sizes", "module"])
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_a_mask_that_keeps_nothing_or_one_or_all_comes_back_the_same(tmp_path, name, kept):
    network, _, again = NETWORKS[name]
    frozen = FrozenNetwork(network, obs_length=4, act_length=2)
    mask = torch.zeros(frozen.num_weights, dtype=torch.bool)
    mask[: kept % (frozen.num_weights + 1)] = True
    subnet = Subnetwork(frozen, mask, actions=BOX, rescale=True)
    subnet.save(tmp_path / "edge.safetensors")
    assert_same(Subnetwork.load(tmp_path / "edge.safetensors", network=again), subnet)


def test_a_paths_name_may_be_text(tmp_path):
    make().save(str(tmp_path / "a.safetensors"))
    assert_same(Subnetwork.load(str(tmp_path / "a.safetensors")), make())


def test_the_papers_policy_takes_less_than_1700_bytes(tmp_path):
    lander().save(tmp_path / "lander.safetensors")
    assert (tmp_path / "lander.safetensors").stat().st_size < 1700
    assert_same(Subnetwork.load(tmp_path / "lander.safetensors"), lander())


def test_the_same_subnetwork_is_the_same_bytes(tmp_path):
    subnet = lander()
    for name, written in (("a", subnet), ("b", subnet), ("c", lander())):
        written.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def decode(data: bytes):
    """Weights and forward pass of a file, from Subnetwork's docstring, NumPy, json and struct alone."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    about = json.loads(header.pop("__metadata__")["subnetwork"])
    dtypes, tensors = {"U8": "<u1", "F32": "<f4"}, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[begin:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    shapes, sizes = about["layers"], [int(np.prod(shape)) for shape in about["layers"]]
    kept = np.unpackbits(tensors["mask"])[: sum(sizes)] == 1
    weights = np.zeros(sum(sizes), np.float32)
    if about["weights"] is None:
        weights[kept] = tensors["kept_weights"]
    else:
        init, gain, seed = (about["weights"][key] for key in ("init", "gain", "seed"))
        # A one-dimensional tensor here is a linear layer's bias: it follows the layer's weight.
        fans = [int(np.prod((shape if len(shape) > 1 else shapes[i - 1])[1:])) for i, shape in enumerate(shapes)]
        fan_in = np.repeat(np.array(fans, np.float64), sizes)
        words = np.random.Philox(key=np.array([seed, 0], np.uint64)).random_raw(2 * len(weights))
        if init == "kaiming_normal":
            p, q = ((words[i::2] >> np.uint64(11)).astype(np.float64) / 2**53 + 0.5 / 2**53 for i in (0, 1))
            drawn = gain * (np.sqrt(-2 * np.log(p)) * np.cos(2 * np.pi * q) * np.sqrt(2 / fan_in))
        else:
            words = words[: len(weights)]
            u = (2 * (words >> np.uint64(40)).astype(np.float64) + 1 - 2**24) / 2**24
            s = np.where(words >> np.uint64(63) == 1, 1.0, -1.0)
            drawn = (
                gain
                * {
                    "uniform": u,
                    "uniform_fan_in": u / np.sqrt(fan_in),
                    "signed_constant": s,
                    "signed_kaiming_constant": s * np.sqrt(2 / fan_in),
                }[init]
            )
        weights[kept] = drawn.astype(np.float32)[kept]
    starts = np.cumsum([0, *sizes])
    parts = [slice(a, b) for a, b in pairwise(starts)]
    for shape, part in zip(shapes, parts, strict=True):
        if about["rescale"] and len(shape) > 1 and kept[part].any():
            weights[part] *= np.float32(np.sqrt(weights[part].size / kept[part].sum()))

    def forward(x):
        if "obs_mean" in tensors:
            x = (x - tensors["obs_mean"]) * tensors["obs_scale"]
        layers = [weights[part].reshape(shape) for shape, part in zip(shapes, parts, strict=True)]
        for i, tensor in enumerate(layers):
            if tensor.ndim == 2:
                x = x if i == 0 else np.tanh(x)
                x = tensor @ x
            else:
                x = x + tensor
        if about["action"]["kind"] == "box":
            low = [-np.inf if v is None else v for v in about["action"]["low"]]
            high = [np.inf if v is None else v for v in about["action"]["high"]]
            x = np.clip(x, low, high)
        return x

    return weights, forward


@pytest.mark.parametrize("init", WEIGHT_INITS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rescale", [False, True])
def test_the_docstring_is_enough_to_read_the_file(tmp_path, init, bias, rescale):
    options = {"weight_init": init, "weight_gain": 0.7, "seed": 2**63 - 5, "bias": bias}
    subnet = make((6, 5), options=options, rescale=rescale, normalizer=NORMALIZER)
    assert_decodes(subnet, tmp_path)


def test_the_docstring_is_enough_to_read_the_papers_policy(tmp_path):
    assert_decodes(lander(), tmp_path)


@pytest.mark.parametrize("layers", [(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), (nn.Linear(4, 2),)], ids=len)
def test_the_docstring_is_enough_to_read_the_weights_of_a_module_of_ones_own(tmp_path, layers):
    assert_decodes(make(own(*layers), rescale=True), tmp_path)


def assert_decodes(subnet: Subnetwork, tmp_path: Path) -> None:
    subnet.save(tmp_path / "x.safetensors")
    weights, forward = decode((tmp_path / "x.safetensors").read_bytes())
    assert weights.view(np.int32).tolist() == bits(subnet.weights)
    policy = subnet.to_policy()
    for seed in range(5):
        obs = np.random.default_rng(seed).normal(size=subnet.network.obs_length).astype(np.float32)
        expected = policy(torch.from_numpy(obs)).detach().numpy()
        np.testing.assert_allclose(forward(obs), expected, rtol=1e-5, atol=1e-5)


def test_the_weights_of_a_strings_network_can_be_read_too(tmp_path):
    subnet = make(STRING, options={"network_args": {"width": 3}, "weight_init": "uniform_fan_in"}, rescale=True)
    subnet.save(tmp_path / "s.safetensors")
    weights, _ = decode((tmp_path / "s.safetensors").read_bytes())
    assert weights.view(np.int32).tolist() == bits(subnet.weights)


def test_a_module_of_ones_own_must_be_given_and_brings_no_weights(tmp_path):
    subnet = make(module())
    subnet.save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected the nn\.Module that the file holds a mask of, got None"):
        Subnetwork.load(tmp_path / "own.safetensors")
    for other in (untrained(), untrained):
        assert bits(Subnetwork.load(tmp_path / "own.safetensors", network=other).weights) == bits(subnet.weights)


def test_a_module_that_does_not_fit_the_file_is_refused(tmp_path):
    make(own(nn.Linear(4, 2))).save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected layers \[\(2, 4\), \(2,\)\], got "):
        Subnetwork.load(tmp_path / "own.safetensors", network=own(nn.Linear(4, 2, bias=False)))


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    make().save(tmp_path / "a.safetensors")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "change",
    [
        {"env_config": {"hook": object()}},
        {"env_config": {"size": np.int64(3)}},
        {"env_config": {"wind": math.nan}},
        {"env_config": {"names": {1: "a"}}},
        {"tests": {"mean": math.inf}},
    ],
    ids=str,
)
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays_whole(tmp_path, change):
    path = tmp_path / "policy.safetensors"
    make().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"^{next(iter(change))}: expected what JSON can hold, got "):
        make(**change).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["policy.safetensors"]  # noqa: PTH208


def test_a_constant_that_json_cannot_hold_is_refused_by_its_own_name(tmp_path):
    string = "Linear(obs_length, width) >> Linear(width, act_length)"
    subnet = make(string, options={"network_args": {"width": np.int64(3)}})
    with pytest.raises(ValueError, match="network_args"):
        subnet.save(tmp_path / "a.safetensors")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        make().save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "missing" / "a.safetensors")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Subnetwork.load(tmp_path / "missing.safetensors")
    with pytest.raises(IsADirectoryError):
        Subnetwork.load(tmp_path)


# Bad files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[dict, dict, Path]:
    """The description and the tensors of a sound file, and where changed ones may be written."""
    folder = tmp_path_factory.mktemp("bad")
    make(options={"bias": True}, normalizer=NORMALIZER, env="CartPole-v1").save(folder / "sound")
    description, tensors = parts_of(folder / "sound")
    return description, tensors, folder / "changed"


def parts_of(path: Path) -> tuple[dict, dict]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return json.loads(header["__metadata__"]["subnetwork"]), load_tensors(data)


def write(path: Path, description: dict, tensors: dict) -> Path:
    path.write_bytes(save_tensors(tensors, metadata={"subnetwork": json.dumps(description)}))
    return path


def test_the_sound_file_under_the_bad_ones_loads(parts):
    description, tensors, path = parts
    again = Subnetwork.load(write(path, description, tensors))
    assert_same(again, make(options={"bias": True}, normalizer=NORMALIZER, env="CartPole-v1"))


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    lander().save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(SubnetworkFileError, match="cut"):
            Subnetwork.load(tmp_path / "cut")


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200) | st.builds(lambda n, b: struct.pack("<Q", n) + b, st.integers(0, 99), st.binary()))
def test_random_bytes_are_refused(parts, data):
    path = parts[2]
    path.write_bytes(data)
    with pytest.raises(SubnetworkFileError):
        Subnetwork.load(path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    torch.save(make().to_policy(), tmp_path / "pickle")
    with pytest.raises(SubnetworkFileError, match="not a safetensors file"):
        Subnetwork.load(tmp_path / "pickle")


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 2**16), change=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_gives_another_policy_but_no_other_error(parts, position, change):
    description, tensors, path = parts
    data = bytearray(write(path, description, tensors).read_bytes())
    data[position % len(data)] ^= change
    path.write_bytes(data)
    load_or_refuse(path)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from([2**31, 2**53, 2**60, 2**63, 2**64, 10**400, -(2**70)])
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value, path=()) -> list[tuple]:
    """The way to every value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_description_is_refused_or_gives_another_policy_but_no_other_error(parts, data):
    description, tensors, path = parts
    changed = copy.deepcopy(description)
    *way, last = data.draw(st.sampled_from([place for place in places(changed) if place]))
    inner = changed
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(_JSON)
    load_or_refuse(write(path, changed, tensors))


def load_or_refuse(path: Path) -> None:
    try:
        subnet = Subnetwork.load(path)
    except SubnetworkFileError:
        return
    except ValueError as error:
        if str(error).startswith("network: expected the nn.Module"):  # the file came to have no architecture
            return
        raise
    assert subnet.weights.shape == subnet.mask.shape
    subnet.act(np.zeros(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: expected 1, got 2"),
        ({"version": "1"}, "version: expected int"),
        ({"version": True}, "version: expected int"),
        ({"layers": []}, "layers: expected at least one layer"),
        ({"layers": [[6, 4], [-6], [5, 6], [5], [2, 5], [2]]}, "layers: expected lists of whole numbers >= 1"),
        ({"layers": [[6, 4], [6], [5, 6], [5], [2, 5]]}, "network: expected layers"),
        ({"layers": [[6, 4], [6], [5, 6], [5], [2, 50], [2]]}, "mask: expected uint8 of shape"),
        ({"layers": [[4, 6], [6], [5, 6], [5], [2, 5], [2]]}, "network: expected layers"),
        ({"obs_length": 0}, "obs_length: expected a whole number >= 1"),
        ({"obs_length": 5}, "obs_mean: expected finite float32"),
        ({"act_length": 3}, "action: expected 3 outputs, got 2"),
        ({"network": {"hidden_sizes": [6, 6], "bias": True}}, "network: expected layers"),
        ({"network": {"hidden_sizes": [6, 5], "bias": False}}, "network: expected layers"),
        ({"network": {"hidden_sizes": [6, 5]}}, "network.bias: expected bool"),
        ({"network": {"hidden_sizes": [6, 5.0], "bias": True}}, "hidden_sizes"),
        ({"network": {"hidden_sizes": "65", "bias": True}}, "network.hidden_sizes: expected list"),
        ({"network": {}}, "network.string: expected str"),
        ({"network": {"string": "Linear(4, 2", "constants": {}}}, "network.string: EvoTorch cannot read"),
        ({"network": {"string": "Linear(4, 2)", "constants": {}}}, "network.string: expected layers"),
        ({"network": {"string": "Linear(4, 2)", "constants": {"s": 1}}}, "network.string"),
        ({"network": "Linear(4, 2)"}, "network: expected dict"),
        ({"weights": {"init": "magic", "gain": 1.0, "seed": 0}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 0.0, "seed": 0}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": math.nan, "seed": 0}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 1.0, "seed": -1}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 1.0, "seed": 2**63}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 1.0}}, "weights.seed: expected int"),
        ({"weights": None}, "kept_weights: expected finite float32"),
        ({"weights": "uniform"}, "weights: expected dict"),
        ({"rescale": None}, "rescale: expected bool"),
        ({"action": {"kind": "discrete", "n": 3, "start": 0}}, "action: expected 2 outputs, got 3"),
        ({"action": {"kind": "discrete", "n": math.inf, "start": 0}}, "action: expected a description"),
        ({"action": {}}, "action: expected a description"),
        ({"action": None}, "action: expected dict"),
        ({"env": 3}, "env: expected a string or null"),
        ({"env_config": None}, "env_config: expected dict"),
        ({"tests": []}, "tests: expected dict"),
    ],
    ids=lambda value: str(value)[:80],
)
def test_a_bad_description_is_refused_by_the_name_of_its_field(parts, change, message):
    description, tensors, path = parts
    with pytest.raises(SubnetworkFileError) as caught:
        Subnetwork.load(write(path, description | change, tensors))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name", ["version", "layers", "obs_length", "act_length", "weights", "rescale", "action", "env_config", "tests"]
)
def test_a_missing_field_is_refused(parts, name):
    description, tensors, path = parts
    rest = {key: value for key, value in description.items() if key != name}
    with pytest.raises(SubnetworkFileError, match=name):
        Subnetwork.load(write(path, rest, tensors))


def with_spare_bit(mask: np.ndarray) -> np.ndarray:
    spoilt = mask.copy()
    spoilt[-1] |= 1
    return spoilt


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mask", lambda mask: None),
        ("mask", lambda mask: mask[:-1]),
        ("mask", lambda mask: np.append(mask, np.uint8(0))),
        ("mask", lambda mask: mask[None]),
        ("mask", lambda mask: mask.astype(np.int8)),
        ("mask", with_spare_bit),
        ("obs_mean", lambda mean: None),
        ("obs_mean", lambda mean: mean[:-1]),
        ("obs_mean", lambda mean: mean.astype(np.float64)),
        ("obs_mean", lambda mean: mean * np.float32(np.nan)),
        ("obs_scale", lambda scale: None),
        ("obs_scale", lambda scale: scale * np.float32(np.inf)),
    ],
)
def test_a_bad_tensor_is_refused_by_name(parts, name, change):
    description, tensors, path = parts
    changed = change(tensors[name])
    rest = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(SubnetworkFileError, match=f"^{name}: expected "):
        Subnetwork.load(write(path, description, rest if changed is None else rest | {name: changed}))


@pytest.mark.parametrize("change", [lambda kept: kept[:-1], lambda kept: kept * np.float32(np.nan)])
def test_bad_kept_weights_are_refused(tmp_path, change):
    make(own(nn.Linear(4, 2))).save(tmp_path / "own")
    description, tensors = parts_of(tmp_path / "own")
    tensors["kept_weights"] = change(tensors["kept_weights"])
    with pytest.raises(SubnetworkFileError, match=r"^kept_weights: expected finite float32"):
        Subnetwork.load(write(tmp_path / "own", description, tensors), network=own(nn.Linear(4, 2)))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no entry 'subnetwork'"),
        ({"other": "{}"}, "no entry 'subnetwork'"),
        ({"subnetwork": "{"}, "not JSON"),
        ({"subnetwork": ""}, "not JSON"),
        ({"subnetwork": "[" * 100_000}, "not JSON"),
        ({"subnetwork": '{"version": ' + "9" * 5000 + "}"}, "not JSON"),
        ({"subnetwork": "[1]"}, "not a JSON object"),
        ({"subnetwork": "null"}, "not a JSON object"),
    ],
    ids=["none", "another", "half", "empty", "deep", "long number", "list", "null"],
)
def test_metadata_that_describe_nothing_are_refused(parts, metadata, message):
    _, tensors, path = parts
    path.write_bytes(save_tensors(tensors, metadata=metadata))
    with pytest.raises(SubnetworkFileError, match=message):
        Subnetwork.load(path)


# Files that claim much ------------------------------------------------------------------------------------------


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that is made in memory."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            self.numbers = max(self.numbers, result.numel())
        return result


def assert_refused_in_little_memory(path: Path) -> None:
    tracemalloc.start()  # sees NumPy's arrays
    try:
        with pytest.raises(SubnetworkFileError):
            Subnetwork.load(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    with _Largest() as largest, pytest.raises(SubnetworkFileError):  # sees PyTorch's
        Subnetwork.load(path)
    assert largest.numbers < 2**20


@pytest.mark.parametrize(
    "layers",
    [[[2**30, 4], [2**30, 2**30], [2, 2**30]], [[6, 4], [5, 6], [2, 5]]],
    ids=["with layers to match", "with other layers"],
)
def test_hidden_sizes_that_claim_two_to_the_60_weights_are_refused_in_little_memory(parts, layers):
    description, tensors, path = parts
    claim = {"layers": layers, "network": {"hidden_sizes": [2**30, 2**30], "bias": False}}
    assert_refused_in_little_memory(write(path, description | claim, tensors))


@pytest.mark.parametrize("string", ["Linear(4, {n})", "RNN(4, {n})", "LSTM(4, {n})", "Linear(4, {n}, device='cpu')"])
def test_a_string_that_claims_many_weights_is_refused_in_little_memory(parts, string):
    description, tensors, path = parts
    claim = {"network": {"string": string.format(n=2**19), "constants": {}}}
    assert_refused_in_little_memory(write(path, description | claim, tensors))


@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid"])
def test_a_string_with_a_claim_of_many_observations_is_refused_in_little_memory(tmp_path, activation):
    make(f"Linear(4, 3) >> {activation}() >> Linear(3, 2)").save(tmp_path / "wide")
    description, tensors = parts_of(tmp_path / "wide")
    assert_refused_in_little_memory(write(tmp_path / "wide", description | {"obs_length": 2**22}, tensors))
