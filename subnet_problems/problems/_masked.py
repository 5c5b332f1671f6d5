"""MaskedGymProblem: the decision vector is one score per weight, and the policy plays a Gymnasium task."""

from __future__ import annotations

import warnings
from typing import Self, Unpack

import torch
from evotorch import Solution
from numpy.typing import ArrayLike
from torch import Tensor

from .._checks import check_mask, check_real, check_rescale, naming
from ..masks._rule import MaskRule
from ..masks._threshold import Threshold
from ..masks._top_k import TopK
from ..networks._frozen_network import FrozenNetwork
from ..subnetworks._file_encode import left_out_of_file
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._gym_task import EnvLike, GymTask
from ._from_subnetwork import policy_network, policy_rule, policy_stats, policy_task
from ._genotypes import MaskGenotype
from ._gym_problem import GymProblem
from ._masks import Masked
from ._network_for import NetworkLike
from ._options import GymOptions


class MaskedGymProblem(Masked, GymProblem):
    """Find a subnetwork of a frozen random network: the decision vector is one real-valued score per weight.

    A mask rule turns scores into bits; bits times frozen weights are the policy's weights. Every EvoTorch search for
    real vectors can search it. Status: ``total_interaction_count``, ``total_episode_count``, ``mean_sparsity``.

    Example:
        >>> from algorithms import ElitistGaussianResampling
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(32,), sparsity=0.5, seed=0)
        >>> searcher = ElitistGaussianResampling(problem)
        >>> searcher.run(3)
        >>> subnet = problem.to_subnetwork(searcher.status["center"])

    Args:
        env: See ``GymProblem``.
        network: See ``GymProblem``.
        mask_rule: The rule that turns scores into bits. Default: ``Threshold(0.0)``, as in the paper.
        sparsity: Short for ``mask_rule=TopK(sparsity)``.
        score_stdev: Standard deviation of the initial scores around 0. Default: 0.1. With ``Threshold(0.0)`` and
            ``TopK``, only the ratio of the search's stdev to it matters: it determines how many bits a mutation flips.
            ``ElitistGaussianResampling`` keeps enough scores within ``score_stdev / 2`` of the rule's cutoff; see
            ``confined``.
        **options: See ``GymOptions``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, both ``mask_rule`` and ``sparsity`` are given, or ``TopK`` would keep
            no weights of this network.
    """

    def __init__(
        self,
        env: EnvLike,
        network: NetworkLike | None = None,
        *,
        mask_rule: MaskRule | None = None,
        sparsity: float | None = None,
        score_stdev: float = 0.1,
        **options: Unpack[GymOptions],
    ) -> None:
        if mask_rule is not None and sparsity is not None:
            raise ValueError(f"sparsity: expected None when mask_rule is given, got {sparsity!r}")
        if mask_rule is None:
            mask_rule = Threshold(0.0) if sparsity is None else TopK(sparsity)
        if not isinstance(mask_rule, MaskRule) or isinstance(mask_rule, type):
            raise TypeError(f"mask_rule: expected a rule such as Threshold(0.0) or TopK(0.9), got {mask_rule!r}")
        self._rule_name = "mask_rule" if sparsity is None else "sparsity"  # as the caller wrote it
        self._given_rule, self._score_stdev = mask_rule, check_real("score_stdev", score_stdev, above=0.0)
        super().__init__(env, network, **options)

    def _make_genotype(self, task: GymTask, network: FrozenNetwork, device: torch.device) -> MaskGenotype:
        rule = self._given_rule
        check_rescale("mask_rule", rule.rescale, len(network.layers))
        if isinstance(rule, TopK):
            rule = rule.for_network(network.layers)
            if not rule.num_kept(network.layers):
                raise ValueError(
                    f"{self._rule_name}: expected one that keeps at least 1 of {network.num_weights} weights, got "
                    f"{self._given_rule if self._rule_name == 'mask_rule' else rule.sparsity!r}"
                )
        for sentence in left_out_of_file(network, task.env_config):
            warnings.warn(sentence, stacklevel=4)  # at the call of the constructor
        return MaskGenotype(network, rule, stdev=self._score_stdev, device=device)

    @classmethod
    def from_subnetwork(
        cls,
        subnet: Subnetwork,
        env: EnvLike | None = None,
        *,
        mask_rule: MaskRule | None = None,
        sparsity: float | None = None,
        score_stdev: float = 0.1,
        **options: Unpack[GymOptions],
    ) -> Self:
        """A problem that continues from a policy, in the policy's own network: to make it sparser, or better.

        The problem has the policy's network, environment, configuration and rescaling. So the policy's own mask gives
        the policy itself (``evaluate_masks(subnet.mask[None])``). The problem normalizes observations if the policy
        does. Its statistics then start at the policy's normalizer, counted as a million observations. Each round adds
        its own observations, so that the normalizer, and with it the policy, slowly changes, as in every search.

        Example:
            >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.5, seed=0)
            >>> subnet = problem.to_subnetwork(problem.generate_batch(1)[0])
            >>> sparser = MaskedGymProblem.from_subnetwork(subnet, sparsity=0.9, seed=0)
            >>> scores = sparser.scores_from_mask(subnet.mask, seed=0)
            >>> int(sparser.mask(scores).sum()), bool(subnet.mask[sparser.mask(scores)].all())
            (5, True)

        Args:
            subnet: The policy. The rescaling factors of a pruned policy stay the same at every sparsity. If the
                policy's file held only the kept weights (those of an ``nn.Module``), all other weights are 0.
            env: Replaces the policy's own environment. Required if the policy knows none.
            mask_rule: The rule that turns scores into bits; its ``rescale`` must be ``subnet.rescale``. Default:
                ``TopK(subnet.sparsity, rescale=subnet.rescale)``.
            sparsity: Short for ``mask_rule=TopK(sparsity, rescale=subnet.rescale)``.
            score_stdev: As for every masked problem. Default: 0.1.
            **options: See ``GymOptions``, except those that describe the network. Options in ``env_config`` replace
                or extend those that the policy was found with.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is out of range or would change the policy; the environment does not fit the policy
                (see ``Subnetwork.make_task``); the policy keeps no weights; or no statistics can reproduce its
                normalizer.
        """
        task = policy_task(
            subnet, env, env_config=options.get("env_config"), episode_length=options.get("episode_length")
        )
        rule = policy_rule(subnet, mask_rule=mask_rule, sparsity=sparsity)
        with naming(normalizer="subnet"):
            stats = policy_stats(subnet, options.get("observation_normalization"))
        options["env_config"], options["observation_normalization"] = task.env_config, stats is not None
        with naming(network="subnet", **({} if sparsity is None else {"mask_rule": "sparsity"})):
            problem = cls(task.env, policy_network(subnet), mask_rule=rule, score_stdev=score_stdev, **options)
        if stats is not None:
            problem.set_observation_stats(stats)
        return problem

    def to_subnetwork(self, x: Solution | Tensor | ArrayLike) -> Subnetwork:
        """A solution as a ``Subnetwork``, whose file takes a few hundred bytes to a few kilobytes.

        Args:
            x: One solution ``(D,)``.
        """
        return self.mask_to_subnetwork(self._genotype.express(self._to_values(x))[0])

    def mask_to_subnetwork(self, mask: Tensor | ArrayLike) -> Subnetwork:
        """A mask ``(D,)`` as a ``Subnetwork``."""
        return Subnetwork(
            self.network,
            check_mask("mask", mask, self.solution_length, self._genotype.values),
            actions=self._task.actions,
            observations=self._task.observations,
            rescale=self.mask_rule.rescale,
            normalizer=self._normalizer(),
            env=self._task.name,
            env_config=self._task.env_config,
            registration=self._task.registration,
        )
