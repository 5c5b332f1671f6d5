"""Do masks solve classic control, and how soon? The paper mentions these tasks but reports no results for them.

Masks are searched in a network without biases, as in the paper, with biases, and with biases and 90 % of all weights
removed. For comparison, the same search runs on the weights themselves, with biases. Without biases, a tanh network is
an odd function: its output at -x is minus its output at x. Observations of the mountain cars are normalized; Pendulum's
weights are between -6 and 6.

CartPole, Acrobot and the mountain cars are solved at Gymnasium's own reward thresholds. Pendulum has no threshold: we
use -200, at which the pendulum is swung up and held from most starts (one that is never swung up earns about -1200).

    python examples/paper/classic_control.py --seeds 5

Writes classic_control.csv (every test of every run), classic_control.md and classic_control.png.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from evotorch.algorithms import SearchAlgorithm
from protocol import SOLVING, dense, draw_curves, markdown, masked, parser, perform, report, solving

from subnet_problems.experiments import Row, Run, outcome
from subnet_problems.pictures import save_figure

HIDDEN = (64, 64)
#: Task: its problem, the reward that solves it, environment steps of a run. Mountain cars move at most 0.07 per step,
#: which a network hardly sees unless observations are normalized. To hold a pendulum, a policy must react strongly to
#: small angles, which takes larger weights (irrelevant for a search on the weights themselves).
TASKS: dict[str, tuple[dict[str, Any], float, int]] = {
    "CartPole": ({}, 475.0, 300_000),
    "Acrobot": ({}, -100.0, 500_000),
    "MountainCar": ({"observation_normalization": True}, -110.0, 3_000_000),
    "MountainCarContinuous": ({"observation_normalization": True}, 90.0, 1_000_000),
    "Pendulum": ({"weight_gain": 6.0}, -200.0, 6_000_000),
}
SEARCHES: dict[str, Callable[..., SearchAlgorithm]] = {
    "no biases": masked,
    "biases": partial(masked, bias=True),
    "biases, sparsity 0.9": partial(masked, bias=True, sparsity=0.9),
    "weights themselves": partial(dense, bias=True),
}


def table(rows: list[Row]) -> str:
    """A table of solved seeds and samples."""
    head = ["task", "search", "solved at", *SOLVING]
    head += ["final reward: median", "least", "most"]
    lines = []
    for task, (_, solved, _) in TASKS.items():
        for search in SEARCHES:
            found = outcome(rows, f"{task} {search}", solved=solved)
            if found.num_seeds:
                lines.append([
                    task, search, f"{solved:g}", *solving(found),
                    *(f"{x:.1f}" for x in (np.median(found.final), found.final.min(), found.final.max())),
                ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot test reward against environment steps, one panel per task."""
    figure, all_axes = plt.subplots(1, len(TASKS), figsize=(18, 3.6), layout="constrained")
    for axes, (task, (_, solved, _)) in zip(all_axes, TASKS.items(), strict=True):
        for color, search in zip(("0.5", "C0", "C3", "C1"), SEARCHES, strict=True):
            name = f"{task} {search}"
            if any(row["name"] == name for row in rows):
                draw_curves(axes, rows, name, label=search, color=color)
        axes.axhline(solved, color="0.5", linestyle=":")
        axes.set(title=task, xlabel="environment steps (millions)")
    all_axes[0].set_ylabel("test reward")
    all_axes[0].legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def main() -> None:
    options = parser(__doc__, seeds=5)
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(
            f"{task} {name}", seed, partial(search, task=task, hidden_sizes=HIDDEN, **problem),
            args.budget or budget,
        )
        for seed in range(args.seeds)
        for task, (problem, _, budget) in TASKS.items() if task in args.tasks
        for name, search in SEARCHES.items()
    ]  # fmt: skip
    report(perform(runs, args, "classic_control"), args.output / "classic_control", table, plot)


if __name__ == "__main__":
    main()
