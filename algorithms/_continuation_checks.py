"""Checks of what ``Continuation`` is given: arguments, a problem, levels, a center, and evaluated individuals."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from ._checks import check_vector
from ._pareto import last_bounds

Floats = NDArray[np.float64]

#: By how much levels may be out of bounds: a logarithm's last bit.
_SLACK = 1e-9


def check_names(arguments: dict[str, Any]) -> None:
    """Raises ``TypeError`` where an argument is not one of pymoo's algorithms."""
    known = inspect.signature(Algorithm.__init__).parameters.keys() - {"self", "kwargs"}
    for name, value in arguments.items():
        if name not in known:
            raise TypeError(f"{name}: expected an argument of pymoo's algorithms, {sorted(known)}, got {value!r}")


def check_problem(problem: Any, *, counts: bool) -> None:
    """Raises ``TypeError`` or ``ValueError`` where a problem cannot be served.

    Args:
        problem: What was given.
        counts: Whether it must count its interactions.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a pymoo Problem, got {problem!r}")
    if problem.n_obj < 2:
        raise ValueError(f"problem: expected two objectives or more, which have a front, got {problem.n_obj}")
    if problem.has_constraints():
        raise ValueError(f"problem: expected one without constraints, got {problem.n_constr}")
    if counts and not hasattr(problem, "interaction_count"):
        raise TypeError(
            f"problem: expected one with an interaction_count, which first_interactions asks for, got {problem!r}"
        )
    last_bounds(problem)


def check_descending(name: str, levels: ArrayLike) -> Floats:
    """Return levels as an array.

    Raises:
        TypeError: They are not real numbers.
        ValueError: There is none, they are not finite, or do not descend.
    """
    values = check_vector(name, levels)
    if (np.diff(values) >= 0.0).any():
        raise ValueError(f"{name}: expected numbers that descend, got {levels!r}")
    return values


def check_levels(problem: Any, levels: Floats) -> Floats:
    """Return levels between the bounds of a problem's last variable.

    Raises:
        ValueError: One is not.
    """
    low, high = last_bounds(problem)
    for i, level in enumerate(levels):
        if not low - _SLACK <= level <= high + _SLACK:
            raise ValueError(f"levels[{i}]: expected a level in [{low:g}, {high:g}], got {level:g}")
    return levels.clip(low, high)


def check_center(problem: Any, center: Floats) -> Floats:
    """Return an individual to begin from, whose last variable may be anything.

    Raises:
        ValueError: Its shape is wrong, or it is out of bounds.
    """
    if center.shape != (problem.n_var,):
        raise ValueError(f"center: expected shape (D + 1,) = ({problem.n_var},), got {center.shape}")
    for i in np.flatnonzero((center.clip(problem.xl, problem.xu) != center)[:-1]):
        low, high = problem.xl[i], problem.xu[i]
        raise ValueError(f"center[{i}]: expected a number in [{low:g}, {high:g}], got {center[i]:g}")
    return center


def check_evaluated(infills: Any, asked: Floats | None, num_objectives: int) -> None:
    """Refuse a generation that is not the one that was asked for, or is not evaluated.

    Args:
        infills: Evaluated individuals.
        asked: ``(N, D + 1)``, those that were asked for; None where none were.
        num_objectives: M.

    Raises:
        ValueError: They are not those that were asked for, one has not M objectives, or one of them is NaN.
    """
    if asked is None:
        raise ValueError("infills: expected individuals that ask returned, got some before ask was called")
    expected = f"the {len(asked)} individuals that ask returned, in their order and evaluated"
    if not isinstance(infills, Population):
        raise ValueError(f"infills: expected {expected}, got {infills!r}")
    if len(infills) != len(asked) or not np.array_equal(infills.get("X"), asked):
        raise ValueError(f"infills: expected {expected}, got {len(infills)} others")
    for i, individual in enumerate(infills):
        if np.shape(individual.F) != (num_objectives,):
            raise ValueError(f"infills: expected {expected}, got F = {individual.F!r} for individual {i}")
        if np.isnan(individual.F).any():
            values = np.asarray(individual.F).tolist()
            raise ValueError(f"problem: expected F without NaN, got {values} for individual {i}")
