"""How outputs become actions, and which spaces are supported."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from subnet_problems.tasks import BoxActions, BoxObservations, DiscreteActions, actions_of, observations_of
from subnet_problems.tasks._action_parts import actions_from_json
from subnet_problems.tasks._observation_rules import observations_from_json

quick = settings(max_examples=40, deadline=None)

_DTYPES = ("float32", "float64", "float16", "int8", "int32", "uint8")
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


@st.composite
def boxes(draw) -> gym.spaces.Box:
    """Box spaces of any shape, with any bounds; bounds of floats may be infinite."""
    dtype, shape = np.dtype(draw(st.sampled_from(_DTYPES))), draw(_SHAPES)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        numbers = st.integers(int(info.min), int(info.max))
    else:
        numbers = st.floats(-1000, 1000, width=16)
    ends = [draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2)]
    low, high = np.array(np.minimum(*ends), dtype=dtype), np.array(np.maximum(*ends), dtype=dtype)
    if np.issubdtype(dtype, np.floating):
        low[draw(hnp.arrays(np.bool_, shape))] = -np.inf
        high[draw(hnp.arrays(np.bool_, shape))] = np.inf
    return gym.spaces.Box(low, high, dtype=dtype.type)


def outputs_for(length: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(5, length))).astype(np.float32)


@quick
@given(n=st.integers(1, 20), start=st.integers(-10, 10), seed=st.integers(0, 99))
def test_a_discrete_action_is_the_index_of_the_largest_output_plus_start(n, start, seed):
    space = gym.spaces.Discrete(n, start=start)
    actions = actions_of(space)
    outputs = outputs_for(n, seed)
    chosen = actions(outputs)
    assert (actions.length, actions.shape) == (n, (n,))
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [start + row.index(max(row)) for row in outputs.tolist()]
    assert all(space.contains(np.asarray(action)) for action in chosen)


def test_the_first_of_equal_outputs_wins():
    assert DiscreteActions(4, start=2)(np.array([[1, 3, 3, 0], [0, 0, 0, 0]], dtype=np.float32)).tolist() == [3, 2]


@quick
@given(space=boxes(), seed=st.integers(0, 99), scale=st.sampled_from([0.1, 10.0, 1e4, 1e30]))
def test_a_box_action_is_in_the_space_for_all_outputs(space, seed, scale):
    actions = actions_of(space)
    chosen = actions(outputs_for(actions.length, seed, scale))
    assert actions.length == math.prod(space.shape)
    assert chosen.shape == (5, *space.shape)
    assert chosen.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in chosen)


@quick
@given(space=boxes(), seed=st.integers(0, 99))
def test_outputs_within_the_bounds_are_kept_or_rounded(space, seed):
    actions = actions_of(space)
    outputs = outputs_for(actions.length, seed, scale=20.0)
    chosen = actions(outputs).reshape(5, -1)
    low, high = space.low.reshape(-1), space.high.reshape(-1)
    for output, action in zip(outputs, chosen, strict=True):
        for j in range(actions.length):
            whole = np.issubdtype(space.dtype, np.integer)
            wanted = np.float32(round(float(output[j]))) if whole else output[j]
            assert action[j] == np.clip(float(wanted), float(low[j]), float(high[j])).astype(space.dtype)


def test_an_action_keeps_the_order_of_the_outputs():
    actions = actions_of(gym.spaces.Box(-100, 100, (2, 3)))
    assert actions(np.arange(12, dtype=np.float32).reshape(2, 6)).tolist() == [
        [[0, 1, 2], [3, 4, 5]],
        [[6, 7, 8], [9, 10, 11]],
    ]


def test_bounds_hold_in_float32():
    space = gym.spaces.Box(np.float32(-0.1), np.float32(0.1), (1,))
    chosen = actions_of(space)(np.array([[-9], [9]], dtype=np.float32))
    assert chosen.tolist() == [[float(np.float32(-0.1))], [float(np.float32(0.1))]]
    assert all(space.contains(np.asarray(action)) for action in chosen)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_large_outputs_are_large_actions_in_unbounded_integer_spaces(dtype):
    actions = actions_of(gym.spaces.Box(-np.inf, np.inf, (1,), dtype=dtype))
    low, high = actions(np.array([[-1e30], [1e30]], dtype=np.float32)).ravel().tolist()
    assert low < -(10**9)
    assert high > 10**9


@quick
@given(space=boxes() | st.builds(gym.spaces.Discrete, st.integers(1, 9), start=st.integers(-5, 5)))
def test_actions_survive_a_round_trip_through_json(space):
    actions = actions_of(space)
    text = json.dumps(actions.to_json(), allow_nan=False)
    again = actions_from_json(json.loads(text))
    assert again == actions
    assert json.dumps(again.to_json()) == text


def test_an_infinite_bound_is_null_in_json():
    actions = BoxActions(low=(-math.inf, 0.0), high=(1.0, math.inf), shape=(2,))
    assert (actions.to_json()["low"], actions.to_json()["high"]) == ([None, 0.0], [1.0, None])


_BOX = {"kind": "box", "low": [0], "high": [1], "shape": [1], "dtype": "float32"}
_MULTI = {"kind": "multi_discrete", "nvec": [2, 3], "start": [0, 0], "shape": [2], "dtype": "int64"}
_PART = {"kind": "discrete", "n": 2, "start": 0}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "binary", "n": 3},
        {"kind": ["box"]},
        {"kind": "discrete", "n": 3},
        {"kind": "discrete", "n": "three", "start": 0},
        {"kind": "discrete", "n": None, "start": 0},
        {"kind": "discrete", "n": math.inf, "start": 0},
        {"kind": "discrete", "n": 2.5, "start": 0},
        {"kind": "discrete", "n": 0, "start": 0},
        _BOX | {"low": [0, 0]},
        _BOX | {"low": ["a"]},
        _BOX | {"low": [math.nan]},
        _BOX | {"low": [10**400]},
        _BOX | {"low": [2]},
        _BOX | {"low": 0},
        _BOX | {"shape": [2]},
        _BOX | {"shape": [-1], "low": [], "high": []},
        _BOX | {"shape": [-1, -1]},
        _BOX | {"shape": None},
        _BOX | {"dtype": "text"},
        _BOX | {"dtype": "U3"},
        _BOX | {"dtype": "complex64"},
        _BOX | {"dtype": None},
        _BOX | {"dtype": [["a", "f4"]]},
        {key: value for key, value in _BOX.items() if key != "high"},
        _MULTI | {"nvec": [2]},
        _MULTI | {"nvec": [2, 0]},
        _MULTI | {"nvec": "ab"},
        _MULTI | {"start": [0, 0.5]},
        _MULTI | {"shape": [3]},
        _MULTI | {"shape": [0], "nvec": [], "start": []},
        _MULTI | {"dtype": "float32"},
        _MULTI | {"dtype": "int8", "start": [0, 126]},
        {"kind": "multi_binary", "shape": [0]},
        {"kind": "multi_binary", "shape": 3},
        {"kind": "tuple", "parts": []},
        {"kind": "tuple", "parts": [3]},
        {"kind": "tuple", "parts": [_PART, _BOX | {"low": [2]}]},
        {"kind": "dict", "parts": [_PART], "keys": []},
        {"kind": "dict", "parts": [_PART], "keys": [1]},
        {"kind": "dict", "parts": [_PART, _PART], "keys": ["a", "a"]},
        {"kind": "dict", "parts": {"a": _PART}, "keys": ["a"]},
    ],
    ids=lambda data: str(data)[:100],
)
def test_invalid_descriptions_of_actions_are_refused(data):
    with pytest.raises(
        ValueError, match=r"^action: expected a description of kind box, dict, discrete, multi_bi.*, got "
    ):
        actions_from_json(data)


@pytest.mark.parametrize("read", [actions_from_json, observations_from_json])
def test_deeply_nested_descriptions_are_refused(read):
    data = {"kind": "box", "shape": [2], "low": [0, 0], "high": [1, 1], "dtype": "float32"}
    for _ in range(5000):
        data = {"kind": "tuple", "parts": [data]}
    with pytest.raises(ValueError, match=r": expected a description of kind box, dict, "):
        read(data)


_HOT = {"kind": "one_hot", "nvec": [2, 3], "start": [0, 0], "shape": [2]}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "discrete", "n": 3, "start": 0},
        {"kind": "box", "shape": [0]},
        {"kind": "box", "shape": [2.5]},
        {"kind": "box", "shape": None},
        _HOT | {"nvec": [2]},
        _HOT | {"nvec": [2, -1]},
        _HOT | {"nvec": [2, 2**80]},
        _HOT | {"start": [0, None]},
        _HOT | {"shape": []},
        {"kind": "tuple", "parts": []},
        {"kind": "dict", "parts": [_HOT, _HOT], "keys": ["a"]},
        {"kind": "dict", "parts": [_HOT], "keys": "ab"},
    ],
    ids=lambda data: str(data)[:100],
)
def test_invalid_descriptions_of_observations_are_refused(data):
    with pytest.raises(
        ValueError, match=r"^observation: expected a description of kind box, dict, one_hot, tuple, got "
    ):
        observations_from_json(data)


_BOX_SPACE = gym.spaces.Box(0, 1, (2,))
_UNSUPPORTED = [
    gym.spaces.Box(0, 1, (0,)),
    gym.spaces.Box(0, 1, (3, 0)),
    gym.spaces.MultiDiscrete([]),
    gym.spaces.Dict(),
    gym.spaces.Tuple([]),
    gym.spaces.Dict({1: _BOX_SPACE}),
    gym.spaces.Text(3),
    gym.spaces.Sequence(_BOX_SPACE),
    gym.spaces.OneOf([_BOX_SPACE, gym.spaces.Discrete(2)]),
    gym.spaces.Graph(_BOX_SPACE, None),
]
_SUPPORTED = r"Box, Discrete, MultiDiscrete or MultiBinary \(not empty\), or a Dict \(by strings\) or Tuple of these"


@pytest.mark.parametrize(("rule_of", "what"), [(actions_of, "an action"), (observations_of, "an observation")])
@pytest.mark.parametrize("space", _UNSUPPORTED, ids=str)
def test_an_unsupported_space_is_refused_with_a_list_of_supported_ones(space, rule_of, what):
    with pytest.raises(ValueError, match=rf"^env: expected {what} space {_SUPPORTED}.*, got ") as caught:
        rule_of(space)
    assert str(caught.value).endswith(f"got {space}")
    for whole in (gym.spaces.Dict(a=_BOX_SPACE, b=space), gym.spaces.Tuple([gym.spaces.Dict(a=space)])):
        with pytest.raises(ValueError, match=rf"^env: expected {what} space {_SUPPORTED}.*, got ") as caught:
            rule_of(whole)
        assert str(caught.value).endswith(f"got {whole}, with {space} in it")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_box_observations_of_any_shape_and_dtype_are_supported(shape, dtype):
    rule = observations_of(gym.spaces.Box(0, 1, shape, dtype=dtype))
    assert (rule, rule.shape, rule.length) == (BoxObservations(shape), shape, math.prod(shape))


# Spaces within spaces


def _multi_discretes():
    numbers = st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(1, 5), min_size=n, max_size=n), st.lists(st.integers(-9, 9), min_size=n, max_size=n)
        )
    )
    return st.builds(
        lambda both, dtype, square: gym.spaces.MultiDiscrete(
            *(np.array(both[0] * 2).reshape(2, -1), dtype) if square else (both[0], dtype),
            start=np.array(both[1] * 2).reshape(2, -1) if square else both[1],
        ),
        numbers,
        st.sampled_from([np.int64, np.int32, np.int8]),
        st.booleans(),
    )


_LEAVES = (
    boxes()
    | st.builds(gym.spaces.Discrete, st.integers(1, 9), start=st.integers(-5, 5))
    | _multi_discretes()
    | st.builds(gym.spaces.MultiBinary, st.integers(1, 4) | st.lists(st.integers(1, 3), min_size=1, max_size=2))
)
_SPACES = st.recursive(
    _LEAVES,
    lambda parts: (
        st.builds(gym.spaces.Tuple, st.lists(parts, min_size=1, max_size=3))
        | st.builds(gym.spaces.Dict, st.dictionaries(st.text(max_size=3), parts, min_size=1, max_size=3))
    ),
    max_leaves=6,
)


@quick
@given(space=_SPACES, seed=st.integers(0, 99), scale=st.sampled_from([0.1, 10.0, 1e30]))
def test_every_composite_action_is_in_the_space(space, seed, scale):
    actions = actions_of(space)
    outputs = outputs_for(actions.length, seed, scale)
    chosen = actions.one_by_one(actions(outputs))
    assert len(chosen) == 5
    assert all(space.contains(action) for action in chosen)
    # A single action equals the same action in a batch.
    for output, action in zip(outputs, chosen, strict=True):
        np.testing.assert_equal(actions.one_by_one(actions(output[None])), [action])
    assert actions.one_by_one(actions(outputs[:0])) == []


@quick
@given(space=_SPACES, seed=st.integers(0, 99))
def test_the_count_of_a_rule_is_the_number_of_values_in_an_action(space, seed):
    actions = actions_of(space)
    action = actions.one_by_one(actions(outputs_for(actions.length, seed)))[0]
    leaves = [leaf for _, leaf in actions.leaves()]
    numbers = [np.size(part) for part in _parts_of(action)]
    assert numbers == [leaf.count for leaf in leaves]
    assert actions.count == sum(numbers)
    assert actions.length == sum(leaf.length for leaf in leaves) == math.prod(actions.shape)


def _parts_of(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    return [part for one in value for part in _parts_of(one)] if isinstance(value, tuple) else [value]


@quick
@given(space=_SPACES)
def test_rules_survive_a_round_trip_through_json(space):
    for rule, read in ((actions_of(space), actions_from_json), (observations_of(space), observations_from_json)):
        text = json.dumps(rule.to_json(), allow_nan=False)
        again = read(json.loads(text))
        assert again == rule
        assert hash(again) == hash(rule)
        assert json.dumps(again.to_json()) == text


@quick
@given(space=_SPACES, seed=st.integers(0, 99))
def test_observations_are_flattened_as_by_gymnasium(space, seed):
    observations = observations_of(space)
    space.seed(seed)
    for _ in range(3):
        obs = space.sample()
        flat = observations(obs)
        assert (flat.dtype, flat.shape) == (np.float32, (gym.spaces.utils.flatdim(space),))
        np.testing.assert_array_equal(flat, gym.spaces.utils.flatten(space, obs).astype(np.float32))
    assert observations.length == gym.spaces.utils.flatdim(space)


def test_parts_have_the_order_of_the_space():
    hand = gym.spaces.Tuple([gym.spaces.MultiBinary(2), _BOX_SPACE])
    space = gym.spaces.Dict({"b": gym.spaces.Discrete(2, start=5), "a": hand})
    actions = actions_of(space)
    assert actions.names == ("a", "b")
    assert [place for place, _ in actions.leaves()] == [".a.0", ".a.1", ".b"]
    action = actions(np.array([[1, -1, 0.25, 7, 0, 3]], dtype=np.float32))[0]
    np.testing.assert_equal(action, {"a": (np.array([1, 0]), np.array([0.25, 1], np.float32)), "b": 6})
    ordered = gym.spaces.Dict([("b", gym.spaces.Discrete(2)), ("a", gym.spaces.Discrete(3))])
    assert actions_of(ordered).names == observations_of(ordered).names == ("b", "a")
    obs = {"a": ([0, 1], [0.5, 0.75]), "b": 6}
    assert observations_of(space)(obs).tolist() == [0, 1, 0.5, 0.75, 0, 1]


def test_each_choice_of_a_multi_discrete_action_uses_its_own_outputs():
    actions = actions_of(gym.spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 10], [-4, 100]], dtype=np.int32))
    chosen = actions(np.array([[0, 1, 5, 5, 0, -9, 2, 2], [1, 0, 0, 0, 1, 9, 1, 2]], dtype=np.float32))
    assert chosen.tolist() == [[[1, 10], [-4, 100]], [[0, 12], [-4, 101]]]
    assert chosen.dtype == np.int32


def test_a_bit_is_1_if_the_output_is_above_0():
    actions = actions_of(gym.spaces.MultiBinary([2, 2]))
    chosen = actions(np.array([[-1, 0, 1e-30, 2]], dtype=np.float32))
    assert chosen.tolist() == [[[0, 0], [1, 1]]]
    assert chosen.dtype == np.int8


def test_only_box_actions_have_limits():
    box = gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([2, 3]))
    assert actions_of(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.MultiBinary(1)])).limits is None
    both = actions_of(gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Dict(a=box)]))
    assert both.limits == ((-math.inf, -math.inf, -1.0, -math.inf), (math.inf, math.inf, 2.0, 3.0))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (gym.spaces.Discrete(3), gym.spaces.Discrete(3), True),
        (gym.spaces.Discrete(3), gym.spaces.Discrete(4), False),
        (gym.spaces.Box(0, 1, (2, 1)), gym.spaces.Box(0, 9, (2, 1), np.float64), True),
        (gym.spaces.Box(0, 1, (2, 1)), gym.spaces.Box(0, 1, (1, 2)), False),
        (gym.spaces.MultiBinary(2), gym.spaces.Discrete(2), False),
        (gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiDiscrete([3, 2]), False),
        (gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiDiscrete([2, 3]), True),
        (gym.spaces.Dict(a=gym.spaces.Discrete(2)), gym.spaces.Dict(b=gym.spaces.Discrete(2)), False),
        (gym.spaces.Dict(a=gym.spaces.Discrete(2)), gym.spaces.Tuple([gym.spaces.Discrete(2)]), False),
        (gym.spaces.Tuple([gym.spaces.Box(0, 1, (2,))]), gym.spaces.Tuple([gym.spaces.Box(0, 2, (2,))]), True),
        (gym.spaces.Tuple([gym.spaces.Discrete(2)]), gym.spaces.Tuple([gym.spaces.Discrete(3)]), False),
    ],
)
def test_action_rules_are_alike_if_outputs_have_the_same_meaning(one, other, alike):
    assert actions_of(one).like(actions_of(other)) == actions_of(other).like(actions_of(one)) == alike


# Values that an environment may return as observations

_NESTED = gym.spaces.Dict(
    {"place": gym.spaces.Box(-1, 1, (2,)), "gear": gym.spaces.Tuple([gym.spaces.Discrete(3, start=1)])}
)


@pytest.mark.parametrize(
    ("space", "raw", "flat"),
    [
        (_BOX_SPACE, torch.tensor([1.5, 2.0], requires_grad=True), [1.5, 2.0]),
        (_BOX_SPACE, torch.tensor([1.5, 2.0], dtype=torch.bfloat16), [1.5, 2.0]),
        (_BOX_SPACE, torch.tensor([True, False]), [1, 0]),
        (_BOX_SPACE, [1, np.float64(2.5)], [1, 2.5]),
        (_BOX_SPACE, np.array([1e300, -1]), [np.inf, -1]),
        (gym.spaces.Discrete(3, start=1), np.int8(3), [0, 0, 1]),
        (gym.spaces.Discrete(3, start=1), np.array(1), [1, 0, 0]),
        (gym.spaces.Discrete(2), True, [0, 1]),
        (gym.spaces.Discrete(2), torch.tensor(0), [1, 0]),
        (gym.spaces.MultiDiscrete([2, 2]), [1, 0], [0, 1, 1, 0]),
        (_NESTED, {"place": [0, 1], "gear": [2], "more": "of it"}, [0, 1, 0, 0, 1]),
        (_NESTED, {"gear": np.array([3]), "place": np.zeros(2)}, [0, 0, 1, 0, 0]),
    ],
    ids=str,
)
def test_values_convertible_to_observations_are_accepted(space, raw, flat):
    flattened = observations_of(space)(raw)
    assert flattened.dtype == np.float32
    assert flattened.tolist() == flat


@pytest.mark.parametrize(
    ("space", "raw", "message"),
    [
        (_BOX_SPACE, None, r"expected an observation of real numbers and shape \(2,\), got None"),
        (_BOX_SPACE, "ab", r"expected an observation of real numbers and shape \(2,\), got 'ab'"),
        (_BOX_SPACE, ["1", "2"], r"expected an observation of real numbers .*, got \['1', '2'\]"),
        (_BOX_SPACE, [[1], [1, 2]], r"expected an observation of real numbers .*, got \[\[1\], \[1, 2\]\]"),
        (_BOX_SPACE, np.array([1j, 2]), r"expected an observation of real numbers .*, got array"),
        (_BOX_SPACE, np.array([1, None]), r"expected an observation of real numbers .*, got array"),
        (_BOX_SPACE, {"a": 1}, r"expected an observation of real numbers .*, got {'a': 1}"),
        (_BOX_SPACE, np.zeros((2, 1)), r"expected an observation of shape \(2,\), got \(2, 1\)"),
        (_BOX_SPACE, 3.0, r"expected an observation of shape \(2,\), got \(\)"),
        (gym.spaces.Discrete(3, start=1), 0, r"expected an observation of 1 to 3, got 0"),
        (gym.spaces.Discrete(3, start=1), 4, r"expected an observation of 1 to 3, got 4"),
        (gym.spaces.Discrete(3), 2**63, r"expected an observation of 0 to 2, got 9223372036854775808"),
        (gym.spaces.Discrete(3), 1.0, r"expected an observation of whole numbers, got 1.0"),
        (gym.spaces.Discrete(3), [1], r"expected an observation of shape \(\), got \(1,\)"),
        (gym.spaces.MultiDiscrete([2, 3]), [1, 3], r"expected an observation of 0 to 2, got 3"),
        (_NESTED, {"place": [0, 1]}, r"expected an observation that is a dict with \['gear', 'place'\], got {"),
        (_NESTED, [0, 1], r"expected an observation that is a dict with .*, got \[0, 1\]"),
        (_NESTED, {"place": [0], "gear": (1,)}, r"expected an observation 'place' of shape \(2,\), got \(1,\)"),
        (_NESTED, {"place": [0, 1], "gear": (4,)}, r"expected an observation 'gear.0' of 1 to 3, got 4"),
        (_NESTED, {"place": [0, 1], "gear": 1}, r"expected an observation 'gear' that is a tuple of 1, got 1"),
        (_NESTED, {"place": [0, 1], "gear": (1, 1)}, r"expected an observation 'gear' that is a tuple of 1, got \(1,"),
    ],
    ids=str,
)
def test_invalid_observations_are_refused_with_the_expected_format(space, raw, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        observations_of(space)(raw)


def test_multi_discrete_rules_of_different_dtypes_are_alike():
    first, second = (actions_of(gym.spaces.MultiDiscrete([2, 3], dtype=dtype)) for dtype in (np.int64, np.int32))
    assert first.like(second)
    assert not first.like(actions_of(gym.spaces.MultiDiscrete([3, 2])))


@pytest.mark.parametrize("low", [2**53 + 1, 2**60 + 1])
def test_bounds_that_float64_cannot_represent_are_refused(low):
    space = gym.spaces.Box(low, low + 2, (1,), np.int64)
    with pytest.raises(ValueError, match=rf"^env: expected an action space .* it has the bound {low}, which float64"):
        actions_of(space)
    limits = np.iinfo(np.int64)
    assert actions_of(gym.spaces.Box(limits.min, limits.max, (1,), np.int64)).length == 1


def test_masked_arrays_are_refused_as_observations():
    rule = observations_of(gym.spaces.Box(0, 9, (2,)))
    with pytest.raises(TypeError, match=r"^expected an observation of real numbers"):
        rule(np.ma.masked_array([1.0, 7.0], mask=[0, 1]))
    assert rule(np.ma.masked_array([1.0, 7.0])).tolist() == [1.0, 7.0]
