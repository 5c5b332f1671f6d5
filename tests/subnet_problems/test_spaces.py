"""How outputs become actions, and which spaces are served."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from subnet_problems.spaces import BoxActions, DiscreteActions, actions_from_json, actions_of, observation_shape

quick = settings(max_examples=40, deadline=None)

_DTYPES = ("float32", "float64", "float16", "int8", "int32", "uint8")
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)


@st.composite
def boxes(draw) -> gym.spaces.Box:
    """Box spaces of any shape, with any bounds; floats may lack either."""
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
def test_a_box_action_is_in_the_space_whatever_the_outputs(space, seed, scale):
    actions = actions_of(space)
    chosen = actions(outputs_for(actions.length, seed, scale))
    assert actions.length == math.prod(space.shape)
    assert chosen.shape == (5, *space.shape)
    assert chosen.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in chosen)


@quick
@given(space=boxes(), seed=st.integers(0, 99))
def test_outputs_within_the_bounds_are_the_action_itself_or_the_nearest_whole_number(space, seed):
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


def test_bounds_hold_in_float32_where_a_double_would_round_across_them():
    space = gym.spaces.Box(np.float32(-0.1), np.float32(0.1), (1,))
    chosen = actions_of(space)(np.array([[-9], [9]], dtype=np.float32))
    assert chosen.tolist() == [[float(np.float32(-0.1))], [float(np.float32(0.1))]]
    assert all(space.contains(np.asarray(action)) for action in chosen)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_large_outputs_are_large_actions_where_whole_numbers_have_no_bounds(dtype):
    actions = actions_of(gym.spaces.Box(-np.inf, np.inf, (1,), dtype=dtype))
    low, high = actions(np.array([[-1e30], [1e30]], dtype=np.float32)).ravel().tolist()
    assert low < -(10**9)
    assert high > 10**9


@quick
@given(space=boxes() | st.builds(gym.spaces.Discrete, st.integers(1, 9), start=st.integers(-5, 5)))
def test_actions_come_back_the_same_from_json(space):
    actions = actions_of(space)
    text = json.dumps(actions.to_json(), allow_nan=False)
    again = actions_from_json(json.loads(text))
    assert again == actions
    assert json.dumps(again.to_json()) == text


def test_no_bound_is_null_in_json():
    actions = BoxActions(low=(-math.inf, 0.0), high=(1.0, math.inf), shape=(2,))
    assert (actions.to_json()["low"], actions.to_json()["high"]) == ([None, 0.0], [1.0, None])


_BOX = {"kind": "box", "low": [0], "high": [1], "shape": [1], "dtype": "float32"}


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
    ],
    ids=lambda data: str(data)[:100],
)
def test_what_describes_no_actions_is_refused(data):
    with pytest.raises(ValueError, match=r"^action: expected a description of Discrete or Box actions, got "):
        actions_from_json(data)


_UNSERVED = [
    gym.spaces.MultiDiscrete([2, 3]),
    gym.spaces.MultiBinary(3),
    gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,))}),
    gym.spaces.Tuple([gym.spaces.Discrete(2)]),
    gym.spaces.Box(0, 1, (0,)),
    gym.spaces.Box(0, 1, (3, 0)),
]


@pytest.mark.parametrize("space", _UNSERVED, ids=str)
def test_an_action_space_that_is_not_served_is_refused_with_those_that_are(space):
    with pytest.raises(ValueError, match=r"^env: expected an action space Discrete or Box") as caught:
        actions_of(space)
    assert str(space) in str(caught.value)


@pytest.mark.parametrize("space", [*_UNSERVED, gym.spaces.Discrete(4)], ids=str)
def test_an_observation_space_that_is_not_served_is_refused_with_what_to_do(space):
    with pytest.raises(ValueError, match=r"^env: expected an observation space Box.*FlattenObservation") as caught:
        observation_shape(space)
    assert str(space) in str(caught.value)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_box_observations_of_any_shape_and_dtype_are_served(shape, dtype):
    assert observation_shape(gym.spaces.Box(0, 1, shape, dtype=dtype)) == shape
