"""At which episode length are two actors faster than one process, and how many bytes are sent to them?

The workload is one generation: 64 random masks over a network with hidden layers of 87 and 87 units, three episodes
each, on LunarLander (continuous), with several maximum episode lengths. One process and two actors are measured in
turn.

    python examples/benchmark_actors.py
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import ray
from evotorch import SolutionBatch
from rich.console import Console
from rich.table import Table

from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import write_table


def seconds(problem: MaskedGymProblem, batch: SolutionBatch) -> float:
    """Duration of an evaluation in seconds."""
    start = time.perf_counter()
    problem.evaluate(batch)
    return time.perf_counter() - start


def measure(backend: str, steps: int, args: argparse.Namespace) -> dict[str, Any]:
    """Medians of one row of the table."""
    options: dict[str, Any] = {"env_config": {"continuous": True}, "hidden_sizes": (87, 87), "score_stdev": 1.0}
    options |= {"num_episodes": 3, "episode_length": steps, "backend": backend, "seed": 0}
    alone = MaskedGymProblem("LunarLander-v3", **options)
    together = MaskedGymProblem("LunarLander-v3", num_actors=args.num_actors, **options)
    batch = alone.generate_batch(args.popsize)
    seconds(together, batch)
    ray.get([actor.get.remote("_actor_index") for actor in together.actors])  # wait until all are ready
    for _ in range(2):
        seconds(alone, batch), seconds(together, batch)
    rounds = [(seconds(alone, batch), seconds(together, batch)) for _ in range(args.rounds)]
    to_actor, from_actor = alone.traffic(batch.values[: len(batch) // 2])
    together.kill_actors()
    one, two = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = sorted(a / b for a, b in rounds)
    return {
        "backend": backend,
        "episode_length": steps,
        "one_process_s": round(one, 4),
        "actors_s": round(two, 4),
        "times_as_fast": round(statistics.median(ratios), 2),
        "least": round(ratios[0], 2),
        "most": round(ratios[-1], 2),
        "bytes_to_actor": to_actor,
        "bytes_from_actor": from_actor,
    }


def main() -> None:
    """Measure, print a table and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--popsize", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--num-actors", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="paired rounds (%(default)s)")
    parser.add_argument("--episode-lengths", type=int, nargs="+", default=[10, 50, 200, 1000], metavar="STEPS")
    parser.add_argument("--output", type=Path, default=Path("results/actors.csv"), help="CSV (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the CSV has, measure the others")
    args = parser.parse_args()
    if args.quick:
        args.popsize, args.rounds, args.episode_lengths = 8, 1, [10]
    rows: list[dict[str, Any]] = []
    if args.resume and args.output.exists():
        with open(args.output, newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["backend"], int(row["episode_length"])) for row in rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for backend in ("gymnasium", "envpool"):
        for steps in args.episode_lengths:
            if (backend, steps) in done:
                continue
            rows.append(measure(backend, steps, args))
            write_table(args.output, rows)
    table = Table(*rows[0], title=f"One process and {args.num_actors} actors, medians of {args.rounds}")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
