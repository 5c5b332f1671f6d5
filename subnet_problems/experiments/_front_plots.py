"""Plots of fronts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .._checks import naming
from ..subnetworks._subnetwork import Subnetwork
from ._fronts import attainment

#: Ticks of an axis of shares of weights, in percent: for a wide range, and for a narrow range.
_SHARES = (100, 50, 30, 20, 10, 5, 3, 2, 1, 0.5, 0.3, 0.2, 0.1)
_FINE_SHARES = (100, 70, 50, 30, 20, 15, 10, 7, 5, 4, 3, 2, 1.5, 1, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)


def plot_front(
    subnets: Iterable[Subnetwork],
    *,
    threshold: float | None = None,
    seen: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot test reward, with its standard error, against the share of weights that is kept.

    Args:
        subnets: Tested policies (``Subnetwork.tested``) with networks of the same size.
        threshold: The reward at which the task is solved, or None.
        seen: The mean reward of each policy before its test, by which it was chosen, or None.
        ax: Matplotlib axes. Default: new axes.

    Returns:
        The axes.

    Raises:
        TypeError: One of ``subnets`` is not a Subnetwork.
        ValueError: There is no policy, one was never tested, or ``seen`` has the wrong length.
    """
    subnets = list(subnets)
    if not all(isinstance(subnet, Subnetwork) for subnet in subnets):
        raise TypeError(f"subnets: expected Subnetworks, got {subnets}")
    if not subnets or any("mean" not in subnet.tests for subnet in subnets):
        raise ValueError(f"subnets: expected at least one, all tested, got {subnets}")
    if seen is not None and len(seen) != len(subnets):
        raise ValueError(f"seen: expected a reward for each of {len(subnets)} subnetworks, got {len(seen)}")
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    order = sorted(range(len(subnets)), key=lambda i: subnets[i].sparsity)
    shares = [100.0 * (1.0 - subnets[i].sparsity) for i in order]
    kept = [share or _place_of_nothing(shares) for share in shares]
    if seen is not None:
        axes.plot(kept, [seen[i] for i in order], "o", mfc="none", color="0.6", label="when chosen")
    axes.errorbar(
        kept, [subnets[i].tests["mean"] for i in order],
        yerr=[subnets[i].tests.get("standard_error") or 0.0 for i in order],
        fmt="o-", color="C0", capsize=3, label="in its test: mean and standard error",
    )  # fmt: skip
    if threshold is not None:
        axes.axhline(threshold, color="C2", linewidth=1, linestyle="--", label=f"solved ({threshold:g})")
    _share_axis(axes, shares, num_weights=subnets[0].num_weights)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False, fontsize=9)
    return axes


def plot_attainment(
    groups: Mapping[str, Sequence[Any]], *, threshold: float | None = None, ax: Axes | None = None
) -> Axes:
    """Plot attainment surfaces over seeds: the median solid, the worst dotted, and a band between them.

    At each share of weights, at least half of a search's seeds found a policy with at most this share and at least the
    reward of the solid line; all seeds found one with at least the reward of the dotted line. The solid line ends at
    the share below which fewer than half of the seeds found a policy, and the dotted line at the share below which not
    all did. See ``attainment``.

    Args:
        groups: A mapping from the name of each search to its fronts, one per seed, as ``attainment`` accepts them.
        threshold: The reward at which the task is solved, or None.
        ax: Matplotlib axes. Default: new axes.

    Returns:
        The axes.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: There is no group, a group does not consist of fronts, or no group has a median surface.
    """
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups: expected a mapping of names to fronts, got {groups!r}")
    surfaces = {}
    for name, fronts in groups.items():
        with naming(fronts=f"groups[{name!r}]"):
            surfaces[name] = attainment(fronts, percentiles=[50, 100])
    drawn = np.concatenate([points for both in surfaces.values() for points in both.values()] or [np.empty((0, 2))])
    if not len(drawn):
        raise ValueError(f"groups: expected one with a policy from at least half of its seeds, got {groups!r}")
    axes = ax if ax is not None else plt.figure(figsize=(8, 5), layout="constrained").subplots()
    shares = (100.0 * drawn[:, 1]).tolist()
    densest = min(1.25 * max(shares), 100.0)  # a reward attained at a share is attained at larger shares too
    at = np.unique([*(share or _place_of_nothing(shares) for share in shares), densest])
    for number, (name, both) in enumerate(surfaces.items()):
        style: dict[str, Any] = {"color": f"C{number % 10}"}
        median, worst = (_steps(both[percentile], at) for percentile in (50, 100))
        seeds = f"{len(groups[name])} seed{'s' * (len(groups[name]) > 1)}"
        axes.plot(at, median, "-" if number < 10 else "--", drawstyle="steps-post", label=f"{name} ({seeds})", **style)
        axes.plot(at, worst, ":", drawstyle="steps-post", linewidth=1, **style)
        axes.fill_between(at, worst, median, step="post", alpha=0.1, linewidth=0, **style)
    axes.plot([], [], "-", color="0.3", label="at least half of the seeds")
    axes.plot([], [], ":", color="0.3", linewidth=1, label="all seeds")
    if threshold is not None:
        axes.axhline(threshold, color="0.5", linewidth=1, linestyle="--", label=f"solved ({threshold:g})")
    _share_axis(axes, shares)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False, fontsize=9)
    return axes


def _steps(surface: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reward of a surface at ascending shares of weights, in percent; NaN if the surface has no reward there."""
    last = np.searchsorted(100.0 * surface[:, 1], at, side="right") - 1
    return np.where(last >= 0, np.append(surface[:, 0], np.nan)[last], np.nan)


def _place_of_nothing(shares: Sequence[float]) -> float:
    """The place of a policy without weights on a logarithmic axis of shares, which has no 0."""
    return min((share for share in shares if share > 0.0), default=1.0) / 2


def _share_axis(axes: Axes, shares: Sequence[float], *, num_weights: int | None = None) -> None:
    """Set up the x axis: shares of weights in percent, sparser to the right, with numbers of weights if known."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    nothing = _place_of_nothing(shares)
    least, most = 2 * nothing, max(shares)
    candidates = _SHARES if most > 20 * least else _FINE_SHARES
    if min(shares) == most > 0.0:  # for a single share, matplotlib's limits are lopsided
        axes.set_xlim(1.5 * most, most / 1.5)
    low, high = sorted(axes.get_xlim())
    ticks = _apart([tick for tick in candidates if low <= tick <= high], span=high / low)
    if len(ticks) < 2:  # in a narrow range, use its ends
        ticks = [float(f"{share:.3g}") for share in sorted({least, most}, reverse=True)]
    labels = [f"{t:g} %" + ("" if num_weights is None else f"\n{round(num_weights * t / 100):,}") for t in ticks]
    if 0.0 in shares:
        ticks, labels = [*ticks, nothing], [*labels, "0 %" + ("" if num_weights is None else "\n0")]
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.set(xlabel="weights kept (sparser to the right)", ylabel="reward of an episode")


def _apart(ticks: Sequence[float], *, span: float) -> list[float]:
    """Descending ticks of a logarithmic axis, thinned so that each label has a twelfth of the axis."""
    apart: list[float] = []
    for tick in ticks:
        if not apart or apart[-1] / tick >= span ** (1 / 12):
            apart.append(tick)
    return apart
