"""Damaged and misleading files raise SubnetworkFileError, and loading them needs little memory."""

import copy
import math
import re
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evotorch.neuroevolution.net import layers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors
from small_subnetworks import NORMALIZER, assert_same, fixed_module, lander, make, parts_of, write
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from subnet_problems import Subnetwork, SubnetworkFileError


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[dict, dict, Path]:
    """The description and the tensors of a valid file, and a path for modified ones."""
    folder = tmp_path_factory.mktemp("bad")
    make(options={"bias": True}, normalizer=NORMALIZER, env="CartPole-v1").save(folder / "sound")
    description, tensors = parts_of(folder / "sound")
    return description, tensors, folder / "changed"


def test_the_unmodified_file_loads(parts):
    description, tensors, path = parts
    again = Subnetwork.load(write(path, description, tensors))
    assert_same(again, make(options={"bias": True}, normalizer=NORMALIZER, env="CartPole-v1"))


def test_a_truncated_file_is_refused(tmp_path):
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


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    torch.save(make().to_policy(), tmp_path / "pickle")
    with pytest.raises(SubnetworkFileError, match="not a safetensors file"):
        Subnetwork.load(tmp_path / "pickle")


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 2**16), change=st.integers(1, 255))
def test_a_changed_byte_at_any_position_is_refused(parts, position, change):
    description, tensors, path = parts
    data = bytearray(write(path, description, tensors).read_bytes())
    data[position % len(data)] ^= change
    path.write_bytes(data)
    with pytest.raises(SubnetworkFileError):
        Subnetwork.load(path)


def test_the_checksum_detects_a_changed_bit_of_the_mask(parts):
    description, tensors, path = parts
    mask = tensors["mask"].copy()
    mask[3] ^= 16
    text = write(path, description, tensors).read_bytes().replace(tensors["mask"].tobytes(), mask.tobytes())
    path.write_bytes(text)
    with pytest.raises(SubnetworkFileError, match=r"^crc32: expected the checksum of this file"):
        Subnetwork.load(path)


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
    """The path to every value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_description_is_refused_or_gives_another_policy(parts, data):
    description, tensors, path = parts
    changed = copy.deepcopy(description)
    *way, last = data.draw(st.sampled_from([place for place in places(changed) if place]))
    inner = changed
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(_JSON)
    load_or_refuse(write(path, changed, tensors))


def test_invalid_factors_are_refused(tmp_path):
    sound = make()
    flipped = replace(sound, factors=-torch.ones(sound.num_weights, dtype=torch.int8))
    flipped.save(tmp_path / "sound")
    description, tensors = parts_of(tmp_path / "sound")
    factors, path = tensors["factors"], tmp_path / "changed"
    zero = factors.copy()
    zero[-1] = 0
    for bad in (factors[:-1], factors.astype(np.int16), factors[:, None], zero):
        with pytest.raises(
            SubnetworkFileError, match=r"^factors: expected int8 of shape \(\d+,\), none of them 0, got "
        ):
            Subnetwork.load(write(path, description, tensors | {"factors": bad}))
    with pytest.raises(SubnetworkFileError, match=r"^proof: "):
        Subnetwork.load(write(path, description, tensors | {"factors": -factors}))
    assert_same(Subnetwork.load(write(path, description, tensors)), flipped)


def load_or_refuse(path: Path) -> None:
    try:
        subnet = Subnetwork.load(path)
    except SubnetworkFileError:
        return
    except ValueError as error:
        if str(error).startswith("network: expected the nn.Module"):  # the modified file has no architecture
            return
        raise
    assert subnet.weights.shape == subnet.mask.shape
    subnet.act(np.zeros(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version: expected 1 or 2, got 3"),
        ({"version": 2}, "factors: expected int8 of shape (31,), none of them 0, got none"),
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
        ({"weights": {"init": "uniform", "gain": math.nan, "seed": 0}}, "not finite"),
        ({"weights": {"init": "uniform", "gain": 1.0, "seed": -1}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 1.0, "seed": 2**63}}, "weights: expected init in"),
        ({"weights": {"init": "uniform", "gain": 1.0}}, "weights.seed: expected int"),
        ({"weights": None}, "kept_weights: expected finite float32"),
        ({"weights": "uniform"}, "weights: expected dict"),
        ({"rescale": None}, "rescale: expected bool"),
        ({"rescale": [1.0, 2.0]}, "rescale: expected a factor for each of 6 layers"),
        ({"rescale": [*[1.0] * 5, -1.0]}, "rescale: expected a finite number > 0"),
        ({"rescale": [*[1.0] * 5, 1e300]}, "rescale: expected a number that float32 can hold"),
        ({"rescale": [*[1.0] * 5, "3"]}, "rescale: expected a finite number > 0"),
        ({"rescale": [*[1.0] * 5, True]}, "rescale: expected a finite number > 0"),
        ({"action": {"kind": "discrete", "n": 3, "start": 0}}, "action: expected 2 outputs, got 3"),
        ({"action": {"kind": "discrete", "n": math.inf, "start": 0}}, "not finite"),
        ({"action": {"kind": "discrete", "n": 2**63, "start": 0}}, "action: expected a description"),
        ({"action": {"kind": "box", "low": [0], "high": [1], "shape": [1], "dtype": "O"}}, "action: expected a desc"),
        ({"action": {}}, "action: expected a description"),
        ({"action": None}, "action: expected dict"),
        ({"action": {"kind": "multi_binary", "shape": [1] * 64 + [2]}}, "action: expected a description"),
        ({"action": {"kind": "multi_binary", "shape": [3]}}, "action: expected 2 outputs, got 3"),
        ({"action": {"kind": "tuple", "parts": [{"kind": "discrete", "n": 2}]}}, "action: expected a description"),
        ({"observation": 3}, "observation: expected dict"),
        ({"observation": {}}, "observation: expected a description"),
        ({"observation": {"kind": "box", "shape": [1] * 64 + [4]}}, "observation: expected a description"),
        ({"observation": {"kind": "box", "shape": [5]}}, "observation: expected 4 numbers, got 5"),
        ({"observation": {"kind": "dict", "keys": ["a"], "parts": []}}, "observation: expected a description"),
        ({"env": 3}, "env: expected str"),
        ({"env_config": None}, "env_config: expected dict"),
        ({"tests": []}, "tests: expected dict"),
    ],
    ids=lambda value: str(value)[:80],
)
def test_errors_name_the_invalid_field_of_a_description(parts, change, message):
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
def test_errors_name_the_invalid_tensor(parts, name, change):
    description, tensors, path = parts
    changed = change(tensors[name])
    rest = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(SubnetworkFileError, match=f"^{name}: expected "):
        Subnetwork.load(write(path, description, rest if changed is None else rest | {name: changed}))


@pytest.mark.parametrize("change", [lambda kept: kept[:-1], lambda kept: kept * np.float32(np.nan)])
def test_invalid_kept_weights_are_refused(tmp_path, change):
    make(fixed_module(nn.Linear(4, 2))).save(tmp_path / "own")
    description, tensors = parts_of(tmp_path / "own")
    tensors["kept_weights"] = change(tensors["kept_weights"])
    with pytest.raises(SubnetworkFileError, match=r"^kept_weights: expected finite float32"):
        Subnetwork.load(write(tmp_path / "own", description, tensors), network=fixed_module(nn.Linear(4, 2)))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no entry 'subnetwork'"),
        ({"other": "{}"}, "no entry 'subnetwork'"),
        ({"subnetwork": "{"}, "not JSON"),
        ({"subnetwork": ""}, "not JSON"),
        ({"subnetwork": "[" * 100_000}, "not JSON"),
        ({"subnetwork": '{"version": ' + "9" * 5000 + "}"}, "not JSON"),
        ({"subnetwork": '{"version": 1e999}'}, "not JSON: it contains a number that is not finite"),
        ({"subnetwork": '{"version": 1, "version": 2}'}, "not JSON: a key occurs twice"),
        ({"subnetwork": "[1]"}, "not a JSON object"),
        ({"subnetwork": "null"}, "not a JSON object"),
    ],
    ids=["none", "another", "half", "empty", "deep", "long number", "infinite", "twice", "list", "null"],
)
def test_metadata_without_a_description_are_refused(parts, metadata, message):
    _, tensors, path = parts
    path.write_bytes(save_tensors(tensors, metadata=metadata))
    with pytest.raises(SubnetworkFileError, match=message):
        Subnetwork.load(path)


# Files with false claims of size ----------------------------------------------------------------------------------


class _Largest(TorchDispatchMode):
    """Records the size of the largest tensor in memory."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            self.numbers = max(self.numbers, result.numel())
        return result


def assert_refused_in_little_memory(path: Path, match: str) -> None:
    with _Largest() as largest, pytest.raises(SubnetworkFileError, match=match):  # sees PyTorch's tensors
        Subnetwork.load(path)
    assert largest.numbers < 2**20
    tracemalloc.start()  # sees NumPy's arrays
    try:
        with pytest.raises(SubnetworkFileError, match=match):
            Subnetwork.load(path)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("claim", "match"),
    [
        ({"layers": [[2**30, 4], [2**30, 2**30], [2, 2**30]]}, "mask: expected uint8 of shape"),
        ({}, r"network: expected layers .* for sizes"),
    ],
    ids=["with layers to match", "with other layers"],
)
def test_hidden_sizes_with_two_to_the_60_weights_are_refused_in_little_memory(parts, claim, match):
    description, tensors, path = parts
    claim = {**claim, "network": {"hidden_sizes": [2**30, 2**30], "bias": False}}
    assert_refused_in_little_memory(write(path, description | claim, tensors), match)


@pytest.mark.parametrize(
    ("string", "match"),
    [
        ("Linear(4, 524288)", "a whole number in it is larger"),
        ("Linear(60000, 60000)", "more memory or time"),
        ("RNN(4, 60000)", "more memory or time"),
        ("LSTM(4, 60000)", "more memory or time"),
        ("Linear(60000, 60000, device='cpu')", "more memory or time"),
    ],
)
def test_a_string_with_many_weights_is_refused_in_little_memory(parts, string, match):
    description, tensors, path = parts
    claim = {"network": {"string": string, "constants": {}}}
    assert_refused_in_little_memory(write(path, description | claim, tensors), match)


@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid"])
def test_a_string_with_a_large_obs_length_is_refused_in_little_memory(tmp_path, activation):
    make(f"Linear(4, 3) >> {activation}() >> Linear(3, 2)").save(tmp_path / "wide")
    description, tensors = parts_of(tmp_path / "wide")
    assert_refused_in_little_memory(
        write(tmp_path / "wide", description | {"obs_length": 2**22}, tensors), "more memory or time"
    )


@pytest.mark.parametrize(
    "string",
    [
        "Linear(4, 2) >> ZeroPad1d((2147483647, 0)) >> Slice(2147483647, 2147483649)",
        "Linear(4, 2)" + " >> ZeroPad1d((0, 65000))" * 50 + " >> Slice(0, 2)",
        "Unflatten(0, (1, 1, 4)) >> "
        + "Upsample(scale_factor=1000.0) >> " * 3
        + "Flatten(0) >> Slice(0, 4) >> Linear(4, 2)",
        "Transformer(4, 1, 1000000000)",
        "Transformer(4, 1, 60000)",
        "StructuredControlNet(in_features=4, out_features=2, num_layers=60000, hidden_size=1)",
        "StructuredControlNet(in_features=4, out_features=2, num_layers=1000000000, hidden_size=1)",
    ],
)
def test_a_string_with_huge_layers_or_activations_is_refused_in_little_memory(tmp_path, string):
    make("Linear(4, 2)").save(tmp_path / "grown")
    description, tensors = parts_of(tmp_path / "grown")
    claim = {"network": {"string": string, "constants": {}}}
    match = "a whole number in it is larger" if re.search(r"\d{9}", string) else "more memory or time"
    assert_refused_in_little_memory(write(tmp_path / "grown", description | claim, tensors), match)


def test_a_string_for_any_obs_length_is_limited_by_its_number_of_weights(tmp_path):
    make("Slice(0, 4) >> Linear(4, 2)").save(tmp_path / "long")
    description, tensors = parts_of(tmp_path / "long")
    assert_refused_in_little_memory(
        write(tmp_path / "long", description | {"obs_length": 2**31}, tensors), "more memory or time"
    )


@pytest.mark.parametrize(
    "call", ["__setattr__('Clip', 3)", "__delattr__('Clip')", "__init__('other')", "Linear.__init__()", "(1)(2)"]
)
def test_a_string_may_call_only_modules(parts, call):
    description, tensors, path = parts
    before = dict(vars(layers))
    claim = {"network": {"string": f"Linear(4, 2) >> {call}", "constants": {}}}
    with pytest.raises(SubnetworkFileError, match="is not a module"):
        Subnetwork.load(write(path, description | claim, tensors))
    assert vars(layers) == before


def test_a_network_string_that_is_too_large_to_load_must_be_given_at_loading(tmp_path):
    subnet = make("Linear(4, 2)" + " >> ZeroPad1d((0, 65000))" * 8 + " >> Slice(0, 2)")
    with pytest.warns(UserWarning, match=r"^network: .*more memory or time than its number of weights"):
        subnet.save(tmp_path / "large")
    with pytest.raises(ValueError, match=r"^network: expected the nn\.Module to which the file's mask belongs"):
        Subnetwork.load(tmp_path / "large")
    assert_same(Subnetwork.load(tmp_path / "large", network=subnet.network.architecture), subnet)


def test_an_endless_device_is_not_read():
    with pytest.raises(SubnetworkFileError):
        Subnetwork.load("/dev/zero")
