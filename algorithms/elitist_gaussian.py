"""ElitistGaussianResampling: the paper's search, as an EvoTorch SearchAlgorithm for any real-valued problem."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from evotorch import Problem, SolutionBatch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm, SinglePopulationAlgorithmMixin
from torch import Tensor

from ._checks import check_positive, check_whole_number


class ElitistGaussianResampling(SearchAlgorithm, SinglePopulationAlgorithmMixin):
    """Keep the best, and draw the next population around them (paper, section 4.1).

    Of N solutions the K best are elites. Each child is an elite, drawn uniformly, plus Gaussian noise:
    ``child_n = elite_j + stdev * N(0, I)`` (eq. 1). Elites are not cloned into the next population, as in the paper,
    unless ``clone_elites`` is set; cloned ones are evaluated again, since fitness is noisy.

    Example:
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(32,), seed=0)
        >>> searcher = ElitistGaussianResampling(problem, popsize=32, num_elites=3, stdev=0.05)
        >>> searcher.run(3)

    Args:
        problem: Any EvoTorch problem with real-valued solutions, minimised or maximised.
        popsize: N. The paper found 32 to 64 best.
        num_elites: K. The paper found fewer than 6 best.
        stdev: Standard deviation of the noise, in the units of the solutions. The paper found 0.01 to 0.2 best.
        clone_elites: Whether the elites are the first K of the next population.
        recombination: ``"uniform"`` is the paper's draw. ``"weighted"`` starts every child from one point, the mean
            of the elites weighted by log(K + 1/2) - log(rank), as the (mu/mu_w, lambda) evolution strategy does
            (Hansen 2016, eq. 49); with many elites and single episodes it needs far fewer steps. The status then
            has ``center``, the point that the next children start from: the best that the search has to offer.
        obj_index: Which objective decides, for problems with several.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range, there are more elites than solutions, or the problem is bounded, not
            real-valued, or has several objectives and ``obj_index`` is None.
    """

    _popsize: int
    _num_elites: int
    _stdev: float
    _clone_elites: bool
    _recombination: str
    _obj_index: int

    def __init__(
        self,
        problem: Problem,
        *,
        popsize: int = 32,
        num_elites: int = 3,
        stdev: float = 0.05,
        clone_elites: bool = False,
        recombination: str = "uniform",
        obj_index: int | None = None,
    ) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem: expected an evotorch.Problem, got {problem!r}")
        if not isinstance(problem.dtype, torch.dtype) or not problem.dtype.is_floating_point:
            raise ValueError(f"problem: expected real-valued solutions, got dtype {problem.dtype}")
        if problem.lower_bounds is not None or problem.upper_bounds is not None:
            raise ValueError("problem: expected one without strict bounds, which Gaussian noise would leave")
        self._popsize = check_whole_number("popsize", popsize)
        self._num_elites = check_whole_number("num_elites", num_elites, maximum=self._popsize)
        self._stdev = check_positive("stdev", stdev)
        if not isinstance(clone_elites, bool):
            raise TypeError(f"clone_elites: expected True or False, got {clone_elites!r}")
        if not isinstance(recombination, str) or recombination not in ("uniform", "weighted"):
            raise ValueError(f"recombination: expected 'uniform' or 'weighted', got {recombination!r}")
        num_objectives = len(problem.senses)
        if obj_index is None and num_objectives == 1:
            obj_index = 0
        whole = isinstance(obj_index, Integral) and not isinstance(obj_index, bool)
        if not whole or obj_index not in range(-num_objectives, num_objectives):
            raise ValueError(f"obj_index: expected a whole number from 0 to {num_objectives - 1}, got {obj_index!r}")
        self._obj_index = problem.normalize_obj_index(obj_index)
        self._clone_elites = clone_elites
        self._recombination = recombination
        SearchAlgorithm.__init__(self, problem)
        self._population: SolutionBatch = problem.generate_batch(self._popsize)
        SinglePopulationAlgorithmMixin.__init__(self)
        if recombination == "weighted":
            self.add_status_getters({"center": self._get_center})

    @property
    def population(self) -> SolutionBatch:
        """The population that was evaluated last (or the initial one)."""
        return self._population

    @property
    def obj_index(self) -> int:
        """The objective that decides."""
        return self._obj_index

    def _step(self) -> None:
        """Evaluate the initial population at the first step, and at each later one a population of children.

        Should the evaluation fail, the population is what it was before, and the problem's own generator, if it has
        one, too: the step can be taken again.
        """
        generator = self.problem.generator
        state = None if generator is None else generator.get_state()
        try:
            population = self._population if self.step_count == 0 else self._resample()
            self.problem.evaluate(population)
        except BaseException:
            if generator is not None:
                generator.set_state(state)
            raise
        self._population = population

    def _get_center(self) -> Tensor:
        return self._center(self._elites())

    def _elites(self) -> Tensor:
        order = self._population.argsort(self._obj_index)
        elites: Tensor = self._population.values[order[: self._num_elites]].as_subclass(Tensor)
        return elites

    def _center(self, elites: Tensor) -> Tensor:
        """The elites' mean, weighted by log(K + 1/2) - log(rank)."""
        ranks = torch.arange(1, len(elites) + 1, dtype=elites.dtype, device=elites.device)
        weights = math.log(len(elites) + 0.5) - torch.log(ranks)
        return torch.matmul(weights / weights.sum(), elites)

    def _resample(self) -> SolutionBatch:
        elites = self._elites()
        num_cloned = self._num_elites if self._clone_elites else 0
        children = SolutionBatch(self.problem, self._popsize, device=self._population.device, empty=True)
        values = children.access_values()
        values.normal_(0.0, self._stdev, generator=self.problem.generator)  # stdev * N(0, I), eq. 1
        if self._recombination == "uniform":
            parents = self.problem.make_randint(self._popsize, n=self._num_elites, device=values.device)
            for child, parent in enumerate(parents.tolist()):  # row by row: no second (N, D) tensor
                values[child] += elites[parent]  # eq. 1
        else:
            values += self._center(elites)
        values[:num_cloned] = elites[:num_cloned]
        return children
