"""The exported C header, compiled and run on 10,000 observations, computes the actions of the policy."""

import ctypes
import shutil
import subprocess

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_subnetworks import BOX, DISCRETE, NORMALIZER, PARTS, RNN, STRING, fixed_module, lander, make
from torch import nn

from subnet_problems import BoxActions, DiscreteActions, FrozenNetwork, Subnetwork
from subnet_problems.networks import INITS
from subnet_problems.subnetworks.export._c import rice_code
from subnet_problems.tasks import MultiDiscreteActions, actions_of

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")

SOURCE = """
#include "policy.h"
int obs_length(void) { return POLICY_OBS_LENGTH; }
int act_length(void) { return POLICY_ACT_LENGTH; }
void act(const float *obs, float *acts, int count)
{
    for (int i = 0; i < count; ++i)
        policy_act(obs + i * POLICY_OBS_LENGTH, acts + i * POLICY_ACT_LENGTH);
}
"""


STRICT = ["-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]


def compiled(subnet, folder, *, form):
    subnet.export_c(folder, name="policy", form=form)
    (folder / "policy.c").write_text(SOURCE)
    command = ["gcc", *STRICT, "-std=c99", "-shared", "-fPIC", "policy.c", "-o", "policy.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "policy.so"))


def acts_in_c(subnet, folder, obs, *, form):
    library = compiled(subnet, folder, form=form)
    assert library.obs_length() == obs.shape[1]
    acts = np.full((len(obs), library.act_length()), np.nan, dtype=np.float32)
    library.act(obs.ctypes.data_as(ctypes.c_void_p), acts.ctypes.data_as(ctypes.c_void_p), len(obs))
    return acts


def assert_same_actions(subnet, folder, *, form, tolerance=2e-5):
    obs = np.random.default_rng(0).normal(scale=2.0, size=(10_000, subnet.network.obs_length)).astype(np.float32)
    acts = acts_in_c(subnet, folder, obs, form=form)
    with torch.no_grad():
        outputs = subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy()
    expected = subnet.actions(outputs).reshape(len(obs), -1)
    if not isinstance(subnet.actions, BoxActions):  # outputs that differ by rounding are ties
        first, second = np.sort(outputs, axis=1)[:, -1], np.sort(outputs, axis=1)[:, -2]
        close = first - second < tolerance
        assert close.mean() < 0.01
        assert len(np.unique(expected)) > 1
        assert (acts[~close] == expected[~close]).all()
    else:
        np.testing.assert_allclose(acts, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("form", ["rows", "seed"])
@pytest.mark.parametrize(
    "subnet",
    [
        lander(),
        lander(normalizer=None).prune(),
        make((6, 5), options={"bias": True}, actions=DISCRETE, normalizer=NORMALIZER),
        make((), actions=DISCRETE),
        make((300,), rescale=True, options={"weight_gain": 0.3}),
        make(STRING, options={"network_args": {"width": 3}}, rescale=True),
        make((6, 5), sparsity=0.0, options={"seed": 2**63 - 1}),
    ],
    ids=["lander", "pruned", "biases", "no hidden layer", "wide", "string", "all kept"],
)
def test_the_header_computes_the_actions_of_the_policy(subnet, form, tmp_path):
    assert_same_actions(subnet, tmp_path, form=form)


@pytest.mark.parametrize("weight_init", INITS)
def test_c_code_draws_the_weights_from_the_seed(weight_init, tmp_path):
    subnet = make((40, 30), sparsity=0.5, options={"weight_init": weight_init, "seed": 12345, "bias": True})
    assert_same_actions(subnet, tmp_path, form="seed")


def test_a_module_with_given_weights_is_exported_only_as_rows(tmp_path):
    subnet = make(fixed_module(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)))
    assert_same_actions(subnet, tmp_path, form="rows")
    with pytest.raises(
        ValueError, match="form: expected 'rows' for weights that do not come from a seed alone, got 'seed'"
    ):
        subnet.export_c(tmp_path / "seed", form="seed")
    assert not (tmp_path / "seed").exists()


@pytest.mark.parametrize("form", ["rows", "seed"])
def test_a_policy_without_weights_compiles_and_gives_zeros(form, tmp_path):
    subnet = make((6, 5), actions=BOX)
    subnet.mask[:] = False
    assert_same_actions(subnet, tmp_path, form=form)


def test_integer_actions_are_rounded_and_bounds_may_be_infinite(tmp_path):
    for number, (low, high, dtype) in enumerate([(-3, 2, "int32"), (-np.inf, np.inf, "float32"), (-1, 1, "float64")]):
        actions = BoxActions(low=(low, low), high=(high, high), shape=(2, 1), dtype=dtype)
        folder = tmp_path / str(number)
        subnet = make((6, 5), actions=actions)
        obs = np.random.default_rng(1).normal(scale=3.0, size=(1000, 4)).astype(np.float32)
        acts = acts_in_c(subnet, folder, obs, form="rows")
        with torch.no_grad():
            outputs = subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy()
        same = np.abs(acts - subnet.actions(outputs).reshape(1000, 2)) < 1e-5
        assert same.mean() > 0.999  # halves may be rounded either way
        assert len(np.unique(acts)) >= 3


def test_bounds_that_float32_cannot_represent_are_respected(tmp_path):
    """Outputs of +-2e10 give actions within the space, as close to the bound as float32 allows."""
    edges = [
        (0.1, 0.1, "float64"),
        (-(2**31), 2**31 - 1, "int32"),
        (16777217, 2**40, "int64"),
        (-1e300, 1e300, "float64"),
    ]
    edges += [(-np.inf, np.inf, "float16"), (-np.inf, np.inf, "int8")]
    for number, (low, high, dtype) in enumerate(edges):
        actions = BoxActions(low=(low, low), high=(high, high), shape=(2,), dtype=dtype)
        subnet = make((6, 5), actions=actions, options={"weight_gain": 1e10})
        obs = np.random.default_rng(1).normal(scale=3.0, size=(1000, 4)).astype(np.float32)
        acts = acts_in_c(subnet, tmp_path / str(number), obs, form="rows").astype(np.float64)
        least, greatest, _ = actions.bounds
        inside = (acts >= least) & (acts <= greatest)
        assert inside.all() or low == high  # float32 cannot represent 0.1
        with torch.no_grad():
            expected = subnet.actions(subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy())
        np.testing.assert_allclose(acts, expected.astype(np.float64), rtol=1e-4)


def test_a_task_name_cannot_end_the_comment(tmp_path):
    assert_same_actions(make(env="a*/ /* b\n#error"), tmp_path, form="rows")


#: Policies of all kinds, with names that are prefixes of each other and of names in the headers.
PROGRAM = {
    "lander": (lander(normalizer=None), "rows"),
    "lander_act": (make((6, 5), options={"bias": True}, actions=DISCRETE, normalizer=NORMALIZER), "seed"),
    "Lander_obs": (make(STRING, options={"network_args": {"width": 3}, "weight_init": "kaiming_normal"}), "seed"),
    "policy": (make(actions=BoxActions((-3, -3), (2, 2), (2,), "int32"), normalizer=NORMALIZER), "rows"),
    "POLICY_2": (make((), actions=DISCRETE), "seed"),
}


def program(folder):
    """A source file with all policies, and one exported function per policy, for C and C++."""
    lines = []
    for name, (subnet, form) in PROGRAM.items():
        assert subnet.export_c(folder / name, form=form) == folder / name / f"{name}.h"
        size, length = f"{name.upper()}_OBS_LENGTH", f"{name.upper()}_ACT_LENGTH"
        lines += [
            f'#include "{name}/{name}.h"',
            f'#include "{name}/{name}.h"',
            "#ifdef __cplusplus",
            'extern "C"',
            "#endif",
        ]
        lines += [f"void run_{name}(const float *obs, float *acts, int count)", "{"]
        lines += [
            "    for (int i = 0; i < count; ++i)",
            f"        {name}_act(obs + i * {size}, acts + i * {length});",
            "}",
        ]
    (folder / "all.c").write_text("\n".join(lines) + "\n")
    return "all.c"


@pytest.mark.parametrize("language", [["-std=c99"], ["-x", "c++", "-std=c++11"]], ids=["C", "C++"])
def test_several_policies_fit_in_one_program(language, tmp_path):
    command = ["gcc", *STRICT, *language, "-shared", "-fPIC", program(tmp_path), "-o", "all.so", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "all.so"))
    for name, (subnet, _) in PROGRAM.items():
        obs = np.random.default_rng(0).normal(scale=2.0, size=(300, subnet.network.obs_length)).astype(np.float32)
        expected = np.array([subnet.act(row) for row in obs]).reshape(300, -1)
        acts = np.full(expected.shape, np.nan, dtype=np.float32)
        library[f"run_{name}"](*(array.ctypes.data_as(ctypes.c_void_p) for array in (obs, acts)), 300)
        if isinstance(subnet.actions, BoxActions) and subnet.actions.dtype == "float32":
            np.testing.assert_allclose(acts, expected, rtol=0, atol=2e-5)
        else:
            assert (acts == expected).mean() > 0.99  # equal up to rounding
        assert len(np.unique(expected)) > 1


def test_all_definitions_of_a_header_start_with_its_name(tmp_path):
    includes = ["-include", "math.h", "-include", "stdint.h"]
    (tmp_path / "none.c").write_text("")

    def ran(*words):
        return set(subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines())

    source = program(tmp_path)
    words = ["gcc", "-std=c99", "-dM", "-E", *includes]
    macros = {line.split()[1] for line in ran(*words, source) - ran(*words, "none.c")}
    assert {"LANDER_OBS_LENGTH", "LANDER_ACT_SEED", "POLICY_2_H"} <= macros
    # Without optimization and with -fkeep-inline-functions, all functions and data are symbols.
    ran("gcc", "-std=c99", "-O0", "-fkeep-inline-functions", "-fkeep-static-consts", "-c", source, "-o", "all.o")
    symbols = {line.split()[-1] for line in ran("nm", "--defined-only", "all.o")} - {f"run_{name}" for name in PROGRAM}
    assert {"lander_act", "lander_weights0", "lander_act_bits", "Lander_obs_draw", "POLICY_2_act"} <= symbols
    for found, names in ((macros, [name.upper() for name in PROGRAM]), (symbols, list(PROGRAM))):
        assert not [one for one in found if not one.startswith(tuple(f"{name}_" for name in names))]


def test_two_policies_with_one_name_are_a_compiler_error(tmp_path):
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        make((6, 5), options={"seed": seed}).export_c(tmp_path / folder, name="arm")
    for folder, works in (("c", True), ("b", False)):
        (tmp_path / "two.c").write_text(f'#include "a/arm.h"\n#include "{folder}/arm.h"\n')
        done = subprocess.run(["gcc", *STRICT, "-c", "two.c"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) == works
        assert ("arm.h: another policy has this name" in done.stderr) != works


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("lander", "lander"),
        ("robots/Lander 2/", "Lander_2"),
        ("a/..", "out"),
        ("a--b__c_", "a_b_c"),
        ("3d", "policy_3d"),
        ("größe", "gr_e"),
        ("飛行", "policy"),
        ("double", "policy_double"),
        ("math", "policy_math"),
        ("_x", "x"),
    ],
)
def test_a_header_is_named_after_its_folder(folder, name, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert make().export_c(folder).name == f"{name}.h"
    assert f"#define {name.upper()}_OBS_LENGTH 4" in (tmp_path / "out" / folder / f"{name}.h").read_text()


@st.composite
def composite_spaces(draw):
    """Spaces whose numbers float32 represents exactly, so that C can return them."""
    leaves = st.one_of(
        st.builds(gym.spaces.Discrete, st.integers(1, 5), start=st.integers(-9, 9)),
        st.lists(st.integers(1, 4), min_size=1, max_size=3).map(gym.spaces.MultiDiscrete),
        st.builds(gym.spaces.MultiBinary, st.integers(1, 4)),
        st.builds(gym.spaces.Box, st.integers(-2, 0), st.integers(1, 2), st.just((2,))),
        st.builds(gym.spaces.Box, st.just(-3), st.just(3), st.just((1, 2)), st.just(np.int16)),
        st.just(gym.spaces.Box(-np.inf, np.inf, (1,))),
    )
    parts = st.lists(leaves, min_size=1, max_size=3)
    texts = st.dictionaries(st.text(max_size=4) | st.just("*/"), leaves, min_size=1, max_size=3)
    inner = leaves | parts.map(gym.spaces.Tuple) | texts.map(gym.spaces.Dict)
    return draw(inner | st.lists(inner, min_size=1, max_size=3).map(gym.spaces.Tuple))


@settings(max_examples=15, deadline=None)
@given(space=composite_spaces(), seed=st.integers(0, 9))
def test_actions_of_any_space_are_the_same_in_c(space, seed, tmp_path_factory):
    actions = actions_of(space)
    network = FrozenNetwork((5,), obs_length=4, act_length=actions.length, seed=seed)
    spaces = {"actions": actions, "observations": PARTS["observations"]}
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), **spaces)
    obs = np.random.default_rng(seed).normal(scale=2.0, size=(200, 4)).astype(np.float32)
    acts = acts_in_c(subnet, tmp_path_factory.mktemp("c"), obs, form="rows")
    with torch.no_grad():
        outputs = subnet.to_policy(clip_actions=False)(torch.from_numpy(obs)).numpy()
    expected = np.array([_flat(action) for action in actions.one_by_one(actions(outputs))], dtype=np.float32)
    assert acts.shape == expected.shape
    assert (np.abs(acts - expected) < 2e-5).mean() > 0.99  # outputs that differ by rounding are ties


def _flat(action):
    if isinstance(action, dict | tuple):
        parts = action.values() if isinstance(action, dict) else action
        return np.concatenate([_flat(part) for part in parts])
    return np.ravel(action)


def test_a_header_documents_its_observations_and_actions(tmp_path):
    space = gym.spaces.Dict({"grip": gym.spaces.Discrete(2), "arm": gym.spaces.Tuple([gym.spaces.Box(-1, 1, (2,))])})
    actions = actions_of(space)
    network = FrozenNetwork((5,), obs_length=4, act_length=4)
    spaces = {"actions": actions, "observations": PARTS["observations"]}
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), **spaces)
    lines = subnet.export_c(tmp_path / "robot").read_text().splitlines()
    assert lines[2:7] == [
        " * robot_act(obs, act) reads 4 numbers and writes the parts of the action one after another.",
        " * obs[0] to obs[1]: gear, one-hot, for numbers from 1 to 2.",
        " * obs[2] to obs[3]: place, as the task gives it.",
        " * act[0] to act[1]: arm.0, numbers, each rounded and clipped as the task asks.",
        " * act[2]: grip, the number of the action.",
    ]


@given(st.lists(st.integers(0, 2000), max_size=60))
def test_the_code_of_gaps_can_be_decoded(gaps):
    k, code = rice_code(gaps)
    read, bits = [], iter(code)
    for _ in gaps:
        quotient = 0
        while next(bits):
            quotient += 1
        rest = 0
        for _ in range(k):
            rest = 2 * rest + next(bits)
        read.append((quotient << k) + rest)
    assert read == gaps
    assert next(bits, None) is None


def test_the_code_of_a_mask_is_close_to_its_entropy():
    """At sparsity 0.9, a random mask has 4.69 bits of entropy per kept weight."""
    subnet = lander()
    gaps = np.diff(np.flatnonzero(subnet.mask.numpy()), prepend=-1) - 1
    assert len(rice_code(gaps.tolist())[1]) / subnet.num_active < 4.9


@pytest.mark.parametrize(
    ("subnet", "arguments", "error", "message"),
    [
        (lander(), {"form": "dense"}, ValueError, "form: expected one of"),
        (lander(), {"form": 3}, TypeError, "form: expected one of"),
        (lander(), {"folder": 3}, TypeError, "folder: expected"),
        (lander(), {"name": 3}, TypeError, "name: expected a C identifier, such as 'lander', got 3"),
        *[
            (lander(), {"name": name}, ValueError, rf"^name: expected a C identifier of .*, got {name!r}$")
            for name in ("", "3d", "a-b", "a b", "_a", "a_", "a__b", "größe", "a/b", "a.h")
        ],
        *[
            (lander(), {"name": name}, ValueError, rf"^name: expected one that is not a C keyword .*, got {name!r}$")
            for name in ("double", "math", "StdInt")
        ],
        (make(actions=DiscreteActions(2, 2**24)), {}, ValueError, "actions: expected numbers of at most 2"),
        (
            make(actions=MultiDiscreteActions((1, 1), (0, 2**24), (2,))),
            {},
            ValueError,
            "actions: expected numbers of at most 2",
        ),
        (make(RNN), {}, ValueError, "network: expected a chain of linear layers, tanh and ReLU"),
    ],
)
def test_unsupported_policies_and_invalid_arguments_are_refused(subnet, arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        subnet.export_c(**{"folder": tmp_path / "out", **arguments})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "actions",
    [
        BoxActions(low=(2.0**24 + 1,), high=(2.0**24 + 1,), shape=(1,), dtype="int64"),
        BoxActions(low=(0.1 + 1e-10,), high=(0.1 + 2e-10,), shape=(1,), dtype="float64"),
    ],
    ids=["whole number", "narrow"],
)
def test_actions_that_float32_cannot_represent_are_refused(actions, tmp_path):
    network = FrozenNetwork((), obs_length=2, act_length=1)
    subnet = Subnetwork(network, torch.ones(2, dtype=torch.bool), actions=actions)
    with pytest.raises(ValueError, match=r"^actions: expected bounds with a float32 number between them, got "):
        subnet.export_c(tmp_path / "policy")
