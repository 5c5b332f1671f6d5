"""MaskedGymProblem: the decision vector is one score per weight."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
import torch
from evotorch import Solution, SolutionBatch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import (
    check_bool,
    check_count,
    check_mask,
    check_masks,
    check_matrix,
    check_numbers,
    check_real,
    check_rescale,
    check_seed,
    naming,
)
from ..masks._apply import apply_mask
from ..masks._confined import near_level, without_unused
from ..masks._expectation import expected_given_mask
from ..masks._initial_scores import scores_from_mask
from ..masks._live import live_masks
from ..masks._rule import MaskRule
from ..masks._threshold import Threshold
from ..masks._top_k import TopK, num_kept_at
from ..subnetworks._file import left_out_of_file
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._gym_task import EnvLike
from ..tasks._torch_threads import one_torch_thread
from ._from_subnetwork import policy_rule, policy_stats, policy_task
from ._gym_problem import GymProblem
from ._network_for import NetworkLike
from ._options import GymOptions

#: Up to which sparsity a search begins at the rule itself; beyond it where it begins, and how many levels halve the
#: number of weights.
_DIRECT, _EASY, _PER_OCTAVE = 0.95, 0.9, 4


class MaskedGymProblem(GymProblem):
    """Find a subnetwork of a frozen random network: the decision vector is one real-valued score per weight.

    A mask rule turns scores into bits, and bits times frozen weights is the policy. It runs under every EvoTorch
    search for real vectors. Status: ``total_interaction_count``, ``total_episode_count``, ``mean_sparsity``.

    Example:
        >>> from algorithms import ElitistGaussianResampling
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(32,), sparsity=0.5, seed=0)
        >>> searcher = ElitistGaussianResampling(problem)
        >>> searcher.run(3)
        >>> subnet = problem.to_subnetwork(searcher.status["pop_best"])

    Args:
        env: See ``GymProblem``, as for all arguments not named here.
        network: Likewise.
        mask: The mask rule. Default ``Threshold(0.0)``, the paper's.
        sparsity: Short for ``mask=TopK(sparsity)``.
        score_stdev: Standard deviation of the initial scores around 0. What matters is the ratio of the search's
            own stdev to it: that decides how many bits a mutation flips. The search keeps enough scores as near to
            the rule's level as these, see ``confined``.
        **options: What every problem takes.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, both ``mask`` and ``sparsity`` are given, or ``TopK`` would keep no
            weight at all of this network.
    """

    def __init__(
        self,
        env: EnvLike,
        network: NetworkLike | None = None,
        *,
        mask: MaskRule | None = None,
        sparsity: float | None = None,
        score_stdev: float = 0.1,
        **options: Unpack[GymOptions],
    ) -> None:
        if mask is not None and sparsity is not None:
            raise ValueError(f"sparsity: expected None where mask is given, got {sparsity!r}")
        if mask is None:
            mask = Threshold(0.0) if sparsity is None else TopK(sparsity)
        if not isinstance(mask, MaskRule) or isinstance(mask, type):
            raise TypeError(f"mask: expected a mask rule such as Threshold(0.0) or TopK(0.9), got {mask!r}")
        self._mask_rule = mask
        self._score_stdev = check_real("score_stdev", score_stdev, above=0.0)
        super().__init__(env, network, **options)
        check_rescale("mask", mask.rescale, len(self._network.layers))
        if isinstance(mask, TopK):
            self._mask_rule = mask.for_network(self._network.layers)
        if isinstance(mask, TopK) and not mask.num_kept(self._network.layers):
            raise ValueError(
                f"{'mask' if sparsity is None else 'sparsity'}: expected one that keeps a weight of "
                f"{self._network.num_weights}, got {mask if sparsity is None else sparsity!r}"
            )
        for sentence in left_out_of_file(self._network, self._task.env_config):
            warnings.warn(sentence, stacklevel=2)
        self._frozen = self._network.weights.to(self.device)
        self._levels = _levels_to(self._mask_rule, self._network.num_weights)
        self._level = len(self._levels) - 1

    @classmethod
    def from_subnetwork(
        cls,
        subnet: Subnetwork,
        env: EnvLike | None = None,
        *,
        mask: MaskRule | None = None,
        sparsity: float | None = None,
        score_stdev: float = 0.1,
        **options: Unpack[GymOptions],
    ) -> Self:
        """The problem on which a policy is searched on, in its own network: to make it sparser, or better.

        The policy's own mask is the policy itself here (``evaluate_masks(subnet.mask[None])``): the problem has its
        network, environment, configuration and rescaling, and normalizes observations if the policy does. Then the
        problem's statistics begin with the policy's normalizer, as if it were of a million observations, and those of
        each round are added to them, so that the policy slowly changes with its normalizer, as in every search.

        Example:
            >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.5, seed=0)
            >>> subnet = problem.to_subnetwork(problem.generate_batch(1)[0])
            >>> sparser = MaskedGymProblem.from_subnetwork(subnet, sparsity=0.9, seed=0)
            >>> scores = sparser.scores_from_mask(subnet.mask, seed=0)
            >>> int(sparser.mask(scores).sum()), bool(subnet.mask[sparser.mask(scores)].all())
            (5, True)

        Args:
            subnet: The policy. Of one that was pruned the factors by which it is rescaled stay what they are at every
                sparsity. Where its file held kept weights alone (those of an ``nn.Module``), the others are 0.
            env: Another environment than its own, or the one where it knows none.
            mask: The mask rule, with ``rescale=subnet.rescale``. Default ``TopK(subnet.sparsity)`` with that.
            sparsity: Short for ``mask=TopK(sparsity, rescale=subnet.rescale)``.
            score_stdev: As for every masked problem.
            **options: What every problem takes, but what describes the network. ``env_config`` has options in the
                place of those that the policy was found with, and beside them.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is out of range; the environment does not fit the policy (see ``Subnetwork.task``);
                the policy keeps no weight, or has a normalizer that statistics cannot give; or an argument would make
                another policy of it.
        """
        task = policy_task(
            subnet, env, env_config=options.get("env_config"), episode_length=options.get("episode_length")
        )
        rule = policy_rule(subnet, mask=mask, sparsity=sparsity)
        with naming(normalizer="subnet"):
            stats = policy_stats(subnet, options.get("observation_normalization"))
        options["env_config"], options["observation_normalization"] = task.env_config, stats is not None
        with naming(network="subnet", **({} if sparsity is None else {"mask": "sparsity"})):
            problem = cls(task.env, subnet.network, mask=rule, score_stdev=score_stdev, **options)
        if stats is not None:
            problem.set_observation_stats(stats)
        return problem

    @property
    def frozen_weights(self) -> Tensor:
        """The weights of the dense network, ``(D,)`` float32, unscaled."""
        return self._frozen.clone()

    @property
    def score_stdev(self) -> float:
        """Standard deviation of the initial scores around 0."""
        return self._score_stdev

    @property
    def mask_rule(self) -> MaskRule:
        """How scores become bits."""
        return self._mask_rule

    def mask(self, scores: Tensor | SolutionBatch | Solution | ArrayLike) -> Tensor:
        """The bits of scores.

        Args:
            scores: ``(N, D)`` or ``(D,)``.

        Returns:
            bool, of the same shape; True where a weight is kept.

        Raises:
            TypeError: The scores are not real numbers.
            ValueError: The shape is another, or a score is NaN.
        """
        values = scores.values if isinstance(scores, Solution | SolutionBatch) else scores
        values = check_numbers("scores", values, dtype=self.dtype, device=self.device)
        if values.ndim not in (1, 2) or values.shape[-1] != self.solution_length:
            length = self.solution_length
            raise ValueError(f"scores: expected shape (N, D) = (N, {length}) or (D,), got {tuple(values.shape)}")
        matrix = check_matrix("scores", values.reshape(-1, self.solution_length), self.solution_length)
        return self._express(matrix).reshape(values.shape)

    def scores_from_mask(self, mask: Tensor | ArrayLike, *, seed: int) -> Tensor:
        """Scores that have this mask: where a search begins that goes on from a policy.

        Kept weights have scores above 0, as far from it as initial scores are. Removed ones have scores below 0, and
        about as many of them are near it as weights are kept.
        ``TopK`` makes exactly this mask of them if it keeps as many weights in each of its scopes. In a scope (all
        weights together, or a layer) where it keeps fewer, it keeps only weights of the mask; where it keeps more, all
        of them and some others. Kept weights that cannot change an output (see ``Subnetwork.prune``) have lower scores
        than the other kept ones, so that they go first; what they are is known of chains of linear layers, tanh and
        ReLU alone.

        Args:
            mask: ``(D,)`` bool, such as ``subnet.mask``.
            seed: The scores' seed.

        Returns:
            ``(D,)`` float32.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The mask's shape or the seed is wrong; or the problem's rule is not ``TopK``, and another mask
                comes of such scores.
        """
        bits, seed = check_mask("mask", mask, self.solution_length), check_seed("seed", seed)
        scores = scores_from_mask(bits, stdev=self._score_stdev, seed=seed, live=self._live(bits)).to(self.device)
        if not isinstance(self._mask_rule, TopK) and not torch.equal(self.mask(scores).cpu(), bits):
            raise ValueError(
                f"mask: expected one that the rule {self._mask_rule!r} makes of scores above 0 for what is kept, and "
                "below 0 for what is removed, got one of which it makes another"
            )
        return scores

    def _live(self, mask: Tensor) -> NDArray[np.bool_] | None:
        """Which weights ``(D,)`` of a mask can change an output; None where that is not known."""
        try:
            return live_masks(self._network, mask).numpy()
        except ValueError:  # no chain
            return None

    def decode(self, scores: Tensor | SolutionBatch | Solution | ArrayLike) -> Tensor:
        """What the policy computes with: frozen weights times bits (times a layer's scale, where rescaling is on).

        Args:
            scores: ``(N, D)`` or ``(D,)``.

        Returns:
            float32, of the same shape.
        """
        mask = self.mask(scores)
        return self._weights_of(mask if mask.ndim == 2 else mask[None]).reshape(mask.shape)

    @overload
    def evaluate_masks(
        self, mask: Tensor | ArrayLike, *, with_returns: Literal[False] = ...
    ) -> NDArray[np.float64]: ...

    @overload
    def evaluate_masks(
        self, mask: Tensor | ArrayLike, *, with_returns: Literal[True]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def evaluate_masks(
        self, mask: Tensor | ArrayLike, *, with_returns: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Evaluate masks themselves, whatever the mask rule: for searches that have bits and no scores.

        It is a round of episodes like any other, counted and seeded, with the fitness of solutions of these masks.
        ``status`` has its counts and its mean sparsity. Hooks do not see it, nor is it a candidate for the status'
        ``best``: these are about scores.

        Args:
            mask: ``(N, D)`` bool, True where a weight is kept.
            with_returns: Whether the episodes' returns are given, too.

        Returns:
            ``(N,)`` fitness, the higher the better. With returns: the fitness, and ``(N, E)`` returns of the E =
            ``num_episodes`` episodes that it was made from (with what was added to or subtracted from rewards).

        Raises:
            EvaluationError: See ``evaluate``, as for ``WorkersLostError``.
            TypeError: The mask is not made of bools, or ``with_returns`` is not one.
            ValueError: The shape is wrong, or an actor cannot make the environment.
        """
        payload = check_masks("mask", mask, self.solution_length).to(self.device)
        with_returns = check_bool("with_returns", with_returns)
        with one_torch_thread():
            fitness, episodes = self._play_round(payload)
        self._after_eval_status = self._evaluation_status()
        values: NDArray[np.float64] = fitness.cpu().numpy()
        return (values, episodes.returns) if with_returns else values

    def expected_solutions(self, values: Tensor, *, center: Tensor | None, stdev: float) -> Tensor:
        """For each solution the expectation of all that have its mask: what ``ElitistGaussianResampling`` learns from.

        A weight's score matters by which side of the rule's level it is on, and by nothing else.

        Args:
            values: ``(N, D)`` scores, drawn from ``center + stdev * N(0, I)``.
            center: ``(D,)``; or None for initial scores.
            stdev: Standard deviation of the noise; ``score_stdev`` takes its place for initial scores.

        Returns:
            ``(N, D)``; the scores themselves under a rule of a user's own that has no ``level``.

        Raises:
            ValueError: A shape is another, or a score is NaN.
        """
        check_matrix("values", values, self.solution_length)
        if center is not None:
            check_matrix("center", center[None], self.solution_length)
        if center is None:
            center, stdev = torch.zeros_like(values[0]), self._score_stdev
        return expected_given_mask(self._levels[self._level], self._network.layers, values, center=center, stdev=stdev)

    def confined(self, center: Tensor) -> Tensor:
        """Scores with the mask of ``center``, of which enough are near the rule's level for noise to change their bits.

        As many as six tenths of those that are kept (or of those that are removed, where these are fewer) are within
        ``score_stdev / 2`` of the level that the rule has for ``center``. Where there are fewer, all are drawn towards
        it by the same factor.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``; ``center`` itself under a rule of a user's own that has no ``level``.

        Raises:
            ValueError: The shape is another, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return near_level(self._levels[self._level], self._network.layers, center, reach=self._score_stdev / 2)

    @property
    def num_levels(self) -> int:
        """How many levels ``ElitistGaussianResampling`` goes through to the rule's own sparsity, which is the last.

        A mask of very few weights is hardly found from nothing: most random ones connect nothing. So where ``TopK``
        removes more than 0.95 of the weights, a search begins at 0.9 (or at ten weights, if that is more), and each
        level keeps about a sixth fewer weights than the one before. Other rules, and sparsities up to 0.95, are a
        single level; so are factors that are given or fixed, as those of a policy to begin at.
        """
        return len(self._levels)

    @contextmanager
    def at_level(self, level: int) -> Iterator[None]:
        """Within, solutions are evaluated at one of the levels, of which ``expected_solutions`` and ``confined`` know.

        Masks, policies and tests are those of the rule itself, and evaluations of other levels are not noted as the
        status' ``best``.
        """
        before, self._level = self._level, check_count("level", level, minimum=0, maximum=self.num_levels - 1)
        try:
            yield
        finally:
            self._level = before

    def narrowed(self, center: Tensor) -> Tensor:
        """Scores like those of ``center``, around which noise keeps only weights that may do something.

        See ``ParetoSparsityProblem.narrowed``.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``.

        Raises:
            ValueError: The shape is another, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return without_unused(self._levels[self._level], self._network, center, stdev=self._score_stdev)

    def to_subnetwork(self, x: Solution | Tensor | ArrayLike) -> Subnetwork:
        """A solution as a ``Subnetwork``, which saves to a file of a few hundred bytes to a few kilobytes.

        Args:
            x: One solution ``(D,)``.
        """
        return self.mask_to_subnetwork(self._express(self._to_values(x))[0])

    def mask_to_subnetwork(self, mask: Tensor | ArrayLike) -> Subnetwork:
        """The bits ``(D,)`` of one solution as a ``Subnetwork``."""
        return Subnetwork(
            self._network,
            check_mask("mask", mask, self.solution_length),
            actions=self._task.actions,
            observations=self._task.observations,
            rescale=self._mask_rule.rescale,
            normalizer=self._normalizer(),
            env=self._task.name,
            env_config=self._task.env_config,
            registration=self._task.registration,
        )

    def _fill(self, values: Tensor) -> None:
        values.normal_(0.0, self._score_stdev, generator=self.generator)

    def _express(self, values: Tensor) -> Tensor:
        return self._masked_by(self._mask_rule, values)

    def _express_in_search(self, values: Tensor) -> Tensor:
        return self._masked_by(self._levels[self._level], values)

    def _get_best_and_worst(self, batch: SolutionBatch) -> dict[str, Any] | None:
        result: dict[str, Any] | None = (
            super()._get_best_and_worst(batch) if self._level + 1 == self.num_levels else None
        )
        return result

    def _masked_by(self, rule: MaskRule, values: Tensor) -> Tensor:
        mask = rule(values, self._network.layers)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != values.shape:
            came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            raise TypeError(f"mask: expected the rule to return a bool tensor {tuple(values.shape)}, got {came}")
        return mask.as_subclass(Tensor)

    def _weights_of(self, payload: Tensor) -> Tensor:
        return apply_mask(self._frozen, payload, self._network.layers, rescale=self._mask_rule.rescale)

    def _pack(self, payload: Tensor) -> NDArray[Any]:
        return np.packbits(payload.cpu().numpy(), axis=1)  # a bit a weight is all an actor needs

    def _unpack(self, packed: NDArray[Any]) -> Tensor:
        bits = np.unpackbits(packed, axis=1, count=self._network.num_weights)
        return torch.from_numpy(bits.view(np.bool_)).to(self.device)

    def _describe(self, payload: Tensor) -> dict[str, Any]:
        return {"mean_sparsity": 1.0 - int(payload.count_nonzero()) / payload.numel()}


def _levels_to(rule: MaskRule, num_weights: int) -> list[MaskRule]:
    """See ``MaskedGymProblem.num_levels``."""
    if type(rule) is not TopK or rule.sparsity <= _DIRECT or not isinstance(rule.rescale, bool):
        return [rule]
    density, easy = 1.0 - rule.sparsity, max(1.0 - _EASY, 10 / num_weights)
    num_steps = max(0, math.ceil(_PER_OCTAVE * math.log2(easy / density) - 1e-9))
    levels = [rule]
    for step in range(1, num_steps + 1):  # from the rule back
        sparsity = 1.0 - density * (easy / density) ** (step / num_steps)
        if num_kept_at(sparsity, num_weights) > num_kept_at(levels[-1].sparsity, num_weights):
            levels.append(rule.at(sparsity))
    return list(levels[::-1])
