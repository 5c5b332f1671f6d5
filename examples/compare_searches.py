"""Which search finds good masks soonest? EvoTorch's own and the paper's, on one problem, at an equal budget.

Every search gets the same task and network (LunarLander, continuous, hidden layers of 87 and 87 units), the same number
of environment steps, and the same seeds; two search the weights themselves instead of masks. Now and then the policy a
search would hand out at that moment is tested on fresh episodes. To compare another search, add
a line to SEARCHES.

    python examples/compare_searches.py --budget 600000 --seeds 3

After Ctrl-C or a kill, the same command with --resume goes on, to the same bits.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads leave the processors to the simulator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from evotorch.algorithms import CEM, CMAES, PGPE, SNES, GeneticAlgorithm, SearchAlgorithm
from evotorch.operators import GaussianMutation, TwoPointCrossOver
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from algorithms import Checkpointer, ElitistGaussianResampling, remove_checkpoint, resume
from subnet_problems import DenseGymProblem, MaskedGymProblem

Problem = MaskedGymProblem | DenseGymProblem


def masked(seed: int, num_episodes: int) -> MaskedGymProblem:
    """The problem all searches share: scores decide which weights of a frozen network are kept."""
    return MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), num_episodes=num_episodes,
        network_seed=seed, seed=seed,
    )  # fmt: skip


def dense(seed: int, num_episodes: int) -> DenseGymProblem:
    """The same task and episodes, but the weights themselves are searched."""
    return DenseGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(87, 87), num_episodes=num_episodes, seed=seed
    )


# name: (problem, episodes a solution, search)
SEARCHES: dict[str, tuple[Callable[[int, int], Problem], int, Callable[[Problem], SearchAlgorithm]]] = {
    "ElitistGaussian": (masked, 1, lambda p: ElitistGaussianResampling(p)),
    "ElitistGaussian (paper)": (
        masked, 3,
        lambda p: ElitistGaussianResampling(p, popsize=32, num_elites=3, recombination="uniform"),
    ),
    "PGPE": (
        masked, 1,
        lambda p: PGPE(
            p, popsize=64, center_learning_rate=0.3, stdev_learning_rate=0.1, stdev_init=0.1, optimizer="clipup",
            optimizer_config={"max_speed": 0.6}, ranking_method="centered",
        ),
    ),
    "SNES": (masked, 1, lambda p: SNES(p, popsize=64, stdev_init=0.1)),
    "CEM": (masked, 1, lambda p: CEM(p, popsize=64, parenthood_ratio=0.25, stdev_init=0.1)),
    "CMA-ES (separable)": (masked, 1, lambda p: CMAES(p, popsize=64, stdev_init=0.05, separable=True)),
    "GeneticAlgorithm": (
        masked, 1,
        lambda p: GeneticAlgorithm(
            p, popsize=32, operators=[TwoPointCrossOver(p, tournament_size=4), GaussianMutation(p, stdev=0.05)]
        ),
    ),
    "ElitistGaussian, dense": (dense, 1, lambda p: ElitistGaussianResampling(p, stdev=0.1)),
    "PGPE, dense": (
        dense, 1,
        lambda p: PGPE(
            p, popsize=64, center_learning_rate=0.3, stdev_learning_rate=0.1, stdev_init=0.1, optimizer="clipup",
            optimizer_config={"max_speed": 0.6}, ranking_method="centered",
        ),
    ),
}  # fmt: skip

FIELDS = ["search", "seed", "generation", "steps", "pop_best_eval", "mean_eval", "mean_sparsity"]
FIELDS += ["test_mean", "test_standard_error"]


def hand_out(searcher: SearchAlgorithm) -> torch.Tensor:
    """What a search would hand out now: the centre of its distribution if it has one, else its best solution."""
    status = searcher.status
    solution = status["center"] if "center" in status else status["pop_best"].values
    return torch.as_tensor(solution)


class Diary:
    """A row for each generation of a search. As a logger it is part of the search's checkpoints."""

    def __init__(self, searcher: SearchAlgorithm, name: str, seed: int, args: argparse.Namespace) -> None:
        self.searcher, self.name, self.seed, self.args = searcher, name, seed, args
        self.rows: list[dict[str, object]] = []
        self.next_test = 0
        searcher.log_hook.append(self)

    def __call__(self, status: dict[str, object]) -> None:
        """What EvoTorch asks of a logger, after each generation."""
        problem, args = self.searcher.problem, self.args
        row = {"search": self.name, "seed": self.seed, "generation": status["iter"], "steps": problem.interaction_count}
        row |= {key: status.get(key, "") for key in ("pop_best_eval", "mean_eval", "mean_sparsity")}
        if problem.interaction_count >= min(self.next_test, args.budget):
            returns = problem.test(hand_out(self.searcher), num_episodes=args.test_episodes, seed=12345)
            row |= {"test_mean": returns.mean(), "test_standard_error": returns.std(ddof=1) / len(returns) ** 0.5}
            self.next_test += args.budget // args.num_tests
        self.rows.append(row)


def start(name: str, seed: int, args: argparse.Namespace, checkpoint: Path) -> SearchAlgorithm:
    """One search with one seed, before its first generation."""
    make_problem, num_episodes, make_search = SEARCHES[name]
    torch.manual_seed(seed)  # some of EvoTorch's searches draw from the global generator
    searcher = make_search(make_problem(seed, num_episodes))
    Diary(searcher, name, seed, args)
    Checkpointer(searcher, checkpoint, every=20)
    return searcher


def run(name: str, seed: int, args: argparse.Namespace, advance: Callable[[int, str], None]) -> list[dict[str, object]]:
    """One search with one seed until the budget is spent; a row for each generation."""
    checkpoint = args.output / "run.checkpoint"
    try:
        searcher = resume(checkpoint, allow_pickle=True)
        advance(searcher.problem.interaction_count, f"{name}, seed {seed}: resumed")
    except FileNotFoundError:
        searcher = start(name, seed, args, checkpoint)
    diary: Diary = searcher.log_hook[0]
    while searcher.problem.interaction_count < args.budget:
        before = searcher.problem.interaction_count
        searcher.step()
        mean = diary.rows[-1]["mean_eval"]
        advance(searcher.problem.interaction_count - before, f"{name}, seed {seed}: mean return {mean:.0f}")
    return diary.rows


def finished(path: Path) -> list[dict[str, object]]:
    """The rows of the runs that are over."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [field for field in FIELDS if field != "search"]
    return [{**row, **{key: float(row[key]) for key in numbers if row[key]}} for row in rows]


def curves(rows: list[dict[str, object]], name: str, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Test reward of each seed ``(seeds, points)`` at common numbers of steps ``(points,)``."""
    at = np.linspace(0, budget, 101)
    lines = []
    for seed in sorted({row["seed"] for row in rows if row["search"] == name}):
        tested = [r for r in rows if r["search"] == name and r["seed"] == seed and r.get("test_mean", "") != ""]
        lines.append(np.interp(at, [r["steps"] for r in tested], [r["test_mean"] for r in tested]))
    return at, np.array(lines)


def plot(rows: list[dict[str, object]], names: list[str], budget: int, path: Path) -> None:
    """Median test reward over seeds against environment steps, and its range from least to most."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for i, name in enumerate(names):
        at, lines = curves(rows, name, budget)
        style = "--" if "dense" in name else "-"
        axes.plot(at / 1e6, np.median(lines, axis=0), style, color=f"C{i}", label=name)
        axes.fill_between(at / 1e6, lines.min(axis=0), lines.max(axis=0), color=f"C{i}", alpha=0.08, linewidth=0)
    axes.axhline(200, color="0.5", linewidth=1, linestyle=":")
    axes.text(0, 204, "solved", color="0.4", va="bottom")
    axes.set(xlabel="environment steps (millions)", ylabel="test reward", ylim=(-300, 300))
    axes.set_title("LunarLander continuous, hidden (87, 87): median and range over seeds")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def table(rows: list[dict[str, object]], names: list[str], num_seeds: int) -> Table:
    """What each search came to."""
    result = Table(title=f"Test reward on fresh episodes, {num_seeds} seeds")
    for column in ("search", "final, median", "least", "most", "seeds that reached 200", "steps to 200, median"):
        result.add_column(column, justify="left" if column == "search" else "right", no_wrap=column == "search")
    for name in names:
        final, solved = [], []
        for seed in sorted({row["seed"] for row in rows if row["search"] == name}):
            tested = [r for r in rows if r["search"] == name and r["seed"] == seed and r.get("test_mean", "") != ""]
            final.append(float(tested[-1]["test_mean"]))
            solved.append(next((r["steps"] for r in tested if r["test_mean"] >= 200), np.inf))
        steps = float(np.median(solved))
        result.add_row(
            name, f"{np.median(final):.0f}", f"{min(final):.0f}", f"{max(final):.0f}",
            f"{np.isfinite(solved).sum()} of {len(solved)}", f"{steps:,.0f}" if np.isfinite(steps) else "-",
        )  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=600_000, help="environment steps of each run (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), metavar="NAME")
    parser.add_argument("--test-episodes", type=int, default=20, help="episodes of each test (%(default)s)")
    parser.add_argument("--num-tests", type=int, default=12, help="tests in each run (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/compare_searches"), help="folder (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short run that only shows that everything works")
    parser.add_argument("--resume", action="store_true", help="go on with what was stopped in this folder")
    args = parser.parse_args()
    if args.test_episodes < 2:
        parser.error("expected --test-episodes of at least 2")
    if args.quick:
        args.budget, args.seeds, args.test_episodes, args.num_tests = 3_000, 1, 2, 1

    args.output.mkdir(parents=True, exist_ok=True)
    generations, checkpoint = args.output / "generations.csv", args.output / "run.checkpoint"
    if checkpoint.exists() and not args.resume:
        parser.error(f"{args.output} holds an unfinished run: --resume goes on with it, --output takes another folder")
    rows = finished(generations) if args.resume else []
    done = {(row["search"], row["seed"]) for row in rows}
    try:
        diary = resume(checkpoint, allow_pickle=True).log_hook[0] if done else None
        if diary is not None and (diary.name, diary.seed) in done:  # a kill came after its rows were written
            remove_checkpoint(checkpoint)
    except FileNotFoundError:
        pass
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TimeRemainingColumn(),
    )
    runs = [(name, seed) for seed in range(args.seeds) for name in args.searches if (name, seed) not in done]
    with (
        open(generations, "a" if rows else "w", newline="") as file,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        writer = csv.DictWriter(file, FIELDS, restval="")
        if not rows:
            writer.writeheader()
        bar = progress.add_task("", total=args.budget * len(runs))
        try:
            for name, seed in runs:
                new = run(name, seed, args, lambda n, text: progress.update(bar, advance=n, description=text))
                writer.writerows(new)
                file.flush()
                remove_checkpoint(checkpoint)
                rows += new
        except KeyboardInterrupt:
            progress.console.print("Stopped; what is finished is kept, and --resume goes on.")
    names = [name for name in args.searches if any(row["search"] == name for row in rows)]
    if names:
        plot(rows, names, args.budget, args.output / "test_reward.png")
        Console().print(table(rows, names, len({row["seed"] for row in rows})))
    print(f"Every generation: {args.output / 'generations.csv'}; plot: {args.output / 'test_reward.png'}")


if __name__ == "__main__":
    main()
