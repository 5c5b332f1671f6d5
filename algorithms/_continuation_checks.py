"""Checks of the inputs of ``Continuation``: arguments, problem, levels, center and evaluated individuals."""

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

#: How far levels may be out of bounds, to allow for the rounding of logarithms.
_SLACK = 1e-9


def check_names(arguments: dict[str, Any]) -> None:
    """Raise ``TypeError`` if an argument is not one that all pymoo algorithms accept."""
    known = inspect.signature(Algorithm.__init__).parameters.keys() - {"self", "kwargs"}
    for name, value in arguments.items():
        if name not in known:
            raise TypeError(f"{name}: expected an argument of pymoo's algorithms, {sorted(known)}, got {value!r}")


def check_problem(problem: Any, *, counts: bool) -> None:
    """Raise ``TypeError`` or ``ValueError`` if ``Continuation`` does not support a problem.

    Args:
        problem: The value of the argument.
        counts: Whether the problem must count its interactions.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a pymoo Problem, got {problem!r}")
    if problem.n_obj < 2:
        raise ValueError(f"problem: expected at least two objectives, got {problem.n_obj}")
    if problem.has_constraints():
        raise ValueError(f"problem: expected no constraints, got {problem.n_constr}")
    if counts and not hasattr(problem, "interaction_count"):
        raise TypeError(
            f"problem: expected one with an interaction_count, which first_interactions needs, got {problem!r}"
        )
    last_bounds(problem)


def check_descending(name: str, levels: ArrayLike) -> Floats:
    """Return levels as a descending array.

    Raises:
        TypeError: They are not real numbers.
        ValueError: They are empty, not finite or not descending.
    """
    values = check_vector(name, levels)
    if (np.diff(values) >= 0.0).any():
        raise ValueError(f"{name}: expected descending numbers, got {levels!r}")
    return values


def check_levels(problem: Any, levels: Floats) -> Floats:
    """Return levels, clipped to the bounds of a problem's last variable.

    Raises:
        ValueError: A level is out of bounds.
    """
    low, high = last_bounds(problem)
    for i, level in enumerate(levels):
        if not low - _SLACK <= level <= high + _SLACK:
            raise ValueError(f"levels[{i}]: expected a level in [{low:g}, {high:g}], got {level:g}")
    return levels.clip(low, high)


def check_center(problem: Any, center: Floats) -> Floats:
    """Return an initial center; its last variable is not checked.

    Raises:
        ValueError: It has the wrong shape or is out of bounds.
    """
    if center.shape != (problem.n_var,):
        raise ValueError(f"center: expected shape (D + 1,) = ({problem.n_var},), got {center.shape}")
    for i in np.flatnonzero((center.clip(problem.xl, problem.xu) != center)[:-1]):
        low, high = problem.xl[i], problem.xu[i]
        raise ValueError(f"center[{i}]: expected a number in [{low:g}, {high:g}], got {center[i]:g}")
    return center


def check_evaluated(infills: Any, asked: Floats | None, num_objectives: int) -> None:
    """Check that a generation is the one that ``ask`` returned, and is evaluated.

    Args:
        infills: Evaluated individuals.
        asked: ``(N, D + 1)``, the individuals that ``ask`` returned; None if ``ask`` was not called.
        num_objectives: M, the number of objectives.

    Raises:
        ValueError: They are not the individuals that ``ask`` returned, one does not have M objectives, or an
            objective is NaN.
    """
    if asked is None:
        raise ValueError("infills: expected individuals that ask returned, got individuals before ask was called")
    expected = f"the {len(asked)} individuals that ask returned, in their order and evaluated"
    if not isinstance(infills, Population):
        raise ValueError(f"infills: expected {expected}, got {infills!r}")
    if len(infills) != len(asked) or not np.array_equal(infills.get("X"), asked):
        raise ValueError(f"infills: expected {expected}, got {len(infills)} other individuals")
    for i, individual in enumerate(infills):
        if np.shape(individual.F) != (num_objectives,):
            raise ValueError(f"infills: expected {expected}, got F = {individual.F!r} for individual {i}")
        if np.isnan(individual.F).any():
            values = np.asarray(individual.F).tolist()
            raise ValueError(f"problem: expected F without NaN, got {values} for individual {i}")
