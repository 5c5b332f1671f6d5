"""The paper's Table 1: three networks of 7,000 to 9,000 weights on both LunarLanders, and the samples that each needs.

Each row is searched with several settings. "ours" is this package's default search with weights between -0.7 and 0.7,
also with exactly 90 % of the weights removed (more of them from large layers: Erdos-Renyi). "weighted" is the earlier
default, also at 90 % with all layers ranked together. "plain" has the paper's own settings. "Samples" are all
environment steps of a search until the first test with a mean reward of at least 200.

    python examples/paper/table1.py --seeds 10

Writes table1.csv (every test of every run), table1.md and table1.png.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from paired import significance
from protocol import OURS, PLAIN, WEIGHTED, Setting, markdown, masked, millions, parser, perform, report

from subnet_problems import TopK
from subnet_problems.experiments import Row, Run, by_run, outcome
from subnet_problems.pictures import save_figure

#: The paper's rows: task, hidden sizes, test reward, millions of samples.
PAPER = [
    ("LunarLanderContinuous", (64, 64, 64), 254, "0.91"),
    ("LunarLander", (64, 64, 64), 194, "–"),
    ("LunarLanderContinuous", (87, 87), 267, "0.17"),
    ("LunarLander", (87, 87), 77, "–"),
    ("LunarLanderContinuous", (704,), 272, "0.36"),
    ("LunarLander", (704,), 241, "1.21"),
]
BUDGETS = {"LunarLanderContinuous": 1_000_000, "LunarLander": 3_000_000}
SOLVED = 200.0
SPARSE = replace(OURS, name="ours, sparsity 0.9", problem={**OURS.problem, "mask_rule": TopK(0.9, scope="erdos_renyi")})
SPARSE_WEIGHTED = replace(WEIGHTED, name="weighted, sparsity 0.9", problem={**WEIGHTED.problem, "sparsity": 0.9})
SETTINGS = {setting.name: setting for setting in (OURS, SPARSE, WEIGHTED, SPARSE_WEIGHTED, PLAIN)}


def name_of(task: str, hidden_sizes: tuple[int, ...], setting: Setting) -> str:
    return f"{task} {hidden_sizes} {setting.name}"


def table(rows: list[Row]) -> str:
    """One table per setting with runs, and paired comparisons of settings."""
    tables = [f"**{name}**\n\n{table_of(rows, setting)}" for name, setting in played(rows).items()]
    pairs = [
        f"**{new.name} less {old.name}**\n\n{comparison(rows, new, old)}"
        for new, old in ((OURS, WEIGHTED), (SPARSE, SPARSE_WEIGHTED)) if {new.name, old.name} <= played(rows).keys()
    ]  # fmt: skip
    return "\n".join(tables + pairs)


def comparison(rows: list[Row], new: Setting, old: Setting) -> str:
    """Compare two settings, paired by seed: samples to 200, and mean reward over the steps that both have."""
    head = ["task", "hidden layers", "seeds", f"samples to 200: {old.name}", new.name, f"sooner {new.name}"]
    head += ["difference of mean reward: median", "quartiles", "p (Wilcoxon)"]
    lines = []
    for task, hidden_sizes, _, _ in PAPER:
        names = [name_of(task, hidden_sizes, setting) for setting in (old, new)]
        seeds = set.intersection(*({row["seed"] for row in rows if row["name"] == name} for name in names))
        if len(seeds) < 2:
            continue
        both = [[row for row in rows if row["name"] == name and row["seed"] in seeds] for name in names]
        before, now = (outcome(tests, name, solved=SOLVED).samples for tests, name in zip(both, names, strict=True))
        at = np.linspace(0.0, min(max(row["steps"] for row in tests) for tests in both), 201)
        means = [
            np.array([
                np.mean(np.interp(at, [row["steps"] for row in tests], [row["test_mean"] for row in tests]))
                for tests in by_run(rows_of_one).values()
            ])
            for rows_of_one in both
        ]  # fmt: skip
        lines.append([
            task, str(hidden_sizes), str(len(seeds)), millions(float(np.median(before))),
            millions(float(np.median(now))), f"{(now < before).sum()} of {len(seeds)}",
            *significance(means[1] - means[0]),
        ])  # fmt: skip
    return markdown(head, lines)


def played(rows: list[Row]) -> dict[str, Setting]:
    """The settings with results."""
    names = {row["name"] for row in rows}
    return {
        name: setting for name, setting in SETTINGS.items()
        if any(name_of(task, hidden_sizes, setting) in names for task, hidden_sizes, _, _ in PAPER)
    }  # fmt: skip


def table_of(rows: list[Row], setting: Setting) -> str:
    """The paper's table next to the results of one setting."""
    head = ["task", "hidden layers", "paper: reward", "samples", "highest reward: best seed", "median", "tested again"]
    head += ["samples to 200: best seed", "median", "seeds that solve"]
    lines = []
    for task, hidden_sizes, reward, samples in PAPER:
        found = outcome(rows, name_of(task, hidden_sizes, setting), solved=SOLVED)
        if found.num_seeds:
            lines.append([
                task, str(hidden_sizes), str(reward), samples,
                f"{found.highest.max():.0f}", f"{np.median(found.highest):.0f}", f"{np.median(found.again):.0f}",
                millions(found.samples.min()), millions(float(np.median(found.samples))),
                f"{found.num_solved} of {found.num_seeds}",
            ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot the samples to 200 of every seed; seeds that never reached 200 are at the right edge."""
    figure, all_axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    shapes, settings = [(64, 64, 64), (87, 87), (704,)], played(rows).values()
    for axes, (task, budget) in zip(all_axes, BUDGETS.items(), strict=True):
        for y, hidden_sizes in enumerate(shapes):
            for number, setting in enumerate(settings):
                color, shift = f"C{number}", 0.2 * (number - (len(settings) - 1) / 2)
                found = outcome(rows, name_of(task, hidden_sizes, setting), solved=SOLVED)
                if found.num_seeds:
                    samples = np.minimum(found.samples, budget * 1.1) / 1e6
                    label = setting.name if y == 0 else None
                    axes.plot(samples, np.full(len(samples), y + shift), "o", alpha=0.6, color=color, label=label)
                    axes.plot(np.median(samples), y + shift, "|", markersize=22, markeredgewidth=2, color=color)
            paper = next(row[3] for row in PAPER if row[:2] == (task, hidden_sizes))
            if paper != "–":
                label = "paper, best run" if y == 0 else None
                axes.plot(float(paper), y, "k*", markersize=11, label=label, zorder=3)
        axes.axvline(budget * 1.05 / 1e6, color="0.6", linestyle=":")
        axes.set(xlabel="million steps to 200 (right of the line: never)", title=task)
        axes.set_yticks(range(len(shapes)), [str(shape) for shape in shapes])
    all_axes[0].set_ylabel("hidden layers")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    save_figure(figure, path)


def main() -> None:
    options = parser(__doc__, seeds=10)
    options.add_argument("--tasks", nargs="+", choices=BUDGETS, default=list(BUDGETS), metavar="NAME")
    options.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(
            name_of(task, hidden_sizes, SETTINGS[setting]), seed,
            partial(masked, task=task, setting=SETTINGS[setting], hidden_sizes=hidden_sizes),
            args.budget or BUDGETS[task],
        )
        for seed in range(args.seeds) for setting in args.settings
        for task, hidden_sizes, _, _ in PAPER if task in args.tasks
    ]  # fmt: skip
    report(perform(runs, args, "table1"), args.output / "table1", table, plot)


if __name__ == "__main__":
    main()
