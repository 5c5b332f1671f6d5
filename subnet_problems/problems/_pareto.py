"""ParetoSparsityProblem: a pymoo problem that trades return against enforced sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pymoo.core.problem import Problem
from torch import Tensor

from .._checks import check_choice, check_matrix, check_numbers, check_real, check_sparsity
from ..masks._confined import near_cutoff, without_unused
from ..masks._expectation import expected_given_mask
from ..masks._live import chain_layers, is_chain, live_units, live_weights
from ..masks._top_k import TopK, num_kept_at
from ..subnetworks._subnetwork import Subnetwork
from ._masked import MaskedGymProblem

#: Further objectives, besides the negative mean return and the density.
_FURTHER = ("live_units", "return_stdev")


class ParetoSparsityProblem(Problem):
    """A pymoo problem that minimizes the negative mean return, the density of the mask, and optional other objectives.

    An individual has D scores and, as its last variable, log2 of its density. Exactly round(D density) weights are
    kept, those with the highest scores. (The logarithm makes a step the same factor at every density; on a linear
    scale, half of a population would have densities between 0.5 and 1.) Evaluation is that of the masked problem, on
    its actors if it has any. Individuals that are evaluated together play the same episodes; each evaluation has new
    ones. ``algorithms.pareto_algorithm`` makes suitable pymoo algorithms.

    A kept weight that no input reaches, or that reaches no output, is dead: ``Subnetwork.prune`` removes it without
    changing any output. With ``count="live"`` the density objective does not count dead weights. The enforced density
    always refers to kept weights.

    Example:
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> from algorithms import pareto_operators
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = ParetoSparsityProblem(MaskedGymProblem("CartPole-v1", sparsity=0.5, seed=0))
        >>> result = minimize(problem, NSGA2(16, **pareto_operators(0.1)), ("n_gen", 3), seed=0)
        >>> subnet = problem.to_subnetwork(result.X[0])

    Args:
        problem: A masked problem whose mask rule is ``TopK``. Each individual's own sparsity replaces the rule's; the
            rule's scope and rescaling stay.
        count: Which weights the density counts, as a fraction of all D: ``"kept"``, those of the mask, or ``"live"``,
            those that remain after ``Subnetwork.prune``. Default: ``"kept"``.
        objectives: Names of further objectives, which follow the first two in this order. ``"live_units"`` is the
            number of hidden units that have a live input (or a bias) and a live output. ``"return_stdev"`` is the
            standard deviation of the returns of an individual's ``num_episodes`` episodes in an evaluation, in units
            of reward (with divisor ``num_episodes``, as for ``risk_aversion``).
        min_sparsity: Lower bound on an individual's sparsity, in [0, 1). Default: 0.
        max_sparsity: Upper bound on an individual's sparsity, in [0, 1). Default: 0.99, or the sparsity of one kept
            weight if that is lower.

    Attributes:
        masked: The masked problem.
        count: Which weights the density counts.
        objectives: Names of the further objectives.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The problem's rule is not ``TopK``, a sparsity is out of range, ``count`` or an objective is
            unknown, or an objective is named twice. Or the problem does not support them: ``"live"`` and
            ``"live_units"`` need a chain of linear layers, tanh and ReLU, and ``"return_stdev"`` needs
            ``num_episodes`` of at least 2.
    """

    def __init__(
        self,
        problem: MaskedGymProblem,
        *,
        count: str = "kept",
        objectives: Sequence[str] = (),
        min_sparsity: float = 0.0,
        max_sparsity: float | None = None,
    ) -> None:
        if not isinstance(problem, MaskedGymProblem):
            raise TypeError(f"problem: expected a MaskedGymProblem, got {problem!r}")
        if not isinstance(problem.mask_rule, TopK):
            raise ValueError(
                f"problem: expected one with mask_rule=TopK(...) or sparsity=..., got {problem.mask_rule!r}"
            )
        low = check_sparsity("min_sparsity", min_sparsity)
        num_weights = problem.network.num_weights
        high = (
            min(0.99, 1.0 - 1.0 / num_weights) if max_sparsity is None else check_sparsity("max_sparsity", max_sparsity)
        )
        if not num_kept_at(high, num_weights):
            raise ValueError(
                f"max_sparsity: expected one that keeps at least 1 of {num_weights} weights, got {max_sparsity!r}"
            )
        if low > high:
            raise ValueError(f"min_sparsity: expected at most max_sparsity = {high}, got {low}")
        self.count = check_choice("count", count, ("kept", "live"))
        self.objectives = _check_objectives(objectives)
        if "return_stdev" in self.objectives and problem.num_episodes < 2:
            raise ValueError(
                "objectives: expected 'return_stdev' only for a problem with num_episodes >= 2, got one with 1"
                " (a single return has no spread)"
            )
        self.masked = problem
        if self._looks_at_layers:
            self._check_chain()
        # Scores are only ranked, so their bounds have no meaning. pymoo requires bounds; these are never reached.
        xl, xu = np.full(num_weights + 1, -1e3), np.full(num_weights + 1, 1e3)
        xl[-1], xu[-1] = math.log2(1.0 - high), math.log2(1.0 - low)
        super().__init__(n_var=num_weights + 1, n_obj=2 + len(self.objectives), xl=xl, xu=xu)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """Names of the columns of ``F``: ``"negative_return"``, ``"density"`` or ``"live_density"``, ``objectives``."""
        return ("negative_return", "density" if self.count == "kept" else "live_density", *self.objectives)

    @property
    def interaction_count(self) -> int:
        """Environment steps of all evaluations."""
        return self.masked.interaction_count

    def mask(self, x: ArrayLike | Tensor) -> Tensor:
        """Masks ``(N, D)`` bool of individuals ``(N, D + 1)``.

        Raises:
            TypeError: The individuals are not real numbers.
            ValueError: ``x`` has the wrong shape, a value is NaN, or a density is out of bounds.
        """
        values = self._checked("x", x)
        rule = self.masked.mask_rule
        assert isinstance(rule, TopK)
        return rule(self._scores(values), self.masked.network.layers, sparsity=_sparsity(values))

    def _checked(self, name: str, x: ArrayLike | Tensor) -> Tensor:
        """Check individuals ``(N, D + 1)`` and return them as float64.

        Raises:
            TypeError: The individuals are not real numbers.
            ValueError: ``x`` has the wrong shape, a value is NaN, or a density is out of bounds.
        """
        values = check_numbers(name, x, dtype=torch.float64)
        if values.ndim != 2 or values.shape[1] != self.n_var:
            raise ValueError(f"{name}: expected shape (N, D + 1) = (N, {self.n_var}), got {tuple(values.shape)}")
        levels = check_matrix(name, values, self.n_var)[:, -1]
        outside = (levels < self.xl[-1] - 1e-9) | (levels > self.xu[-1] + 1e-9)
        if bool(outside.any()):
            row = int(torch.nonzero(outside)[0])
            raise ValueError(
                f"{name}: expected log2 densities in [{self.xl[-1]:g}, {self.xu[-1]:g}], got {levels[row]:g} in row "
                f"{row}"
            )
        return values

    def _evaluate(self, x: NDArray[np.float64], out: dict[str, Any], *_: Any, **__: Any) -> None:
        mask = self.mask(x)
        fitness = self.masked.evaluate_masks(mask)
        if np.isnan(fitness).any():
            row = int(np.argmax(np.isnan(fitness)))
            raise ValueError(f"problem: expected a fitness for each individual, got NaN for individual {row}")
        network = self.masked.network
        layers = chain_layers(network, mask.cpu().numpy()) if self._looks_at_layers else []
        counted = mask if self.count == "kept" else torch.from_numpy(live_weights(layers, network.num_weights))
        columns = [-fitness, counted.float().mean(dim=1).cpu().numpy()]
        for name in self.objectives:
            if name == "live_units":
                columns.append(sum((units.sum(axis=1) for units in live_units(layers)[1:-1]), np.zeros(len(mask))))
            else:
                with np.errstate(over="ignore"):  # an infinite spread is the worst value
                    columns.append(self.masked.last_returns.std(axis=1))
        out["F"] = np.column_stack(columns)

    @property
    def _looks_at_layers(self) -> bool:
        return self.count == "live" or "live_units" in self.objectives

    def _check_chain(self) -> None:
        """Raise ``ValueError`` if the network is not a chain, so that live weights are unknown."""
        network = self.masked.network
        if not is_chain(network):
            live = self.count == "live"
            expected = "count: expected 'kept'" if live else "objectives: expected no 'live_units'"
            raise ValueError(
                f"{expected} for a network that is not a chain of linear layers, tanh and ReLU, got "
                f"{(self.count if live else self.objectives)!r} for {network!r}"
            )

    def expected_individuals(self, x: ArrayLike, *, center: ArrayLike | None, stdev: float) -> NDArray[np.float64]:
        """For each individual, the expected scores given its mask. ``algorithms.Continuation`` learns from these.

        Args:
            x: ``(N, D + 1)`` individuals with one density, whose scores are drawn from ``center + stdev * N(0, I)``.
            center: ``(D + 1,)``; its density is ignored. None means that scores were drawn around 0.
            stdev: Standard deviation of the noise.

        Returns:
            ``(N, D + 1)``.

        Raises:
            TypeError: An argument does not consist of real numbers.
            ValueError: An argument has the wrong shape, a value is NaN, a density is out of bounds, the individuals'
                densities differ, or ``stdev`` is not positive.
        """
        stdev = check_real("stdev", stdev, above=0.0)
        values = self._checked("x", x)
        if len(values) == 0:
            return values.numpy()
        if bool((values[:, -1] != values[0, -1]).any()):
            raise ValueError(f"x: expected individuals with one density, got log2 densities {values[:, -1].tolist()}")
        scores, around = self._scores(values), torch.zeros(len(values[0]) - 1, device=self.masked.device)
        if center is not None:
            around = self._scores(self._checked_one("center", center))[0]
        expected = expected_given_mask(
            self._rule_at(values[0]), self.masked.network.layers, scores, center=around, stdev=stdev
        )
        return np.column_stack([torch.stack([*expected]).cpu().numpy(), values[:, -1].numpy()])

    def confined(self, center: ArrayLike) -> NDArray[np.float64]:
        """An individual with the mask of ``center``, near enough to the cutoff for noise to flip bits.

        See ``MaskedGymProblem.confined``.

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.

        Raises:
            TypeError: The individual does not consist of real numbers.
            ValueError: ``center`` has the wrong shape, a value is NaN, or the density is out of bounds.
        """
        values = self._checked_one("center", center)
        rule, layers = self._rule_at(values[0]), self.masked.network.layers
        return self._individual(
            near_cutoff(rule, layers, self._scores(values)[0], reach=self.masked.score_stdev / 2), values[0]
        )

    def narrowed(self, center: ArrayLike) -> NDArray[np.float64]:
        """An individual like ``center``, but noise around it keeps only weights that can affect an output.

        In a sparse mask, most weights that noise would newly keep connect units that nothing else reaches. Units in use
        are the inputs, the outputs, and the units that are live in the mask that the same scores give at four times
        the density. Weights to or from other units get scores far below those of kept weights; the best of the
        remaining weights are kept in their place. A scope of the rule (all weights, or a layer) in which too few
        weights would remain does not change. Neither does a network that is not a chain of linear layers, tanh and
        ReLU.

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.

        Raises:
            TypeError: The individual does not consist of real numbers.
            ValueError: ``center`` has the wrong shape, a value is NaN, or the density is out of bounds.
        """
        values = self._checked_one("center", center)
        scores = without_unused(
            self._rule_at(values[0]), self.masked.network, self._scores(values)[0], stdev=self.masked.score_stdev
        )
        return self._individual(scores, values[0])

    def _individual(self, scores: Tensor, like: Tensor) -> NDArray[np.float64]:
        """Combine scores ``(D,)`` with the density of the individual ``like``."""
        return np.append(scores.cpu().numpy().astype(np.float64), like[-1].item())

    def _checked_one(self, name: str, x: ArrayLike | Tensor) -> Tensor:
        """Check one individual ``(D + 1,)`` and return it as ``(1, D + 1)`` float64.

        Raises:
            TypeError: The individual does not consist of real numbers.
            ValueError: The individual has the wrong shape, a value is NaN, or the density is out of bounds.
        """
        values = check_numbers(name, x, dtype=torch.float64)
        if values.shape != (self.n_var,):
            raise ValueError(f"{name}: expected shape (D + 1,) = ({self.n_var},), got {tuple(values.shape)}")
        return self._checked(name, values[None])

    def _scores(self, values: Tensor) -> Tensor:
        """The scores ``(N, D)`` float32 of individuals, on the masked problem's device."""
        return values[:, :-1].float().to(self.masked.device)

    def _rule_at(self, individual: Tensor) -> TopK:
        """The rule at the density of one individual ``(D + 1,)``."""
        rule = self.masked.mask_rule
        assert isinstance(rule, TopK)
        return rule.at(_sparsity(individual[None])[0])

    def to_subnetwork(self, x: ArrayLike) -> Subnetwork:
        """One individual ``(D + 1,)`` as a ``Subnetwork``. With ``count="live"``, it is pruned.

        Raises:
            TypeError: The individual does not consist of real numbers.
            ValueError: ``x`` has the wrong shape, a value is NaN, or the density is out of bounds.
        """
        subnet = self.masked.mask_to_subnetwork(self.mask(self._checked_one("x", x))[0])
        return subnet if self.count == "kept" else subnet.prune()


def _sparsity(values: Tensor) -> list[float]:
    """The sparsity of each of ``(N, D + 1)`` individuals."""
    result: list[float] = (1.0 - torch.exp2(values[:, -1])).clamp(min=0.0).tolist()
    return result


def _check_objectives(objectives: Any) -> tuple[str, ...]:
    """Check the names of further objectives and return them.

    Raises:
        TypeError: ``objectives`` is not a list or tuple of strings.
        ValueError: A name is unknown or occurs twice.
    """
    if not isinstance(objectives, list | tuple):
        raise TypeError(f"objectives: expected a tuple of names from {list(_FURTHER)}, got {objectives!r}")
    names = tuple(check_choice(f"objectives[{i}]", name, _FURTHER) for i, name in enumerate(objectives))
    if len(set(names)) < len(names):
        raise ValueError(f"objectives: expected each name once, got {objectives!r}")
    return names
