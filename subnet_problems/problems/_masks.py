"""Masked: base of all problems whose decision vector is one score per weight, for any kind of task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from evotorch import Solution, SolutionBatch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import check_count, check_mask, check_masks, check_matrix, check_numbers, check_seed
from ..masks._confined import near_cutoff, without_unused
from ..masks._expectation import expected_given_mask
from ..masks._initial_scores import scores_from_mask
from ..masks._live import live_masks
from ..masks._rule import MaskRule
from ..masks._top_k import TopK
from ..masks._values import representatives
from ._genotypes import MaskGenotype
from ._rounds import Rounds


class Masked(Rounds):
    """Base of masked problems: masks from scores, evaluation of masks, and methods for searches on scores."""

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
        """The rule that turns scores into masks."""
        return self._genotype.rule

    def mask(self, scores: Tensor | SolutionBatch | Solution | ArrayLike) -> Tensor:
        """The mask of scores, by the problem's rule.

        Args:
            scores: ``(N, D)`` or ``(D,)``.

        Returns:
            Of the same shape: bool, True where a weight is kept; or int8 under a rule with other ``values``.

        Raises:
            TypeError: The scores are not real numbers.
            ValueError: The scores have the wrong shape, or one is NaN.
        """
        values = scores.values if isinstance(scores, Solution | SolutionBatch) else scores
        values = check_numbers("scores", values, dtype=self.dtype, device=self.device)
        if values.ndim not in (1, 2) or values.shape[-1] != self.solution_length:
            length = self.solution_length
            raise ValueError(f"scores: expected shape (N, D) = (N, {length}) or (D,), got {tuple(values.shape)}")
        matrix = check_matrix("scores", values.reshape(-1, self.solution_length), self.solution_length)
        return self._genotype.express(matrix).reshape(values.shape)

    def scores_from_mask(self, mask: Tensor | ArrayLike, *, seed: int) -> Tensor:
        """Scores that give this mask: the starting point of a search that continues from a policy.

        Kept weights get scores above 0 with the magnitudes of initial scores. Removed weights get scores below 0; about
        as many of them are near 0 as weights are kept.

        ``TopK`` maps these scores to exactly this mask if it keeps as many weights as the mask in each scope (all
        weights together, or a layer). In a scope with fewer, it keeps a subset of the mask. In a scope with more, it
        keeps the whole mask and some further weights. Among kept weights, those that cannot change an output (see
        ``Subnetwork.prune``) get the lowest scores, so that they are removed first. They can be identified only in
        chains of linear layers, tanh and ReLU.

        Args:
            mask: ``(D,)`` bool, such as ``subnet.mask``.
            seed: Seed of the scores.

        Returns:
            ``(D,)`` float32.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The mask has the wrong shape, the seed is out of range, or the problem's rule is not ``TopK``
                and maps such scores to another mask.
        """
        bits, seed = check_mask("mask", mask, self.solution_length), check_seed("seed", seed)
        scores = scores_from_mask(bits, stdev=self._genotype.stdev, seed=seed, live=self._live(bits)).to(self.device)
        if not isinstance(self._genotype.rule, TopK) and not torch.equal(self.mask(scores).cpu(), bits):
            raise ValueError(
                f"mask: expected a mask that the rule {self._genotype.rule!r} gives for scores above 0 of kept weights "
                "and below 0 of removed weights, got one for which the rule gives another mask"
            )
        return scores

    def _live(self, mask: Tensor) -> NDArray[np.bool_] | None:
        """True for each weight ``(D,)`` of a mask that can change an output; None if the network is not a chain."""
        try:
            return live_masks(self._genotype.network, mask).numpy()
        except ValueError:  # not a chain
            return None

    def decode(self, scores: Tensor | SolutionBatch | Solution | ArrayLike) -> Tensor:
        """The policy's weights: frozen weights times mask (times the layer's scale, if the rule rescales).

        Args:
            scores: ``(N, D)`` or ``(D,)``.

        Returns:
            float32, of the same shape.
        """
        mask = self.mask(scores)
        return self._genotype.weights_of(mask if mask.ndim == 2 else mask[None]).dense().reshape(mask.shape)

    def evaluate_masks(self, mask: Tensor | ArrayLike) -> NDArray[np.float64]:
        """Evaluate masks directly, without the mask rule: for searches that have bits instead of scores.

        This is an ordinary round: it is counted and seeded, and fitness is that of solutions with these masks. Hooks
        receive a batch whose scores are above 0 for kept weights and below 0 for removed weights (or spread over the
        values of the rule, in their order). The masks do not
        compete for ``best`` in the status, which holds scores under the problem's own rule.

        Args:
            mask: ``(N, D)`` bool, True where a weight is kept; or whole numbers, of the rule's ``values``.

        Returns:
            ``(N,)`` fitness; higher is better.

        Raises:
            EvaluationError: See ``evaluate``.
            WorkersLostError: See ``evaluate``.
            TypeError: The mask is not made of bools, or of whole numbers.
            ValueError: The mask has the wrong shape or other values, or an actor cannot make the environment.
        """
        values, stdev = self._genotype.values, self._genotype.stdev
        self._given = check_masks("mask", mask, self.solution_length, values).to(self.device)
        try:
            return self._fitness_of_values(representatives(self._given, values, stdev=stdev, dtype=self.dtype))
        finally:
            self._given = None

    def expected_solutions(self, values: Tensor, *, center: Tensor | None, stdev: float) -> Sequence[Tensor] | Tensor:
        """For each solution, the expected scores given its mask. ``ElitistGaussianResampling`` learns from these.

        Only the side of the rule's cutoff on which a score lies has an effect. So each score is replaced by the mean
        over all scores that give the same bit.

        Args:
            values: ``(N, D)`` scores, drawn from ``center + stdev * N(0, I)``.
            center: ``(D,)``. None means initial scores, drawn around 0 with ``score_stdev``.
            stdev: Standard deviation of the noise. Ignored for initial scores.

        Returns:
            A sequence of N rows ``(D,)``, each of which is computed when it is read (``torch.stack([*rows])`` makes
            them a matrix); ``values`` itself if the rule is a user's own without ``cutoffs``.

        Raises:
            ValueError: An argument has the wrong shape, or a score is NaN.
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
        """Scores with the mask of ``center``, enough of them near the rule's cutoff for noise to flip bits.

        Let n be 0.6 times the number of kept or of removed weights, whichever is smaller. At least n scores are within
        ``score_stdev / 2`` of the cutoff that the rule has for ``center``. If fewer are that near in ``center``, all
        distances to the cutoff are shrunk by one factor, except those of scores that ``narrowed`` moved far below it.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``; ``center`` itself if the rule is a user's own without ``cutoffs``.

        Raises:
            ValueError: ``center`` has the wrong shape, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return near_cutoff(
            self._genotype.rule_in_search, self._genotype.network.layers, center, reach=self._genotype.stdev / 2
        )

    @property
    def num_levels(self) -> int:
        """Number of sparsity levels ``ElitistGaussianResampling`` passes through; the last is the rule's own sparsity.

        A search that starts at a very sparse mask rarely succeeds, because such random masks connect little. So if
        random masks of ``TopK`` have fewer than 64 live weights (see ``Subnetwork.live_units``), a search starts at
        sparsity 0.9 (or at ten weights, if these are more), and each level keeps about a sixth fewer weights than the
        level before. With hidden layers (87, 87), 8 observations and 2 actions, this is so above a sparsity of 0.975
        for ``scope="erdos_renyi"``, and above 0.926 if all weights are ranked together. In a network that is not a
        chain of layers, it is so above 0.95. There is a single level for other rules, and for fixed or given rescaling
        factors (such as those of a policy to start from).
        """
        return len(self._genotype.levels)

    @contextmanager
    def at_level(self, level: int) -> Iterator[None]:
        """Context manager: evaluate solutions at one of the ``num_levels`` sparsity levels.

        ``expected_solutions``, ``confined`` and ``narrowed`` use this level, too. Masks, policies and tests remain
        those of the rule itself. Solutions evaluated at a level other than the last do not compete for ``best`` in the
        status.

        Args:
            level: Number of the level, from 0 to ``num_levels - 1``.
        """
        before = self._genotype.level
        self._genotype.level = check_count("level", level, minimum=0, maximum=self.num_levels - 1)
        try:
            yield
        finally:
            self._genotype.level = before

    def narrowed(self, center: Tensor) -> Tensor:
        """Scores like those of ``center``, but noise around them keeps only weights that can affect an output.

        See ``ParetoSparsityProblem.narrowed``.

        Args:
            center: ``(D,)``.

        Returns:
            ``(D,)``.

        Raises:
            ValueError: ``center`` has the wrong shape, or a score is NaN.
        """
        check_matrix("center", center[None], self.solution_length)
        return without_unused(self._genotype.rule_in_search, self._genotype.network, center, stdev=self._genotype.stdev)

    def _get_best_and_worst(self, batch: SolutionBatch) -> dict[str, Any] | None:
        if self._given is not None or self._genotype.level + 1 < self.num_levels:
            return None  # the evaluated masks are not those that the problem's rule gives for these scores
        result: dict[str, Any] | None = super()._get_best_and_worst(batch)
        return result
