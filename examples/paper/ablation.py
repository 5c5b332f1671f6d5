"""How much each part of the search contributes: the same runs with one part changed at a time.

There are four settings and ten tuning seeds (from 100). Runs are compared by the mean of their
tests, which is high if a search is good early and stays good, by whether they solve the task, and when. Differences are
paired by seed. Each setting has Wilcoxon's signed-rank test. All settings together have a permutation test on the sum
of its statistics (signs drawn 100,000 times), with Holm's correction for the number of variants. Only settings with
runs of both the variant and the base count. The base is the earlier default search, "weighted"; "ours" is the current
default; "plain" changes all parts at once.

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

import matplotlib.pyplot as plt
import numpy as np
import torch
from evotorch import SolutionBatch
from evotorch.algorithms import SearchAlgorithm
from protocol import PLAIN, TASKS, WEIGHTED, markdown, masked, millions, parser, perform, report, significance
from scipy.stats import rankdata
from torch import Tensor

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import Row, Run, by_run, outcome
from subnet_problems.pictures import save_figure

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


def mean_rewards(rows: list[Row], setting: str, variant: str) -> dict[float, float]:
    """The mean of each run's tests, by seed."""
    runs = {seed: tests for (name, seed), tests in by_run(rows).items() if name == f"{setting} {variant}"}
    return {seed: float(np.mean([row["test_mean"] for row in tests])) for seed, tests in runs.items()}


def differences(rows: list[Row], setting: str, variant: str) -> np.ndarray:
    """Mean rewards of the variant minus those of the base, for the seeds that both have."""
    ours, other = mean_rewards(rows, setting, BASE), mean_rewards(rows, setting, variant)
    return np.array([other[seed] - ours[seed] for seed in sorted(ours.keys() & other.keys())])


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
            line = [setting, variant, f"{found.num_solved} of {found.num_seeds}"]
            line += [millions(float(np.median(found.samples)))]
            line += [f"{np.median(list(mean_rewards(rows, setting, variant).values())):.0f}"]
            change = differences(rows, setting, variant)
            if variant != BASE and len(change) > 1:
                line += significance(change)
            lines.append(line + [""] * (len(head) - len(line)))
        changes = [differences(rows, setting, variant) for setting in SETTINGS]
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


def permutation_test(changes: list[np.ndarray], *, num_draws: int = 100_000) -> tuple[float, float]:
    """Test whether differences in several settings are centered at 0, by their signed ranks within each setting.

    Returns:
        The sum over settings of Wilcoxon's signed ranks divided by their standard deviation under the null hypothesis,
        and the two-sided p.
    """
    rng = np.random.default_rng(0)
    found, drawn = 0.0, np.zeros(num_draws)
    for change in changes:
        ranks = rankdata(np.abs(change)) * (change != 0)
        scale = max(1.0, float(np.sqrt((ranks**2).sum())))
        found += float((np.sign(change) * ranks).sum()) / scale
        drawn += (rng.choice([-1.0, 1.0], size=(num_draws, len(change))) @ ranks) / scale
    return found, float((np.abs(drawn) >= abs(found) - 1e-9).mean())


def short(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def holm(ps: dict[str, float]) -> dict[str, float]:
    """Correct several p values by Holm's method (1979)."""
    result, largest = {}, 0.0
    for position, name in enumerate(sorted(ps, key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - position) * ps[name]))
        result[name] = largest
    return result


def plot(rows: list[Row], path: Path) -> None:
    """Plot the difference that each change makes, one dot per seed."""
    figure, all_axes = plt.subplots(1, len(SETTINGS), figsize=(15, 3.6), layout="constrained", sharey=True)
    variants = [variant for variant in VARIANTS if variant != BASE]
    for axes, setting in zip(all_axes, SETTINGS, strict=True):
        for y, variant in enumerate(reversed(variants)):
            change = differences(rows, setting, variant)
            if len(change):
                axes.plot(change, np.full(len(change), y), "o", color="C0", alpha=0.5)
                axes.plot(np.median(change), y, "|", color="C0", markersize=20, markeredgewidth=2)
        axes.axvline(0.0, color="0.5", linestyle=":")
        axes.set_yticks(range(len(variants)), reversed(variants))
        axes.set(title=setting, xlabel="mean test reward, less that of weighted")
    save_figure(figure, path)


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
