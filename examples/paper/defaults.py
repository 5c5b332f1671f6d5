"""Two defaults of a problem: the gain of the weights (1 or 0.7), and what is ranked when 90 % of them are removed.

The default search runs with free sparsity, and with 90 % of the weights removed, where all weights are ranked together
or layers keep shares by Erdos-Renyi; each with both gains, on tuning seeds from 100. Runs are compared by the mean of
their six tests, which is high if a search is good early and stays good. Differences are paired by seed: Wilcoxon's
signed-rank test for each task, and for all tasks together the permutation test of the ablation with Holm's correction.

    python examples/paper/defaults.py --seeds 20

Writes defaults.csv (every test of every run), defaults.md and defaults.png.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from paired import differences, holm, mean_rewards, permutation_test, plot_differences, short, significance
from protocol import SOLVING, markdown, masked, parser, perform, report, solving

from subnet_problems import TopK
from subnet_problems.experiments import Row, Run, outcome

#: Task: hidden layers, the reward that solves it, environment steps of a run.
TASKS: dict[str, tuple[tuple[int, ...], float, int]] = {
    "LunarLanderContinuous": ((87, 87), 200.0, 600_000),
    "Acrobot": ((64, 64), -100.0, 300_000),
    "CartPole": ((64, 64), 475.0, 100_000),
}
MASKS = {"free": None, "global": TopK(0.9), "erdos_renyi": TopK(0.9, scope="erdos_renyi")}
GAINS = (1.0, 0.7)
#: Comparison: the first choice and the second, each a mask and a gain.
COMPARISONS = {
    **{f"gain 0.7 instead of 1, {mask}": ((mask, 0.7), (mask, 1.0)) for mask in MASKS},
    **{f"Erdos-Renyi instead of global, gain {g:g}": (("erdos_renyi", g), ("global", g)) for g in GAINS},
}


def name_of(task: str, mask: str, gain: float) -> str:
    """The name of the runs of a choice."""
    return f"{task} {mask} gain {gain:g}"


def changes_by(rows: list[Row], task: str, comparison: str) -> np.ndarray:
    """Mean rewards with the first choice less those with the second, for the seeds that have both."""
    return differences(rows, *(name_of(task, *choice) for choice in COMPARISONS[comparison]))


def table(rows: list[Row]) -> str:
    """Tables of all choices, of the differences on each task, and of all tasks together."""
    head = ["task", "mask", "gain", *SOLVING, "mean reward: median", "final: median (least, most)"]
    lines, changes = [], []
    for task, (_, solved, _) in TASKS.items():
        for mask in MASKS:
            for gain in GAINS:
                found = outcome(rows, name_of(task, mask, gain), solved=solved)
                if found.num_seeds:
                    means = list(mean_rewards(rows, name_of(task, mask, gain)).values())
                    final = f"{np.median(found.final):.0f} ({found.final.min():.0f}, {found.final.max():.0f})"
                    lines.append([task, mask, f"{gain:g}", *solving(found), f"{np.median(means):.0f}", final])
    overall = {}
    for comparison in COMPARISONS:
        by_task = {task: change for task in TASKS if len(change := changes_by(rows, task, comparison)) > 1}
        changes += [[comparison, task, *significance(change)] for task, change in by_task.items()]
        if by_task:
            overall[comparison] = permutation_test(list(by_task.values()))
    corrected = holm({comparison: p for comparison, (_, p) in overall.items()})
    summary = [
        [comparison, "better" if statistic > 0 else "worse", short(p), short(corrected[comparison])]
        for comparison, (statistic, p) in overall.items()
    ]
    return "\n".join((
        markdown(head, lines),
        markdown(["comparison", "task", "difference of the mean reward: median", "quartiles", "p"], changes),
        markdown(["comparison, over the tasks", "is", "p", "p, Holm"], summary),
    ))  # fmt: skip


def plot(rows: list[Row], path: Path) -> None:
    """Plot the difference that each choice makes, one dot per seed."""
    changes = {task: {comparison: changes_by(rows, task, comparison) for comparison in COMPARISONS} for task in TASKS}
    plot_differences(changes, path, xlabel="difference of the mean test reward", height=3.2)


def main() -> None:
    args = parser(__doc__, seeds=20).parse_args()
    runs = [
        Run(
            name_of(task, mask, gain), seed,
            partial(masked, task=task, hidden_sizes=hidden_sizes, mask_rule=rule, weight_gain=gain),
            args.budget or budget, num_tests=6,
        )
        for seed in range(100, 100 + args.seeds) for task, (hidden_sizes, _, budget) in TASKS.items()
        for mask, rule in MASKS.items() for gain in GAINS
    ]  # fmt: skip
    report(perform(runs, args, "defaults"), args.output / "defaults", table, plot)


if __name__ == "__main__":
    main()
