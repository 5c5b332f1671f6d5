"""The search for a front of sparse policies, as the example and the command run it: NSGA-II, tests, files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from algorithms import ParetoCheckpointer, evaluate_again, pareto_operators, remove_checkpoint

from ._checks import check_count, check_path, check_seed
from ._files import check_file, check_folder
from .gym_problem import MaskedGymProblem
from .outcomes import write_table
from .pareto_problem import ParetoSparsityProblem
from .plots import drawn_if_possible, plot_front, save_figure
from .subnetwork import Subnetwork

#: Evaluations every policy has behind it before the front is drawn from what they showed.
CLOSING_EVALUATIONS = 40


def begin(masked: MaskedGymProblem, folder: str | Path, *, popsize: int = 24, seed: int = 0) -> NSGA2:
    """NSGA-II on the trade-off of a masked problem, before its first generation.

    Args:
        masked: The problem; its mask rule is ``TopK``.
        folder: Where ``checkpoint`` is written every 20 generations; ``algorithms.resume`` reads it.
        popsize: Survivors of a generation, each of which has five children.
        seed: Of the search.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
        FileExistsError: There is a checkpoint already.
        OSError: Nothing can be written there.
    """
    popsize, seed = check_count("popsize", popsize), check_seed("seed", seed)
    folder = check_folder("folder", check_path("folder", folder))
    folder.mkdir(parents=True, exist_ok=True)
    algorithm = NSGA2(popsize, n_offsprings=5 * popsize, **pareto_operators(0.1))
    algorithm.setup(
        ParetoSparsityProblem(masked),
        termination=("n_gen", 10**9),
        seed=seed,
        callback=ParetoCheckpointer(folder / "checkpoint", every=20),
    )
    return algorithm


@dataclass(frozen=True)
class Found:
    """A policy of the front.

    Attributes:
        subnet: The policy, tested.
        seen: Its mean reward in the search.
        num_evaluations: How many evaluations that is the mean of.
    """

    subnet: Subnetwork
    seen: float
    num_evaluations: int


def run(
    algorithm: NSGA2, folder: str | Path, *, budget: int, test_episodes: int = 100, test_seed: int = 12345,
    console: Console | None = None,
) -> tuple[list[Found], bool]:  # fmt: skip
    """Search until the budget is spent or Ctrl-C, then test every policy of the front, and keep all of it.

    The folder then has ``policies/<weights kept>_weights.safetensors``, ``front.csv`` and ``front.png``, in this order:
    policies are saved as they are tested, and a picture that cannot be drawn is a warning. Policies of an earlier front
    stay until all of this one are tested. Once the budget is spent, the checkpoint is removed.

    Args:
        algorithm: From ``begin`` or ``algorithms.resume``.
        folder: Where all is kept.
        budget: Environment steps.
        test_episodes: Fresh episodes of each test, on Gymnasium itself.
        test_seed: Their seed.
        console: Where progress and the table are shown.

    Returns:
        What was tested of the front, sparsest first (nothing, where the search was stopped before its first
        generation), and whether it was stopped by Ctrl-C.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range.
        EvaluationError: An environment raised, or returned something that is not finite. What was tested is kept.
        OSError: Nothing can be written there.
    """
    folder, console = check_path("folder", folder), console or Console(stderr=True)
    budget, test_episodes = check_count("budget", budget), check_count("test_episodes", test_episodes, minimum=2)
    test_seed = check_seed("test_seed", test_seed)
    check_folder("folder", folder / "policies")
    for name in ("front.csv", "front.png"):
        check_file("folder", folder / name)
    stopped = _search(algorithm, budget, console)
    if not algorithm.is_initialized:
        return [], stopped
    found: list[Found] = []
    try:
        with console.status("Evaluating the last population again, and testing its front on fresh episodes"):
            _test(algorithm, folder, found, test_episodes=test_episodes, test_seed=test_seed)
    except KeyboardInterrupt:
        stopped = True
        console.print("Stopped: the policies that were tested are kept.")
    if found:
        console.print(_table(found, test_episodes))
        with drawn_if_possible(folder / "front.png"):
            _draw(found, folder / "front.png", algorithm.problem.masked)
    if not stopped:
        remove_checkpoint(folder / "checkpoint")
    return found, stopped


def _test(algorithm: NSGA2, folder: Path, found: list[Found], *, test_episodes: int, test_seed: int) -> None:
    """Test the policies of the last population's front, sparsest first; keep each at once, and then their table."""
    problem, policies = algorithm.problem, folder / "policies"
    policies.mkdir(exist_ok=True)
    earlier = set(policies.glob("*_weights.safetensors"))  # of a front that was drawn when it was stopped
    while few := [i for i in algorithm.pop if i.data["num_evaluations"] < CLOSING_EVALUATIONS]:
        evaluate_again(problem, few)
    try:
        for individual in algorithm.pop[_front_of(algorithm)]:
            subnet = problem.to_subnetwork(individual.X)
            subnet.test(num_episodes=test_episodes, seed=test_seed, env=problem.masked.task)
            subnet.save(path := policies / f"{subnet.num_active}_weights.safetensors")
            earlier.discard(path)
            found.append(Found(subnet, -float(individual.F[0]), individual.data["num_evaluations"]))
        for path in earlier:
            path.unlink()
    finally:  # also of a front whose tests were stopped, or ended in a fault
        if found:
            write_table(folder / "front.csv", [_row(one) for one in found])


def _search(algorithm: NSGA2, budget: int, console: Console) -> bool:
    """Evolve until the budget is spent; whether Ctrl-C came first."""
    problem = algorithm.problem
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    steps, start = problem.interaction_count, time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=budget)
        try:
            while problem.interaction_count < budget:
                algorithm.next()
                objectives = algorithm.pop.get("F")
                floor = algorithm.data.setdefault("floor", float(np.median(objectives[:, 0])))  # a random mask's
                hypervolume = HV(ref_point=np.array([floor, 1.0]))(objectives)
                rate = (problem.interaction_count - steps) / (time.perf_counter() - start)
                progress.update(
                    bar,
                    completed=min(problem.interaction_count, budget),
                    description=f"generation {algorithm.n_gen - 1}: front {len(_front_of(algorithm))}, "
                    f"hypervolume {hypervolume:.0f}, {rate / 1000:.0f}k steps/s",
                )
        except KeyboardInterrupt:
            progress.console.print("Stopped: the front is drawn from what was found so far; it can be resumed.")
            return True
    return False


def _front_of(algorithm: NSGA2) -> NDArray[Any]:
    """Indices of the individuals that none other dominates, sparsest first, one for each number of weights."""
    objectives = algorithm.pop.get("F")
    front: NDArray[Any] = NonDominatedSorting().do(objectives, only_non_dominated_front=True)
    return front[np.unique(objectives[front, 1], return_index=True)[1]]


def _row(one: Found) -> dict[str, float]:
    """A policy's line in ``front.csv``."""
    return {
        "sparsity": one.subnet.sparsity,
        "weights_kept": one.subnet.num_active,
        "search_reward": one.seen,
        "search_evaluations": one.num_evaluations,
        "test_reward": one.subnet.tests["mean"],
        "test_standard_error": one.subnet.tests["standard_error"],
    }


def _draw(found: list[Found], path: Path, masked: MaskedGymProblem) -> None:
    subnets, seen = [one.subnet for one in found], [one.seen for one in found]
    axes = plot_front(subnets, threshold=masked.task.reward_threshold, seen=seen)
    name = masked.task.name or "the task"
    axes.set_title(f"{name}: reward against sparsity, {masked.network.num_weights:,} random weights")
    save_figure(axes, path)


def _table(found: list[Found], test_episodes: int) -> Table:
    result = Table(title=f"Pareto front; tests: {test_episodes} fresh episodes on Gymnasium")
    for column in ("sparsity", "weights kept", "reward seen in the search", "test reward", "standard error"):
        result.add_column(column, justify="right")
    for one in found:
        tests = one.subnet.tests
        result.add_row(
            f"{one.subnet.sparsity:.3f}", f"{one.subnet.num_active:,}", f"{one.seen:.1f}", f"{tests['mean']:.1f}",
            f"{tests['standard_error']:.1f}",
        )  # fmt: skip
    return result
