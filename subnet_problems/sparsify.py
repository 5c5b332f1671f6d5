"""Sparsify a policy: go on searching from it with fewer and fewer weights, as long as it earns enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evotorch.algorithms import SearchAlgorithm
from pymoo.core.algorithm import Algorithm

from . import pareto_search
from ._checks import check_seed
from .experiments import hand_out
from .gym_problem import MaskedGymProblem
from .masks import TopK
from .subnetwork import Subnetwork
from .task import EnvLike


def begin(
    policy: Subnetwork | SearchAlgorithm | str | Path,
    folder: str | Path,
    *,
    env: EnvLike | None = None,
    max_sparsity: float | None = None,
    popsize: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Algorithm:
    """A search for sparser versions of a policy, before its first generation. ``pareto_search.run`` runs it.

    It begins with the policy's own mask, at the policy's own sparsity, and lowers the number of weights step by step
    (``algorithms.Continuation``), the live weights last.

    Example:
        >>> algorithm = begin("lander.safetensors", "sparser")
        >>> found, stopped = pareto_search.run(algorithm, "sparser", budget=1_000_000, min_reward=200.0)

    Args:
        policy: A policy, its file, or a search on a ``MaskedGymProblem``, whose policy is the one that it hands out.
        folder: Where ``checkpoint`` is written; ``algorithms.resume`` reads it.
        env: The task, for a policy that does not know its own; see ``MaskedGymProblem.from_subnetwork``.
        max_sparsity: Where to end. Default 0.995, or where one weight is left.
        popsize: Individuals of a generation, default 64.
        seed: Of the search.
        **options: See ``MaskedGymProblem.from_subnetwork``; ``episode_length``, ``num_actors`` and the like.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the policy does not fit the task.
        SubnetworkFileError: The file is none of a policy.
        FileExistsError: There is a checkpoint already.
        OSError: The file cannot be read, or nothing can be written there.
    """
    seed = check_seed("seed", seed)
    subnet = _policy(policy)
    rule = TopK(0.5, scope="erdos_renyi", rescale=subnet.rescale)
    options.setdefault("common_random_numbers", False)
    masked = MaskedGymProblem.from_subnetwork(subnet, env, mask=rule, seed=seed, **options)
    return pareto_search.begin(
        masked, folder, popsize=popsize, seed=seed, max_sparsity=max_sparsity, start=subnet.mask
    )  # fmt: skip


def _policy(policy: Subnetwork | SearchAlgorithm | str | Path) -> Subnetwork:
    """The policy that a user means.

    Raises:
        TypeError: It is none.
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
