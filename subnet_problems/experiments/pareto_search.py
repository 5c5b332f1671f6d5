"""The search for a front of sparse policies, as the example and the command run it: search, tests, files."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.algorithm import Algorithm
from rich.console import Console
from torch import Tensor

from algorithms import Continuation, ParetoCheckpointer, pareto_operators, remove_checkpoint

from .._checks import check_choice, check_count, check_mask, check_path, check_real, check_seed, check_sparsity, naming
from .._files import check_file, check_folder
from ..masks._live import is_chain
from ..masks._top_k import TopK
from ..problems._masked import MaskedGymProblem
from ..problems._pareto import ParetoSparsityProblem
from . import _found as _front
from ._budget import spend_steps
from ._choosing import choose
from ._found import Found
from ._fronts import hypervolume
from ._outcomes import write_table

#: The searches, and between which sparsities each looks where the caller does not say.
SPARSITIES = {"continuation": (0.9, 0.998), "nsga2": (0.0, 0.99)}
#: The mask rule that suits each. Continuation removes weights, and those that stay remain what they are.
RULES = {
    "continuation": TopK(0.9, scope="erdos_renyi", rescale="fixed"),
    "nsga2": TopK(0.5, scope="erdos_renyi"),
}
#: The share of a budget that the first level of the continuation has: see "The first level" in docs/front.md.
_FIRST_SHARE = 0.16


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
    budget: int | None = None,
) -> Algorithm:
    """A search on the trade-off of a masked problem, before its first generation.

    A kept weight that can change no output costs nothing: what counts is the live ones, and policies are handed out
    without the others. (In a network that is no chain of layers all that are kept count.)

    Args:
        masked: The problem; its mask rule is ``TopK`` (``RULES`` has the one that suits each search). Its
            ``common_random_numbers`` should be off for the continuation: a center learns more from as many episodes as
            it has children than from one.
        folder: Where ``checkpoint`` is written every 20 generations; ``algorithms.resume`` reads it.
        algorithm: ``"continuation"``, or ``"nsga2"``: pymoo's NSGA-II with the operators of ``algorithms``.
        popsize: Individuals of a generation, at least 4, default 64; for NSGA-II the survivors of one, each of which
            has five children, default 24.
        seed: Of the search.
        min_sparsity: The least sparsity that is looked for. Default 0.9, or where ten weights are left, for NSGA-II 0.
        max_sparsity: The greatest. Default 0.998, for NSGA-II 0.99, with ``start`` that at which a tenth of its weights
            are left, if that is more; in a network of few weights that at which one is left.
        start: ``(D,)`` bool, a mask that the continuation begins from, at its own sparsity; ``min_sparsity`` is then
            that sparsity.
        budget: How many environment steps the search will have. The continuation spends 16 % of them, and 25
            generations, at its first level; where there is a ``start``, or where the budget is not said, ten or 25
            generations.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, the greatest sparsity keeps no weight, or it is below the least.
        FileExistsError: There is a checkpoint already.
        OSError: Nothing can be written there.
    """
    check_choice("algorithm", algorithm, SPARSITIES)
    if not isinstance(masked, MaskedGymProblem):
        raise TypeError(f"masked: expected a MaskedGymProblem, got {masked!r}")
    budget = None if budget is None else check_count("budget", budget)
    popsize = None if popsize is None else check_count("popsize", popsize, minimum=2)
    seed = check_seed("seed", seed)
    folder = check_folder("folder", check_path("folder", folder))
    num_weights = masked.network.num_weights
    low, high = SPARSITIES[algorithm]
    low = max(0.0, min(low, 1.0 - 10 / num_weights))
    scores: Tensor | None = None
    if start is not None:
        if algorithm != "continuation" or min_sparsity is not None:
            raise ValueError("start: expected None for another search than the continuation, and with min_sparsity")
        bits = check_mask("start", start, num_weights)
        if not bits.any():
            raise ValueError("start: expected a mask that keeps a weight, got one that keeps none")
        with naming(mask="start"):
            scores = masked.scores_from_mask(bits, seed=seed)
        num_kept = int(bits.sum())
        low, high = 1.0 - num_kept / num_weights, max(high, 1.0 - num_kept / num_weights / 10)
    low, high = (min(sparsity, 1.0 - 1.0 / num_weights) for sparsity in (low, high))  # one weight stays
    if min_sparsity is None and max_sparsity is not None and check_sparsity("max_sparsity", max_sparsity) < low:
        whose = "where min_sparsity is not given" if start is None else "as that of start"
        raise ValueError(f"max_sparsity: expected at least {low:g}, {whose}, got {max_sparsity!r}")
    problem = ParetoSparsityProblem(
        masked,
        count="live" if is_chain(masked.network) else "kept",
        min_sparsity=low if min_sparsity is None else min_sparsity,
        max_sparsity=high if max_sparsity is None else max_sparsity,
    )
    search: Algorithm
    if algorithm == "nsga2":
        search = NSGA2(popsize or 24, n_offsprings=5 * (popsize or 24), **pareto_operators(0.1))
    elif scores is None:
        with naming(pop_size="popsize"):
            search = Continuation(popsize or 64, first_interactions=int(_FIRST_SHARE * (budget or 0)))
    else:
        center = np.append(scores.cpu().numpy(), problem.xu[-1])
        with naming(pop_size="popsize"):
            # A policy's scores are drawn anew: until the search knows which weights matter, small steps keep it.
            search = Continuation(popsize or 64, center=center, stdev=0.02, first_generations=10)
    folder.mkdir(parents=True, exist_ok=True)
    with naming(path="folder"):
        keeper = _Keeper(folder / "checkpoint", from_policy=start is not None)
    search.setup(problem, termination=("n_gen", 10**9), seed=seed, callback=keeper)
    return search


class _Keeper(ParetoCheckpointer):
    """Notes the hypervolume after each generation, and writes checkpoints that have it.

    Args:
        path: The checkpoint.
        from_policy: Whether the first generation is around a policy. Else it is of random masks.
    """

    def __init__(self, path: Path, *, from_policy: bool) -> None:
        super().__init__(path, every=20)
        self._from_policy = from_policy

    def _update(self, algorithm: Algorithm) -> None:
        rewards, densities = -algorithm.opt.get("F")[:, 0], algorithm.opt.get("F")[:, 1]
        finite, data, area = np.isfinite(rewards), algorithm.data, 0.0
        if "floor" not in data:  # the reward from which on a policy counts: what the first generation was seen to earn
            seen = -algorithm.pop.get("F")[:, 0]
            seen = seen[np.isfinite(seen)] if np.isfinite(seen).any() else np.zeros(1)
            data["floor"], data["progress"] = float(seen.min() if self._from_policy else np.median(seen)), []
        else:
            area = hypervolume(rewards[finite], densities[finite], worst=data["floor"])
        steps = algorithm.problem.interaction_count
        data["progress"].append({"generation": algorithm.n_iter, "steps": steps, "hypervolume": area})
        super()._update(algorithm)


def run(
    algorithm: Algorithm, folder: str | Path, *, budget: int, min_reward: float | None = None,
    test_episodes: int = 100, test_seed: int = 12345, console: Console | None = None,
) -> tuple[list[Found], bool]:  # fmt: skip
    """Search until the budget is spent or Ctrl-C, choose the policies of the front, test them, and keep all of it.

    The candidates of each level (all policies of the last population of NSGA-II) are evaluated on Gymnasium itself, in
    whole episodes, and the best of them make the front (see ``choose``). Those of the front are then tested on fresh
    episodes.

    The folder then has ``policies/<weights>_weights.safetensors``, ``front.csv``, ``front.png`` and ``progress.csv``:
    the hypervolume after each generation, see ``fronts.hypervolume``. Of the policy with the fewest weights that earns
    ``min_reward`` it has ``smallest.safetensors``, ``smallest.gif`` (a film), ``smallest.h`` (C) and ``smallest.png``
    (its graph, with its numbers and its formula if there are few). Policies are saved as they are tested, and a picture
    that cannot be drawn is a warning. Policies of an earlier front stay until all of this one are tested. Once the
    budget is spent, the checkpoint is removed.

    Ctrl-C in the search leads to choosing and tests, Ctrl-C in the tests to the pictures of what was tested; a second
    one ends at once. The checkpoint stays: ``algorithms.resume`` goes on from it, to the same bits.

    Args:
        algorithm: From ``begin`` or ``algorithms.resume``.
        folder: Where all is kept.
        budget: Environment steps of the search. Choosing takes up to about half as many again, or 50,000; tests take
            more of them.
        min_reward: What the smallest policy earns in its test. Policies that earn less when they are chosen are not on
            the front, where others earn it (and where fitness is the plain return). Default the task's own threshold,
            if it has one.
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
    if not isinstance(getattr(algorithm, "problem", None), ParetoSparsityProblem):
        raise TypeError(f"algorithm: expected a search from begin or resume, got {algorithm!r}")
    folder, console = check_path("folder", folder), console or Console(stderr=True)
    budget, test_episodes = check_count("budget", budget), check_count("test_episodes", test_episodes, minimum=2)
    test_seed = check_seed("test_seed", test_seed)
    masked = algorithm.problem.masked
    min_reward = masked.task.reward_threshold if min_reward is None else check_real("min_reward", min_reward)
    check_folder("folder", folder / "policies")
    for name in _front.FILES:
        check_file("folder", folder / name)
    found: list[Found] = []
    stopped = _search(algorithm, budget, console)
    searched = masked.interaction_count
    try:
        if algorithm.data.get("progress"):
            write_table(folder / "progress.csv", algorithm.data["progress"])
        if not algorithm.is_initialized:
            return found, stopped
        try:
            with console.status("Choosing the policies of the front on Gymnasium, and testing them on fresh episodes"):
                least = min_reward if masked.fitness_is_return else None
                policies = choose(
                    algorithm.problem, groups_of(algorithm), min_reward=least, max_steps=max(budget // 2, 50_000)
                )
                _front.keep_tested(
                    policies, masked, folder, found, test_episodes=test_episodes, test_seed=test_seed
                )  # fmt: skip
        except KeyboardInterrupt:
            if stopped or not found:
                raise
            stopped = True
            console.print("Stopped: the policies that were tested so far make the front.")
        small = _front.smallest(found, min_reward)
        console.print(_front.table(found, test_episodes))
        console.print(_front.verdict(small, min_reward))
        chosen = masked.interaction_count - searched
        console.print(f"Environment steps: {searched:,} in the search, {chosen:,} to choose; tests not counted.")
        with console.status("Drawing"):
            _front.draw(found, small, masked, folder)
    except KeyboardInterrupt:
        stopped = True
        console.print("Stopped: the policies that were tested are kept.")
    if not stopped:
        remove_checkpoint(folder / "checkpoint")
    return found, stopped


def groups_of(algorithm: Algorithm) -> list[NDArray[np.float64]]:
    """Among which individuals of a search ``choose`` chooses the front's policies, one from each group.

    Args:
        algorithm: A search of pymoo's on a ``ParetoSparsityProblem``.

    Returns:
        The candidates ``(n, D + 1)`` of each level of a ``Continuation``, those that have shown most first; of other
        searches each individual of the population.
    """
    if not isinstance(algorithm, Continuation):
        return [individual.X[None] for individual in algorithm.pop]
    num_weights = algorithm.problem.masked.network.num_weights
    by_size: dict[int, list[list[NDArray[np.float64]]]] = {}  # in a small network levels may keep as many weights
    for log2_density, level in zip(algorithm.levels, algorithm.promising(), strict=True):
        by_size.setdefault(round(num_weights * 2.0**log2_density), []).append([member.x for member in level])
    in_turns = ([x for xs in zip_longest(*levels) for x in xs if x is not None] for levels in by_size.values())
    return [np.stack(group) for group in in_turns if group]


def _search(algorithm: Algorithm, budget: int, console: Console) -> bool:
    """Search until the budget is spent; whether Ctrl-C came first."""

    def describe() -> str:
        noted = algorithm.data.get("progress") or [{"hypervolume": 0.0}]
        return (
            f"generation {algorithm.n_gen - 1}: front {len(algorithm.opt)}, hypervolume {noted[-1]['hypervolume']:.0f}"
        )

    problem = algorithm.problem
    stopped = spend_steps(
        algorithm.next, lambda: int(problem.interaction_count), budget, describe=describe, console=console
    )
    if stopped and algorithm.is_initialized:
        console.print("Stopped: what was found so far is tested and drawn (Ctrl-C ends that); it can be resumed.")
    elif stopped:
        console.print("Stopped before the first generation was over.")
    return stopped
