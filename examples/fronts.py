"""Which search finds the best front of reward and sparsity? Five of them, at equal environment steps, over many seeds.

Every search gets the same task, the same frozen network (LunarLander, continuous, hidden layers of 87 and 87 units) and
the same number of environment steps. At the end, the policies of the front are chosen and tested in the same way for
all, with at most half as many additional steps. This works as in ``pareto_sparsity.py``, but without trimming, which
not all searches support.

    python examples/fronts.py --steps 2000000 --seeds 10

Each run is added to fronts.csv when it ends. The same command continues with the missing runs. To compare another pymoo
search, add a line to PYMOO.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.algorithm import Algorithm
from pymoo.util.ref_dirs import get_reference_directions
from rich.console import Console
from rich.table import Table

from algorithms import Continuation, ElitistGaussianResampling, pareto_algorithm, pareto_operators
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, TopK
from subnet_problems.experiments import Front, Row, hypervolume, jobs, pareto_search, plot_attainment
from subnet_problems.pictures import drawn_if_possible, save_figure

Groups = list[NDArray[np.float64]]
SOLVED, BEST = 200.0, 300.0
#: Median reward of random masks that keep 1 % of the weights; for denser masks it is -650.
WORST = -340.0
QUICK = 20_000
LEVELS = (0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995)


def masked(seed: int, mask: TopK, *, common_random_numbers: bool = False) -> MaskedGymProblem:
    """The problem that all searches share: masks of one frozen network."""
    return MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), weight_gain=0.7, episode_length=400,
        mask_rule=mask, common_random_numbers=common_random_numbers, network_seed=seed, seed=seed, num_threads=1,
    )  # fmt: skip


def by_continuation(seed: int) -> ParetoSparsityProblem:
    """The problem for continuation: each child of the center plays a different episode."""
    preset = pareto_search.FRONT_SEARCHES["continuation"]
    low, high = preset.sparsities
    return ParetoSparsityProblem(masked(seed, preset.mask_rule), count="live", min_sparsity=low, max_sparsity=high)


def by_population(seed: int) -> ParetoSparsityProblem:
    """The problem for populations, at sparsities from 0.5 to 0.998: all of a generation play the same episodes."""
    problem = masked(seed, pareto_search.FRONT_SEARCHES["nsga2"].mask_rule, common_random_numbers=True)
    return ParetoSparsityProblem(problem, count="live", min_sparsity=0.5, max_sparsity=0.998)


def by_pymoo(
    algorithm: Algorithm, problem: ParetoSparsityProblem, seed: int, steps: int
) -> tuple[ParetoSparsityProblem, Groups]:
    """Run a pymoo algorithm."""
    algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed)
    while problem.interaction_count < steps:
        algorithm.next()
    return problem, pareto_search.groups_of(algorithm)


def by_levels(seed: int, steps: int) -> tuple[ParetoSparsityProblem, Groups]:
    """Run the default search at several levels, each without a warm start, with equal shares of the steps."""
    groups: Groups = []
    for level in LEVELS:
        problem = masked(seed, TopK(level, scope="erdos_renyi"))
        searcher = ElitistGaussianResampling(problem, continuation=False)
        while problem.interaction_count < steps / len(LEVELS):
            searcher.step()
        groups.append(np.append(searcher.status["center"].numpy(), np.log2(1.0 - level))[None])
    rule = pareto_search.FRONT_SEARCHES["nsga2"].mask_rule
    front = ParetoSparsityProblem(masked(seed, rule), count="live", min_sparsity=LEVELS[0], max_sparsity=LEVELS[-1])
    return front, groups


#: Scores have bounds of +-1000. The noise of pymoo's own operators is proportional to the bounds, so other bounds would
#: give the same masks, which depend only on ranks.
PYMOO: dict[str, tuple[Callable[[], Algorithm], Callable[[int], ParetoSparsityProblem]]] = {
    "continuation": (Continuation, by_continuation),
    "nsga2": (lambda: NSGA2(24, n_offsprings=120, **pareto_operators(0.1)), by_population),
    "nsga2-pymoo": (NSGA2, by_population),
    "nsga3": (
        lambda: pareto_algorithm(
            NSGA3, 0.1, ref_dirs=get_reference_directions("das-dennis", 2, n_partitions=23), pop_size=24,
            n_offsprings=120,
        ),
        by_population,
    ),
}  # fmt: skip
SEARCHES = (*PYMOO, "levels")


def find(search: str, seed: int, budget: int) -> list[Row]:
    """Perform one run. Return a row for each policy of the front."""
    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    if search == "levels":
        problem, groups = by_levels(seed, budget)
    else:
        make, problem_of = PYMOO[search]
        problem, groups = by_pymoo(make(), problem_of(seed), seed, budget)
    rows = []
    for one in pareto_search.choose(problem, groups, trim=False, max_steps=budget // 2):
        tests = one.subnet.tested(num_episodes=100 if budget > QUICK else 5, seed=12345).tests
        rows.append({
            "sparsity": one.subnet.sparsity, "weights": one.subnet.num_active,
            "reward_when_chosen": one.seen, "test_reward": tests["mean"],
            "test_standard_error": tests["standard_error"],
        })  # fmt: skip
    return rows


def fronts_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[Front]]:
    """The tested front of each run, by search."""
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {name: {} for name in names}
    for row in rows:
        runs.get(row["search"], {}).setdefault(row["seed"], []).append((row["test_reward"], 1.0 - row["sparsity"]))
    return {name: [Front(*np.array(run).T) for run in seeds.values()] for name, seeds in runs.items() if seeds}


def table(fronts: dict[str, list[Front]]) -> Table:
    """A table of the results of each search."""
    result = Table(title=f"Tests; hypervolume: reward above {WORST:g} times decades; sparsest: of reward {SOLVED:g}")
    columns = ("search", "seeds", "hypervolume", "worst", "best", "sparsest", "seeds at .99", "at .995", "best reward")
    for column in columns:
        result.add_column(column, justify="left" if column == "search" else "right", no_wrap=True)
    for name, group in fronts.items():
        areas = [hypervolume(*front, worst=WORST, best=BEST) for front in group]
        sparsest = np.array([max(1.0 - front.densities[front.rewards >= SOLVED], default=-np.inf) for front in group])
        median = np.sort(sparsest)[
            (len(sparsest) - 1) // 2
        ]  # the lower median: no mean with a seed without such a policy
        result.add_row(
            name, str(len(group)), *(f"{f(areas):.0f}" for f in (np.median, np.min, np.max)),
            f"{median:.4f}" if np.isfinite(median) else "none", str(sum(sparsest >= 0.99)), str(sum(sparsest >= 0.995)),
            f"{np.median([front.rewards.max() for front in group]):.1f}",
        )  # fmt: skip
    result.caption = "The first hypervolume, the sparsest policy and the best reward are medians over seeds."
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000_000, help="environment steps of each search (%(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (%(default)s)")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=SEARCHES, metavar="NAME")
    parser.add_argument("--jobs", type=int, help="runs at a time, each on one CPU (default: the number of CPUs)")
    parser.add_argument("--output", type=Path, default=Path("results/fronts"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.seeds = QUICK, 1
    if min(args.steps, args.seeds, args.jobs or 1) < 1:
        parser.error("expected --steps, --seeds and --jobs of at least 1")
    runs = [
        {"search": name, "seed": seed, "budget": args.steps}
        for seed in range(args.seeds) for name in dict.fromkeys(args.searches)
    ]  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "fronts.csv"
    with suppress(KeyboardInterrupt):  # the results are then those of finished runs
        jobs.collect(find, runs, path, num_jobs=args.jobs)
    rows = jobs.read_rows(path)
    if fronts := fronts_of([row for row in rows if row["budget"] == args.steps], args.searches):
        Console(width=max(Console().width, 110)).print(table(fronts))
        with drawn_if_possible(args.output / "fronts.png"):
            save_figure(plot_attainment(fronts, threshold=SOLVED), args.output / "fronts.png")
        print(f"Every test: {args.output / 'fronts.csv'}; picture: {args.output / 'fronts.png'}")


if __name__ == "__main__":
    main()
