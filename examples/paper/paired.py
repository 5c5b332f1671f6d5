"""Differences between runs that are paired by seed: their tests, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import rankdata, wilcoxon

from subnet_problems.experiments import Row, by_run
from subnet_problems.pictures import save_figure


def mean_rewards(rows: list[Row], name: str) -> dict[int, float]:
    """The mean of the tests of each run of a name, by seed."""
    runs = {seed: tests for (other, seed), tests in by_run(rows).items() if other == name}
    return {seed: float(np.mean([row["test_mean"] for row in tests])) for seed, tests in runs.items()}


def differences(rows: list[Row], one: str, other: str) -> np.ndarray:
    """Mean rewards of runs of one name minus those of another, for the seeds that both have."""
    ours, theirs = mean_rewards(rows, one), mean_rewards(rows, other)
    return np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def significance(change: np.ndarray) -> list[str]:
    """Table cells for paired differences: median, quartiles, and p of Wilcoxon's signed-rank test."""
    low, middle, high = np.percentile(change, [25, 50, 75])
    return [f"{middle:+.0f}", f"{low:+.0f} to {high:+.0f}", f"{float(wilcoxon(change).pvalue):.3f}"]


def permutation_test(changes: list[np.ndarray], *, num_draws: int = 100_000) -> tuple[float, float]:
    """Test whether differences in several settings are centered at 0, by their signed ranks within each setting.

    Returns:
        The sum over settings of Wilcoxon's signed ranks divided by their standard deviation under the null hypothesis,
        and the two-sided p.
    """
    rng = np.random.default_rng(0)
    found, drawn = 0.0, np.zeros(num_draws)
    for change in changes:
        ranks = rankdata(np.abs(change)) * (change != 0)
        scale = max(1.0, float(np.sqrt((ranks**2).sum())))
        found += float((np.sign(change) * ranks).sum()) / scale
        drawn += (rng.choice([-1.0, 1.0], size=(num_draws, len(change))) @ ranks) / scale
    return found, float((np.abs(drawn) >= abs(found) - 1e-9).mean())


def short(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def holm(ps: dict[str, float]) -> dict[str, float]:
    """Correct several p values by Holm's method (1979)."""
    result, largest = {}, 0.0
    for position, name in enumerate(sorted(ps, key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - position) * ps[name]))
        result[name] = largest
    return result


def plot_differences(
    changes: Mapping[str, Mapping[str, np.ndarray]], path: Path, *, xlabel: str, height: float
) -> None:
    """Plot differences, one dot per seed: a panel for each key, a line for each key of its mapping, the same in all."""
    figure, all_axes = plt.subplots(1, len(changes), figsize=(15, height), layout="constrained", sharey=True)
    for axes, (title, lines) in zip(all_axes, changes.items(), strict=True):
        for y, change in enumerate(reversed(lines.values())):
            if len(change):
                axes.plot(change, np.full(len(change), y), "o", color="C0", alpha=0.5)
                axes.plot(np.median(change), y, "|", color="C0", markersize=20, markeredgewidth=2)
        axes.axvline(0.0, color="0.5", linestyle=":")
        axes.set_yticks(range(len(lines)), reversed(lines))
        axes.set(title=title, xlabel=xlabel)
    save_figure(figure, path)
