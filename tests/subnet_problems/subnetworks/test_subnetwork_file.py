"""The subnetwork file: saving and loading is the identity, and the docstring suffices to write a reader."""

import datetime
import enum
import json
import math
import os
import re
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas
import pytest
import torch
from environments import Echo
from hypothesis import given, settings
from hypothesis import strategies as st
from small_subnetworks import (
    BOX,
    DISCRETE,
    NETWORKS,
    NORMALIZER,
    PARTS,
    STRING,
    assert_same,
    bits,
    fixed_module,
    lander,
    make,
    module,
    parts_of,
    untrained,
)
from torch import nn

from subnet_problems import BoxActions, FrozenNetwork, Subnetwork
from subnet_problems.networks import INITS
from subnet_problems.tasks import observations_of


@pytest.mark.parametrize("init", [None, *INITS])
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


_JSON_OBJECTS = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), max_size=3),
    options=st.fixed_dictionaries(
        {
            "bias": st.booleans(),
            "weight_init": st.sampled_from(list(INITS)),
            "weight_gain": st.floats(0.01, 100),
            "seed": st.integers(0, 2**63 - 1),
        }
    ),
    seed=st.integers(0, 2**32 - 1),
    arguments=st.fixed_dictionaries(
        {
            "actions": st.sampled_from([BOX, DISCRETE, PARTS["actions"]]),
            "observations": st.sampled_from([None, PARTS["observations"]]),
            "rescale": st.booleans(),
            "normalizer": st.sampled_from([None, NORMALIZER]),
            "env": st.none() | st.text(),
            "env_config": _JSON_OBJECTS,
            "tests": _JSON_OBJECTS,
        }
    ),
)
def test_saving_and_loading_is_the_identity_for_random_subnetworks(tmp_path_factory, sizes, options, seed, arguments):
    network = FrozenNetwork(sizes, obs_length=4, act_length=2, **options)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(network.num_weights, generator=generator) < 0.5
    if seed % 2:
        mask = mask * torch.randint(-2, 3, mask.shape, generator=generator, dtype=torch.int8)
    subnet = Subnetwork(network, mask, **arguments)
    path = tmp_path_factory.getbasetemp() / "any"
    subnet.save(path)
    assert_same(Subnetwork.load(path), subnet)


@pytest.mark.parametrize(
    "spaces", [{"actions": DISCRETE}, {"actions": BOX}, PARTS], ids=["discrete", "box", "spaces of parts"]
)
def test_saving_and_loading_is_the_identity_for_minimal_subnetworks(tmp_path, spaces):
    subnet = make(**spaces)
    subnet.save(tmp_path / "bare.safetensors")
    assert_same(Subnetwork.load(tmp_path / "bare.safetensors"), subnet)


@pytest.mark.parametrize("name", ["hidden sizes", "module"])
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_masks_that_keep_nothing_one_weight_or_all_are_preserved(tmp_path, name, kept):
    network, _, again = NETWORKS[name]
    frozen = FrozenNetwork(network, obs_length=4, act_length=2)
    mask = torch.zeros(frozen.num_weights, dtype=torch.bool)
    mask[: kept % (frozen.num_weights + 1)] = True
    subnet = Subnetwork(frozen, mask, actions=BOX, rescale=True)
    subnet.save(tmp_path / "edge.safetensors")
    assert_same(Subnetwork.load(tmp_path / "edge.safetensors", network=again), subnet)


def test_only_composite_observations_are_described_in_the_file(tmp_path):
    fields = ["version", "crc32", "layers", "network", "obs_length", "act_length", "weights", "rescale", "action"]
    rest = ["env", "env_config", "sparsity", "tests", "proof"]
    for number, subnet in enumerate([make(), make(observations=observations_of(gym.spaces.Box(-1, 1, (2, 2))))]):
        assert subnet.observations is None
        subnet.save(tmp_path / str(number))
        assert list(parts_of(tmp_path / str(number))[0]) == [*fields, *rest]
    make(**PARTS).save(tmp_path / "parts")
    description, _ = parts_of(tmp_path / "parts")
    assert list(description) == [*fields, "observation", *rest]
    numbers = {"kind": "one_hot", "nvec": [2], "start": [1], "shape": []}
    parts = [numbers, {"kind": "box", "shape": [2]}]
    assert description["observation"] == {"kind": "dict", "keys": ["gear", "place"], "parts": parts}
    bit = {"kind": "multi_binary", "shape": [1]}
    number = {"kind": "box", "low": [-1.0], "high": [2.0], "shape": [1], "dtype": "float32"}
    assert description["action"] == {"kind": "tuple", "parts": [number, bit]}


def test_a_path_may_be_a_string(tmp_path):
    make().save(str(tmp_path / "a.safetensors"))
    assert_same(Subnetwork.load(str(tmp_path / "a.safetensors")), make())


def test_the_papers_policy_takes_less_than_1750_bytes(tmp_path):
    lander().save(tmp_path / "lander.safetensors")
    assert (tmp_path / "lander.safetensors").stat().st_size < 1750
    assert_same(Subnetwork.load(tmp_path / "lander.safetensors"), lander())


def test_equal_subnetworks_give_identical_files(tmp_path):
    subnet = lander()
    for name, written in (("a", subnet), ("b", subnet), ("c", lander())):
        written.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def decode(data: bytes):
    """Weights and forward pass of a file, read only with Subnetwork's docstring, NumPy, json, struct and zlib."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    about = json.loads(header.pop("__metadata__")["subnetwork"])
    crc32_at = data.index(rb"\"crc32\":\"") + len(rb"\"crc32\":\"")
    assert int(about["crc32"], 16) == zlib.crc32(data[:crc32_at] + b"00000000" + data[crc32_at + 8 :])
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


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rescale", [False, True])
def test_the_docstring_suffices_to_read_the_file(tmp_path, init, bias, rescale):
    options = {"weight_init": init, "weight_gain": 0.7, "seed": 2**63 - 5, "bias": bias}
    subnet = make((6, 5), options=options, rescale=rescale, normalizer=NORMALIZER)
    assert_decodes(subnet, tmp_path)


def test_the_docstring_suffices_to_read_the_papers_policy(tmp_path):
    assert_decodes(lander(), tmp_path)


@pytest.mark.parametrize("layers", [(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), (nn.Linear(4, 2),)], ids=len)
def test_the_docstring_suffices_to_read_the_weights_of_a_given_module(tmp_path, layers):
    assert_decodes(make(fixed_module(*layers), rescale=True), tmp_path)


def assert_decodes(subnet: Subnetwork, tmp_path: Path) -> None:
    subnet.save(tmp_path / "x.safetensors")
    weights, forward = decode((tmp_path / "x.safetensors").read_bytes())
    assert weights.view(np.int32).tolist() == bits(subnet.weights)
    policy = subnet.to_policy()
    for seed in range(5):
        obs = np.random.default_rng(seed).normal(size=subnet.network.obs_length).astype(np.float32)
        expected = policy(torch.from_numpy(obs)).detach().numpy()
        np.testing.assert_allclose(forward(obs), expected, rtol=1e-5, atol=1e-5)


def test_the_docstring_suffices_to_read_the_weights_of_a_network_string(tmp_path):
    subnet = make(STRING, options={"network_args": {"width": 3}, "weight_init": "uniform_fan_in"}, rescale=True)
    subnet.save(tmp_path / "s.safetensors")
    weights, _ = decode((tmp_path / "s.safetensors").read_bytes())
    assert weights.view(np.int32).tolist() == bits(subnet.weights)


def test_a_module_must_be_given_at_loading_and_its_weights_are_ignored(tmp_path):
    subnet = make(module())
    subnet.save(tmp_path / "own.safetensors")
    with pytest.raises(
        ValueError, match=r"^network: expected the nn\.Module to which the file's mask belongs, got None"
    ):
        Subnetwork.load(tmp_path / "own.safetensors")
    for other in (untrained(), untrained):
        assert bits(Subnetwork.load(tmp_path / "own.safetensors", network=other).weights) == bits(subnet.weights)


def test_a_module_that_does_not_fit_the_file_is_refused(tmp_path):
    make(fixed_module(nn.Linear(4, 2))).save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"^network: expected layers \[\(2, 4\), \(2,\)\], got "):
        Subnetwork.load(tmp_path / "own.safetensors", network=fixed_module(nn.Linear(4, 2, bias=False)))


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    make().save(tmp_path / "a.safetensors")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def echo_policy(**arguments):
    """A policy for ``Echo``."""
    network = FrozenNetwork((2,), obs_length=1, act_length=1)
    actions = BoxActions(low=(-math.inf,), high=(math.inf,), shape=(1,))
    return Subnetwork(network, torch.ones(4, dtype=torch.bool), actions=actions, **arguments)


class Gravity(enum.IntEnum):
    MOON = 2


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        0.1,
        "wind",
        [1, [2.5]],
        (3, (4, [5])),
        {"a": {"b": (1,)}},
        {1: "one", (2, "$"): {"$tuple": [1]}},
        math.inf,
        -math.inf,
        np.int64(3),
        np.float32(0.1),
        np.bool_(True),
        np.array([[1.5, -math.inf]], dtype=">f8"),
        np.zeros((0, 2), dtype=np.int16),
        np.array(True),
    ],
    ids=repr,
)
def test_values_and_types_of_a_configuration_are_preserved(tmp_path, value):
    make(env_config={"value": value}, tests={"value": value}).save(tmp_path / "a.safetensors")
    loaded = Subnetwork.load(tmp_path / "a.safetensors")
    for back in (loaded.env_config["value"], loaded.tests["value"]):
        assert type(back) is type(value) or isinstance(value, np.ndarray)
        assert repr(back) == repr(value).replace(", dtype='>f8'", "")
    assert loaded.missing_config == ()


def test_a_nan_in_a_configuration_is_preserved(tmp_path):
    make(env_config={"wind": math.nan}).save(tmp_path / "a.safetensors")
    assert math.isnan(Subnetwork.load(tmp_path / "a.safetensors").env_config["wind"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "type object"),
        (len, "type builtin_function_or_method"),
        (Path("maps"), f"type {type(Path()).__module__}.PosixPath"),
        (datetime.date(2020, 1, 1), "type datetime.date"),
        (Gravity.MOON, "type test_subnetwork_file.Gravity"),
        ({1, 2}, "type set"),
        ({object(): 1}, "type object"),
        ([{"deep": (object(),)}], "type object"),
        (np.array(["a"]), "a NumPy array of <U1"),
        (pandas.DataFrame({"price": [1.0]}), "type pandas."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsupported_values_are_left_out_with_a_warning_and_must_be_given_later(tmp_path, value, kind):
    path = tmp_path / "policy.safetensors"
    subnet = echo_policy(env="CartPole-v1", env_config={"odd": value, "steps": 3})
    for _ in range(2):
        with pytest.warns(UserWarning, match=rf"^env_config: a policy's file cannot hold 'odd' \({re.escape(kind)}"):
            subnet.save(path)
    loaded = Subnetwork.load(path)
    assert (loaded.env_config, loaded.missing_config) == ({"steps": 3}, ("odd",))
    with pytest.raises(ValueError, match=r"^env_config: expected values for \['odd'\], which .* got None"):
        loaded.test(num_episodes=1)
    loaded.save(path)  # the missing names are saved again
    assert Subnetwork.load(path).missing_config == ("odd",)
    with pytest.raises(ValueError, match=r"^env_config: expected values for \['odd'\], which the policy's file"):
        loaded.test(num_episodes=1, env_config={"steps": 4})
    assert loaded.make_task(Echo, env_config={"odd": value}).env_config.keys() == {"odd", "steps"}


def test_unsupported_test_results_are_left_out_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"^tests: a policy's file cannot hold 'log' \(type object\)"):
        make(tests={"mean": 3.0, "log": object()}).save(tmp_path / "a.safetensors")
    assert Subnetwork.load(tmp_path / "a.safetensors").tests == {"mean": 3.0}


def test_a_constant_of_a_network_string_keeps_its_type(tmp_path):
    string = "Linear(obs_length, width) >> Linear(width, act_length)"
    subnet = make(string, options={"network_args": {"width": np.int64(3)}})
    subnet.save(tmp_path / "a.safetensors")
    assert_same(Subnetwork.load(tmp_path / "a.safetensors"), subnet)


def test_a_failed_write_leaves_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        make().save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "missing" / "a.safetensors")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Subnetwork.load(tmp_path / "missing.safetensors")
    with pytest.raises(IsADirectoryError):
        Subnetwork.load(tmp_path)
