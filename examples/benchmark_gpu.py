"""What does a GPU bring, and are its results the same bits?

The task is LunarLander (continuous): 64 masks of 10 % of the weights, three episodes of 200 steps each. For networks of
10,000 to a million weights, each round measures a generation, its evaluation and a forward pass with all weights on the
GPU and on the processors, one after the other; ratios compare measurements of the same round.

Then it checks, and ends with status 1 if one of these does not hold: the GPU gives each solution the same fitness as
the processors, to the bit; the same seed gives the same bits; so does a search that goes on from a checkpoint.

    python examples/benchmark_gpu.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import numpy as np
import torch
from benchmark_scaling import HIDDEN, problem
from rich.console import Console
from rich.table import Table

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import TopK
from subnet_problems.experiments import write_table

WHAT = ("generation (s)", "evaluation (s)", "dense forward pass (ms)")


def search_on(device: str, num_weights: int, **options: Any) -> ElitistGaussianResampling:
    """A search at sparsity 0.9 on a device."""
    options = {"hidden_sizes": HIDDEN[num_weights], "mask_rule": TopK(0.9), "episode_length": 200, **options}
    return ElitistGaussianResampling(problem(device=device, **options), popsize=64, continuation=False)


def seconds(work: Callable[[], Any], device: str, repeats: int = 1) -> float:
    """Mean duration of a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def forward_pass(searcher: ElitistGaussianResampling, device: str) -> Callable[[], Any]:
    """A step of half a population, 96 observations, with all weights."""
    task = searcher.problem
    weights = task.decode(searcher.population.values[:32])
    policy = task.network.population(weights, num_episodes=3, device=device)
    rows, obs = np.arange(96, dtype=np.int32), np.random.default_rng(0).standard_normal((96, 8)).astype(np.float32)
    policy.act(rows, obs)
    return lambda: policy.act(rows, obs)


def measured(num_weights: int, device: str, repeats: int) -> Iterator[dict[str, Any]]:
    """One row for each round."""
    devices = {"GPU": device, "CPU": "cpu"}
    searches = {place: search_on(name, num_weights) for place, name in devices.items()}
    for searcher in searches.values():
        searcher.run(2)  # compiles and loads
    passes = {place: forward_pass(searcher, devices[place]) for place, searcher in searches.items()}
    for round_ in range(repeats):
        row: dict[str, Any] = {"weights": num_weights, "round": round_}
        for place, searcher in searches.items():
            name, task, population = devices[place], searcher.problem, searcher.population
            row[f"{place} generation (s)"] = seconds(searcher.step, name)
            row[f"{place} evaluation (s)"] = seconds(lambda t=task, p=population: t.evaluate(p), name)
            row[f"{place} dense forward pass (ms)"] = 1e3 * seconds(passes[place], name, 50)
        yield row


def checks(device: str) -> dict[str, bool]:
    """What must hold, and whether it does."""
    values = search_on("cpu", 10_000).population.values
    fitness = []
    for name in (device, "cpu"):
        task = search_on(name, 10_000).problem
        batch = task.generate_batch(len(values))
        batch.set_values(values.to(name))
        task.evaluate(batch)
        fitness.append(batch.evals.cpu())
    options = {"episode_length": 60}
    first, second = (search_on(device, 10_000, **options) for _ in range(2))
    for searcher in (first, second):
        searcher.run(6)
    with tempfile.TemporaryDirectory() as folder:
        stopped = search_on(device, 10_000, **options)
        Checkpointer(stopped, Path(folder) / "checkpoint", every=3)
        stopped.run(3)
        resumed = resume(Path(folder) / "checkpoint", allow_pickle=True)
        resumed.run(3)  # goes on writing checkpoints
    return {
        "each solution has the fitness that processors give it": torch.equal(*fitness),
        "the same seed gives the same bits": same(first, second),
        "a resumed search gives the same bits": same(first, resumed),
    }


def same(first: Any, second: Any) -> bool:
    """Whether two searches have the same population, fitness and center."""
    pairs = [(s.population.values, s.population.evals, s.status["center"]) for s in (first, second)]
    return all(torch.equal(*pair) for pair in zip(*pairs, strict=True))


def table(rows: list[dict[str, Any]]) -> Table:
    """Medians, and ratios with minimum and maximum."""
    result = Table(title="A generation of 64 masks: medians, and the median ratio (minimum to maximum)")
    for column in ("weights", "what", "GPU", "CPU", "GPU over CPU"):
        result.add_column(column, justify="left" if column == "what" else "right")
    for num_weights in dict.fromkeys(row["weights"] for row in rows):
        mine = [row for row in rows if row["weights"] == num_weights]
        for what in WHAT:
            gpu, cpu = ([row[f"{place} {what}"] for row in mine] for place in ("GPU", "CPU"))
            ratios = [a / b for a, b in zip(gpu, cpu, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            medians = [f"{statistics.median(numbers):.3g}" for numbers in (gpu, cpu)]
            result.add_row(f"{num_weights:,}", what, *medians, spread)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu tries the script (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="paired rounds (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/gpu.csv"), help="CSV (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here. --device cpu tries the script without one.")
    console = Console()
    console.print(torch.cuda.get_device_name() if args.device == "cuda" else "no GPU", f"{os.cpu_count()} processors")
    held = checks(args.device)
    for what, holds in held.items():
        console.print("yes" if holds else "NO ", what)
    rows: list[dict[str, Any]] = []
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for num_weights in (10_000,) if args.quick else (10_000, 100_000, 1_000_000):
        for row in measured(num_weights, args.device, 1 if args.quick else args.repeats):
            rows.append(row)
            write_table(args.output, rows)
    console.print(table(rows))
    if not all(held.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
