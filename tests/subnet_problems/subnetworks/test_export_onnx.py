"""The ONNX model, run by onnxruntime on 10,000 observations, computes the actions of the policy."""

import sys

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_subnetworks import BOX, DISCRETE, NORMALIZER, RNN, STRING, lander, make, module
from torch import nn

from subnet_problems import BoxActions, FrozenNetwork, Subnetwork
from subnet_problems.tasks import actions_of

SUBNETWORKS = {
    "lander": lander(),
    "biases, normalized, discrete": make(options={"bias": True}, actions=DISCRETE, normalizer=NORMALIZER),
    "string": make(STRING, options={"network_args": {"width": 3}}, rescale=True),
    "module": make(module(), actions=BOX),
    "float64": make(actions=BoxActions((-0.5, -0.1), (0.5, 0.7), (2, 1), "float64")),
    "whole numbers": make(sparsity=0.2, actions=BoxActions((-2.0, -2.0), (3.0, 3.0), (2,), "int32")),
    "nothing left": make((20, 20, 20), sparsity=0.99),
}


@pytest.mark.parametrize("name", SUBNETWORKS)
def test_the_model_computes_the_actions_of_the_policy(name, tmp_path):
    subnet = SUBNETWORKS[name]
    subnet.export_onnx(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    obs = np.random.default_rng(0).normal(scale=2.0, size=(10_000, subnet.network.obs_length)).astype(np.float32)
    acts = session.run(["action"], {"obs": obs})[0]
    with torch.no_grad():
        expected = subnet.actions(subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy())
    assert acts.dtype == expected.dtype
    assert acts.shape == expected.shape
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(acts, expected, rtol=0, atol=1e-5)
    else:
        assert (acts != expected).mean() < 1e-3  # equal up to rounding
        assert len(np.unique(expected)) > 1
    assert (session.run(["action"], {"obs": obs[:1]})[0] == acts[:1]).all()


SPACES = {
    "several choices": gym.spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[0, -3], [7, 9]], dtype=np.int32),
    "bits": gym.spaces.MultiBinary([2, 2]),
    "parts": gym.spaces.Dict(
        {
            "gripper": gym.spaces.Discrete(3, start=5),
            "arm": gym.spaces.Tuple([gym.spaces.Box(-0.5, 0.25, (2,)), gym.spaces.MultiDiscrete([2, 2])]),
            "lamps": gym.spaces.MultiBinary(2),
        }
    ),
    "one part": gym.spaces.Tuple([gym.spaces.Discrete(3)]),
}
NAMES = {"parts": ["action.arm.0", "action.arm.1", "action.gripper", "action.lamps"], "one part": ["action.0"]}


@pytest.mark.parametrize("name", SPACES)
def test_the_model_has_one_output_per_part_of_an_action(name, tmp_path):
    space = SPACES[name]
    actions = actions_of(space)
    network = FrozenNetwork((6,), obs_length=4, act_length=actions.length)
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=actions)
    subnet.export_onnx(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    names = NAMES.get(name, ["action"])
    assert [output.name for output in session.get_outputs()] == names
    obs = np.random.default_rng(0).normal(scale=2.0, size=(500, 4)).astype(np.float32)
    got = dict(zip(names, session.run(None, {"obs": obs}), strict=True))
    with torch.no_grad():
        expected = actions(subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy())
    for place, leaf in actions.leaves():
        wanted = np.array([_at(action, place) for action in expected])
        came = got[f"action{place}"]
        assert (came.dtype, came.shape) == (wanted.dtype, wanted.shape)
        assert len(np.unique(wanted)) > 1
        if isinstance(leaf, BoxActions):
            np.testing.assert_allclose(came, wanted, rtol=0, atol=1e-5)
        else:
            assert (came == wanted).mean() > 0.99  # equal up to rounding


def _at(action, place):
    for key in place.split(".")[1:]:
        action = action[key if isinstance(action, dict) else int(key)]
    return action


def test_parts_with_equal_output_names_are_refused(tmp_path):
    bit = gym.spaces.MultiBinary(1)
    actions = actions_of(gym.spaces.Dict({"a": gym.spaces.Tuple([bit]), "a.0": bit}))
    with pytest.raises(
        ValueError, match=r"^actions: expected parts whose names differ, got \['action.a.0', 'action.a.0'\]"
    ):
        make(actions=actions).export_onnx(tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_the_model_is_small_and_contains_no_source_paths(tmp_path):
    subnet = lander()
    subnet.export_onnx(tmp_path / "policy.onnx")
    data = (tmp_path / "policy.onnx").read_bytes()
    assert len(data) < subnet.num_weights * 4 / 4
    assert b".py" not in data
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


def test_recurrent_networks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="network: expected one without a state, as recurrent ones have"):
        make(RNN).export_onnx(tmp_path / "policy.onnx")
    with pytest.raises(TypeError, match="path: expected"):
        lander().export_onnx(3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("last", [nn.Softmax(dim=0), nn.Unflatten(0, (2, 1))])
def test_networks_that_normalize_or_reshape_over_the_batch_are_refused(last, tmp_path):
    network = [nn.Linear(4, 2), last] if isinstance(last, nn.Softmax) else [nn.Linear(4, 2), last, nn.Flatten(0)]
    with pytest.raises(ValueError, match="network: expected one that treats the observations of a batch independently"):
        make(nn.Sequential(*network)).export_onnx(tmp_path / "policy.onnx")


def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="export_onnx needs the packages onnx and onnxscript"):
        lander().export_onnx(tmp_path / "policy.onnx")


class DividedByBatchMaximum(nn.Linear):
    def forward(self, obs):
        return super().forward(obs / obs.abs().max().clamp(min=10))


class DividedByBatchSize(nn.Linear):
    def forward(self, obs):
        return super().forward(obs) * (3 / obs.shape[0] if obs.ndim == 2 else 1)


@pytest.mark.parametrize("kind", [DividedByBatchMaximum, DividedByBatchSize])
def test_networks_whose_outputs_depend_on_the_rest_of_the_batch_are_refused(kind, tmp_path):
    with pytest.raises(
        ValueError, match=r"^network: expected one that treats the observations of a batch independently"
    ):
        make(kind(4, 2)).export_onnx(tmp_path / "a.onnx")
