"""How much each part of the search contributes: the same runs with one part changed at a time.

There are four settings and ten tuning seeds (from 100). Runs are compared by the mean of their tests, which is high if
a search is good early and stays good, by whether they solve the task, and when. Differences are paired by seed. Each
setting has Wilcoxon's signed-rank test. All settings together have a permutation test on the sum of its statistics
(signs drawn 100,000 times), with Holm's correction for the number of variants. Only settings with runs of both the
variant and the base count. The base is the earlier default search, "weighted"; "ours" is the current default; "plain"
changes all parts at once.

    python examples/paper/ablation.py --seeds 10

Writes ablation.csv (every test of every run), ablation.md and ablation.png.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evotorch import SolutionBatch
from evotorch.algorithms import SearchAlgorithm
from paired import differences, holm, mean_rewards, permutation_test, plot_differences, short, significance
from protocol import PLAIN, TASKS, WEIGHTED, markdown, masked, millions, parser, perform, report
from torch import Tensor

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import Row, Run, outcome

#: Setting: its problem, the reward that solves it, environment steps of a run.
SETTINGS: dict[str, tuple[dict[str, Any], float, int]] = {
    "continuous (87, 87)": ({"task": "LunarLanderContinuous", "hidden_sizes": (87, 87)}, 200.0, 600_000),
    "discrete (87, 87)": ({"task": "LunarLander", "hidden_sizes": (87, 87)}, 200.0, 1_500_000),
    "continuous (64, 64, 64), sparsity 0.9": (
        {"task": "LunarLanderContinuous", "hidden_sizes": (64, 64, 64), "sparsity": 0.9}, 200.0, 1_000_000,
    ),
    "Acrobot (64, 64)": ({"task": "Acrobot", "hidden_sizes": (64, 64)}, -100.0, 300_000),
}  # fmt: skip
FIRST_SEED = 100
BASE = "weighted"  # the search that the variants change
NUM_TESTS, TEST_EPISODES = 10, 50


class NoRepulsion(ElitistGaussianResampling):
    """The center moves towards the elites, but not away from the worst."""

    def _moved_center(self, population: SolutionBatch, num_children: int) -> Tensor:
        elites = population.values.as_subclass(Tensor)[self._rank(population, num_children)[: self.num_elites]]
        weights = [math.log(len(elites) + 0.5) - math.log(rank + 1) for rank in range(len(elites))]
        center, total = torch.zeros_like(elites[0]), reduce(add, weights)
        for elite, weight in zip(elites, weights, strict=True):
            center += elite * (weight / total)
        return center


class NoCandidates(ElitistGaussianResampling):
    """The average of all centers is returned without candidates that are evaluated again."""

    def _judged(self, population: SolutionBatch, num_children: int, average: Tensor) -> tuple[list[Any], Tensor]:
        return [], average


def changed(
    seed: int,
    num_threads: int,
    *,
    task: str,
    search: Callable[..., SearchAlgorithm] = ElitistGaussianResampling,
    **options: Any,
) -> SearchAlgorithm:
    """The weighted search with one part changed."""
    problem = {**TASKS[task], **WEIGHTED.problem, **options}
    return search(MaskedGymProblem(**problem, network_seed=seed, seed=seed, num_threads=num_threads), **WEIGHTED.search)


VARIANTS: dict[str, Callable[..., SearchAlgorithm]] = {
    "weighted": partial(masked, setting=WEIGHTED),
    "ours": masked,
    "weights U(-1, 1)": partial(changed, weight_gain=1.0),
    "no repulsion": partial(changed, search=NoRepulsion),
    "no candidates": partial(changed, search=NoCandidates),
    "episodes of 400 steps": partial(changed, episode_length=400),
    "biases": partial(changed, bias=True),
    "normalized observations": partial(changed, observation_normalization=True),
    "two episodes": partial(changed, num_episodes=2),
    "plain": partial(masked, setting=PLAIN),
}


def changes_by(rows: list[Row], setting: str, variant: str) -> np.ndarray:
    """Mean rewards of the variant minus those of the base, for the seeds that both have."""
    return differences(rows, f"{setting} {variant}", f"{setting} {BASE}")


def table(rows: list[Row]) -> str:
    """Tables of each variant in each setting, and of each variant over all settings."""
    head = ["setting", "variant", "seeds that solve", "samples to it: median", "mean reward: median"]
    head += ["difference from weighted: median", "quartiles", "p"]
    lines, overall = [], {}
    for variant in VARIANTS:
        for setting, (_, solved, _) in SETTINGS.items():
            found = outcome(rows, f"{setting} {variant}", solved=solved)
            if not found.num_seeds:
                continue
            means = mean_rewards(rows, f"{setting} {variant}")
            line = [setting, variant, f"{found.num_solved} of {found.num_seeds}"]
            line += [millions(float(np.median(found.samples)))]
            line += [f"{np.median(list(means.values())):.0f}"]
            change = changes_by(rows, setting, variant)
            if variant != BASE and len(change) > 1:
                line += significance(change)
            lines.append(line + [""] * (len(head) - len(line)))
        changes = [changes_by(rows, setting, variant) for setting in SETTINGS]
        if variant != BASE and sum(map(len, changes)) > 1:
            overall[variant] = permutation_test(changes)
    lines.sort(key=lambda line: list(SETTINGS).index(line[0]))
    corrected = holm({variant: p for variant, (_, p) in overall.items()})
    summary = [
        [variant, "worse" if statistic < 0 else "better", short(p), short(corrected[variant])]
        for variant, (statistic, p) in overall.items()
    ]
    return (
        markdown(head, lines)
        + "\n"
        + markdown(["variant, over the settings that ran", "with this change weighted is", "p", "p, Holm"], summary)
    )


def plot(rows: list[Row], path: Path) -> None:
    """Plot the difference that each change makes, one dot per seed."""
    variants = [variant for variant in VARIANTS if variant != BASE]
    changes = {setting: {variant: changes_by(rows, setting, variant) for variant in variants} for setting in SETTINGS}
    plot_differences(changes, path, xlabel="mean test reward, less that of weighted", height=3.6)


def main() -> None:
    options = parser(__doc__, seeds=10)
    options.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    args = options.parse_args()
    runs = [
        Run(
            f"{setting} {variant}", FIRST_SEED + i, partial(VARIANTS[variant], **problem), args.budget or budget,
            num_tests=NUM_TESTS, test_episodes=TEST_EPISODES,
        )
        for i in range(args.seeds)
        for setting, (problem, _, budget) in SETTINGS.items()
        for variant in args.variants
    ]  # fmt: skip
    report(perform(runs, args, "ablation"), args.output / "ablation", table, plot)


if __name__ == "__main__":
    main()
