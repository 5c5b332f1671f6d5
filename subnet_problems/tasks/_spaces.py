"""The rules that fit an environment's spaces: one flattens observations, one turns outputs into actions."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ._action_parts import DictActions, TupleActions
from ._action_rules import Actions, BoxActions, DiscreteActions, MultiBinaryActions, MultiDiscreteActions
from ._observation_rules import BoxObservations, DictObservations, Observations, OneHotObservations, TupleObservations

_SERVED = "Box, Discrete, MultiDiscrete or MultiBinary (not empty), or a Dict (by strings) or Tuple of these"

_T = TypeVar("_T")


def actions_of(space: gym.Space[Any]) -> Actions:
    """Return the rule for an action space.

    Raises:
        ValueError: The space, or a part of it, is of an unsupported kind.
    """
    return _rule_of(space, f"env: expected an action space {_SERVED}", _actions_of)


def observations_of(space: gym.Space[Any]) -> Observations:
    """Return the rule that flattens the observations of a space like ``gymnasium.spaces.utils.flatten``.

    Raises:
        ValueError: The space, or a part of it, is of an unsupported kind, without a flat vector of fixed length.
    """
    expected = f"env: expected an observation space {_SERVED}, which flattens to a vector of fixed length"
    return _rule_of(space, expected, _observations_of)


class _UnservedError(Exception):
    """No rule supports the space."""


def _rule_of(space: gym.Space[Any], expected: str, make: Callable[[gym.Space[Any]], _T]) -> _T:
    try:
        return make(space)
    except _UnservedError as error:
        part = error.args[0]
        raise ValueError(f"{expected}, got {space}" + ("" if part is space else f", with {part} in it")) from None
    except (TypeError, ValueError) as error:  # a space that contradicts itself
        raise ValueError(f"{expected}, got {space}: {error}") from error


def _actions_of(space: gym.Space[Any]) -> Actions:
    match space:
        case spaces.Discrete():
            return DiscreteActions(n=int(space.n), start=int(space.start))
        case spaces.MultiDiscrete() if prod(space.shape):
            nvec, start = _whole(space.nvec), _whole(space.start)
            return MultiDiscreteActions(nvec=nvec, start=start, shape_of_action=space.shape, dtype=str(space.dtype))
        case spaces.MultiBinary():
            return MultiBinaryActions(space.shape)
        case spaces.Box() if prod(space.shape):
            low, high = (tuple(float(v) for v in bound.reshape(-1)) for bound in (space.low, space.high))
            if space.dtype.kind in "iu":
                _check_exact(space)
            return BoxActions(low=low, high=high, shape=space.shape, dtype=str(space.dtype))
        case spaces.Dict() if space.spaces and all(isinstance(key, str) for key in space.spaces):
            return DictActions(tuple(map(_actions_of, space.spaces.values())), keys=tuple(space.spaces))
        case spaces.Tuple() if space.spaces:
            return TupleActions(tuple(map(_actions_of, space.spaces)))
    raise _UnservedError(space)


def _check_exact(space: spaces.Box) -> None:
    """Check that floats, which are exact up to 2^53, can hold an integer space's bounds.

    The dtype's least and greatest numbers are not checked, because they do not count as bounds.

    Raises:
        ValueError: A bound is not exact as a float.
    """
    held = np.iinfo(space.dtype.name)
    for bound in [*space.low.reshape(-1).tolist(), *space.high.reshape(-1).tolist()]:
        if int(float(bound)) != bound and bound not in (held.min, held.max):
            raise ValueError(f"it has the bound {bound}, which float64 cannot hold exactly")


def same_space(a: gym.Space[Any], b: gym.Space[Any]) -> bool:
    """Return True if two spaces are equal. Gymnasium's own comparison of Box is as slow as making an environment."""
    if isinstance(a, spaces.Box) and isinstance(b, spaces.Box):
        alike = (a.shape, a.dtype) == (b.shape, b.dtype)
        return alike and a.low.tobytes() == b.low.tobytes() and a.high.tobytes() == b.high.tobytes()
    return bool(a == b)


def _observations_of(space: gym.Space[Any]) -> Observations:
    match space:
        case spaces.Discrete():
            return OneHotObservations((int(space.n),), (int(space.start),))
        case spaces.MultiDiscrete() if prod(space.shape):
            return OneHotObservations(_whole(space.nvec), _whole(space.start), space.shape)
        case spaces.Box() | spaces.MultiBinary() if prod(space.shape):
            return BoxObservations(space.shape)
        case spaces.Dict() if space.spaces and all(isinstance(key, str) for key in space.spaces):
            return DictObservations(tuple(map(_observations_of, space.spaces.values())), keys=tuple(space.spaces))
        case spaces.Tuple() if space.spaces:
            return TupleObservations(tuple(map(_observations_of, space.spaces)))
    raise _UnservedError(space)


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers.reshape(-1))
