"""Which search finds good masks soonest? This package's, the paper's and EvoTorch's on one problem, at equal budgets.

Every search gets the same task and network (LunarLander, continuous, hidden layers of 87 and 87 units), the same number
of environment steps, and the same seeds; two search the weights themselves instead of masks. At equal intervals, the
current policy of each search is tested on fresh episodes. To compare another search, add a line to SEARCHES.

    python examples/compare_searches.py --budget 600000 --seeds 3

After Ctrl-C or a kill, the same command with --resume continues with identical results.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from evotorch.algorithms import CEM, CMAES, SNES, SearchAlgorithm
from rich.console import Console

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem
from subnet_problems.experiments import Row, Run, comparison, finished, has_begun, learning_curves, make_search, perform
from subnet_problems.pictures import drawn_if_possible, save_figure

Problem = MaskedGymProblem | DenseGymProblem
TASK = {"env": "LunarLander-v3", "env_config": {"continuous": True}, "hidden_sizes": (87, 87)}


def masked(seed: int, num_episodes: int, num_threads: int) -> MaskedGymProblem:
    """The problem that all mask searches share: scores decide which weights of a frozen network are kept."""
    return MaskedGymProblem(**TASK, num_episodes=num_episodes, network_seed=seed, seed=seed, num_threads=num_threads)


def dense(seed: int, num_episodes: int, num_threads: int) -> DenseGymProblem:
    """The same task and episodes, but the search is on the weights themselves."""
    return DenseGymProblem(**TASK, num_episodes=num_episodes, seed=seed, num_threads=num_threads)


# name: (problem, episodes per solution, search)
SEARCHES: dict[str, tuple[Callable[[int, int, int], Problem], int, Callable[[Problem], SearchAlgorithm]]] = {
    "ElitistGaussian": (masked, 1, ElitistGaussianResampling),
    "ElitistGaussian (paper)": (masked, 3, partial(make_search, "paper")),
    "PGPE": (masked, 1, partial(make_search, "pgpe")),
    "SNES": (masked, 1, lambda problem: SNES(problem, popsize=64, stdev_init=0.1)),
    "CEM": (masked, 1, lambda problem: CEM(problem, popsize=64, parenthood_ratio=0.25, stdev_init=0.1)),
    "CMA-ES (separable)": (masked, 1, lambda problem: CMAES(problem, popsize=64, stdev_init=0.05, separable=True)),
    "GeneticAlgorithm": (masked, 1, partial(make_search, "genetic")),
    "ElitistGaussian, dense": (dense, 1, lambda problem: ElitistGaussianResampling(problem, stdev=0.1)),
    "PGPE, dense": (dense, 1, partial(make_search, "pgpe")),
}


def make(seed: int, num_threads: int, *, name: str) -> SearchAlgorithm:
    """Create a search with a seed."""
    make_problem, num_episodes, make_search = SEARCHES[name]
    return make_search(make_problem(seed, num_episodes, num_threads))


def plot(rows: list[Row], names: list[str], path: Path) -> None:
    """Plot the median test reward over seeds against environment steps, with its range over seeds."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for i, name in enumerate(names):
        at, lines = learning_curves(rows, name)
        style = "--" if "dense" in name else "-"
        axes.plot(at / 1e6, np.median(lines, axis=0), style, color=f"C{i}", label=name)
        axes.fill_between(at / 1e6, lines.min(axis=0), lines.max(axis=0), color=f"C{i}", alpha=0.08, linewidth=0)
    axes.axhline(200, color="0.5", linewidth=1, linestyle=":")
    axes.text(0.01, 204, "solved", color="0.4", va="bottom", transform=axes.get_yaxis_transform())
    axes.set(xlabel="environment steps (millions)", ylabel="test reward", ylim=(-300, 300))
    axes.set_title("LunarLander continuous, hidden (87, 87): median and range over seeds")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=600_000, help="environment steps of each run (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (%(default)s)")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), metavar="NAME")
    parser.add_argument("--test-episodes", type=int, default=20, help="episodes per test (%(default)s)")
    parser.add_argument("--num-tests", type=int, default=12, help="tests per run (%(default)s)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one per CPU)")
    parser.add_argument("--output", type=Path, default=Path("results/compare_searches"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    parser.add_argument("--resume", action="store_true", help="continue the runs that were stopped in this folder")
    args = parser.parse_args()
    if args.quick:
        args.budget, args.seeds, args.test_episodes, args.num_tests = 3_000, 1, 2, 1
    tests = args.output / "tests.csv"
    if has_begun(tests) and not args.resume:
        parser.error(f"{args.output} has results: --resume continues them, --output selects another folder")
    runs = [
        Run(name, seed, partial(make, name=name), args.budget, args.num_tests, args.test_episodes)
        for seed in range(args.seeds) for name in args.searches
    ]  # fmt: skip
    with suppress(KeyboardInterrupt):  # the results are then those of finished runs
        perform(runs, tests, num_jobs=args.jobs)
    rows = finished(runs, tests)
    names = [name for name in args.searches if any(row["name"] == name for row in rows)]
    if names:
        Console().print(comparison(rows, names, solved=200.0))
        with drawn_if_possible(args.output / "test_reward.png"):
            plot(rows, names, args.output / "test_reward.png")
        print(f"Every test: {tests}; plot: {args.output / 'test_reward.png'}")


if __name__ == "__main__":
    main()
