"""The search for a front of sparse policies, as the example and the command run it: search, tests, files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.algorithm import Algorithm
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from algorithms import Continuation, ParetoCheckpointer, pareto_operators, remove_checkpoint

from . import _front
from ._checks import check_choice, check_count, check_mask, check_path, check_real, check_seed, naming
from ._files import check_file, check_folder
from ._front import Found
from .fronts import hypervolume
from .gym_problem import MaskedGymProblem
from .outcomes import write_table
from .pareto_problem import ParetoSparsityProblem

__all__ = ["SPARSITIES", "Found", "begin", "run"]

#: The searches, and between which sparsities each looks where the caller does not say.
SPARSITIES = {"continuation": (0.9, 0.995), "nsga2": (0.0, 0.99)}


def begin(
    masked: MaskedGymProblem,
    folder: str | Path,
    *,
    algorithm: str = "continuation",
    popsize: int | None = None,
    seed: int = 0,
    min_sparsity: float | None = None,
    max_sparsity: float | None = None,
    start: Tensor | ArrayLike | None = None,
) -> Algorithm:
    """A search on the trade-off of a masked problem, before its first generation.

    Args:
        masked: The problem; its mask rule is ``TopK``. Its ``common_random_numbers`` should be off for the
            continuation: a center learns more from as many episodes as it has children than from one.
        folder: Where ``checkpoint`` is written every 20 generations; ``algorithms.resume`` reads it.
        algorithm: ``"continuation"``, or ``"nsga2"``: pymoo's NSGA-II with the operators of ``algorithms``.
        popsize: Individuals of a generation, at least 4, default 64; for NSGA-II the survivors of one, each of which
            has five children, default 24.
        seed: Of the search.
        min_sparsity: The least sparsity that is looked for. Default 0.9, for NSGA-II 0.
        max_sparsity: The greatest. Default 0.995, for NSGA-II 0.99; in a network of few weights that at which one is
            left.
        start: ``(D,)`` bool, a mask that the continuation begins from, at its own sparsity; ``min_sparsity`` is then
            that sparsity.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the greatest sparsity keeps no weight.
        FileExistsError: There is a checkpoint already.
        OSError: Nothing can be written there.
    """
    check_choice("algorithm", algorithm, SPARSITIES)
    if not isinstance(masked, MaskedGymProblem):
        raise TypeError(f"masked: expected a MaskedGymProblem, got {masked!r}")
    popsize = None if popsize is None else check_count("popsize", popsize)
    seed = check_seed("seed", seed)
    folder = check_folder("folder", check_path("folder", folder))
    num_weights = masked.network.num_weights
    low, high = (min(sparsity, 1.0 - 1.0 / num_weights) for sparsity in SPARSITIES[algorithm])  # one weight stays
    scores: Tensor | None = None
    if start is not None:
        if algorithm != "continuation" or min_sparsity is not None:
            raise ValueError("start: expected None for another search than the continuation, and with min_sparsity")
        bits = check_mask("start", start, num_weights)
        with naming(mask="start"):
            scores = masked.scores_from_mask(bits, seed=seed)
        low = 1.0 - int(bits.sum()) / num_weights
        high = max(low, high)
    problem = ParetoSparsityProblem(
        masked,
        min_sparsity=low if min_sparsity is None else min_sparsity,
        max_sparsity=high if max_sparsity is None else max_sparsity,
    )
    folder.mkdir(parents=True, exist_ok=True)
    search: Algorithm
    if algorithm == "nsga2":
        search = NSGA2(popsize or 24, n_offsprings=5 * (popsize or 24), **pareto_operators(0.1))
    elif scores is None:
        with naming(pop_size="popsize"):
            search = Continuation(popsize or 64)
    else:
        center = np.append(scores.cpu().numpy(), problem.xu[-1])
        with naming(pop_size="popsize"):
            search = Continuation(popsize or 64, center=center, first_generations=5)
    search.setup(
        problem,
        termination=("n_gen", 10**9),
        seed=seed,
        callback=ParetoCheckpointer(folder / "checkpoint", every=20),
    )
    return search


def run(
    algorithm: Algorithm, folder: str | Path, *, budget: int, min_reward: float | None = None,
    test_episodes: int = 100, test_seed: int = 12345, console: Console | None = None,
) -> tuple[list[Found], bool]:  # fmt: skip
    """Search until the budget is spent or Ctrl-C, choose the policies of the front, test them, and keep all of it.

    The candidates of each level (all policies of the last population of NSGA-II) are evaluated on Gymnasium itself, in
    whole episodes, and the best of them make the front: 21 episodes for each of them, and fewer for the others. Those
    of the front are then tested on fresh episodes.

    The folder then has ``policies/<weights kept>_weights.safetensors``, ``front.csv``, ``front.png`` and
    ``progress.csv``: the hypervolume after each generation, see ``fronts.hypervolume``. Of the policy that needs the
    fewest weights to earn ``min_reward`` it has ``smallest.gif`` (a film), ``smallest.h`` (C) and ``smallest.png`` (its
    graph, with its numbers and its formula if there are few). Policies are saved as they are tested, and a picture that
    cannot be drawn is a warning. Policies of an earlier front stay until all of this one are tested. Once the budget is
    spent, the checkpoint is removed.

    Args:
        algorithm: From ``begin`` or ``algorithms.resume``.
        folder: Where all is kept.
        budget: Environment steps of the search. Choosing and testing take more of them.
        min_reward: What the smallest policy earns in its test. Default the task's own threshold, if it has one.
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
    masked = algorithm.problem.masked
    min_reward = masked.task.reward_threshold if min_reward is None else check_real("min_reward", min_reward)
    check_folder("folder", folder / "policies")
    for name in ("front.csv", "progress.csv", "front.png", "smallest.gif", "smallest.h", "smallest.png"):
        check_file("folder", folder / name)
    stopped = _search(algorithm, budget, console)
    if not algorithm.is_initialized:
        return [], stopped
    found: list[Found] = []
    try:
        write_table(folder / "progress.csv", algorithm.data["progress"])
        with console.status("Choosing the policies of the front on Gymnasium, and testing them on fresh episodes"):
            policies = _front.chosen(algorithm.problem, _groups(algorithm))
            _front.keep_tested(
                policies, masked, folder, found, test_episodes=test_episodes, test_seed=test_seed
            )  # fmt: skip
        small = _front.smallest(found, min_reward)
        console.print(_front.table(found, test_episodes))
        if min_reward is not None and small is None:
            console.print(f"No policy earns {min_reward:g}; a longer search (or another seed) may find one.")
        with console.status("Drawing"):
            _front.draw(found, small, masked, folder)
    except KeyboardInterrupt:
        stopped = True
        console.print("Stopped: the policies that were tested are kept.")
    if not stopped:
        remove_checkpoint(folder / "checkpoint")
    return found, stopped


def _groups(algorithm: Algorithm) -> list[NDArray[np.float64]]:
    """Among which individuals the front's policies are chosen, one from each group."""
    if isinstance(algorithm, Continuation):
        return [np.stack([member.x for member in level]) for level in algorithm.promising() if level]
    groups: list[NDArray[np.float64]] = [individual.X[None] for individual in algorithm.pop]
    return groups


def _search(algorithm: Algorithm, budget: int, console: Console) -> bool:
    """Search until the budget is spent; whether Ctrl-C came first."""
    problem = algorithm.problem
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    steps, start = problem.interaction_count, time.perf_counter()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=budget)
        try:
            while problem.interaction_count < budget:
                algorithm.next()
                area = _note_progress(algorithm)
                rate = (problem.interaction_count - steps) / (time.perf_counter() - start)
                progress.update(
                    bar,
                    completed=min(problem.interaction_count, budget),
                    description=f"generation {algorithm.n_gen - 1}: front {len(algorithm.opt)}, "
                    f"hypervolume {area:.0f}, {rate / 1000:.0f}k steps/s",
                )
        except KeyboardInterrupt:
            progress.console.print("Stopped: the front is drawn from what was found so far; it can be resumed.")
            return True
    return False


def _note_progress(algorithm: Algorithm) -> float:
    """The hypervolume of the front that the search sees now, which is noted in the search's data."""
    objectives, data = algorithm.opt.get("F"), algorithm.data
    if "floor" not in data:  # the first generation: random masks, each evaluated once
        data["floor"], data["progress"], area = float(-np.median(algorithm.pop.get("F")[:, 0])), [], 0.0
    else:
        area = hypervolume(-objectives[:, 0], objectives[:, 1], worst=data["floor"])
    steps = algorithm.problem.interaction_count
    data["progress"].append({"generation": algorithm.n_gen - 1, "steps": steps, "hypervolume": area})
    return area
