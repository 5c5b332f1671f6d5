"""Are few weights found directly ("from nothing"), or through masks that keep more ("through levels")?

The default search runs with free sparsity, and with 90 %, 97 % and 99 % of the weights removed. At 99 % it runs from
nothing and through levels, which ``ElitistGaussianResampling`` does by default if random masks have few live weights.
Layers keep shares by Erdos-Renyi.

    python examples/paper/levels.py --seeds 10
    python examples/paper/levels.py --seeds 5 --tasks BipedalWalker

Writes levels.csv (every test of every run), levels.md and levels.png. Before a search reaches its
last level, its tests decode its current solution, found at an easier level, at the requested sparsity.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from protocol import OURS, SOLVING, draw_curves, markdown, masked, parser, perform, report, solving

from subnet_problems import TopK
from subnet_problems.experiments import Row, Run, outcome
from subnet_problems.pictures import save_figure

#: Task: options of its problem, the reward that solves it, environment steps of a run.
TASKS: dict[str, tuple[dict[str, Any], float, int]] = {
    "LunarLanderContinuous": ({"hidden_sizes": (87, 87)}, 200.0, 1_500_000),
    "LunarLander": ({"hidden_sizes": (87, 87)}, 200.0, 3_000_000),
    "Acrobot": ({"hidden_sizes": (64, 64)}, -100.0, 1_000_000),
    "BipedalWalker": (
        {"hidden_sizes": (64, 64), "observation_normalization": True, "episode_length": 400}, 200.0, 3_000_000
    ),
}  # fmt: skip
#: Search: the enforced sparsity, and whether it is reached through levels.
SEARCHES: dict[str, tuple[float | None, bool]] = {
    "free": (None, False),
    "0.9": (0.9, False),
    "0.97 from nothing": (0.97, False),
    "0.99 from nothing": (0.99, False),
    "0.99 through levels": (0.99, True),
}
#: The rows of the table. One search cannot be repeated: when it was measured, levels began above a sparsity of 0.95.
SHOWN = ("free", "0.9", "0.97 from nothing", "0.97 through levels", "0.99 from nothing", "0.99 through levels")


def options_of(task: str, search: str) -> dict[str, Any]:
    """The arguments of ``masked`` for a task and a search."""
    sparsity, continuation = SEARCHES[search]
    setting = replace(OURS, search={**OURS.search, "continuation": continuation})
    mask = None if sparsity is None else TopK(sparsity, scope="erdos_renyi")
    return {"task": task, "setting": setting, "mask_rule": mask, **TASKS[task][0]}


def table(rows: list[Row]) -> str:
    """A table of samples to solve, and of highest and final test rewards."""
    head = ["task", "search", *SOLVING]
    head += ["highest reward: median", "tested again: median (least, most)", "final: median (least, most)"]
    lines = []
    for task, (_, solved, _) in TASKS.items():
        for search in SHOWN:
            found = outcome(rows, f"{task} {search}", solved=solved)
            if found.num_seeds:
                again, final = (
                    f"{np.median(rewards):.0f} ({rewards.min():.0f}, {rewards.max():.0f})"
                    for rewards in (found.again, found.final)
                )
                lines.append([
                    task, search, *solving(found), f"{np.median(found.highest):.0f}", again, final
                ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot the learning curves of each task."""
    played = [task for task in TASKS if any(row["name"].startswith(f"{task} ") for row in rows)]
    columns, lines = min(2, len(played)), (len(played) + 1) // 2
    figure = plt.figure(figsize=(6.5 * columns, 4 * lines), layout="constrained")
    for number, task in enumerate(played):
        axes = figure.add_subplot(lines, columns, number + 1)
        for n, search in enumerate(SHOWN):
            if any(row["name"] == f"{task} {search}" for row in rows):
                draw_curves(axes, rows, f"{task} {search}", label=search, color=f"C{n}")
        axes.axhline(TASKS[task][1], color="0.5", linestyle=":")
        axes.set(title=task, xlabel="environment steps, millions")
        axes.set_ylabel("test reward: median, quartiles; dashed: mean")
        if not number:
            axes.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    options = parser(__doc__, seeds=10)
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    options.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(f"{task} {search}", seed, partial(masked, **options_of(task, search)), args.budget or TASKS[task][2])
        for task in args.tasks for seed in range(args.seeds) for search in args.searches
    ]  # fmt: skip
    report(perform(runs, args, "levels"), args.output / "levels", table, plot)


if __name__ == "__main__":
    main()
