"""Formulas compute the outputs of the policy, describe how actions are made, and use known names."""

import keyword
import math
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser
from small_subnetworks import BOX, DISCRETE, NORMALIZER, PARTS, RNN, STRING, fixed_module, lander, make, smallest
from torch import nn

from subnet_problems import DiscreteActions, FrozenNetwork, Subnetwork
from subnet_problems.masks import TopK
from subnet_problems.subnetworks._names import _TASKS, latex, names_of
from subnet_problems.tasks import BoxActions, MultiBinaryActions, MultiDiscreteActions, Normalizer, actions_of

ALL = 10_000


def evaluate(text, subnet, obs):
    """Evaluate a formula on observations ``(n, obs_length)``; the result is ``(n, act_length)``."""
    inputs, outputs = names_of(subnet)
    results = []
    for row in obs.astype(np.float64):
        values = {"tanh": math.tanh, "max": max, "obs": row, "out": {}}
        values |= {name.text: value for name, value in zip(inputs, row, strict=True)}
        exec(text, {"__builtins__": {}}, values)
        results.append([eval(name.text, {}, values) for name in outputs])
    return np.array(results)


def policy_outputs(subnet, obs):
    with torch.no_grad():
        return subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy()


NETWORKS = st.sampled_from(
    [
        ((6, 5), {"bias": True}),
        ((6, 5), {"bias": False}),
        ((), {"bias": True}),
        ((9,), {"weight_init": "signed_constant", "weight_gain": 1e-5}),
        (STRING, {"network_args": {"width": 3}}),
        ("Linear(obs_length, 4) >> Linear(4, 3) >> ReLU() >> Linear(3, act_length) >> Tanh()", {}),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    network=NETWORKS,
    sparsity=st.sampled_from([0.0, 0.4, 0.7, 0.9]),
    seed=st.integers(0, 99),
    rescale=st.booleans(),
    normalizer=st.sampled_from([None, NORMALIZER]),
    actions=st.sampled_from([BOX, DISCRETE]),
    env=st.sampled_from([None, "CartPole-v1"]),
)
def test_a_formula_computes_the_outputs_of_the_policy(network, sparsity, seed, rescale, normalizer, actions, env):
    architecture, options = network
    frozen = FrozenNetwork(architecture, obs_length=4, act_length=2, seed=seed, **options)
    scores = torch.randn((1, frozen.num_weights), generator=torch.Generator().manual_seed(seed))
    mask = TopK(sparsity)(scores, frozen.layers)[0]
    actions = DiscreteActions(2) if env is not None else actions
    subnet = Subnetwork(frozen, mask, actions=actions, rescale=rescale, normalizer=normalizer, env=env)
    obs = np.random.default_rng(seed).normal(scale=2.0, size=(5, 4)).astype(np.float32)
    text = subnet.formula(digits=None, max_weights=ALL)
    np.testing.assert_allclose(evaluate(text, subnet, obs), policy_outputs(subnet, obs), rtol=1e-5, atol=1e-5)
    near = evaluate(subnet.formula(digits=7, max_weights=ALL), subnet, obs)
    np.testing.assert_allclose(near, policy_outputs(subnet, obs), rtol=1e-4, atol=1e-4)


def test_units_used_once_are_inlined_and_others_have_their_own_lines():
    assert smallest().formula().splitlines() == [
        "h1 = tanh(-4.29*y + 8.33*vy)",
        "h2 = tanh(3.05*x - 1.8*vx + 5.69*angle)",
        "h3 = tanh(-7.93*angle - 4.57*spin)",
        "h4 = tanh(-6.85*h2 - 27.7*h3)",
        "main = 4.57*tanh(-15.9*h1 - 26*h2) - 0.902*h4 - 4.14*tanh(11.3*h1 - 20.2*tanh(-5.72*vy - 0.901*right_leg))",
        "side = 4.1*h4 - 5.79*tanh(-26*h3)",
        "# action = (main, side), each clipped to [-1, 1]",
    ]


def test_disconnected_outputs_are_zero_or_their_bias():
    subnet = smallest(paths=[(0, 3, 1), (1, 5, 3), (2, 1, 5)])
    assert subnet.formula(digits=2).splitlines()[0] == "main = 0"
    network = FrozenNetwork((), obs_length=4, act_length=2, bias=True)
    mask = torch.zeros(network.num_weights, dtype=torch.bool)
    mask[-1] = True
    lines = Subnetwork(network, mask, actions=BOX).formula(digits=None).splitlines()
    assert lines[0] == "out[0] = 0"
    assert np.float32(lines[1].removeprefix("out[1] = ")) == network.weights[-1].item()


def linear(rows, actions, **arguments):
    """A policy without hidden layers, with the given weights."""
    module = fixed_module(nn.Linear(len(rows[0]), len(rows), bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(rows))
    network = FrozenNetwork(module, obs_length=len(rows[0]), act_length=len(rows))
    return Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=actions, **arguments)


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (3, "out[0] = 1230*obs[0] + obs[1] - 0.000123*obs[2] + 1.23e-5*obs[3] - 1.23e7*obs[4]"),
        (1, "out[0] = 1000*obs[0] + obs[1] - 0.0001*obs[2] + 1e-5*obs[3] - 1e7*obs[4]"),
        (None, "out[0] = 1234.5*obs[0] + obs[1] - 0.0001234*obs[2] + 1.234e-5*obs[3] - 1.2345678e7*obs[4]"),
    ],
)
def test_numbers_have_the_given_significant_digits(digits, expected):
    subnet = linear([[1234.5, 1.0, -0.0001234, 1.234e-5, -12345678.0, 0.0]], BoxActions((-1.0,), (1.0,), (1,)))
    assert subnet.formula(digits=digits).splitlines()[0] == expected


def test_digits_of_a_mean_depend_on_the_standard_deviation():
    normalizer = Normalizer(
        np.array([1000.4321, 1e-5, -1234.0, 0.123456], dtype=np.float32), np.array([1, 2, 0.001, 10], dtype=np.float32)
    )
    subnet = linear([[1.0, 2.0, 1000.0, 0.5]], BoxActions((-np.inf,), (np.inf,), (1,)), normalizer=normalizer)
    assert subnet.formula().splitlines() == [
        "out[0] = (obs[0] - 1000.432) + 4*obs[1] + (obs[2] + 1234) + 5*(obs[3] - 0.1235)",
        "# action = out[0]",
    ]
    assert "(obs[1] - 1e-5)" in subnet.formula(digits=None)


@pytest.mark.parametrize(
    ("actions", "lines"),
    [
        (BOX, ["# action = (out[0], out[1]), each clipped to its own of [-1, 1], [-inf, 2]"]),
        (
            BoxActions((-0.4, -0.4), (0.4, 0.4), (2,), "int8"),
            ["# action = (out[0], out[1]), each rounded to a whole number, then clipped to [-0.4, 0.4]"],
        ),
        (DISCRETE, ["# action = argmax(out[0], out[1]), counted from 1, the first of equal ones"]),
        (
            MultiDiscreteActions((1, 1), (0, 5), (2,)),
            [
                "# action[0] = argmax(out[0]), counted from 0, the first of equal ones",
                "# action[1] = argmax(out[1]), counted from 5, the first of equal ones",
            ],
        ),
        (MultiBinaryActions((2,)), ["# action = 1 where (out[0], out[1]) > 0, else 0"]),
        (
            PARTS["actions"],
            ["# action.0 = out[0], clipped to [-1, 2]", "# action.1 = 1 where out[1] > 0, else 0"],
        ),
    ],
)
def test_a_formula_describes_how_actions_are_made(actions, lines):
    assert make(actions=actions).formula().splitlines()[-len(lines) :] == lines


def test_a_formula_describes_composite_observations():
    lines = make(**PARTS).formula().splitlines()
    assert lines[0] == "# obs[0] to obs[1]: gear, one-hot, for numbers from 1 to 2."
    assert sum(line.startswith("# obs") for line in lines) == 2


def test_each_line_of_latex_can_be_rendered():
    parser = MathTextParser("path")
    names = gym.spaces.Dict({"a}$\\x_ ü": gym.spaces.Box(-1, np.inf, (1,)), "inf": gym.spaces.Discrete(1)})
    policies = [smallest(), make(STRING, options={"network_args": {"width": 3}}), make(actions=actions_of(names))]
    policies += [make(actions=actions, normalizer=NORMALIZER) for actions in (BOX, DISCRETE, PARTS["actions"])]
    policies += [linear([[1e-9, 2.0]], BoxActions((-1.0,), (1.0,), (1,)))]
    for subnet in policies:
        for line in subnet.formula("latex").splitlines():
            assert re.fullmatch(r"\$[^$]+\$", line)
            assert parser.parse(line).width > 10
    assert smallest().formula("latex").splitlines()[2] == r"$h_{3} = \tanh(-7.93\,\theta - 4.57\,\dot{\theta})$"
    for task in _TASKS.values():
        for name in f"{task.observations} {task.box} {task.discrete}".split():
            assert parser.parse(f"${latex(name)}$").width > 0


@pytest.mark.parametrize("env_id", [id for id in _TASKS if not re.match("Swimmer|Hopper|HalfCheetah|Walker2d", id)])
def test_the_number_of_names_matches_the_spaces_of_gymnasium(env_id):
    task = _TASKS[env_id]
    configs = [{"continuous": False}, {"continuous": True}] if env_id == "LunarLander-v3" else [{}]
    for config in configs:
        env = gym.make(env_id, **config)
        names = task.discrete.split() if isinstance(env.action_space, gym.spaces.Discrete) else task.box.split()
        assert len(names) == actions_of(env.action_space).length
        assert len(task.observations.split()) == env.observation_space.shape[0]
        env.close()


@pytest.mark.parametrize("env_id", _TASKS)
def test_names_are_unique_identifiers(env_id):
    task = _TASKS[env_id]
    for names in (task.observations + " " + task.box, task.observations + " " + task.discrete):
        every = names.split()
        assert len({*every, "tanh", "max"}) == len(every) + 2
        assert all(name.isidentifier() and not keyword.iskeyword(name) for name in every)
        assert not any(re.fullmatch(r"h\d+", name) for name in every)


@pytest.mark.parametrize(("env_id", "counts"), [("Swimmer", (8, 2)), ("Hopper", (11, 3)), ("HalfCheetah", (17, 6)),
                                                ("Walker2d", (17, 6))])  # fmt: skip
def test_the_number_of_names_of_robots_matches_their_documentation(env_id, counts):
    task = _TASKS[f"{env_id}-v5"]
    assert (len(task.observations.split()), len(task.box.split())) == counts


def test_the_lander_has_its_first_leg_on_the_right():
    env = gym.make("LunarLander-v3").unwrapped
    env.reset(seed=0)
    first, second = (leg.position.x - env.lander.position.x for leg in env.legs)
    assert first > 0 > second
    assert _TASKS["LunarLander-v3"].observations.split()[6:] == ["right_leg", "left_leg"]
    env.close()


def test_another_environment_under_a_known_id_has_no_names():
    assert "right_leg" in smallest().formula()
    other = smallest(registration={"entry_point": "mine:Lander", "kwargs": {}})
    assert "obs[6]" in other.formula()
    assert "out[0] = " in smallest(env="Lander-v0").formula()
    assert "main" not in smallest(actions=DiscreteActions(2)).formula()


def test_a_policy_that_is_too_large_is_refused_with_its_size():
    message = (
        r"^max_weights: expected a policy with at most 60 live weights, .*, got one with 157; pass max_weights=157 to "
        "write it"
    )
    with pytest.raises(ValueError, match=message):
        lander().formula()
    assert lander().formula(max_weights=157).count("*") > 100
    assert smallest().formula(max_weights=21)
    with pytest.raises(ValueError, match=r"^max_weights: .* got one with 21;"):
        smallest().formula(max_weights=20)


@pytest.mark.parametrize(
    ("subnet", "arguments", "error", "message"),
    [
        (make(RNN), {}, ValueError, "network: expected a chain of linear layers, tanh and ReLU"),
        (make(), {"style": "html"}, ValueError, "style: expected one of"),
        (make(), {"style": 3}, TypeError, "style: expected one of"),
        (make(), {"digits": 0}, ValueError, "digits: expected a whole number >= 1 and <= 9"),
        (make(), {"digits": 2.5}, TypeError, "digits: expected a whole number"),
        (make(), {"max_weights": -1}, ValueError, "max_weights: expected a whole number >= 1"),
    ],
)
def test_unsupported_networks_and_invalid_arguments_are_refused(subnet, arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        subnet.formula(**arguments)
