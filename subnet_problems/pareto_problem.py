"""ParetoSparsityProblem: the pymoo problem that trades reward against enforced sparsity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pymoo.core.problem import Problem
from torch import Tensor

from ._checks import check_matrix, check_numbers, check_sparsity
from .gym_problem import MaskedGymProblem
from .masks import TopK
from .subnetwork import Subnetwork


class ParetoSparsityProblem(Problem):
    """Two objectives, both minimised: the negative mean return, and the density of the mask.

    The variables are the D scores and, last, log2 of the density that is enforced on this individual: exactly
    round(D density) weights are kept, those with the highest scores. (A step of the logarithm means the same at every
    density, so that half of a population does not live between 0.5 and 1.) Evaluation is that of the masked problem,
    on its actors if it has any: individuals that are evaluated together play the same episodes, and each evaluation
    has new ones. ``algorithms.pareto_algorithm`` makes the algorithms of pymoo that suit it.

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
        min_sparsity: The least sparsity an individual may have, in [0, 1).
        max_sparsity: The greatest.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The problem's rule is not ``TopK``, or a sparsity is out of range.
    """

    def __init__(self, problem: MaskedGymProblem, *, min_sparsity: float = 0.0, max_sparsity: float = 0.99) -> None:
        if not isinstance(problem, MaskedGymProblem):
            raise TypeError(f"problem: expected a MaskedGymProblem, got {problem!r}")
        if not isinstance(problem.mask_rule, TopK):
            raise ValueError(f"problem: expected one with mask=TopK(...) or sparsity=..., got {problem.mask_rule!r}")
        low = check_sparsity("min_sparsity", min_sparsity)
        high = check_sparsity("max_sparsity", max_sparsity)
        if low > high:
            raise ValueError(f"min_sparsity: expected at most max_sparsity = {high}, got {low}")
        self.masked = problem
        num_weights = problem.network.num_weights
        # Scores are ranked, so their bounds mean nothing; pymoo wants some, and these are never reached.
        xl, xu = np.full(num_weights + 1, -1e3), np.full(num_weights + 1, 1e3)
        xl[-1], xu[-1] = math.log2(1.0 - high), math.log2(1.0 - low)
        super().__init__(n_var=num_weights + 1, n_obj=2, xl=xl, xu=xu)

    @property
    def interaction_count(self) -> int:
        """Environment steps of all evaluations."""
        return self.masked.interaction_count

    def mask(self, x: ArrayLike | Tensor) -> Tensor:
        """Bits ``(N, D)`` of individuals ``(N, D + 1)``.

        Raises:
            TypeError: The individuals are not real numbers.
            ValueError: The shape is another, a value is NaN, or a density is out of bounds.
        """
        values = check_numbers("x", x, dtype=torch.float64)
        if values.ndim != 2 or values.shape[1] != self.n_var:
            raise ValueError(f"x: expected shape (N, D + 1) = (N, {self.n_var}), got {tuple(values.shape)}")
        levels = check_matrix("x", values, self.n_var)[:, -1]
        outside = (levels < self.xl[-1] - 1e-9) | (levels > self.xu[-1] + 1e-9)
        if bool(outside.any()):
            row = int(torch.nonzero(outside)[0])
            raise ValueError(
                f"x: expected log2 densities in [{self.xl[-1]:g}, {self.xu[-1]:g}], got {levels[row]:g} in row {row}"
            )
        rule = self.masked.mask_rule
        assert isinstance(rule, TopK)
        scores = values[:, :-1].float().to(self.masked.device)
        sparsity = (1.0 - torch.exp2(levels)).clamp(min=0.0).tolist()
        return rule(scores, self.masked.network.layers, sparsity=sparsity)

    def _evaluate(self, x: NDArray[np.float64], out: dict[str, Any], *_: Any, **__: Any) -> None:
        mask = self.mask(x)
        fitness = self.masked._evaluate_payload(mask)
        if bool(torch.isnan(fitness).any()):
            row = int(torch.nonzero(torch.isnan(fitness))[0])
            raise ValueError(f"problem: expected a fitness for each individual, got NaN for individual {row}")
        density = mask.float().mean(dim=1).cpu().numpy()
        out["F"] = np.column_stack([-fitness.cpu().numpy().astype(np.float64), density])

    def to_subnetwork(self, x: ArrayLike) -> Subnetwork:
        """One individual ``(D + 1,)`` as a ``Subnetwork``.

        Raises:
            TypeError: The individual is not made of real numbers.
            ValueError: Its shape is another, a value is NaN, or the density is out of bounds.
        """
        values = check_numbers("x", x, dtype=torch.float64)
        if values.shape != (self.n_var,):
            raise ValueError(f"x: expected shape (D + 1,) = ({self.n_var},), got {tuple(values.shape)}")
        return self.masked.mask_to_subnetwork(self.mask(values[None])[0])
