"""The search for a front of sparse policies, which the example and the command run: search, tests, files."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.core.algorithm import Algorithm
from rich.console import Console
from torch import Tensor

from algorithms import Continuation, ParetoCheckpointer

from .._checks import check_choice, check_count, check_mask, check_path, check_real, check_seed, check_sparsity, naming
from .._files import check_file, check_folder
from ..masks._live import is_chain
from ..problems._masked import MaskedGymProblem
from ..problems._pareto import ParetoSparsityProblem
from . import _found as _front
from ._budget import spend_steps
from ._choosing import Found, choose
from ._front_presets import FRONT_SEARCHES, FrontPreset
from ._fronts import hypervolume
from ._tables import write_table

__all__ = ["FRONT_SEARCHES", "Found", "FrontPreset", "begin", "choose", "groups_of", "run"]


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
    first_interactions: int = 0,
) -> Algorithm:
    """Create a search on the trade-off of a masked problem between reward and sparsity.

    Only live weights count: a kept weight that can change no output costs nothing and is removed from the policies that
    are returned. (If the network is not a chain of layers, all kept weights count.)

    Args:
        masked: The problem; its mask rule is a ``TopK``. ``FRONT_SEARCHES[algorithm]`` has the ``mask_rule`` and the
            ``common_random_numbers`` that suit the search.
        folder: The folder in which ``checkpoint`` is written every 20 generations; ``algorithms.resume`` reads it.
        algorithm: A name in ``FRONT_SEARCHES``: ``"continuation"`` (default), or ``"nsga2"``, pymoo's NSGA-II with the
            operators of ``algorithms``.
        popsize: Individuals per generation, at least 4. Default: that of the search, 64 for the continuation. For
            NSGA-II: survivors per generation, with five children per survivor; 24.
        seed: Seed of the search. Default: 0.
        min_sparsity: Minimum sparsity. Default: that of the search, 0.9 for the continuation and 0 for NSGA-II; or the
            sparsity that keeps 10 weights if that is lower.
        max_sparsity: Maximum sparsity. Default: that of the search, 0.998 or 0.99. With ``start``, the sparsity that
            keeps a tenth of its weights, if that is higher. In a small network, the sparsity that keeps one weight.
        start: ``(D,)`` bool, a mask from which the continuation starts; its sparsity is then the minimum sparsity.
        first_interactions: Minimum environment steps at the first level of a continuation without ``start``. Give a
            hard task about a third of its budget. Default: 0, that is, 25 generations.

    Returns:
        The search, before its first generation.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, the maximum sparsity keeps no weight, or it is below the minimum.
        FileExistsError: A checkpoint exists already.
        OSError: The folder is not writable.
    """
    preset = FRONT_SEARCHES[check_choice("algorithm", algorithm, FRONT_SEARCHES)]
    if not isinstance(masked, MaskedGymProblem):
        raise TypeError(f"masked: expected a MaskedGymProblem, got {masked!r}")
    popsize = preset.popsize if popsize is None else check_count("popsize", popsize, minimum=4)
    first_interactions = check_count("first_interactions", first_interactions, minimum=0)
    if first_interactions and (algorithm != "continuation" or start is not None):
        raise ValueError(
            f"first_interactions: expected 0 for a search other than continuation, and with start, got "
            f"{first_interactions}; they have no first level to learn at"
        )
    seed = check_seed("seed", seed)
    folder = check_folder("folder", check_path("folder", folder))
    bits = None
    if start is not None:
        if algorithm != "continuation" or min_sparsity is not None:
            raise ValueError("start: expected None for a search other than continuation, or with min_sparsity")
        bits = check_mask("start", start, masked.network.num_weights)
    problem = _problem(masked, preset, bits, min_sparsity, max_sparsity)
    search: Algorithm
    if bits is None and not first_interactions:
        search = preset.make(popsize)
    elif bits is None:
        search = Continuation(popsize, first_interactions=first_interactions)
    else:
        with naming(mask="start"):
            center = np.append(masked.scores_from_mask(bits, seed=seed).cpu().numpy(), problem.xu[-1])
        # The policy's scores are random: small steps preserve the policy until the search knows which weights matter.
        search = Continuation(popsize, center=center, stdev=0.02, first_generations=10)
    folder.mkdir(parents=True, exist_ok=True)
    with naming(path="folder"):
        keeper = _Keeper(folder / "checkpoint", from_policy=bits is not None)
    search.setup(problem, termination=("n_gen", 10**9), seed=seed, callback=keeper)
    return search


def _problem(
    masked: MaskedGymProblem,
    preset: FrontPreset,
    start: Tensor | None,
    min_sparsity: float | None,
    max_sparsity: float | None,
) -> ParetoSparsityProblem:
    """The problem between the given sparsities, or between the default ones.

    Raises:
        ValueError: ``start`` keeps no weight, or a sparsity is out of range.
    """
    num_weights = masked.network.num_weights
    low, high = preset.sparsities
    low, whose = max(0.0, min(low, 1.0 - 10 / num_weights)), "the default min_sparsity"
    if start is not None:
        num_kept = int(start.sum())
        if not num_kept:
            raise ValueError("start: expected a mask that keeps a weight, got an empty mask")
        low, high = 1.0 - num_kept / num_weights, max(high, 1.0 - num_kept / num_weights / 10)
        whose = "the sparsity of start"
    low, high = (min(sparsity, 1.0 - 1.0 / num_weights) for sparsity in (low, high))  # one weight stays
    if min_sparsity is None and max_sparsity is not None and check_sparsity("max_sparsity", max_sparsity) < low:
        raise ValueError(f"max_sparsity: expected at least {low:g}, {whose}, got {max_sparsity!r}")
    return ParetoSparsityProblem(
        masked,
        count="live" if is_chain(masked.network) else "kept",
        min_sparsity=low if min_sparsity is None else min_sparsity,
        max_sparsity=high if max_sparsity is None else max_sparsity,
    )


class _Keeper(ParetoCheckpointer):
    """Records the hypervolume after each generation, and writes checkpoints that include it.

    Args:
        path: The checkpoint.
        from_policy: Whether the first generation is drawn around a policy, instead of random masks.
    """

    def __init__(self, path: Path, *, from_policy: bool) -> None:
        super().__init__(path, every=20)
        self._from_policy = from_policy

    def _update(self, algorithm: Algorithm) -> None:
        rewards, densities = -algorithm.opt.get("F")[:, 0], algorithm.opt.get("F")[:, 1]
        finite, data, area = np.isfinite(rewards), algorithm.data, 0.0
        if "floor" not in data:  # the reward above which a policy counts, from the first generation
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
    """Search until the budget is spent or Ctrl-C, then choose, test and save the policies of the front.

    The candidates of each level (for NSGA-II all policies of the last population) are evaluated on Gymnasium itself in
    episodes of full length, and the best of them form the front (see ``choose``). The policies of the front are then
    tested on fresh episodes.

    The folder then has ``policies/<weights>_weights.safetensors``, ``front.csv``, ``front.png`` and ``progress.csv``,
    the hypervolume after each generation (see ``hypervolume``). It also has four files of the smallest policy, the one
    with the fewest weights that earns ``min_reward``: ``smallest.safetensors``, ``smallest.gif`` (a video),
    ``smallest.h`` (C) and ``smallest.png`` (its graph, with numbers and formula if it has few weights). Each policy is
    saved when it is tested. A picture that cannot be drawn causes a warning. An earlier front in the folder stays until
    all policies of this one are tested.

    Ctrl-C in the search starts choosing and testing. Ctrl-C in the tests starts drawing the tested policies, unless the
    folder has an earlier front. A second Ctrl-C ends at once. In any case ``algorithms.resume`` continues from the
    checkpoint with identical results; with a larger budget, also after the end. The checkpoint is large (some 20 MB for
    8,000 weights): to free its space, call ``algorithms.remove_checkpoint``.

    Args:
        algorithm: A search from ``begin`` or ``algorithms.resume``.
        folder: The folder of all results.
        budget: Environment steps of the search. Choosing takes up to about half of that in addition, or 50,000 steps if
            that is more; tests take additional steps.
        min_reward: Reward that the smallest policy must earn in its test. If fitness is the plain return, policies that
            earn less when they are chosen are left out of the front, unless all earn less. Default: the task's reward
            threshold, if it has one.
        test_episodes: Fresh episodes of each test on Gymnasium itself. Default: 100.
        test_seed: Seed of the tests. Default: 12345.
        console: Console for the progress bar and the table. Default: stderr.

    Returns:
        The tested policies of the front, sparsest first (an empty list if the search was stopped before the end of its
        first generation), and True if Ctrl-C stopped the search.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range.
        EvaluationError: An environment raised an error or returned a number that is not finite. Tested policies are
            kept.
        OSError: The folder is not writable.
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
    replaces = _front.has_front(folder)
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
                    policies, masked, folder, found, replaces=replaces, test_episodes=test_episodes,
                    test_seed=test_seed,
                )  # fmt: skip
            replaces = False  # the new front is complete
        except KeyboardInterrupt:
            if stopped or replaces or not found:
                raise
            stopped = True
            console.print("Stopped: the policies tested so far form the front.")
        small = _front.smallest(found, min_reward)
        console.print(_front.table(found, test_episodes))
        console.print(_front.verdict(small, min_reward))
        chosen = masked.interaction_count - searched
        console.print(f"Environment steps: {searched:,} in the search, {chosen:,} to choose; tests not counted.")
        with console.status("Drawing"):
            _front.draw(found, small, masked, folder)
    except KeyboardInterrupt:
        stopped = True
        console.print("Stopped: the earlier front is kept." if replaces else "Stopped: the tested policies are kept.")
    return found, stopped


def groups_of(algorithm: Algorithm) -> list[NDArray[np.float64]]:
    """Group the individuals of a search; ``choose`` chooses one policy of the front from each group.

    Args:
        algorithm: A pymoo search on a ``ParetoSparsityProblem``.

    Returns:
        For a ``Continuation``, the candidates ``(n, D + 1)`` of each level, most promising first. For other searches,
        each individual of the population as its own group.
    """
    if not isinstance(algorithm, Continuation):
        return [individual.X[None] for individual in algorithm.pop]
    num_weights = algorithm.problem.masked.network.num_weights
    # In a small network, several levels may keep the same number of weights.
    by_size: dict[int, list[list[NDArray[np.float64]]]] = {}
    for log2_density, level in zip(algorithm.levels, algorithm.promising(), strict=True):
        by_size.setdefault(round(num_weights * 2.0**log2_density), []).append([member.x for member in level])
    in_turns = ([x for xs in zip_longest(*levels) for x in xs if x is not None] for levels in by_size.values())
    return [np.stack(group) for group in in_turns if group]


def _search(algorithm: Algorithm, budget: int, console: Console) -> bool:
    """Search until the budget is spent. Return True if Ctrl-C stopped the search."""

    def describe() -> str:
        noted = algorithm.data.get("progress") or [{"hypervolume": 0.0}]
        return (
            f"generation {algorithm.n_gen - 1}: front {len(algorithm.opt)}, hypervolume {noted[-1]['hypervolume']:.0f}"
        )

    problem = algorithm.problem
    try:
        spend_steps(algorithm.next, lambda: int(problem.interaction_count), budget, describe=describe, console=console)
    except KeyboardInterrupt:
        console.print(
            "Stopped: policies found so far are now tested and drawn (Ctrl-C ends that). The search can be resumed."
            if algorithm.is_initialized
            else "Stopped before the end of the first generation."
        )
        return True
    return False
