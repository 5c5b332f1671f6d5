"""How sparse can a policy be, and what does that cost? The trade-off between reward and sparsity, in one run.

NSGA-II evolves masks over one frozen random network, each at an enforced sparsity of its own. At the end every policy
of the front is tested on fresh episodes, drawn, and saved as a file of about a kilobyte.

    python examples/pareto_sparsity.py                       # LunarLander, continuous; about four minutes
    python examples/pareto_sparsity.py --env CartPole-v1 --budget 300000

Ctrl-C ends the search early and keeps what it has. After that, or after a kill, the same command with --resume goes on
where the last checkpoint was written, to the same bits.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the processors to the simulator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from algorithms import ParetoCheckpointer, evaluate_again, pareto_operators, remove_checkpoint, resume
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, Subnetwork, TopK

#: Evaluations every policy has behind it before the front is drawn from what they showed.
CLOSING_EVALUATIONS = 40


def front_of(algorithm: NSGA2) -> np.ndarray:
    """Indices of the individuals that none other dominates, sparsest first."""
    objectives = algorithm.pop.get("F")
    front = NonDominatedSorting().do(objectives, only_non_dominated_front=True)
    return front[np.argsort(objectives[front, 1])]


def start(args: argparse.Namespace, checkpoint: Path) -> NSGA2:
    """The algorithm on its problem, before its first generation."""
    masked = MaskedGymProblem(
        args.env,
        env_config=args.env_config,
        hidden_sizes=tuple(args.hidden_sizes),
        mask=TopK(0.5),
        num_episodes=args.num_episodes,
        network_seed=args.seed,
        seed=args.seed,
    )
    algorithm = NSGA2(args.popsize, n_offsprings=5 * args.popsize, **pareto_operators(0.1))
    algorithm.setup(
        ParetoSparsityProblem(masked),
        termination=("n_gen", 10**9),
        seed=args.seed,
        callback=ParetoCheckpointer(checkpoint, every=20),
    )
    return algorithm


def search(algorithm: NSGA2, args: argparse.Namespace, console: Console) -> None:
    """Evolve until the budget is spent or the user stops it."""
    problem = algorithm.problem
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    steps, begin = problem.interaction_count, time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=args.budget)
        try:
            while problem.interaction_count < args.budget:
                algorithm.next()
                objectives = algorithm.pop.get("F")
                floor = algorithm.data.setdefault("floor", float(np.median(objectives[:, 0])))  # a random mask's
                hypervolume = HV(ref_point=np.array([floor, 1.0]))(objectives)
                rate = (problem.interaction_count - steps) / (time.perf_counter() - begin)
                progress.update(
                    bar,
                    completed=min(problem.interaction_count, args.budget),
                    description=f"generation {algorithm.n_gen - 1}: front {len(front_of(algorithm))}, "
                    f"hypervolume {hypervolume:.0f}, {rate / 1000:.0f}k steps/s",
                )
        except KeyboardInterrupt:
            progress.console.print("Stopped: the front is drawn from what was found so far. --resume goes on.")


def close(problem: ParetoSparsityProblem, algorithm: NSGA2) -> None:
    """Evaluate the last population some more, so that no one is on the front by luck alone."""
    while few := [i for i in algorithm.pop if i.data["num_evaluations"] < CLOSING_EVALUATIONS]:
        evaluate_again(problem, few)


def test(subnet: Subnetwork, seen: float, evaluations: int, args: argparse.Namespace) -> dict[str, float]:
    """One row of the closing table."""
    subnet.test(num_episodes=args.test_episodes, seed=args.test_seed)
    return {
        "sparsity": subnet.sparsity,
        "weights_kept": subnet.num_active,
        "search_reward": seen,
        "search_evaluations": evaluations,
        "test_reward": subnet.tests["mean"],
        "test_standard_error": subnet.tests["standard_error"],
    }


def plot(rows: list[dict[str, float]], env: str, threshold: float | None, num_weights: int, path: Path) -> None:
    """The front: test reward with its standard error against the share of weights that is kept."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    kept = [100 * (1 - row["sparsity"]) for row in rows]
    axes.plot(kept, [row["search_reward"] for row in rows], "o", mfc="none", color="0.6", label="seen in the search")
    axes.errorbar(
        kept, [row["test_reward"] for row in rows], yerr=[row["test_standard_error"] for row in rows],
        fmt="o-", color="C0", capsize=3, label="fresh episodes, mean and standard error",
    )  # fmt: skip
    if threshold is not None:
        axes.axhline(threshold, color="C2", linewidth=1, linestyle="--", label=f"solved ({threshold:g})")
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = [t for t in (100, 50, 30, 20, 10, 5, 4, 3, 2, 1.5, 1) if min(kept) * 0.8 <= t <= max(kept) * 1.25]
    axes.set_xticks(ticks, [f"{t:g} %\n{round(num_weights * t / 100):,}" for t in ticks])
    axes.minorticks_off()
    axes.set(xlabel="weights kept (sparser to the right)", ylabel="reward of an episode")
    axes.set_title(f"{env}: reward against sparsity, {num_weights:,} random weights")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def table(rows: list[dict[str, float]], test_episodes: int) -> Table:
    """The front for the eye."""
    result = Table(title=f"Pareto front; tests: {test_episodes} fresh episodes on Gymnasium")
    for column in ("sparsity", "weights kept", "reward seen in the search", "test reward", "standard error"):
        result.add_column(column, justify="right")
    for row in rows:
        result.add_row(
            f"{row['sparsity']:.3f}", f"{row['weights_kept']:,}", f"{row['search_reward']:.1f}",
            f"{row['test_reward']:.1f}", f"{row['test_standard_error']:.1f}",
        )  # fmt: skip
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="LunarLander-v3", help="Gymnasium id (%(default)s)")
    parser.add_argument("--env-config", type=json.loads, help="JSON; for LunarLander-v3 '{\"continuous\": true}'")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[87, 87], help="(%(default)s)")
    parser.add_argument("--budget", type=int, default=8_000_000, help="environment steps (%(default)s)")
    parser.add_argument("--popsize", type=int, default=24, help="survivors of a generation (%(default)s)")
    parser.add_argument("--num-episodes", type=int, default=1, help="episodes of one evaluation (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the search (%(default)s)")
    parser.add_argument("--test-episodes", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--test-seed", type=int, default=12345, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/pareto_sparsity"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that everything works")
    parser.add_argument("--resume", action="store_true", help="go on with the run that was stopped in this folder")
    args = parser.parse_args()
    if args.test_episodes < 2 or args.budget < 1:
        parser.error("expected --budget of at least 1 and --test-episodes of at least 2")
    if args.quick:
        args.budget, args.popsize, args.test_episodes = min(args.budget, 20_000), 8, 5
    if args.env_config is None:
        args.env_config = {"continuous": True} if args.env == "LunarLander-v3" else {}
    return args


def main() -> None:
    args, console = parse(), Console()
    (args.output / "policies").mkdir(parents=True, exist_ok=True)
    checkpoint = args.output / "checkpoint"
    try:
        algorithm = resume(checkpoint, allow_pickle=True) if args.resume else start(args, checkpoint)
    except (FileExistsError, FileNotFoundError) as error:
        raise SystemExit(f"{error}\n(--resume goes on with a run, --output takes another folder)") from None
    problem, masked = algorithm.problem, algorithm.problem.masked
    console.print(f"{masked.task.name}, {masked.network.num_weights:,} frozen weights, simulator: {masked.backend}")
    search(algorithm, args, console)
    if not algorithm.is_initialized:
        console.print("Stopped before the first generation: there is nothing to keep.")
        return

    rows: list[dict[str, float]] = []
    try:
        with console.status("Evaluating the last population again, and testing its front on fresh episodes"):
            close(problem, algorithm)
            for individual in algorithm.pop[front_of(algorithm)]:
                subnet = problem.to_subnetwork(individual.X)
                rows.append(test(subnet, -individual.F[0], individual.data["num_evaluations"], args))
                subnet.save(args.output / "policies" / f"{subnet.num_active}_weights.safetensors")
    except KeyboardInterrupt:
        console.print("Stopped: the policies that were tested are kept.")
    if not rows:
        return
    with open(args.output / "front.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(
        rows, str(masked.task.name), masked.task.reward_threshold, masked.network.num_weights, args.output / "front.png"
    )
    console.print(table(rows, args.test_episodes))
    console.print(f"Table, plot and policies are in {args.output}. To load one:")
    console.print(f"    Subnetwork.load('{args.output}/policies/{rows[0]['weights_kept']}_weights.safetensors')")

    if problem.interaction_count >= args.budget:
        remove_checkpoint(checkpoint)


if __name__ == "__main__":
    main()
