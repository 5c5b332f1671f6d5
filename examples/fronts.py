"""Which search finds the best front of reward and sparsity? Five of them, at equal environment steps, over many seeds.

Every search gets the same task and frozen network (LunarLander, continuous, hidden layers of 87 and 87 units), and the
same number of environment steps. Nine tenths of them are for the search. The rest is for validation, which is the same
for all: the policies of a front, 24 at most, play fresh episodes on Gymnasium itself, in rounds of 7: three rounds, and
more of them while the steps last. (The column "steps" has what was spent in all.) Policies that another one dominates
in validation are dropped, and each of the others is tested on 100 fresh episodes, which are not counted.

    python examples/fronts.py --steps 2500000 --seeds 10

Each run is added to fronts.csv as it ends. The same command goes on with the runs that are missing, so that it may be
stopped at any time. To compare another search, add a line to SEARCHES.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the processors to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.algorithm import Algorithm
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.ref_dirs import get_reference_directions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from algorithms import Continuation, ElitistGaussianResampling, pareto_algorithm, pareto_operators
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, Subnetwork, TopK
from subnet_problems._processes import Processes, ProcessLostError, heard_ctrl_c
from subnet_problems.fronts import Front, hypervolume
from subnet_problems.outcomes import write_table
from subnet_problems.plots import drawn_if_possible, plot_attainment, save_figure
from subnet_problems.rollout import play

Row = dict[str, Any]
Report = Callable[[int], None]
SOLVED, BEST = 200.0, 300.0
#: Median reward of random masks that keep 1 % of the weights; of denser ones it is -650.
WORST = -340.0
LEVELS = (0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995)
VALIDATION_SHARE, ROUND, LEAST_ROUNDS, MOST_POLICIES = 0.1, 7, 3, 24
QUICK = 20_000


def masked(seed: int, sparsity: float = 0.5) -> MaskedGymProblem:
    """The problem all searches share: which weights of one frozen network are kept."""
    return MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), weight_gain=0.7,
        mask=TopK(sparsity, scope="erdos_renyi"), network_seed=seed, seed=seed, num_threads=1,
    )  # fmt: skip


def by_pymoo(make: Callable[[], Algorithm], seed: int, steps: int, report: Report) -> list[Subnetwork]:
    """The front that one of pymoo's algorithms finds, at sparsities of 0.5 to 0.997."""
    problem = ParetoSparsityProblem(masked(seed), min_sparsity=0.5, max_sparsity=0.997)
    algorithm = make()
    algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed)
    while (before := problem.interaction_count) < steps:
        algorithm.next()
        report(problem.interaction_count - before)
    # what Continuation hands out is no population; of the others, opt may leave out some of the front
    found = algorithm.opt if isinstance(algorithm, Continuation) else algorithm.pop
    objectives = found.get("F")
    front = NonDominatedSorting().do(objectives, only_non_dominated_front=True)
    front = front[np.unique(objectives[front, 1], return_index=True)[1]]
    chosen = np.unique(np.linspace(0, len(front) - 1, MOST_POLICIES).round().astype(int))
    return [problem.to_subnetwork(found[i].X) for i in front[chosen]]


def by_levels(seed: int, steps: int, report: Report) -> list[Subnetwork]:
    """What the search of a single level finds at some of them, each from nothing, with an equal share of the steps."""
    found = []
    for level in LEVELS:
        problem = masked(seed, level)
        searcher = ElitistGaussianResampling(problem)
        while (before := problem.interaction_count) < steps / len(LEVELS):
            searcher.step()
            report(problem.interaction_count - before)
        found.append(problem.to_subnetwork(searcher.status["center"]))
    return found


#: Scores have bounds of +-1000. For pymoo's own operators, whose noise is in proportion to the bounds, any others would
#: be the same: masks follow from ranks.
PYMOO: dict[str, Callable[[], Algorithm]] = {
    "continuation": Continuation,
    "nsga2": lambda: NSGA2(24, n_offsprings=120, **pareto_operators(0.1)),
    "nsga2-pymoo": NSGA2,
    "nsga3": lambda: pareto_algorithm(
        NSGA3, 0.1, ref_dirs=get_reference_directions("das-dennis", 2, n_partitions=23), pop_size=24, n_offsprings=120
    ),
}
SEARCHES = (*PYMOO, "levels")


def validate(subnets: Sequence[Subnetwork], seed: int, steps: int) -> tuple[list[tuple[Subnetwork, float]], int]:
    """The policies that none other dominates in fresh episodes on Gymnasium.

    They are on one network, and all play the same episodes, while ``steps`` last; for the least number of rounds in any
    case. Returns the policies with their mean rewards, and how many steps were spent.
    """
    task, weights = subnets[0].task(), torch.stack([subnet.weights for subnet in subnets])
    random, returns, spent, last = np.random.default_rng([54321, seed]), [], 0, 0
    while len(returns) < LEAST_ROUNDS or spent + last <= steps:
        seeds = np.tile(random.integers(2**31, size=ROUND), (len(subnets), 1))
        episodes = play(task, subnets[0].network, lambda part: weights[part], seeds, backend="gymnasium")
        returns.append(episodes.returns)
        last = int(episodes.lengths.sum())
        spent += last
    rewards = np.concatenate(returns, axis=1).mean(axis=1)
    objectives = np.column_stack([-rewards, [subnet.num_active for subnet in subnets]])
    front = sorted(NonDominatedSorting().do(objectives, only_non_dominated_front=True))
    return [(subnets[i], float(rewards[i])) for i in front], spent


def perform(search: str, seed: int, budget: int, report: Report) -> list[Row]:
    """One run: search, validation and tests; a row for each policy that was tested."""
    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    spent = 0

    def count(steps: int) -> None:
        nonlocal spent
        spent += steps
        report(steps)

    share = round((1.0 - VALIDATION_SHARE) * budget)
    found = by_levels(seed, share, count) if search == "levels" else by_pymoo(PYMOO[search], seed, share, count)
    front, steps = validate(found, seed, budget - spent)
    count(steps)
    rows = []
    for subnet, reward in front:
        subnet.test(num_episodes=5 if budget <= QUICK else 100, seed=12345)
        rows.append({
            "search": search, "seed": seed, "budget": budget, "steps": spent, "sparsity": subnet.sparsity,
            "weights_kept": subnet.num_active, "live_weights": subnet.prune().num_active, "validation_reward": reward,
            "test_reward": subnet.tests["mean"], "test_standard_error": subnet.tests["standard_error"],
        })  # fmt: skip
    return rows


def read(path: Path) -> list[Row]:
    """All rows so far."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{k: v if k == "search" else json.loads(v) for k, v in row.items()} for row in csv.DictReader(file)]


def perform_all(jobs: Sequence[tuple[str, int, int]], path: Path, num_jobs: int) -> None:
    """Perform runs in processes of their own, and add each to the file as it ends, until all are over, or Ctrl-C."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    missing = len(jobs)
    with (
        heard_ctrl_c() as ctrl_c,
        Progress(*columns, console=Console(stderr=True)) as progress,
        Processes(perform, jobs, num_jobs) as processes,
    ):
        bar = progress.add_task("", total=sum(budget for *_, budget in jobs))
        while missing and not ctrl_c.came:
            progress.update(bar, description=f"{missing} runs to go")
            # results first: an error ends all
            for message in sorted(processes.listen(timeout=0.2), key=lambda message: message.kind != "result"):
                if message.kind == "report":
                    progress.advance(bar, message.content)
                elif message.kind == "result":
                    write_table(path, [*read(path), *message.content])
                    missing -= 1
                elif message.kind == "error":
                    raise message.content
                else:
                    raise ProcessLostError(f"the process of {jobs[message.job]} {message.content}")


def fronts_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[Front]]:
    """The tested front of each run, by search."""
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {name: {} for name in names}
    for row in rows:
        runs.get(row["search"], {}).setdefault(row["seed"], []).append((row["test_reward"], 1.0 - row["sparsity"]))
    return {name: [Front(*np.array(run).T) for run in seeds.values()] for name, seeds in runs.items() if seeds}


def table(fronts: dict[str, list[Front]]) -> Table:
    """What each search came to."""
    result = Table(title=f"Tests; hypervolume: reward above {WORST:g} times decades; sparsest: of reward {SOLVED:g}")
    columns = ("search", "seeds", "hypervolume", "worst", "best", "sparsest", "seeds at .99", "at .995", "best reward")
    for column in columns:
        result.add_column(column, justify="left" if column == "search" else "right", no_wrap=True)
    for name, group in fronts.items():
        areas = [hypervolume(*front, worst=WORST, best=BEST) for front in group]
        sparsest = np.array([max(1.0 - front.densities[front.rewards >= SOLVED], default=-np.inf) for front in group])
        median = np.sort(sparsest)[(len(sparsest) - 1) // 2]  # the lower of two: no mean with a seed that has none
        result.add_row(
            name, str(len(group)), *(f"{f(areas):.0f}" for f in (np.median, np.min, np.max)),
            f"{median:.4f}" if np.isfinite(median) else "none", str(sum(sparsest >= 0.99)), str(sum(sparsest >= 0.995)),
            f"{np.median([front.rewards.max() for front in group]):.1f}",
        )  # fmt: skip
    result.caption = "The first hypervolume, the sparsest policy and the best reward are medians over seeds."
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_500_000, help="environment steps of each run (%(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds (%(default)s)")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=SEARCHES, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one processor (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/fronts"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that everything works")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.seeds = QUICK, min(args.seeds, 2)
    if min(args.steps, args.seeds, args.jobs) < 1:
        parser.error("expected --steps, --seeds and --jobs of at least 1")
    path = args.output / "fronts.csv"
    if others := {int(row["budget"]) for row in read(path)} - {args.steps}:
        parser.error(f"{path} holds runs of --steps {min(others)}: --output takes another folder")
    done = {(row["search"], row["seed"]) for row in read(path)}
    runs = [(name, seed) for seed in range(args.seeds) for name in dict.fromkeys(args.searches)]
    if jobs := [(*run, args.steps) for run in runs if run not in done]:
        perform_all(jobs, path, args.jobs)
    if fronts := fronts_of(read(path), args.searches):
        Console(width=max(Console().width, 110)).print(table(fronts))
        with drawn_if_possible(args.output / "fronts.png"):
            save_figure(plot_attainment(fronts, threshold=SOLVED), args.output / "fronts.png")
        print(f"Every test: {path}; picture: {args.output / 'fronts.png'}")


if __name__ == "__main__":
    main()
