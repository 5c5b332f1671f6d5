"""How much sparsity can be enforced? The paper: 45 to 55 % without enforcement; "up to 90 percent ... reliably".

There are two ways to enforce it. *top-k* keeps an exact number of the highest scores: of all weights together, or
(*Erdos-Renyi*) of each layer in proportion to its inputs plus outputs. It rescales the kept weights so that the signal
of a unit does not shrink. *threshold* is the paper's way: scores are drawn around 0, and the threshold is set so that
the required share of the initial scores is below it; sparsity can then change freely. It is used with the paper's own
search. The default search starts from a mean of many elites, whose scores are closer to 0 than those of the elites, so
a threshold above 0 would remove nearly all weights.

    python examples/paper/sparsity.py --seeds 5

Writes sparsity.csv (every test of every run), sparsity.md and sparsity.png.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import NormalDist

import matplotlib.pyplot as plt
import numpy as np
from protocol import OURS, PLAIN, SOLVING, markdown, masked, parser, perform, report, solving

from subnet_problems import MaskRule, Threshold, TopK
from subnet_problems.experiments import Row, Run, outcome
from subnet_problems.pictures import save_figure

#: Task: hidden sizes, the reward that solves it, environment steps of a run.
TASKS = {
    "LunarLanderContinuous": ((87, 87), 200.0, 1_500_000),
    "CartPole": ((64, 64), 475.0, 300_000),
    "Acrobot": ((64, 64), -100.0, 500_000),
}
SPARSITIES = [0.5, 0.7, 0.9, 0.95, 0.98, 0.99]
ERDOS_RENYI = [f"top-k {sparsity}, Erdos-Renyi" for sparsity in SPARSITIES if sparsity >= 0.9]
TOP_K = [f"top-k {sparsity}" for sparsity in SPARSITIES]
THRESHOLD = [f"threshold {sparsity}" for sparsity in SPARSITIES]
RULES = ["free", *TOP_K, *ERDOS_RENYI, *THRESHOLD]
#: The default search, but at the final sparsity from the start; ``levels.py`` has the default.
FROM_NOTHING = replace(OURS, search={"continuation": False})
#: Standard deviation of the initial scores, and the unit of the thresholds.
SCORE_STDEV = 0.1


def rule_of(name: str) -> MaskRule:
    """A mask rule by its name in tables."""
    if name == "free":
        return Threshold(0.0)
    name, _, layers = name.partition(", ")
    rule, sparsity = name.split()
    if rule == "top-k":
        return TopK(float(sparsity), scope="erdos_renyi" if layers else "global")
    return Threshold(SCORE_STDEV * NormalDist().inv_cdf(float(sparsity)))


def table(rows: list[Row]) -> str:
    """A table of samples to solve and test reward by enforced sparsity."""
    head = ["task", "enforced", "sparsity at the end: median (least to most)", *SOLVING]
    head += ["highest reward: median", "tested again", "final: median"]
    lines = []
    for task, (_, solved, _) in TASKS.items():
        for rule in RULES:
            found = outcome(rows, f"{task} {rule}", solved=solved)
            if found.num_seeds:
                low, median, high = (100 * np.quantile(found.sparsity, q) for q in (0.0, 0.5, 1.0))
                lines.append([
                    task, rule, f"{median:.1f} % ({low:.1f} to {high:.1f})",
                    *solving(found), f"{np.median(found.highest):.0f}", f"{np.median(found.again):.0f}",
                    f"{np.median(found.final):.0f}",
                ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot the highest test reward, tested again, of each seed against the final sparsity of its policy."""
    played = [task for task in TASKS if any(row["name"].startswith(f"{task} ") for row in rows)]
    figure, all_axes = plt.subplots(1, len(played), figsize=(7 * len(played), 4), layout="constrained", squeeze=False)
    for axes, task in zip(all_axes[0], played, strict=True):
        solved = TASKS[task][1]
        for label, names, color, marker in (
            ("top-k, layers by Erdős-Rényi", ERDOS_RENYI, "C2", "D"),
            ("top-k of all", TOP_K, "C0", "o"),
            ("threshold", THRESHOLD, "C1", "^"),
            ("free", ["free"], "0.3", "s"),
        ):
            found = [outcome(rows, f"{task} {name}", solved=solved) for name in names]
            density = np.concatenate([1.0 - runs.sparsity for runs in found])
            reward = np.concatenate([runs.again for runs in found])
            axes.plot(density, reward, marker, color=color, alpha=0.6, label=label)
        axes.axhline(solved, color="0.5", linestyle=":")
        axes.set(xscale="log", title=task, xlabel="share of the weights kept")
        axes.invert_xaxis()
    all_axes[0, 0].set_ylabel("highest test reward, tested again")
    all_axes[0, 0].legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    options = parser(__doc__, seeds=5)
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    options.add_argument("--rules", nargs="+", choices=RULES, default=RULES, metavar="RULE")
    args = options.parse_args()
    runs = [
        Run(
            f"{task} {rule}", seed,
            partial(
                masked, task=task, hidden_sizes=TASKS[task][0], mask_rule=rule_of(rule), score_stdev=SCORE_STDEV,
                setting=PLAIN if rule in THRESHOLD else FROM_NOTHING,
            ),
            args.budget or TASKS[task][2],
        )
        for seed in range(args.seeds) for task in args.tasks for rule in args.rules
    ]  # fmt: skip
    report(perform(runs, args, "sparsity"), args.output / "sparsity", table, plot)


if __name__ == "__main__":
    main()
