"""How large should the initial network be? The paper calls this one of its most difficult challenges.

Networks of 5,000 to 100,000 weights, with one and with two hidden layers, are searched with free sparsity, with 90 % of
the weights removed, and with as many weights kept as the smallest network keeps when sparsity is free.

    python examples/paper/sizes.py --seeds 3

Writes sizes.csv (every test of every run), sizes.md and sizes.png.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from protocol import SOLVING, WEIGHTED, markdown, masked, parser, perform, report, solving

from subnet_problems.experiments import Row, Run, outcome
from subnet_problems.pictures import save_figure

TASK, SOLVED, BUDGET = "LunarLanderContinuous", 200.0, 1_000_000
OBS_LENGTH, ACT_LENGTH = 8, 2
WEIGHTS = [5_000, 10_000, 20_000, 50_000, 100_000]
KEPT = WEIGHTS[0] // 2


def hidden_sizes(num_weights: int, num_layers: int) -> tuple[int, ...]:
    """One or two equal hidden layers of h units with about ``num_weights`` weights: h (8 + 2), or h (8 + 2) + h^2."""
    ends = OBS_LENGTH + ACT_LENGTH
    if num_layers == 1:
        return (round(num_weights / ends),)
    return (round((sqrt(ends**2 + 4 * num_weights) - ends) / 2),) * 2


def sparsities(num_weights: int) -> dict[str, float | None]:
    """The enforced sparsities, by their names in tables."""
    return {"free": None, "0.9": 0.9, f"{KEPT:,} kept": 1.0 - KEPT / num_weights}


def table(rows: list[Row]) -> str:
    """A table of samples to solve and test reward by the number of weights."""
    head = ["hidden layers", "weights", "enforced", *SOLVING]
    head += ["highest reward: median", "tested again", "final: median"]
    lines = []
    for num_layers in (1, 2):
        for num_weights in WEIGHTS:
            for sparsity in sparsities(num_weights):
                found = outcome(rows, f"{num_layers} {num_weights} {sparsity}", solved=SOLVED)
                if found.num_seeds:
                    lines.append([
                        str(hidden_sizes(num_weights, num_layers)), f"{num_weights:,}", sparsity,
                        *solving(found), f"{np.median(found.highest):.0f}", f"{np.median(found.again):.0f}",
                        f"{np.median(found.final):.0f}",
                    ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot samples to 200 (never: at the top) and the highest test reward, tested again, against size."""
    figure, all_axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained", sharex=True, sharey="row")
    for column, num_layers in enumerate((1, 2)):
        for shift, (color, kind) in enumerate(zip(("C0", "C3", "C2"), sparsities(WEIGHTS[0]), strict=True)):
            for num_weights in WEIGHTS:
                found = outcome(rows, f"{num_layers} {num_weights} {kind}", solved=SOLVED)
                if not found.num_seeds:
                    continue
                x = np.full(found.num_seeds, num_weights * 1.06 ** (shift - 1))
                label = kind if num_weights == WEIGHTS[0] else None
                samples = np.minimum(found.samples, 1.1 * BUDGET) / 1e6
                for axes, values in ((all_axes[0, column], samples), (all_axes[1, column], found.again)):
                    axes.plot(x, values, "o", color=color, alpha=0.5, label=label)
                    axes.plot(x[:1], np.median(values), "_", color=color, markersize=14, markeredgewidth=2)
        all_axes[0, column].axhline(1.05 * BUDGET / 1e6, color="0.5", linestyle=":")
        all_axes[1, column].axhline(SOLVED, color="0.5", linestyle=":")
        all_axes[0, column].set(title=f"{num_layers} hidden layer{'s' * (num_layers - 1)}", xscale="log")
        all_axes[1, column].set(xlabel="weights")
    all_axes[0, 0].set_ylabel("environment steps to 200 (millions);\nabove the dotted line: never")
    all_axes[1, 0].set_ylabel("highest test reward, tested again")
    all_axes[1, 0].legend(frameon=False, title="enforced sparsity", loc="lower right")
    save_figure(figure, path)


def main() -> None:
    args = parser(__doc__, seeds=3).parse_args()
    runs = [
        Run(
            f"{num_layers} {num_weights} {name}", seed,
            partial(
                masked, task=TASK, setting=WEIGHTED, hidden_sizes=hidden_sizes(num_weights, num_layers),
                sparsity=sparsity,
            ),
            args.budget or BUDGET,
        )
        for seed in range(args.seeds) for num_weights in WEIGHTS for num_layers in (1, 2)
        for name, sparsity in sparsities(num_weights).items()
    ]  # fmt: skip
    report(perform(runs, args, "sizes"), args.output / "sizes", table, plot)


if __name__ == "__main__":
    main()
