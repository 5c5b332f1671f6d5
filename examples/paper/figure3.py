"""The paper's Figure 3: how much the test reward fluctuates between generations of one BipedalWalker run.

The paper explains the fluctuations by its elites, which are "never fully cloned into the new population". Four searches
have the same seed: the paper's own (32 solutions, 3 episodes each), the same with elites that are kept and evaluated
again, and this package's current default and earlier default (*weighted*), with 64 solutions and 1 episode each. The
latter two draw every child around one center and return the best average of centers. All searches cut episodes at 400
steps; tests play full episodes. Every generation is tested on 20 episodes. The plot shows seed 0.

    python examples/paper/figure3.py

Writes figure3.csv (every test), figure3.md and figure3.png.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from protocol import OURS, PLAIN, WEIGHTED, markdown, masked, parser, perform, report

from subnet_problems.experiments import Row, Run, by_run
from subnet_problems.pictures import save_figure

TASK, BUDGET, TEST_EPISODES = "BipedalWalker", 5_000_000, 20
#: A walker may stand still for 1,600 steps, so the searches cut its episodes; tests play full episodes.
PROBLEM: dict[str, Any] = {"hidden_sizes": (64, 64), "episode_length": 400}
SETTINGS = {
    "plain": PLAIN,
    "plain, elites kept": replace(PLAIN, search={**PLAIN.search, "clone_elites": True}),
    "weighted": WEIGHTED,
    "ours": OURS,
}
#: Two tests of one policy rarely differ by more than this; the table has their standard error.
FALL = 50.0


def table(rows: list[Row]) -> str:
    """A table of how often and how much the test reward falls."""
    head = ["search", "seed", "generations", "highest reward", "last 20 generations: mean", "standard deviation"]
    head += [f"falls by more than {FALL:g} at once", "deepest", "furthest below the highest so far"]
    head += ["mean change", "mean standard error of a test"]
    lines = []
    for (name, seed), tests in by_run(rows).items():
        rewards = np.array([row["test_mean"] for row in tests])
        changes = np.diff(rewards)
        lines.append([
            name, f"{seed:g}", str(len(tests)), f"{rewards.max():.0f}", f"{rewards[-20:].mean():.0f}",
            f"{rewards[-20:].std():.0f}", str(np.count_nonzero(changes < -FALL)), f"{-changes.min(initial=0.0):.0f}",
            f"{(np.maximum.accumulate(rewards) - rewards).max():.0f}",
            f"{np.abs(changes).sum() / max(1, len(changes)):.1f}",
            f"{np.mean([row['test_standard_error'] for row in tests]):.1f}",
        ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot one panel per search."""
    runs = {run: tests for run, tests in by_run(rows).items() if run[1] == 0}
    figure, all_axes = plt.subplots(
        1, len(SETTINGS), figsize=(15, 4), layout="constrained", sharey=True, sharex=True, squeeze=False
    )
    for axes, name in zip(all_axes[0], SETTINGS, strict=True):
        tests = runs.get((name, 0), [])
        axes.plot([row["steps"] / 1e6 for row in tests], [row["test_mean"] for row in tests], linewidth=0.9)
        axes.set(title=name, xlabel="environment steps (millions)")
    all_axes[0, 0].set_ylabel("test reward of each generation")
    save_figure(figure, path)


def main() -> None:
    args = parser(__doc__, seeds=1).parse_args()
    runs = [
        Run(
            name, seed, partial(masked, task=TASK, setting=setting, **PROBLEM), args.budget or BUDGET,
            num_tests=0, test_episodes=TEST_EPISODES,
        )
        for seed in range(args.seeds) for name, setting in SETTINGS.items()
    ]  # fmt: skip
    report(perform(runs, args, "figure3"), args.output / "figure3", table, plot)


if __name__ == "__main__":
    main()
