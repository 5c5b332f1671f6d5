"""Small subnetworks for the tests of Subnetwork and of its file, and files made of changed parts."""

import json
import math
import struct
import zlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import nn

from subnet_problems import FrozenNetwork, Subnetwork, TopK
from subnet_problems.tasks import BoxActions, DiscreteActions, Normalizer, actions_of, observations_of

BOX = BoxActions(low=(-1.0, -math.inf), high=(1.0, 2.0), shape=(2,))
DISCRETE = DiscreteActions(2, start=1)
#: Composite spaces, for networks of four inputs and two outputs.
PARTS = {
    "actions": actions_of(gym.spaces.Tuple([gym.spaces.Box(-1, 2, (1,)), gym.spaces.MultiBinary(1)])),
    "observations": observations_of(
        gym.spaces.Dict({"gear": gym.spaces.Discrete(2, start=1), "place": gym.spaces.Box(-1, 1, (2,))})
    ),
}
NORMALIZER = Normalizer(np.array([1, -2, 0.1, 3e-5], dtype=np.float32), np.array([10, 0.5, 1, 3], dtype=np.float32))
STRING = "Linear(obs_length, width) >> ReLU() >> Linear(width, 5, bias=False) >> Tanh() >> Linear(5, act_length)"
RNN = "RNN(obs_length, 3) >> Linear(3, act_length)"


def fixed_module(*layers: nn.Module) -> nn.Module:
    """A module with fixed weights of both signs."""
    module = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(1, -2, parameter.numel()).view_as(parameter))
    return module


def module() -> nn.Module:
    return fixed_module(nn.Linear(4, 5), nn.LayerNorm(5), nn.Sigmoid(), nn.Linear(5, 2))


def untrained() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Sigmoid(), nn.Linear(5, 2))


#: Networks with four inputs and two outputs, and the module to pass to ``load`` if the file does not contain it.
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
    """A small subnetwork; its mask keeps the highest of some fixed scores."""
    frozen = FrozenNetwork(network, obs_length=4, act_length=2, **(options or {}))
    scores = torch.randn((1, frozen.num_weights), generator=torch.Generator().manual_seed(0))
    arguments.setdefault("actions", BOX)
    return Subnetwork(frozen, TopK(sparsity)(scores, frozen.layers)[0], **arguments)


def lander(**arguments) -> Subnetwork:
    """A subnetwork of the paper's network, as returned by a search."""
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


#: The live weights of ``smallest``: layer, unit, input.
PATHS = [
    (0, 3, 1), (0, 3, 3), (0, 12, 0), (0, 12, 2), (0, 12, 4), (0, 40, 4), (0, 40, 5), (0, 60, 6), (0, 60, 3),
    (1, 5, 3), (1, 5, 12), (1, 20, 12), (1, 20, 40), (1, 50, 60), (1, 50, 3), (1, 70, 40),
    (2, 0, 5), (2, 0, 50), (2, 1, 20), (2, 1, 70), (2, 0, 20),
]  # fmt: skip


def smallest(paths=PATHS, **arguments) -> Subnetwork:
    """The paper's network with 21 live weights, and two dead ones."""
    frozen = FrozenNetwork((87, 87), obs_length=8, act_length=2, seed=0)
    mask = torch.zeros(frozen.num_weights, dtype=torch.bool)
    for layer, unit, number in [*paths, (0, 1, 1), (1, 2, 2)]:
        mask[frozen.layers[layer].start + unit * frozen.layers[layer].shape[1] + number] = True
    box = BoxActions(low=(-1.0, -1.0), high=(1.0, 1.0), shape=(2,))
    defaults = {"actions": box, "rescale": True, "env": "LunarLander-v3", "env_config": {"continuous": True}}
    return Subnetwork(frozen, mask, **defaults | arguments)


def observation(subnet: Subnetwork, seed: int) -> object:
    """A random observation for one of these subnetworks."""
    rng = np.random.default_rng(seed)
    if subnet.observations is None:
        return rng.normal(size=subnet.network.obs_length)
    return {"gear": 1 + seed % 2, "place": rng.normal(size=2)}


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.view(torch.int32).tolist()


def assert_same(first: Subnetwork, second: Subnetwork) -> None:
    assert torch.equal(first.mask, second.mask)
    assert (first.factors is None) == (second.factors is None)
    assert first.factors is None or torch.equal(first.factors, second.factors)
    assert bits(first.weights) == bits(second.weights)
    assert [layer.shape for layer in first.network.layers] == [layer.shape for layer in second.network.layers]
    assert (first.rescale, first.actions) == (second.rescale, second.actions)
    assert first.observations == second.observations
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
        obs = observation(first, seed)
        np.testing.assert_equal(first.act(obs), second.act(obs))


def parts_of(path: Path) -> tuple[dict, dict]:
    """The description in a file, and its tensors."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return json.loads(header["__metadata__"]["subnetwork"]), load_tensors(data)


def write(path: Path, description: dict, tensors: dict) -> Path:
    """A file of these parts, with a matching checksum."""
    text = json.dumps(description, separators=(",", ":"))
    path.write_bytes(sealed(save_tensors(tensors, metadata={"subnetwork": text})))
    return path


def sealed(data: bytes) -> bytes:
    """A file with its correct checksum, as described in Subnetwork's docstring, if it has a checksum field."""
    before, mark, after = data.partition(rb"\"crc32\":\"")
    if not mark:
        return data
    crc = zlib.crc32(before + mark + b"00000000" + after[8:])
    return before + mark + f"{crc:08x}".encode() + after[8:]
