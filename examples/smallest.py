"""How few random weights solve a task? The smallest policies of Gymnasium's tasks, over several seeds.

Each run searches a front by continuation, as ``pareto_sparsity.py`` does, down to a few weights. A seed determines the
network and the search. The smallest policy is the one with the fewest live weights whose mean over 100 fresh episodes
is at least the reward that solves the task. (Pendulum has no such threshold: with -200, the pendulum is swung up and
held from most starts.)

    python examples/smallest.py --seeds 5
    python examples/smallest.py --seeds 10 --tasks LunarLander

Each run is added to smallest.csv when it ends, and has a folder with its policies and pictures. The same command
continues with the missing runs.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from algorithms import remove_checkpoint
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import Row, jobs, pareto_search

QUICK = 10_000
LANDER = {"env": "LunarLander-v3", "weight_gain": 0.7, "episode_length": 400}
#: Task: its problem, the reward that solves it, the environment steps of a search (choosing takes up to half of that in
#: addition), the maximum sparsity.
TASKS: dict[str, tuple[dict[str, Any], float, int, float]] = {
    "LunarLanderContinuous": ({**LANDER, "env_config": {"continuous": True}}, 200.0, 1_600_000, 0.998),
    "LunarLander": (LANDER, 200.0, 5_200_000, 0.998),
    "CartPole": ({"env": "CartPole-v1"}, 475.0, 2_000_000, 0.9995),
    "Acrobot": ({"env": "Acrobot-v1"}, -100.0, 2_000_000, 0.9995),
    "MountainCar": (
        {"env": "MountainCar-v0", "bias": True, "observation_normalization": True}, -110.0, 3_000_000, 0.9995
    ),
    "MountainCarContinuous": (
        {"env": "MountainCarContinuous-v0", "bias": True, "observation_normalization": True}, 90.0, 3_000_000, 0.9995
    ),
    "Pendulum": ({"env": "Pendulum-v1", "bias": True, "weight_gain": 6.0}, -200.0, 6_000_000, 0.999),
}  # fmt: skip
#: The share of the budget that is spent at the first level, if its 25 generations are too few to solve the task there.
FIRST_LEVEL = {"LunarLander": 0.3}


def find(task: str, seed: int, budget: int, folder: str) -> list[Row]:
    """Perform one run. Return all policies of its front, smallest first."""
    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    options, solved, _, max_sparsity = TASKS[task]
    preset = pareto_search.FRONT_SEARCHES["continuation"]
    masked = MaskedGymProblem(
        **options, hidden_sizes=(87, 87), mask_rule=preset.mask_rule, num_threads=1, network_seed=seed, seed=seed,
        common_random_numbers=preset.common_random_numbers,
    )  # fmt: skip
    output = Path(folder) / task / str(seed)
    remove_checkpoint(output / "checkpoint")  # from a stopped run
    first = int(FIRST_LEVEL.get(task, 0.0) * budget)
    algorithm = pareto_search.begin(masked, output, seed=seed, max_sparsity=max_sparsity, first_interactions=first)
    console = Console(file=io.StringIO())
    found, _ = pareto_search.run(
        algorithm, output, budget=budget, min_reward=solved, test_episodes=100 if budget > QUICK else 5, console=console
    )  # fmt: skip
    remove_checkpoint(output / "checkpoint")
    return [
        {
            "steps": masked.interaction_count, "weights": one.subnet.num_active,
            "test_reward": one.subnet.tests["mean"], "test_standard_error": one.subnet.tests["standard_error"],
        }
        for one in found
    ]  # fmt: skip


def table(rows: Sequence[Row], tasks: Sequence[str]) -> Table:
    """A table of the smallest policies of each task."""
    result = Table(title="Live weights of the smallest policy that solves the task")
    for column in ("task", "solved at", "seeds that solve", "fewest", "median", "most", "highest reward: median"):
        result.add_column(column, justify="left" if column == "task" else "right")
    for task in tasks:
        runs: dict[int, list[Row]] = {}
        for row in rows:
            if row["task"] == task:
                runs.setdefault(row["seed"], []).append(row)
        solved = TASKS[task][1]
        sizes = [[row["weights"] for row in run if row["test_reward"] >= solved] for run in runs.values()]
        smallest = sorted(min(size) for size in sizes if size)
        if runs:
            fewest, median, most = (smallest[0], np.median(smallest), smallest[-1]) if smallest else ("", "", "")
            highest = np.median([max(row["test_reward"] for row in run) for run in runs.values()])
            result.add_row(
                task, f"{solved:g}", f"{len(smallest)} of {len(runs)}", str(fewest), f"{median}", str(most),
                f"{highest:.1f}",
            )  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (%(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    parser.add_argument("--jobs", type=int, help="runs at a time, each on one CPU (default: the number of CPUs)")
    parser.add_argument("--output", type=Path, default=Path("results/smallest"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="short runs to check that everything works")
    args = parser.parse_args()
    if args.seeds < 1 or (args.jobs is not None and args.jobs < 1):
        parser.error("expected --seeds and --jobs of at least 1")
    if args.quick:
        args.seeds = 1
    runs = [
        {"task": task, "seed": seed, "budget": QUICK if args.quick else TASKS[task][2], "folder": str(args.output)}
        for seed in range(args.seeds) for task in args.tasks
    ]  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "smallest.csv"
    with suppress(KeyboardInterrupt):  # the results are then those of finished runs
        jobs.collect(find, runs, path, num_jobs=args.jobs)
    rows = jobs.read_rows(path)
    Console(width=max(Console().width, 100)).print(table(rows, args.tasks))


if __name__ == "__main__":
    main()
