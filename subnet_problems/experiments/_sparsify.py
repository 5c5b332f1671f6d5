"""Sparsify a policy: continue to search from it with fewer and fewer weights while it earns enough."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from evotorch.algorithms import SearchAlgorithm
from pymoo.core.algorithm import Algorithm
from rich.console import Console

from algorithms import resume as resume_search

from .._checks import check_bool, check_count, check_path, check_real, check_seed, naming
from ..masks._top_k import TopK
from ..problems._masked import MaskedGymProblem
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._gym_task import EnvLike
from ..tasks._reward_rule import RewardRule
from . import _found as _front
from . import pareto_search
from ._run import hand_out

#: Options by which fitness is not the mean return.
_SHAPING = {field.name for field in fields(RewardRule)} | {"risk_aversion"}

PolicyLike: TypeAlias = "Subnetwork | SearchAlgorithm | str | Path"


def sparsify(
    policy: PolicyLike,
    folder: str | Path,
    *,
    min_reward: float | None = None,
    budget: int = 1_000_000,
    env: EnvLike | None = None,
    max_sparsity: float | None = None,
    popsize: int | None = None,
    seed: int = 0,
    test_episodes: int = 100,
    resume: bool = False,
    console: Console | None = None,
    **options: Any,
) -> Subnetwork | None:
    """Search for the smallest version of a policy that still earns enough.

    The search starts from the policy's mask at the policy's sparsity and lowers the number of weights step by step
    (``algorithms.Continuation``). Weights that change no output are removed first. The policies found along the way are
    tested on fresh episodes and saved in the folder, with a table and pictures: see ``pareto_search.run``. All of them
    have the network of the given policy.

    Ctrl-C ends the search early. The policies found so far are then tested, saved and drawn, before
    ``KeyboardInterrupt`` is raised. To continue, call it again with ``resume=True``.

    Example:
        >>> smaller = sparsify("lander.safetensors", "smaller", min_reward=200.0)
        >>> smaller.num_active
        57

    Args:
        policy: A policy, its file, or a search on a ``MaskedGymProblem`` that has a current solution (``hand_out``).
        folder: The folder of all results.
        min_reward: Mean reward that the policy must earn in its test. Default: the task's reward threshold.
        budget: Environment steps of the search. Choosing and testing take additional steps. Default: 1,000,000.
        env: The task, for a policy without one. Default: that of the policy or of the search.
        max_sparsity: Sparsity at which the search ends. Default: 0.998, or the sparsity that keeps a tenth of the
            policy's weights if that is higher.
        popsize: Individuals per generation. Default: 64.
        seed: Seed of the search and its episodes. Default: 0.
        test_episodes: Fresh episodes of each test on Gymnasium itself. Default: 100.
        resume: Whether to continue the search of the folder, with identical results: one that was stopped, or a
            finished one with a larger budget. It keeps its own policy, ``env``, ``max_sparsity``, ``popsize``, ``seed``
            and ``options``, whatever is given here, so that the same call can be repeated. **It is a pickle, and
            loading a pickle can run any code**: resume only what you trust. Default: False.
        console: Console for the progress bar and the table. Default: stderr.
        **options: Options of ``MaskedGymProblem.from_subnetwork``, such as ``env_config``, ``episode_length`` and
            ``num_actors``. Of a search, the environment, its configuration, the length of episodes and the simulator
            are taken over. A search with modified rewards or actions needs its options again.

    Returns:
        The tested policy with the fewest weights, without weights that change no output (if these are known). None if
        no policy earns ``min_reward``, or if neither ``min_reward`` nor a threshold of the task exists. A printed
        sentence gives the reason.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the policy does not fit the task.
        SubnetworkFileError: The file is not a policy file.
        EvaluationError: An environment raised an error or returned a number that is not finite. Tested policies are
            kept.
        FileExistsError: The folder has the checkpoint of a search, and ``resume`` is False.
        FileNotFoundError: The folder has none, and ``resume`` is True.
        OSError: The file cannot be read, or the folder is not writable.
        KeyboardInterrupt: Ctrl-C, after all results so far are saved.
    """
    folder = check_path("folder", folder)
    min_reward = None if min_reward is None else check_real("min_reward", min_reward)
    budget, test_episodes = check_count("budget", budget), check_count("test_episodes", test_episodes, minimum=2)
    algorithm = (
        _search_of(folder)
        if check_bool("resume", resume)
        else begin(policy, folder, env=env, max_sparsity=max_sparsity, popsize=popsize, seed=seed, **options)
    )
    found, stopped = pareto_search.run(
        algorithm, folder, budget=budget, min_reward=min_reward, test_episodes=test_episodes, console=console
    )  # fmt: skip
    if stopped:
        raise KeyboardInterrupt
    if min_reward is None:
        min_reward = algorithm.problem.masked.task.reward_threshold
    small = _front.smallest(found, min_reward)
    return None if small is None else small.subnet


def begin(
    policy: PolicyLike,
    folder: str | Path,
    *,
    env: EnvLike | None = None,
    max_sparsity: float | None = None,
    popsize: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Algorithm:
    """Create the search of ``sparsify``, with the same arguments; ``pareto_search.run`` runs it."""
    seed = check_seed("seed", seed)
    with naming(searcher="policy"):
        subnet = _policy(policy)
    # Fixed factors: weights that are kept must not change with the density of their layer.
    subnet = replace(subnet, rescale=subnet.rescale and tuple(subnet.scales))
    if isinstance(policy, SearchAlgorithm) and env is None:
        problem, task = policy.problem, policy.problem.task
        if not problem.fitness_is_return and not options.keys() & _SHAPING:
            raise ValueError(
                f"policy: expected a search whose fitness is the mean return, or at least one of the options "
                f"{', '.join(sorted(_SHAPING))}, got a search with another fitness"
            )
        env, known = task.env, {"env_config": task.env_config, "episode_length": problem.episode_length}
        options = {**known, "backend": problem.backend, **options}
    options.setdefault("common_random_numbers", False)
    with naming(subnet="policy"):
        masked = MaskedGymProblem.from_subnetwork(subnet, env, mask_rule=_rule(subnet), seed=seed, **options)
    return pareto_search.begin(
        masked, folder, popsize=popsize, seed=seed, max_sparsity=max_sparsity, start=subnet.mask
    )  # fmt: skip


def _search_of(folder: Path) -> Algorithm:
    """Load the search of a folder.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
        CheckpointError: It cannot be read.
    """
    try:
        algorithm: Algorithm = resume_search(folder / "checkpoint", allow_pickle=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"resume: expected a folder with the checkpoint of a search, got {folder}") from None
    return algorithm


def _policy(policy: PolicyLike) -> Subnetwork:
    """Convert the user's ``policy`` argument.

    Raises:
        TypeError: It is not a policy, a file or a search.
        ValueError: A search has no solution yet, or is not on a ``MaskedGymProblem``.
    """
    if isinstance(policy, Subnetwork):
        return policy
    if isinstance(policy, str | Path):
        return Subnetwork.load(policy)
    if not isinstance(policy, SearchAlgorithm):
        raise TypeError(f"policy: expected a Subnetwork, its file or a search, got {policy!r}")
    if not isinstance(policy.problem, MaskedGymProblem):
        raise ValueError(f"policy: expected a search on a MaskedGymProblem, got one on {policy.problem!r}")
    return policy.problem.to_subnetwork(hand_out(policy))


def _rule(subnet: Subnetwork) -> TopK:
    """The mask rule that can reproduce the policy's own mask, so that a search can start from it.

    It is ``scope="erdos_renyi"`` if the policy's layers have these shares, as after a search for a front. Otherwise all
    weights are ranked together, so that the numbers of weights per layer are free.
    """
    rule = TopK(subnet.sparsity if subnet.num_active else 0.0, scope="erdos_renyi", rescale=subnet.rescale)
    if torch.equal(rule(subnet.mask[None].float(), subnet.network.layers)[0], subnet.mask):
        return rule
    return TopK(rule.sparsity, rescale=subnet.rescale)
