"""How fast is an evaluation, compared with the simulator alone and with EvoTorch's GymNE and VecGymNE?

The workload is one generation: 64 masks over a network with hidden layers of 87 and 87 units (scores from N(0, 1)),
three episodes each, common seeds. The *limit* is EnvPool alone: it steps the recorded actions of the same live episodes
without a policy, including the pool's creation and first reset. Each round measures all of them one after the other;
ratios compare measurements of the same round.

    python examples/benchmark_throughput.py
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import numpy as np
import torch
from evotorch.neuroevolution import GymNE, VecGymNE
from rich.console import Console
from rich.table import Table

from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import write_table
from subnet_problems.tasks.simulators import SIMULATORS

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "LunarLander-v3, continuous": ("LunarLander-v3", {"continuous": True}),
    "LunarLander-v3": ("LunarLander-v3", {}),
    "BipedalWalker-v3": ("BipedalWalker-v3", {}),
    "CartPole-v1": ("CartPole-v1", {}),
    "Acrobot-v1": ("Acrobot-v1", {}),
}
NETWORK = (
    "Linear(obs_length, 87, bias=False) >> Tanh() >> Linear(87, 87, bias=False) >> Tanh() "
    ">> Linear(87, act_length, bias=False)"
)


class Recorder:
    """A simulator that records the actions it receives, and sends them on to EnvPool's."""

    def __init__(self, simulator: Any, name: str, seeds: np.ndarray) -> None:
        self.simulator, self.name, self.seeds = simulator, name, seeds
        self.sent: list[tuple[np.ndarray, np.ndarray]] = []
        self.reset, self.recv, self.close = simulator.reset, simulator.recv, simulator.close

    def send(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """Record the actions and send them on."""
        self.sent.append((rows.copy(), np.array(actions, dtype=np.int32 if actions.ndim == 1 else np.float32)))
        self.simulator.send(rows, actions)


class RecorderKind:
    """EnvPool, of which each pool is recorded."""

    def __init__(self) -> None:
        self.envpool, self.made = SIMULATORS["envpool"], list[Recorder]()
        self.num_parts, self.serves = self.envpool.num_parts, self.envpool.serves

    def make(self, playground: Any, served: Any, seeds: np.ndarray) -> Recorder:
        """A recorded pool."""
        self.made.append(Recorder(self.envpool.make(playground, served, seeds), served, seeds))
        return self.made[-1]


def record(options: dict[str, Any], values: torch.Tensor) -> tuple[str, list[int], list[tuple[np.ndarray, ...]]]:
    """The name, the seeds, and each step's live rows and actions of one evaluation, merged into one pool."""
    SIMULATORS["recorder"] = kind = RecorderKind()
    evaluate(MaskedGymProblem(**options, backend="recorder"), values)
    parts, first, steps = kind.made, 0, []
    firsts = []
    for part in parts:
        firsts.append(first)
        first += len(part.seeds)
    for step in range(max(len(part.sent) for part in parts)):
        live = [(part, start) for part, start in zip(parts, firsts, strict=True) if step < len(part.sent)]
        rows = np.concatenate([part.sent[step][0] + start for part, start in live]).astype(np.int32)
        steps.append((rows, np.concatenate([part.sent[step][1] for part, _ in live])))
    return parts[0].name, [int(seed) for part in parts for seed in part.seeds], steps


def replay(name: str, seeds: list[int], steps: list[tuple[np.ndarray, ...]], num_threads: int) -> int:
    """Run EnvPool alone on recorded actions. Return the number of environment steps."""
    import envpool

    pool = envpool.make(name, env_type="gymnasium", num_envs=len(seeds), num_threads=num_threads, seed=seeds)
    pool._reset(np.arange(len(seeds), dtype=np.int32))
    pool._recv()
    for rows, actions in steps:
        pool._send([rows, rows, actions])
        pool._recv()
    return sum(len(rows) for rows, _ in steps)


def evaluate(problem: Any, values: torch.Tensor) -> int:
    """Evaluate one generation. Return the number of environment steps."""
    before = problem.status.get("total_interaction_count", 0)
    batch = problem.generate_batch(len(values), empty=True)
    batch.set_values(values)
    problem.evaluate(batch)
    return int(problem.status["total_interaction_count"] - before)


def rate(work: Callable[[], int]) -> float:
    """Environment steps per second."""
    start = time.perf_counter()
    steps = work()
    return steps / (time.perf_counter() - start)


def measure(title: str, args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Measure a task: one row per round."""
    env, config = TASKS[title]
    options: dict[str, Any] = {"env_config": config, "hidden_sizes": (87, 87), "num_episodes": 3, "score_stdev": 1.0}
    ours = MaskedGymProblem(env, seed=0, **options)
    plain = MaskedGymProblem(env, seed=0, backend="gymnasium", **options)
    scores = ours.generate_batch(args.popsize).values
    weights = ours.decode(scores)  # the peers evolve weights: these give the same policies
    peers = {"GymNE": GymNE(env, NETWORK, env_config=config, num_episodes=3)}
    if not args.quick:
        peers["GymNE, 2 actors"] = GymNE(env, NETWORK, env_config=config, num_episodes=3, num_actors=2)
        peers["VecGymNE"] = VecGymNE(env, NETWORK, env_config=config, num_episodes=3)

    evaluate(ours, scores), evaluate(plain, scores)  # compile, load, start actors
    for peer in peers.values():
        evaluate(peer, weights)
    rows = []
    for round_ in range(args.repeats):
        name, seeds, steps = record({"env": env, "seed": round_ + 1, **options}, scores)
        fresh = MaskedGymProblem(env, seed=round_ + 1, **options)
        row: dict[str, Any] = {"task": title, "round": round_}
        row["ours"] = rate(lambda fresh=fresh: evaluate(fresh, scores))
        row["limit"] = rate(lambda n=name, s=seeds, t=steps: replay(n, s, t, args.threads))
        row["ours, Gymnasium"] = rate(lambda: evaluate(plain, scores))
        row |= {name: rate(lambda p=peer: evaluate(p, weights)) for name, peer in peers.items()}
        rows.append(row)
        console.print("  ".join(f"{k} {v:,.0f}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    for peer in peers.values():
        if peer.actors is not None:
            peer.kill_actors()
    return rows


def spread(values: list[float], digits: int = 2) -> str:
    """Median, minimum and maximum as text."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def table(rows: list[dict[str, Any]]) -> Table:
    """A table of medians with minima and maxima."""
    result = Table(title="Environment steps per second (thousands), and ratios: median (minimum to maximum)")
    for column in (
        "task",
        "ours",
        "limit",
        "of the limit",
        "best peer",
        "times the best peer",
        "Gymnasium, times GymNE",
    ):
        result.add_column(column, justify="left" if column == "task" else "right")
    for title in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == title]
        peers = [key for key in mine[0] if "GymNE" in key]
        best = max(peers, key=lambda peer: statistics.median(row[peer] for row in mine))
        result.add_row(
            title,
            spread([row["ours"] / 1e3 for row in mine], 1),
            spread([row["limit"] / 1e3 for row in mine], 1),
            spread([row["ours"] / row["limit"] for row in mine]),
            f"{best} {statistics.median(row[best] for row in mine) / 1e3:.1f}",
            spread([row["ours"] / row[best] for row in mine]),
            spread([row["ours, Gymnasium"] / row["GymNE"] for row in mine]),
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--repeats", type=int, default=5, help="paired rounds (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="EnvPool's threads for the limit (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/throughput.csv"), help="CSV (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    parser.add_argument("--resume", action="store_true", help="keep the tasks that the CSV has, measure the others")
    args = parser.parse_args()
    args.popsize = 64
    if args.quick:
        args.tasks, args.repeats, args.popsize = ["LunarLander-v3, continuous", "CartPole-v1"], 1, 16
    console = Console()
    rows: list[dict[str, Any]] = []
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if args.resume and args.output.exists():
        with open(args.output, newline="") as file:
            rows = [{k: v if k == "task" else float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    for title in args.tasks:
        if any(row["task"] == title for row in rows):
            continue
        rows += measure(title, args, console)
        write_table(args.output, rows)
    console.print(table(rows))


if __name__ == "__main__":
    main()
