"""Masked: what a problem offers whose decision vector is one score per weight, whatever its networks are for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from evotorch import Solution, SolutionBatch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import check_count, check_mask, check_masks, check_matrix, check_numbers, check_seed
from ..masks._confined import near_level, without_unused
from ..masks._expectation import expected_given_mask
from ..masks._initial_scores import scores_from_mask
from ..masks._live import live_masks
from ..masks._rule import MaskRule
from ..masks._top_k import TopK
from ._genotypes import MaskGenotype
from ._rounds import Rounds


class Masked(Rounds):
    """Masks of scores, evaluations of masks, and what searches that know of scores ask for."""

    _genotype: MaskGenotype

    @property
    def frozen_weights(self) -> Tensor:
        """The weights of the dense network, ``(D,)`` float32, unscaled."""
        return self._genotype.frozen.clone()

    @property
    def score_stdev(self) -> float:
        """Standard deviation of the initial scores around 0."""
        return self._genotype.stdev

    @property
    def mask_rule(self) -> MaskRule:
        """How scores become bits."""
        return self._genotype.rule

    def mask(self, scores: Tensor | SolutionBatch | Solution | ArrayLike) -> Tensor:
        """The bits of scores.

        Args:
            scores: ``(N, D)`` or ``(D,)``.

        Returns:
            bool, of the same shape; True where a weight is kept.

        Raises:
            TypeError: The scores are not real numbers.
            ValueError: The shape is wrong, or a score is NaN.
        """
        values = scores.values if isinstance(scores, Solution | SolutionBatch) else scores
        values = check_numbers("scores", values, dtype=self.dtype, device=self.device)
        if values.ndim not in (1, 2) or values.shape[-1] != self.solution_length:
            length = self.solution_length
            raise ValueError(f"scores: expected shape (N, D) = (N, {length}) or (D,), got {tuple(values.shape)}")
        matrix = check_matrix("scores", values.reshape(-1, self.solution_length), self.solution_length)
        return self._genotype.express(matrix).reshape(values.shape)

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
        scores = scores_from_mask(bits, stdev=self._genotype.stdev, seed=seed, live=self._live(bits)).to(self.device)
        if not isinstance(self._genotype.rule, TopK) and not torch.equal(self.mask(scores).cpu(), bits):
            raise ValueError(
                f"mask: expected one that the rule {self._genotype.rule!r} makes of scores above 0 for what is kept, "
                "and below 0 for what is removed, got one of which it makes another"
            )
        return scores

    def _live(self, mask: Tensor) -> NDArray[np.bool_] | None:
        """Which weights ``(D,)`` of a mask can change an output; None where that is not known."""
        try:
            return live_masks(self._genotype.network, mask).numpy()
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
        return self._genotype.weights_of(mask if mask.ndim == 2 else mask[None]).reshape(mask.shape)

    def evaluate_masks(self, mask: Tensor | ArrayLike) -> NDArray[np.float64]:
        """Evaluate masks themselves, whatever the mask rule: for searches that have bits and no scores.

        It is a round like any other, counted and seeded, with the fitness of solutions of these masks. Hooks see a
        batch whose scores are above 0 where a weight is kept, and below 0 where it is removed. It is no candidate for
        the status' ``best``, which is about scores and the problem's own rule.

        Args:
            mask: ``(N, D)`` bool, True where a weight is kept.

        Returns:
            ``(N,)`` fitness, the higher the better.

        Raises:
            EvaluationError: See ``evaluate``, as for ``WorkersLostError``.
            TypeError: The mask is not made of bools.
            ValueError: The shape is wrong, or an actor cannot make the environment.
        """
        bits = check_masks("mask", mask, self.solution_length).to(self.device)
        self._given = bits
        try:
            return self._fitness_of_values((bits.to(self.dtype) * 2.0 - 1.0) * self._genotype.stdev)
        finally:
            self._given = None

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
            ValueError: A shape is wrong, or a score is NaN.
        """
        check_matrix("values", values, self.solution_length)
        if center is not None:
            check_matrix("center", center[None], self.solution_length)
        if center is None:
            center, stdev = torch.zeros_like(values[0]), self._genotype.stdev
        return expected_given_mask(
            self._genotype.rule_in_search, self._genotype.network.layers, values, center=center, stdev=stdev
        )

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
            ValueError: The shape is wrong, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return near_level(
            self._genotype.rule_in_search, self._genotype.network.layers, center, reach=self._genotype.stdev / 2
        )

    @property
    def num_levels(self) -> int:
        """How many levels ``ElitistGaussianResampling`` goes through to the rule's own sparsity, which is the last.

        A mask of very few weights is hardly found from nothing: most random ones connect nothing. So where ``TopK``
        removes more than 0.95 of the weights, a search begins at 0.9 (or at ten weights, if that is more), and each
        level keeps about a sixth fewer weights than the one before. Other rules, and sparsities up to 0.95, are a
        single level; so are factors that are given or fixed, as those of a policy to begin at.
        """
        return len(self._genotype.levels)

    @contextmanager
    def at_level(self, level: int) -> Iterator[None]:
        """Within, solutions are evaluated at one of the levels, of which ``expected_solutions`` and ``confined`` know.

        Masks, policies and tests are those of the rule itself, and evaluations of other levels are not noted as the
        status' ``best``.
        """
        before = self._genotype.level
        self._genotype.level = check_count("level", level, minimum=0, maximum=self.num_levels - 1)
        try:
            yield
        finally:
            self._genotype.level = before

    def narrowed(self, center: Tensor) -> Tensor:
        """Scores like those of ``center``, around which noise keeps only weights that may do something.

        See ``ParetoSparsityProblem.narrowed``.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``.

        Raises:
            ValueError: The shape is wrong, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return without_unused(self._genotype.rule_in_search, self._genotype.network, center, stdev=self._genotype.stdev)

    def _get_best_and_worst(self, batch: SolutionBatch) -> dict[str, Any] | None:
        if self._given is not None or self._genotype.level + 1 < self.num_levels:
            return None  # of other masks than the problem's rule makes of these scores
        result: dict[str, Any] | None = super()._get_best_and_worst(batch)
        return result
