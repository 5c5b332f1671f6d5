"""The paper's Table 1: three shapes of some 8,500 weights on both LunarLanders, and how many samples each needs.

Each row is searched by this package's default search, with weights between -0.7 and 0.7 ("ours"), and by the paper's
own settings ("plain"). "Samples" are all environment steps of a search until the first test with a mean reward of at
least 200.

    python examples/paper/table1.py --seeds 10

Writes table1.csv (every test of every run), table1.md and table1.png.
"""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from protocol import OURS, PLAIN, Setting, markdown, masked, millions, parser, perform

from subnet_problems.experiments import Run
from subnet_problems.outcomes import Row, outcome

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


def name_of(task: str, hidden_sizes: tuple[int, ...], setting: Setting) -> str:
    return f"{task} {hidden_sizes} {setting.name}"


def table(rows: list[Row], setting: Setting) -> str:
    """The paper's table, beside ours."""
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


def plot(rows: list[Row], settings: list[Setting], path: str) -> None:
    """Samples to 200 of every seed; those that never reached it stand on the right edge."""
    figure, all_axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    shapes = [(64, 64, 64), (87, 87), (704,)]
    for axes, (task, budget) in zip(all_axes, BUDGETS.items(), strict=True):
        for y, hidden_sizes in enumerate(shapes):
            for color, shift, setting in zip(("C0", "C1"), (-0.12, 0.12), settings, strict=False):
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
    all_axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = parser(__doc__, seeds=10)
    settings = {setting.name: setting for setting in (OURS, PLAIN)}
    options.add_argument("--settings", nargs="+", choices=settings, default=list(settings), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(
            name_of(task, hidden_sizes, settings[setting]), seed,
            partial(masked, task=task, setting=settings[setting], hidden_sizes=hidden_sizes),
            args.budget or BUDGETS[task],
        )
        for seed in range(args.seeds) for setting in args.settings for task, hidden_sizes, _, _ in PAPER
    ]  # fmt: skip
    rows = perform(runs, args, "table1")
    if rows:
        chosen = [settings[name] for name in args.settings]
        text = "\n".join(f"**{setting.name}**\n\n{table(rows, setting)}" for setting in chosen)
        (args.output / "table1.md").write_text(text)
        print(text)
        plot(rows, chosen, args.output / "table1.png")


if __name__ == "__main__":
    main()
