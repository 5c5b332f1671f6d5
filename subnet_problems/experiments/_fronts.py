"""Measures of fronts of reward and density: hypervolume and empirical attainment surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import moocore
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .._checks import check_numbers, check_path, check_real
from ._tables import read_table

Floats = NDArray[np.float64]


class Front(NamedTuple):
    """The policies of a front, in any order. It may contain dominated policies: they have no effect.

    Attributes:
        rewards: ``(n,)``, higher is better; negative infinity is infinitely bad.
        densities: ``(n,)`` in [0, 1], the share of kept (or live) weights.
    """

    rewards: Floats
    densities: Floats


def hypervolume(
    rewards: ArrayLike,
    densities: ArrayLike,
    *,
    worst: float,
    best: float | None = None,
    least_density: float = 1e-3,
) -> float:
    """The area that policies dominate in the plane of reward and density, in units of reward times decades.

    A policy with reward r and density d dominates a rectangle of width r - ``worst`` and height -log10(d), the number
    of decades from density 1 down to d. The hypervolume is the area of the union of these rectangles. For example, a
    reward of 100 above ``worst`` with 1/10 of the weights has an area of 100; with 1/100 of the weights the area is
    200. The maximum hypervolume is (``best`` - ``worst``) times log10(1 / ``least_density``).

    Hypervolumes are comparable if ``worst``, ``best`` and ``least_density`` are the same.

    Args:
        rewards: ``(n,)``. A policy with a reward of at most ``worst``, such as negative infinity, adds nothing.
        densities: ``(n,)`` in [0, 1]. A policy that keeps all weights adds nothing.
        worst: The reward above which a policy counts, such as that of a random mask.
        best: Higher rewards count as ``best``, for tasks that require no more. Default: None, no limit.
        least_density: Lower densities count as ``least_density``. Default: 0.001.

    Returns:
        The area; 0 if there is no policy.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Rewards and densities have wrong or different shapes, or contain NaN; a reward is positive infinity
            and ``best`` is None; a density is outside [0, 1]; ``best`` is at most ``worst``; or ``least_density`` is
            not within (0, 1).
    """
    worst = check_real("worst", worst)
    best = np.inf if best is None else check_real("best", best)
    if best <= worst:
        raise ValueError(f"best: expected more than worst = {worst:g}, got {best:g}")
    least_density = check_real("least_density", least_density, above=0.0, below=1.0)
    front = _checked("rewards", "densities", rewards, densities, greatest=best)
    gains = np.minimum(front.rewards, best) - worst
    decades = -np.log10(np.maximum(front.densities, least_density))
    return float(moocore.hypervolume(np.column_stack([gains, decades])[gains > 0.0], ref=[0.0, 0.0], maximise=True))


def attainment(
    fronts: Sequence[tuple[ArrayLike, ArrayLike] | ArrayLike], *, percentiles: Sequence[float]
) -> dict[float, Floats]:
    """Empirical attainment surfaces: the rewards and densities that a given share of the fronts attains.

    A front attains a point (r, d) if one of its policies has a reward of at least r and a density of at most d. The
    surface of percentile p consists of the nondominated points among all points that at least p percent of the n fronts
    attain, that is, at least ceil(p n / 100) fronts. So 50 is the median: at least half of the seeds attain each of its
    points. 100 is the worst: all seeds attain each of its points. At a density between two points of a surface, the
    reward is that of the sparser point; below the lowest density of the surface, there is no reward.

    Different points of a surface may be attained by different fronts: no single front needs to be this good at all
    densities.

    The definition is that of Grunert da Fonseca, Fonseca and Hall (2001), the computation that of ``moocore.eaf``.

    Args:
        fronts: One front per seed: a tuple ``(rewards, densities)`` of arrays ``(n,)`` such as a ``Front``, or an array
            ``(n, 2)`` with these columns. A front without policies, or with only rewards of negative infinity, attains
            nothing but counts as a front.
        percentiles: Numbers in (0, 100].

    Returns:
        For each percentile, ``(n, 2)`` points of reward and density, in ascending order of both. The array is empty if
        too few fronts attain a common point.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There is no front or no percentile, a percentile is out of range, or a front has a wrong shape, a
            NaN, a reward of positive infinity, or a density outside [0, 1].
    """
    if isinstance(fronts, str | bytes) or not isinstance(fronts, Sequence | np.ndarray):
        raise TypeError(f"fronts: expected a sequence of fronts, got {fronts!r}")
    if not len(fronts):
        raise ValueError("fronts: expected at least one, got none")
    levels = _checked_percentiles(percentiles)
    checked = [_checked_front(f"fronts[{i}]", front) for i, front in enumerate(fronts)]
    # moocore ignores fronts without points, so each front gets a point that every other point dominates
    padded = [np.vstack([np.column_stack([-front.rewards, front.densities]), [[np.inf, np.inf]]]) for front in checked]
    sets = np.repeat(np.arange(len(padded)), [len(points) for points in padded])
    found = np.asarray(moocore.eaf(np.vstack(padded), sets, percentiles=levels))
    found = found[np.isfinite(found[:, 0])]
    surfaces = {}
    for level in levels:
        points = found[found[:, 2] == level][:, :2] * [-1.0, 1.0]
        surfaces[level] = points[np.argsort(points[:, 1])]
    return surfaces


def read_front(path: str | Path) -> Front:
    """Read test rewards and densities from a ``front.csv`` that ``pareto_search`` wrote.

    Args:
        path: The file, with at least the columns ``sparsity`` and ``test_reward``.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: The file lacks these columns, or a line is not a policy.
        OSError: The file cannot be read.
    """
    path, columns = check_path("path", path), ("sparsity", "test_reward")
    rows = read_table(
        path, lambda column, text: float(text) if column in columns else text, table="a front.csv", row="a policy",
        columns=columns,
    )  # fmt: skip
    rewards, densities = [row["test_reward"] for row in rows], [1.0 - row["sparsity"] for row in rows]
    return _checked(f"path: columns of {path}: test_reward", f"path: columns of {path}: sparsity", rewards, densities)


def _checked_front(name: str, front: tuple[ArrayLike, ArrayLike] | ArrayLike) -> Front:
    """Convert a front that is a tuple or an array.

    Raises:
        TypeError: It does not consist of real numbers.
        ValueError: See ``_checked``.
    """
    if isinstance(front, tuple):
        if len(front) != 2:
            raise ValueError(f"{name}: expected a tuple (rewards, densities), got one of length {len(front)}")
        return _checked(f"{name}[0]", f"{name}[1]", *front)
    points = _floats(name, front)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name}: expected a tuple (rewards, densities) or shape (n, 2), got {points.shape}")
    return _checked(f"{name}[:, 0]", f"{name}[:, 1]", points[:, 0], points[:, 1])


def _checked(
    rewards_name: str, densities_name: str, rewards: ArrayLike, densities: ArrayLike, *, greatest: float = np.inf
) -> Front:
    """Rewards and densities ``(n,)`` as a front of float64 arrays; infinite rewards later count as ``greatest``.

    Raises:
        TypeError: They are not real numbers.
        ValueError: A shape is wrong, a number is NaN, a density is outside [0, 1], or a reward and ``greatest`` are
            both positive infinity.
    """
    front = Front(_floats(rewards_name, rewards), _floats(densities_name, densities))
    if front.rewards.ndim != 1:
        raise ValueError(f"{rewards_name}: expected shape (n,), got {front.rewards.shape}")
    if front.densities.shape != front.rewards.shape:
        expected = f"(n,) = {front.rewards.shape}, that of {rewards_name}"
        raise ValueError(f"{densities_name}: expected shape {expected}, got {front.densities.shape}")
    bad_reward = np.isnan(front.rewards) | (np.minimum(front.rewards, greatest) == np.inf)
    if bad_reward.any():
        i = int(np.argmax(bad_reward))
        raise ValueError(
            f"{rewards_name}: expected finite numbers or negative infinity, got {front.rewards[i]} at index {i}"
        )
    bad_density = ~((front.densities >= 0.0) & (front.densities <= 1.0))
    if bad_density.any():
        i = int(np.argmax(bad_density))
        raise ValueError(f"{densities_name}: expected densities in [0, 1], got {front.densities[i]} at index {i}")
    return front


def _floats(name: str, values: ArrayLike) -> Floats:
    return np.asarray(check_numbers(name, values, dtype=torch.float64).numpy())


def _checked_percentiles(percentiles: Sequence[float]) -> list[float]:
    if isinstance(percentiles, str | bytes) or not isinstance(percentiles, Sequence | np.ndarray):
        raise TypeError(f"percentiles: expected numbers in (0, 100], got {percentiles!r}")
    levels = [check_real(f"percentiles[{i}]", level, above=0.0) for i, level in enumerate(percentiles)]
    if not levels:
        raise ValueError("percentiles: expected at least one, got none")
    for i, level in enumerate(levels):
        if level > 100.0:
            raise ValueError(f"percentiles[{i}]: expected a number in (0, 100], got {level:g}")
    return levels
