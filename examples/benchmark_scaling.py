"""How does the cost of a generation grow with episodes, network size and threads, and what does the search itself cost?

The task is LunarLander (continuous) with random masks. Prints a table for each question, writes it as CSV, and draws
all of them in one plot.

    python examples/benchmark_scaling.py
    python examples/benchmark_scaling.py --device cuda
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the CPUs to the simulator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table

from algorithms import ElitistGaussianResampling
from subnet_problems import MaskedGymProblem, TopK
from subnet_problems.experiments import write_table
from subnet_problems.pictures import save_figure

#: The growth with network size is measured for masks that keep about half of the weights, and for these sparsities.
SPARSITIES = (0.9, 0.98)
#: Hidden sizes whose networks have about 1k, 10k, 100k and 1M weights, for 8 observations and 2 actions.
HIDDEN = {1_000: (27, 27), 10_000: (95, 95), 100_000: (311, 311), 1_000_000: (995, 995)}


def problem(**options: Any) -> MaskedGymProblem:
    """The task, with scores that give random masks."""
    options = {"hidden_sizes": (87, 87), "num_episodes": 3, "score_stdev": 1.0, "seed": 0, **options}
    return MaskedGymProblem("LunarLander-v3", env_config={"continuous": True}, **options)


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Median duration in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def rate(popsize: int, repeats: int, **options: Any) -> float:
    """Median environment steps per second of an evaluation."""
    task = problem(**options)
    batch = task.generate_batch(popsize)
    task.evaluate(batch)  # compiles and loads
    rates = []
    for _ in range(repeats):
        before, start = task.interaction_count, time.perf_counter()
        task.evaluate(batch)
        rates.append((task.interaction_count - before) / (time.perf_counter() - start))
    return statistics.median(rates)


def growth(num_weights: int, repeats: int, device: str) -> dict[str, float]:
    """Steps per second for networks of this size, by sparsity."""
    options = {"hidden_sizes": HIDDEN[num_weights], "episode_length": 60, "device": device}
    row = {"weights": float(num_weights), "free sparsity": rate(64, repeats, **options)}
    return row | {f"sparsity {s:g}": rate(64, repeats, mask_rule=TopK(s), **options) for s in SPARSITIES}


def search_cost(num_weights: int, repeats: int, device: str) -> dict[str, float]:
    """Seconds of a generation of 64 without its evaluation, and of the evaluation with three episodes each."""
    task = problem(hidden_sizes=HIDDEN[num_weights], mask_rule=TopK(0.9), device=device)
    searcher = ElitistGaussianResampling(task, popsize=64)
    searcher.step()
    values, layers = searcher.population.values, task.network.layers
    marks: list[float] = []
    for hook in (task.before_eval_hook, task.after_eval_hook):
        hook.append(lambda *_: marks.append(time.perf_counter()))

    def search() -> float:
        """Seconds of a generation without its evaluation."""
        marks.clear()
        start = time.perf_counter()
        searcher.step()
        return time.perf_counter() - start - (marks[1] - marks[0])

    return {
        "weights": task.network.num_weights,
        "search (s)": statistics.median(search() for _ in range(repeats)),
        "top-k masks (s)": timed(lambda: TopK(0.9)(values, layers), repeats),
        "threshold masks (s)": timed(lambda: values > 0.0, repeats),
        "evaluation (s)": timed(lambda: task.evaluate(searcher.population), repeats),
    }


def peak_memory(num_weights: int) -> dict[str, float]:
    """Peak memory of two generations of 64, as a multiple of the population's own bytes."""
    code = f"import benchmark_scaling; benchmark_scaling.memory_of_a_run({num_weights})"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True).stdout
    own, peak = (float(word) for word in output.split()[-2:])
    return {
        "weights": num_weights,
        "population (MB)": own / 1e6,
        "peak above the start (MB)": peak / 1e6,
        "ratio": peak / own,
    }


def memory_of_a_run(num_weights: int) -> None:
    """Run in its own process: print the population's bytes, and the peak memory above that of a small search."""
    options = {"mask_rule": TopK(0.9), "episode_length": 2}
    small = ElitistGaussianResampling(problem(hidden_sizes=HIDDEN[10_000], **options), popsize=64)
    small.run(2)
    start = peak_bytes()
    searcher = ElitistGaussianResampling(problem(hidden_sizes=HIDDEN[num_weights], **options), popsize=64)
    searcher.run(2)
    print(64 * searcher.problem.solution_length * 4, peak_bytes() - start)


def peak_bytes() -> int:
    """Peak memory of this process in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def report(title: str, measure: Callable[[], list[dict[str, Any]]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a table and write it as CSV, or read it with ``--resume`` if it exists; then print it."""
    path = args.output / f"{title.replace(' ', '_')}.csv"
    if args.resume and path.exists():
        with open(path, newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    else:
        rows = measure()
        write_table(path, rows)
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{v:,.4g}" if isinstance(v, float) and v < 100 else f"{v:,.0f}" for v in row.values()))
    Console().print(table)
    return rows


def draw(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw one panel per table: its other columns against the first."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for axes, (title, rows) in zip(panels.flat, tables.items(), strict=True):
        x, *series = rows[0]
        is_rate = title.startswith("growth")
        for column in series:
            axes.plot([row[x] for row in rows], [row[column] for row in rows], "o-", label=column)
        axes.set(xlabel=x, title=title)
        if x == "threads of each half":
            axes.set_xticks([row[x] for row in rows])
        else:
            axes.set_xscale("log")
        most = max(value for row in rows for value in list(row.values())[1:])
        if is_rate:
            axes.set(ylabel="steps/s", ylim=(0, 1.15 * most))
        else:
            axes.set(yscale="log", ylabel="seconds a generation", ylim=(None, 100 * most))  # room for the legend
        if len(series) > 1:
            axes.legend(frameon=False, fontsize="small", loc="lower left" if is_rate else "upper left")
        axes.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="repetitions of each measurement (%(default)s)")
    parser.add_argument("--device", default="cpu", help="device for scores, masks and policies (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/scaling"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run to check that everything works")
    parser.add_argument("--resume", action="store_true", help="keep the existing tables, measure the others")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    device: str = args.device
    repeats = 1 if args.quick else args.repeats
    most, sizes = (64, [1_000]) if args.quick else (4096, list(HIDDEN))
    episodes = [n for n in (16, 64, 256, 1024, 4096) if n <= most]
    threads = sorted({1, 2, os.cpu_count() or 1})
    questions: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "growth with episodes": lambda: [
            {"episodes at once": n, "steps/s": rate(n // 2, repeats, num_episodes=2, device=device)} for n in episodes
        ],
        "growth with network size": lambda: [growth(n, repeats, device) for n in sizes],
        "growth with threads": lambda: [
            {"threads of each half": n, "steps/s": rate(64, repeats, num_threads=n, device=device)} for n in threads
        ],
        "cost of the search itself": lambda: [
            search_cost(n, repeats, device) for n in sizes if n >= 10_000 or args.quick
        ],
    }
    draw({title: report(title, measure, args) for title, measure in questions.items()}, args.output / "scaling.png")
    report("peak memory", lambda: [peak_memory(sizes[-1])], args)


if __name__ == "__main__":
    main()
