"""The paper's Figure 2: test reward over environment steps, searched by masks and by the weights themselves.

There are three tasks, and these searches: the default search for masks, the same search on the weights (the paper's "ES
benchmark"), EvoTorch's PGPE on the weights, and the earlier default ("weighted") on masks and on weights. BipedalWalker
also has searches in stages on normalized observations: they start with short episodes, continue with smaller steps and
full episodes, and masks finally with the simulator of the tests.

    python examples/paper/figure2.py --seeds 5

Writes figure2.csv (every test of every run), figure2.md and figure2.png.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from evotorch.algorithms import SearchAlgorithm
from protocol import WEIGHTED, dense, dense_pgpe, draw_curves, markdown, masked, millions, parser, perform, report

from algorithms import ElitistGaussianResampling, Race
from subnet_problems.experiments import Row, Run, outcome
from subnet_problems.pictures import save_figure

#: Task: its problem, environment steps of a run, the task's own threshold. A walker may stand still for 1,600 steps, so
#: all searches cut its episodes at 400; tests play full episodes.
TASKS: dict[str, tuple[dict[str, Any], int, float]] = {
    "LunarLander": ({"hidden_sizes": (87, 87)}, 3_000_000, 200.0),
    "LunarLanderContinuous": ({"hidden_sizes": (87, 87)}, 1_000_000, 200.0),
    "BipedalWalker": ({"hidden_sizes": (64, 64), "episode_length": 400}, 10_000_000, 300.0),
}
SOLVED = 200.0  # the paper's threshold for all three tasks
Stage = tuple[int, float, int | None, str]
#: Stages: environment steps at its start, factor on the stdev, episode length (None: full episodes), backend.
STAGES: list[Stage] = [
    (4_000_000, 1 / 2, 400, "auto"),
    (8_000_000, 1 / 4, 400, "auto"),
    (14_000_000, 1 / 8, None, "auto"),
    (17_000_000, 1 / 8, None, "gymnasium"),
]
#: The stages of *weighted*, which differ.
WEIGHTED_STAGES: list[Stage] = [
    (4_000_000, 1 / 4, 400, "auto"),
    (6_000_000, 1 / 8, None, "auto"),
    (24_000_000, 1 / 8, None, "gymnasium"),
]
#: The stages of the best of a race, which has fewer steps left.
RACED_STAGES = [*WEIGHTED_STAGES[:2], (12_000_000, *WEIGHTED_STAGES[2][1:])]
STAGED_BUDGETS = {
    "masks, in stages": 20_000_000,
    "masks, in stages, weighted": 30_000_000,
    "masks, in stages, weighted, best of 4": 30_000_000,
    "weights, in stages, weighted": 9_000_000,
}


class Stages:
    """A hook that changes a search at the start of each stage; it is part of the search's checkpoints."""

    def __init__(self, searcher: ElitistGaussianResampling, stages: list[Stage]) -> None:
        self.searcher, self.stdev, self.left = searcher, searcher.stdev, list(stages)
        searcher.before_step_hook.append(self)

    def __call__(self) -> None:
        """Called by EvoTorch before each generation."""
        problem = self.searcher.problem
        while self.left and problem.interaction_count >= self.left[0][0]:
            _, share, problem.episode_length, problem.backend = self.left.pop(0)
            self.searcher.stdev = share * self.stdev


def staged(
    make: Callable[..., ElitistGaussianResampling], *args: Any, stages: list[Stage], **options: Any
) -> ElitistGaussianResampling:
    """A search in stages on normalized observations."""
    searcher = make(*args, **options, observation_normalization=True)
    Stages(searcher, stages)
    return searcher


#: Masks in stages. With weights up to 0.4, walking requires normalized observations.
staged_masks = partial(staged, masked, weight_gain=0.4)


def raced(seed: int, num_threads: int, **options: Any) -> Race:
    """A race of four networks in stages; the best continues after 4.5 million steps.

    Networks have the seeds r, r + 5, r + 10 and r + 15, so races with seeds from 5 share networks with earlier ones.
    """
    options = {**options, "setting": WEIGHTED, "stages": RACED_STAGES}
    searchers = [staged_masks(seed + 5 * i, num_threads, **options) for i in range(4)]
    return Race(searchers, steps=4_500_000)


SEARCHES: dict[str, Callable[..., SearchAlgorithm]] = {
    "masks": masked,
    "masks, weighted": partial(masked, setting=WEIGHTED),
    "masks, in stages": partial(staged_masks, stages=STAGES),
    "masks, in stages, weighted": partial(staged_masks, setting=WEIGHTED, stages=WEIGHTED_STAGES),
    "masks, in stages, weighted, best of 4": raced,
    "weights": dense,
    "weights, weighted": partial(dense, setting=WEIGHTED),
    "weights, in stages, weighted": partial(staged, dense, setting=WEIGHTED, stages=WEIGHTED_STAGES),
    "weights, PGPE": dense_pgpe,
}


def budget(task: str, search: str) -> int:
    """Environment steps of a run."""
    return STAGED_BUDGETS.get(search, TASKS[task][1])


def table(rows: list[Row]) -> str:
    """A table of samples, solved seeds and rewards."""
    head = ["task", "search", "seeds that reach 200", "samples to 200: best seed", "median", "seeds at the threshold"]
    head += ["highest reward: median", "best seed", "tested again", "final: median"]
    lines = []
    for task, (_, _, threshold) in TASKS.items():
        for search in SEARCHES:
            found = outcome(rows, f"{task} {search}", solved=SOLVED)
            if found.num_seeds:
                own = outcome(rows, f"{task} {search}", solved=threshold)
                lines.append([
                    task, search, f"{found.num_solved} of {found.num_seeds}", millions(found.samples.min()),
                    millions(float(np.median(found.samples))), f"{own.num_solved} of {own.num_seeds} ({threshold:g})",
                    f"{np.median(found.highest):.0f}", f"{found.highest.max():.0f}", f"{np.median(found.again):.0f}",
                    f"{np.median(found.final):.0f}",
                ])  # fmt: skip
    return markdown(head, lines)


def plot(rows: list[Row], path: Path) -> None:
    """Plot one panel per task with runs, as in the paper."""
    names = {row["name"] for row in rows}
    played = [task for task in TASKS if any(f"{task} {search}" in names for search in SEARCHES)]
    figure, all_axes = plt.subplots(
        1, len(played), figsize=(5.4 * len(played), 4.8), layout="constrained", squeeze=False
    )
    for axes, task in zip(all_axes[0], played, strict=True):
        threshold = TASKS[task][2]
        for color, search in zip(("C0", "C9", "C6", "C3", "C5", "C1", "C8", "C4", "C2"), SEARCHES, strict=True):
            name = f"{task} {search}"
            if name in names:
                draw_curves(axes, rows, name, label=search, color=color)
        for level in {SOLVED, threshold}:
            axes.axhline(level, color="0.5", linestyle=":")
        axes.set(title=task, xlabel="environment steps (millions)")
    all_axes[0, 0].set_ylabel("test reward: median, mean (dashed),\ninterquartile range")
    labels = {line.get_label(): line for axes in all_axes[0] for line in axes.get_legend_handles_labels()[0]}
    shown = [search for search in SEARCHES if search in labels]
    figure.legend([labels[search] for search in shown], shown, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def main() -> None:
    options = parser(__doc__, seeds=5)
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    options.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(
            f"{task} {search}", seed, partial(SEARCHES[search], task=task, **TASKS[task][0]),
            args.budget or budget(task, search),
        )
        for seed in range(args.seeds) for task in args.tasks for search in args.searches
        if search not in STAGED_BUDGETS or task == "BipedalWalker"
    ]  # fmt: skip
    report(perform(runs, args, "figure2"), args.output / "figure2", table, plot)


if __name__ == "__main__":
    main()
