"""Sparsify a policy: go on searching from it with fewer and fewer weights, as far as it earns enough."""

from __future__ import annotations

from dataclasses import replace
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
from . import _found as _front
from . import pareto_search
from ._run import hand_out

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
    """The smallest version of a policy that still earns enough, as far as a search finds one.

    The search begins with the policy's own mask, at the policy's own sparsity, and lowers the number of weights step by
    step (``algorithms.Continuation``); weights that change no output go first. What it found at each step is tested on
    fresh episodes and kept in the folder, as a table, as policies and as pictures: see ``pareto_search.run``. All of
    these policies have the given one's network.

    Ctrl-C ends the search early, and what was found until then is tested. To go on, call it again with ``resume=True``.

    Example:
        >>> smaller = sparsify("lander.safetensors", "smaller", min_reward=200.0)
        >>> smaller.num_active
        57

    Args:
        policy: A policy, its file, or a search on a ``MaskedGymProblem``, whose policy is the one that it hands out.
        folder: Where all is kept.
        min_reward: The mean reward that the policy is to earn in its test. Default the task's own threshold.
        budget: Environment steps of the search. Choosing and testing take more of them.
        env: The task, for a policy that does not know its own. Default the policy's, or the search's.
        max_sparsity: Where the search ends. Default 0.998, or where a tenth of the policy's weights are left.
        popsize: Individuals of a generation, default 64.
        seed: Of the search and its episodes.
        test_episodes: Fresh episodes of each test, on Gymnasium itself.
        resume: Whether to go on with the search that was stopped in the folder, to the same bits. It has the policy,
            ``env``, ``max_sparsity``, ``popsize``, ``seed`` and ``options`` that it was begun with. **It is a pickle,
            and loading a pickle can run any code**: resume only what you trust.
        console: Where progress and the table are shown. Default stderr.
        **options: See ``MaskedGymProblem.from_subnetwork``: ``env_config``, ``episode_length``, ``num_actors`` and the
            like.

    Returns:
        The policy of fewest weights, tested, without those that change no output (where these are known). None where
        none that was found earns ``min_reward``, or where neither this nor the task says what is to be earned. A
        printed sentence says which.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the policy does not fit the task.
        SubnetworkFileError: The file is not that of a policy.
        EvaluationError: An environment raised, or returned something that is not finite. What was tested is kept.
        FileExistsError: There is a search that was stopped in the folder, and ``resume`` is False.
        FileNotFoundError: ``resume`` is True, and no search was stopped there.
        OSError: The file cannot be read, or nothing can be written there.
    """
    folder = check_path("folder", folder)
    min_reward = None if min_reward is None else check_real("min_reward", min_reward)
    budget, test_episodes = check_count("budget", budget), check_count("test_episodes", test_episodes, minimum=2)
    algorithm = (
        _stopped(folder)
        if check_bool("resume", resume)
        else begin(policy, folder, env=env, max_sparsity=max_sparsity, popsize=popsize, seed=seed, **options)
    )
    found, _ = pareto_search.run(
        algorithm, folder, budget=budget, min_reward=min_reward, test_episodes=test_episodes, console=console
    )  # fmt: skip
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
    """The search of ``sparsify`` before its first generation, which ``pareto_search.run`` runs; its arguments."""
    seed = check_seed("seed", seed)
    with naming(searcher="policy"):
        subnet = _policy(policy)
    # Weights are removed, and those that stay remain what they are, whatever the density of their layer.
    subnet = replace(subnet, rescale=subnet.rescale and tuple(subnet.scales))
    if isinstance(policy, SearchAlgorithm) and env is None:
        task = policy.problem.task
        env, known = task.env, {"env_config": task.env_config, "episode_length": policy.problem.episode_length}
        options = {**known, **options}
    options.setdefault("common_random_numbers", False)
    with naming(subnet="policy"):
        masked = MaskedGymProblem.from_subnetwork(subnet, env, mask_rule=_rule(subnet), seed=seed, **options)
    return pareto_search.begin(
        masked, folder, popsize=popsize, seed=seed, max_sparsity=max_sparsity, start=subnet.mask
    )  # fmt: skip


def _stopped(folder: Path) -> Algorithm:
    """The search that was stopped in a folder.

    Raises:
        FileNotFoundError: There is none.
        CheckpointError: It cannot be read.
    """
    try:
        algorithm: Algorithm = resume_search(folder / "checkpoint", allow_pickle=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"resume: expected a search that was stopped, and there is none in {folder}") from None
    return algorithm


def _policy(policy: PolicyLike) -> Subnetwork:
    """The policy that a user means.

    Raises:
        TypeError: It is not a policy.
        ValueError: A search has none to hand out yet, or is not one for masks.
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
    """The rule under which a search begins with the policy's own mask.

    Layers keep their shares (``scope="erdos_renyi"``) where the policy has these, as it has from a search for a front;
    else all weights are ranked together, so that no layer must keep more or fewer than in the policy.
    """
    rule = TopK(subnet.sparsity if subnet.num_active else 0.0, scope="erdos_renyi", rescale=subnet.rescale)
    if torch.equal(rule(subnet.mask[None].float(), subnet.network.layers)[0], subnet.mask):
        return rule
    return TopK(rule.sparsity, rescale=subnet.rescale)
