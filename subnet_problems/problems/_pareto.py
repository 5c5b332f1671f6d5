"""ParetoSparsityProblem: the pymoo problem that trades reward against enforced sparsity."""

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
from ..masks._confined import near_level, without_unused
from ..masks._expectation import expected_given_mask
from ..masks._live import chain_layers, is_chain, live_units, live_weights
from ..masks._top_k import TopK, num_kept_at
from ..subnetworks._subnetwork import Subnetwork
from ._masked import MaskedGymProblem

#: What may be minimized beside the negative mean return and the density.
_FURTHER = ("live_units", "return_stdev")


class ParetoSparsityProblem(Problem):
    """Two objectives or more, all minimized: the negative mean return, the density of the mask, and others by name.

    The variables are the D scores and, last, log2 of the density that is enforced on this individual: exactly
    round(D density) weights are kept, those with the highest scores. (A step of the logarithm means the same at every
    density, so that half of a population does not live between 0.5 and 1.) Evaluation is that of the masked problem,
    on its actors if it has any: individuals that are evaluated together play the same episodes, and each evaluation
    has new ones. ``algorithms.pareto_algorithm`` makes the algorithms of pymoo that suit it.

    A kept weight that no input reaches, or that reaches no output, is dead: ``Subnetwork.prune`` removes it, and all
    outputs stay the same. With ``count="live"`` it costs nothing here either. What is enforced stays the number kept.

    Example:
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> from algorithms import pareto_operators
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = ParetoSparsityProblem(MaskedGymProblem("CartPole-v1", sparsity=0.5, seed=0))
        >>> result = minimize(problem, NSGA2(16, **pareto_operators(0.1)), ("n_gen", 3), seed=0)
        >>> subnet = problem.to_subnetwork(result.X[0])

    Args:
        problem: A masked problem whose mask rule is ``TopK``. Its sparsity is replaced by each individual's own; its
            scope and whether it rescales stay.
        count: Which weights the density counts, as a share of all D: ``"kept"``, those of the mask, or ``"live"``,
            those that ``Subnetwork.prune`` leaves of it.
        objectives: Further objectives by name, which follow the first two in this order. ``"live_units"`` is the number
            of hidden units that have a live input (or a bias) and a live output. ``"return_stdev"`` is the standard
            deviation of the returns of an individual's ``num_episodes`` episodes in an evaluation, in units of reward
            (divided by ``num_episodes``, as for ``risk_aversion``).
        min_sparsity: The least sparsity an individual may have, in [0, 1).
        max_sparsity: The greatest. Default 0.99, or where that keeps no weight, that of one weight.

    Attributes:
        masked: The masked problem.
        count: Which weights the density counts.
        objectives: The names of the further objectives.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The problem's rule is not ``TopK``, a sparsity is out of range, ``count`` or an objective is
            unknown, or an objective is named twice. Or the problem cannot serve them: what is live is known of chains
            of linear layers, tanh and ReLU alone, and returns have a spread where ``num_episodes`` is 2 or more.
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
            raise ValueError(f"max_sparsity: expected one that keeps a weight of {num_weights}, got {max_sparsity!r}")
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
        # Scores are ranked, so their bounds mean nothing; pymoo wants some, and these are never reached.
        xl, xu = np.full(num_weights + 1, -1e3), np.full(num_weights + 1, 1e3)
        xl[-1], xu[-1] = math.log2(1.0 - high), math.log2(1.0 - low)
        super().__init__(n_var=num_weights + 1, n_obj=2 + len(self.objectives), xl=xl, xu=xu)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """What the columns of ``F`` are: ``"negative_return"``, ``"density"`` or ``"live_density"``, and the others."""
        return ("negative_return", "density" if self.count == "kept" else "live_density", *self.objectives)

    @property
    def interaction_count(self) -> int:
        """Environment steps of all evaluations."""
        return self.masked.interaction_count

    def mask(self, x: ArrayLike | Tensor) -> Tensor:
        """Bits ``(N, D)`` of individuals ``(N, D + 1)``.

        Raises:
            TypeError: The individuals are not real numbers.
            ValueError: The shape is wrong, a value is NaN, or a density is out of bounds.
        """
        values = self._checked("x", x)
        rule = self.masked.mask_rule
        assert isinstance(rule, TopK)
        return rule(self._scores(values), self.masked.network.layers, sparsity=_sparsity(values))

    def _checked(self, name: str, x: ArrayLike | Tensor) -> Tensor:
        """Individuals ``(N, D + 1)``, float64.

        Raises:
            TypeError: They are not real numbers.
            ValueError: The shape is wrong, a value is NaN, or a density is out of bounds.
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
                with np.errstate(over="ignore"):  # an infinite spread is the worst there is
                    columns.append(self.masked.last_returns.std(axis=1))
        out["F"] = np.column_stack(columns)

    @property
    def _looks_at_layers(self) -> bool:
        return self.count == "live" or "live_units" in self.objectives

    def _check_chain(self) -> None:
        """Raises ``ValueError`` where it is not known what is live."""
        network = self.masked.network
        if not is_chain(network):
            live = self.count == "live"
            expected = "count: expected 'kept'" if live else "objectives: expected no 'live_units'"
            raise ValueError(
                f"{expected} for a network that is no chain of linear layers, tanh and ReLU, got "
                f"{(self.count if live else self.objectives)!r} for {network!r}"
            )

    def expected_individuals(self, x: ArrayLike, *, center: ArrayLike | None, stdev: float) -> NDArray[np.float64]:
        """For each individual the expectation of all that have its mask: what ``algorithms.Continuation`` learns from.

        Args:
            x: ``(N, D + 1)`` individuals at one density, drawn from ``center + stdev * N(0, I)``.
            center: ``(D + 1,)``, whose own density has no meaning; or None, where they were drawn around 0.
            stdev: Standard deviation of the noise.

        Returns:
            ``(N, D + 1)``.

        Raises:
            TypeError: An argument is not made of real numbers.
            ValueError: A shape is wrong, a value is NaN, a density is out of bounds, the individuals have several, or
                ``stdev`` is not positive.
        """
        stdev = check_real("stdev", stdev, above=0.0)
        values = self._checked("x", x)
        if len(values) == 0:
            return values.numpy()
        if bool((values[:, -1] != values[0, -1]).any()):
            raise ValueError(f"x: expected individuals at one density, got log2 densities {values[:, -1].tolist()}")
        scores, around = self._scores(values), torch.zeros(len(values[0]) - 1, device=self.masked.device)
        if center is not None:
            around = self._scores(self._checked_one("center", center))[0]
        expected = expected_given_mask(
            self._rule_at(values[0]), self.masked.network.layers, scores, center=around, stdev=stdev
        )
        return np.column_stack([expected.cpu().numpy(), values[:, -1].numpy()])

    def confined(self, center: ArrayLike) -> NDArray[np.float64]:
        """An individual with the mask of ``center`` around which noise changes masks, as ``MaskedGymProblem.confined``.

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.

        Raises:
            TypeError: The individual is not made of real numbers.
            ValueError: The shape is wrong, a value is NaN, or the density is out of bounds.
        """
        values = self._checked_one("center", center)
        rule, layers = self._rule_at(values[0]), self.masked.network.layers
        return self._individual(
            near_level(rule, layers, self._scores(values)[0], reach=self.masked.score_stdev / 2), values[0]
        )

    def narrowed(self, center: ArrayLike) -> NDArray[np.float64]:
        """An individual like ``center``, around which noise changes only weights that may do something.

        Of a sparse mask most weights that noise would keep are between units that nothing else reaches. In use are
        inputs, outputs, and the units that are live in a mask of the same scores that keeps four times as many weights.
        All weights that are not between these get scores far below those that are kept; the places of those that were
        kept go to the best of the others. (A layer that would then have too few stays as it is, and so does a network
        that is no chain of linear layers, tanh and ReLU.)

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.

        Raises:
            TypeError: The individual is not made of real numbers.
            ValueError: The shape is wrong, a value is NaN, or the density is out of bounds.
        """
        values = self._checked_one("center", center)
        scores = without_unused(
            self._rule_at(values[0]), self.masked.network, self._scores(values)[0], stdev=self.masked.score_stdev
        )
        return self._individual(scores, values[0])

    def _individual(self, scores: Tensor, like: Tensor) -> NDArray[np.float64]:
        """Scores ``(D,)`` with the density of another individual."""
        return np.append(scores.cpu().numpy().astype(np.float64), like[-1].item())

    def _checked_one(self, name: str, x: ArrayLike | Tensor) -> Tensor:
        """One individual ``(D + 1,)`` as ``(1, D + 1)``, float64.

        Raises:
            TypeError: The individual is not made of real numbers.
            ValueError: Its shape is wrong, a value is NaN, or the density is out of bounds.
        """
        values = check_numbers(name, x, dtype=torch.float64)
        if values.shape != (self.n_var,):
            raise ValueError(f"{name}: expected shape (D + 1,) = ({self.n_var},), got {tuple(values.shape)}")
        return self._checked(name, values[None])

    def _scores(self, values: Tensor) -> Tensor:
        """The scores ``(N, D)`` of individuals, float32, where the masked problem computes."""
        return values[:, :-1].float().to(self.masked.device)

    def _rule_at(self, individual: Tensor) -> TopK:
        """The rule at the density of one individual ``(D + 1,)``."""
        rule = self.masked.mask_rule
        assert isinstance(rule, TopK)
        return rule.at(_sparsity(individual[None])[0])

    def to_subnetwork(self, x: ArrayLike) -> Subnetwork:
        """One individual ``(D + 1,)`` as a ``Subnetwork``; without its dead weights, where these are not counted.

        Raises:
            TypeError: The individual is not made of real numbers.
            ValueError: Its shape is wrong, a value is NaN, or the density is out of bounds.
        """
        subnet = self.masked.mask_to_subnetwork(self.mask(self._checked_one("x", x))[0])
        return subnet if self.count == "kept" else subnet.prune()


def _sparsity(values: Tensor) -> list[float]:
    """The sparsity that each of ``(N, D + 1)`` individuals has."""
    result: list[float] = (1.0 - torch.exp2(values[:, -1])).clamp(min=0.0).tolist()
    return result


def _check_objectives(objectives: Any) -> tuple[str, ...]:
    """Return the names of further objectives.

    Raises:
        TypeError: They are not a sequence of strings.
        ValueError: One is unknown, or named twice.
    """
    if not isinstance(objectives, list | tuple):
        raise TypeError(f"objectives: expected a tuple of names of {list(_FURTHER)}, got {objectives!r}")
    names = tuple(check_choice(f"objectives[{i}]", name, _FURTHER) for i, name in enumerate(objectives))
    if len(set(names)) < len(names):
        raise ValueError(f"objectives: expected each name once, got {objectives!r}")
    return names
