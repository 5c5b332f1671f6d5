"""How few random weights land the LunarLander? A policy that keeps 844 weights is made smaller in several rounds.

First the default search finds a policy at sparsity 0.9. Then ``sparsify`` runs twice: from this policy, and from the
best policy of the front that it found. Each round is a new continuation from a policy's own mask. The smallest policy
is the one with the fewest live weights whose mean over 100 fresh episodes is at least 200.

    python examples/smallest_lander.py --seeds 10
    python examples/smallest_lander.py --first-seed 3

A seed draws the network and the searches. A run takes about five minutes on one CPU. Its results are added to
smallest_lander.csv when it ends, and its policies and plots are in a folder. The same command continues with the
missing runs.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from algorithms import ElitistGaussianResampling, remove_checkpoint
from subnet_problems import MaskedGymProblem, Subnetwork, sparsify
from subnet_problems.experiments import Row, jobs

SOLVED = 200.0
#: Generations of the first search, environment steps of each round (choosing takes up to half of that in addition).
GENERATIONS, BUDGET = 100, 1_000_000
QUICK = 5_000


def find(seed: int, rounds: int, budget: int, folder: str) -> list[Row]:
    """Perform one run: the policy of the first search, and the front of each round."""
    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    problem = MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), sparsity=0.9, weight_gain=0.7,
        network_seed=seed, seed=seed, num_threads=1,
    )  # fmt: skip
    searcher = ElitistGaussianResampling(problem)
    searcher.run(GENERATIONS if budget > QUICK else 1)
    episodes = 100 if budget > QUICK else 5
    best = problem.to_subnetwork(searcher.status["center"]).tested(num_episodes=episodes, seed=12345)
    rows = [_row(0, best)]
    for number in range(1, rounds + 1):
        output = Path(folder) / str(seed) / str(number)
        remove_checkpoint(output / "checkpoint")  # from a stopped run
        sparsify(
            best, output, min_reward=SOLVED if budget > QUICK else -1e9, budget=budget, seed=seed, num_threads=1,
            test_episodes=episodes, console=Console(file=io.StringIO()),
        )  # fmt: skip
        remove_checkpoint(output / "checkpoint")
        front = [Subnetwork.load(path) for path in (output / "policies").iterdir()]
        rows += [_row(number, policy) for policy in sorted(front, key=lambda policy: policy.num_active)]
        best = max(front, key=lambda policy: (policy.tests["mean"], -policy.num_active))
    return rows


def _row(number: int, policy: Subnetwork) -> Row:
    tests = policy.tests
    return {
        "after_round": number, "weights": policy.prune().num_active, "test_reward": tests["mean"],
        "test_standard_error": tests["standard_error"],
    }  # fmt: skip


def table(rows: Sequence[Row]) -> Table:
    """The smallest policy of each seed that earns enough, after each round and of all rounds."""
    numbers = sorted({row["after_round"] for row in rows})
    result = Table(title=f"Live weights of the smallest policy that earns {SOLVED:g}, and its test reward")
    for column in ("seed", "after the search", *(f"after round {number}" for number in numbers[1:]), "smallest"):
        result.add_column(column, justify="right")
    sizes: list[list[int]] = [[] for _ in [*numbers, None]]
    for seed in sorted({row["seed"] for row in rows}):
        enough = [row for row in rows if row["seed"] == seed and row["test_reward"] >= SOLVED]
        cells = []
        for column, number in zip(sizes, [*numbers, None], strict=True):
            found = [row for row in enough if number is None or row["after_round"] == number]
            small = min(found, key=lambda row: row["weights"], default=None)
            cells.append("none")
            if small is not None:
                column.append(small["weights"])
                cells[-1] = f"{small['weights']} ({small['test_reward']:.1f} ± {small['test_standard_error']:.1f})"
        result.add_row(str(seed), *cells)
    result.add_row("median", *(f"{np.median(column):g}" if column else "none" for column in sizes))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="how often sparsify runs (%(default)s)")
    parser.add_argument("--jobs", type=int, help="runs at a time, each on one CPU (default: number of CPUs)")
    parser.add_argument("--output", type=Path, default=Path("results/smallest_lander"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    args = parser.parse_args()
    if min(args.seeds, args.rounds, args.jobs or 1) < 1 or args.first_seed < 0:
        parser.error("expected --seeds, --rounds and --jobs of at least 1, and --first-seed of at least 0")
    if args.quick:
        args.seeds = args.rounds = 1
    runs = [
        {"seed": seed, "rounds": args.rounds, "budget": QUICK if args.quick else BUDGET, "folder": str(args.output)}
        for seed in range(args.first_seed, args.first_seed + args.seeds)
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / "smallest_lander.csv"
    with suppress(KeyboardInterrupt):  # the results are then those of finished runs
        jobs.collect(find, runs, path, num_jobs=args.jobs)
    rows = jobs.read_rows(path)
    if rows:
        Console(width=max(Console().width, 100)).print(table(rows))


if __name__ == "__main__":
    main()
