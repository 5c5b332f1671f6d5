"""ElitistGaussianResampling: the paper's search, as an EvoTorch SearchAlgorithm for any real-valued problem."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Self

import torch
from evotorch import Problem, SolutionBatch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm, SinglePopulationAlgorithmMixin
from torch import Tensor

from ._candidates import Candidate, judged
from ._center import FIRST_GENERATIONS, GENERATIONS, REPULSION, moved, weighted_mean
from ._checks import check_bool, check_positive, check_whole_number
from ._decoding import DecodingProblem, LeveledDecodingProblem
from ._fitness import evaluate
from ._noise import fill_normal


class ElitistGaussianResampling(SearchAlgorithm, SinglePopulationAlgorithmMixin):
    """Draw each population around the best of the last one (paper, section 4.1).

    The K best of N solutions are the elites. ``ElitistGaussianResampling.paper(problem)`` is the paper's own search:
    each child is a uniformly drawn elite plus Gaussian noise, ``child_n = elite_j + stdev * N(0, I)`` (eq. 1).

    The default is ``recombination="expected"``, with single episodes: all children are drawn around one center ``m``,
    which moves towards the elites and, by a smaller step, away from the K worst:
    ``m += 2 (sum_i w_i (E[x_i] - m) - 0.3 sum_i w_i (E[x_(n+1-i)] - m))``, where ``x_i`` is the child of rank ``i`` of
    the n children (the population without its candidates), the sums are over i = 1 to K, and the weights ``w_i`` sum to
    1 and are proportional to log(K + 1/2) - log(i) (the weights of the (mu/mu_w, lambda) evolution strategy, Hansen
    2016, eq. 49).

    ``E[x_i]`` is the expectation of all solutions with the phenotype of child ``i``. A problem that decodes genotypes
    into something coarser, such as scores into bits, maps many of them to the same policy. Which of these was drawn is
    noise that is unrelated to fitness. Such a problem (``DecodingProblem``) computes the expectation, which removes
    this noise from the step and keeps its direction (Rao-Blackwell). For other problems ``E[x_i]`` is ``x_i``.
    ``recombination="weighted"`` uses ``x_i`` in place of ``E[x_i]``, and a factor of 1 in place of 2.

    A score far from the threshold of its decoding hardly ever changes its bit again. Without correction, ``m`` drifts
    outwards until all children have the same phenotype. So after every step a ``DecodingProblem`` moves ``m`` back
    (``confined``), to where it has the same phenotype but its children differ.

    A single ``m`` follows the noise of the last few episodes. So after every generation the mean of all ``m`` so far
    becomes a candidate. Later ``m`` weigh more (polynomial-decay averaging, Shamir and Zhang 2013, with eta = 3: about
    the last quarter of the generations counts). One eighth of each population are candidates, which are evaluated again
    in every generation; if there are more, the least promising one is dropped. The search returns
    ``status["center"]``: the candidate with the highest lower confidence bound, mean - stdev / sqrt(n) of its n
    evaluations.

    Fitness may be infinite: infinitely bad solutions rank below all others, infinitely good ones above. A candidate
    with an infinitely bad evaluation ranks below all candidates without one. NaN is an error.

    All settings can be read (``searcher.popsize``); only ``stdev`` can be set.

    Example:
        >>> from subnet_problems import MaskedGymProblem
        >>> problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(32,), seed=0)
        >>> searcher = ElitistGaussianResampling(problem)
        >>> searcher.run(3)
        >>> subnet = problem.to_subnetwork(searcher.status["center"])

    Args:
        problem: Any EvoTorch problem with real-valued solutions, minimized or maximized.
        popsize: N. The paper found 32 to 64 best. Default: 64.
        num_elites: K, at most the number of children (all solutions that are neither candidates nor clones). The paper,
            which draws single elites, found fewer than 6 best. Default: a quarter of the population.
        stdev: Standard deviation of the noise, in the units of the solutions. The paper found 0.01 to 0.2 best.
            It can be changed between generations: ``searcher.stdev = 0.01``. Default: 0.05.
        clone_elites: Whether the elites are the first K of the next population. They are evaluated again, since fitness
            is noisy. The paper does not clone. Only for ``recombination="uniform"``: a center learns from children that
            were drawn around it, and clones were not drawn but selected. They would pull the center back even if
            fitness carries no information, and ``E[x_i]`` does not hold for them. Default: False.
        recombination: ``"expected"``, ``"weighted"`` or ``"uniform"``, see above. Default: ``"expected"``.
        continuation: Whether a problem with levels is searched through them: 25 generations at the first level, and 3
            at each later one. Levels are those of a ``LeveledDecodingProblem``, such as a ``MaskedGymProblem`` whose
            random masks connect little (see its ``num_levels``). Until the last level, evaluations and
            ``status["center"]`` belong to easier levels, and the status has no ``best``. Only for
            ``recombination="expected"``. Default: True.
        obj_index: Index of the objective that decides. Required if the problem has several.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range, there are more elites than children, ``clone_elites`` is True without
            ``recombination="uniform"``, or the problem is bounded, not real-valued, or has several objectives and
            ``obj_index`` is None. At a step: a solution's fitness is NaN.
    """

    _eta = 3  # of polynomial-decay averaging
    _popsize: int
    _num_elites: int
    _stdev: float
    _clone_elites: bool
    _recombination: str
    _continuation: bool
    _obj_index: int

    def __init__(
        self,
        problem: Problem,
        *,
        popsize: int = 64,
        num_elites: int | None = None,
        stdev: float = 0.05,
        clone_elites: bool = False,
        recombination: str = "expected",
        continuation: bool = True,
        obj_index: int | None = None,
    ) -> None:
        if not isinstance(problem, Problem):
            raise TypeError(f"problem: expected an evotorch.Problem, got {problem!r}")
        if not isinstance(problem.dtype, torch.dtype) or not problem.dtype.is_floating_point:
            raise ValueError(f"problem: expected real-valued solutions, got dtype {problem.dtype}")
        if problem.lower_bounds is not None or problem.upper_bounds is not None:
            raise ValueError("problem: expected no strict bounds, since Gaussian noise would leave them, got bounds")
        self._popsize = check_whole_number("popsize", popsize)
        self._stdev = check_positive("stdev", stdev, dtype=problem.dtype)
        if not isinstance(recombination, str) or recombination not in ("expected", "weighted", "uniform"):
            raise ValueError(f"recombination: expected 'expected', 'weighted' or 'uniform', got {recombination!r}")
        self._clone_elites = check_bool("clone_elites", clone_elites)
        if self._clone_elites and recombination != "uniform":
            raise ValueError(
                f"clone_elites: expected False with recombination={recombination!r}, whose center learns only from "
                "children drawn around it, got True"
            )
        if self._clone_elites and self._popsize == 1:
            raise ValueError("clone_elites: expected False with popsize=1, which leaves no children, got True")
        if num_elites is None:
            num_elites = max(1, self._popsize // 4)
        num_children = self._popsize - (0 if recombination == "uniform" else self._popsize // 8) - self._clone_elites
        self._num_elites = check_whole_number("num_elites", num_elites, maximum=num_children)
        num_objectives = len(problem.senses)
        if obj_index is None and num_objectives == 1:
            obj_index = 0
        whole = isinstance(obj_index, Integral) and not isinstance(obj_index, bool)
        if not whole or obj_index not in range(-num_objectives, num_objectives):
            raise ValueError(f"obj_index: expected a whole number from 0 to {num_objectives - 1}, got {obj_index!r}")
        self._obj_index = problem.normalize_obj_index(obj_index)
        self._recombination = recombination
        self._continuation = check_bool("continuation", continuation) and recombination == "expected"
        self._center: Tensor | None = None
        self._average: Tensor | None = None  # of the last ``_num_averaged`` centers
        self._num_averaged = 0
        self._candidates: list[Candidate] = []
        self._handed_out: Tensor | None = None
        self._num_children = self._popsize  # rows of the population that are not candidates
        self._level, self._left = 0, FIRST_GENERATIONS  # index of the level, and generations until the next level
        SearchAlgorithm.__init__(self, problem)
        self._population: SolutionBatch = problem.generate_batch(self._popsize)
        SinglePopulationAlgorithmMixin.__init__(self)
        self.add_status_getters({"center": self._get_center})

    @classmethod
    def paper(cls, problem: Problem, *, popsize: int = 32, num_elites: int = 3, stdev: float = 0.05) -> Self:
        """The paper's own search (section 4.1): each child is a random elite plus Gaussian noise (eq. 1).

        The paper evaluates each solution in 3 to 10 episodes: give the problem ``num_episodes=3``.

        Args:
            problem: Any EvoTorch problem with real-valued solutions.
            popsize: N. Default: 32.
            num_elites: K. Default: 3.
            stdev: Standard deviation of the noise. Default: 0.05.
        """
        return cls(problem, popsize=popsize, num_elites=num_elites, stdev=stdev, recombination="uniform")

    @property
    def population(self) -> SolutionBatch:
        """The last evaluated population, or the initial one; its last rows are the candidates."""
        return self._population

    @property
    def popsize(self) -> int:
        """N, the number of solutions of a population."""
        return self._popsize

    @property
    def num_elites(self) -> int:
        """K, the number of elites."""
        return self._num_elites

    @property
    def clone_elites(self) -> bool:
        """Whether the elites are the first of the next population."""
        return self._clone_elites

    @property
    def recombination(self) -> str:
        """``"expected"``, ``"weighted"`` or ``"uniform"``."""
        return self._recombination

    @property
    def continuation(self) -> bool:
        """Whether a problem with levels is searched through them."""
        return self._continuation

    @property
    def level(self) -> int:
        """Index of the level of the last generation; 0 for a problem without levels."""
        return self._level

    @property
    def last_level_from(self) -> int:
        """The first generation at the last level, which is the problem itself; 1 for a problem without levels."""
        problem = self.problem
        if not self._continuation or not isinstance(problem, LeveledDecodingProblem) or problem.num_levels == 1:
            return 1
        return 1 + FIRST_GENERATIONS + GENERATIONS * (problem.num_levels - 2)

    @property
    def stdev(self) -> float:
        """Standard deviation of the noise.

        Setting it starts a new average of ``m`` and drops the candidates: their evaluations belong to a different step
        size, and to a different fitness if the problem's ``episode_length`` is changed too.
        """
        return self._stdev

    @stdev.setter
    def stdev(self, stdev: float) -> None:
        self._stdev = check_positive("stdev", stdev, dtype=self.problem.dtype)
        self._candidates = []
        self._average, self._num_averaged = None, 0

    @property
    def obj_index(self) -> int:
        """Index of the objective that decides."""
        return self._obj_index

    def clear_status(self) -> None:
        """Do nothing: each step replaces the status, and a step that fails keeps the old one."""

    def _step(self) -> None:
        """Evaluate the initial population at the first step, and a population of children at each later step.

        If that fails, the search and the problem's own generator (if it has one) return to their state before the step,
        so that the step can be repeated.
        """
        with self._at_level():
            self._step_there()

    def _step_there(self) -> None:
        generator = self.problem.generator
        state = None if generator is None else generator.get_state()
        num_children, center, average, handed_out = self._popsize - len(self._candidates), None, None, None
        candidates: list[Candidate] = []
        try:
            population = self._population if self.step_count == 0 else self._resample()
            evaluate(self.problem, population, obj_index=self._obj_index)
            if self._recombination != "uniform":
                center = self._moved_center(population, num_children)
                average = self._moved_average(center)
                candidates, handed_out = self._judged(population, num_children, average)
        except BaseException:
            if generator is not None:
                generator.set_state(state)
            if self.step_count == 0:
                self._population.forget_evals()
            raise
        super().clear_status()
        # Plain assignments, without calls between them, so that Ctrl-C cannot leave only some of them done.
        self._population, self._num_children = population, num_children
        self._center, self._average, self._num_averaged = center, average, self._num_averaged + 1
        self._candidates, self._handed_out = candidates, handed_out
        self._left -= 1

    def _at_level(self) -> AbstractContextManager[None]:
        """The context in which a generation is evaluated; a new level drops the candidates and starts a new average."""
        problem = self.problem
        if not self._continuation or not isinstance(problem, LeveledDecodingProblem):
            return nullcontext()
        if self._left <= 0 and self._level + 1 < problem.num_levels:
            with problem.at_level(self._level + 1):
                assert self._center is not None
                center = problem.confined(problem.narrowed(self._center))
            self._level, self._left, self._center = self._level + 1, GENERATIONS, center
            self._candidates, self._average, self._num_averaged = [], None, 0
        return problem.at_level(self._level)

    def _get_center(self) -> Tensor | None:
        """The returned solution; without a center, the best solution of the population."""
        if self._recombination != "uniform" or self.step_count == 0:
            return self._handed_out
        best = self._rank(self._population, self._num_children)[:1]
        values: Tensor = self._population.values[best][0].as_subclass(Tensor).clone()
        return values

    def _rank(self, population: SolutionBatch, num_children: int) -> Tensor:
        """Indices of the children, best first; candidates are left out."""
        order: Tensor = population.argsort(self._obj_index)
        return order[order < num_children]

    def _moved_center(self, population: SolutionBatch, num_children: int) -> Tensor:
        children = population.values[:num_children].as_subclass(Tensor)
        ranked = self._rank(population, num_children).tolist()
        before = self._center
        if self._recombination != "expected":
            towards = weighted_mean(children, ranked[: self._num_elites])
            away = weighted_mean(children, ranked[::-1][: self._num_elites])
            weighted: Tensor = towards if before is None else towards - REPULSION * (away - before)
            return weighted
        decoding = self.problem if isinstance(self.problem, DecodingProblem) else None
        values: Tensor | Sequence[Tensor] = children
        if decoding is not None:
            values = decoding.expected_solutions(children, center=before, stdev=self._stdev)
        if before is None:
            matrix = children
            if decoding is not None:
                matrix = torch.empty_like(children)
                for i in range(num_children):  # rows may be computed when they are read: no second copy
                    matrix[i] = values[i]
            before = matrix.mean(dim=0)
        center = moved(values, ranked, self._num_elites, before=before)
        return center if decoding is None else decoding.confined(center)

    def _moved_average(self, center: Tensor) -> Tensor:
        if self._average is None:
            return center
        share = (self._eta + 1) / (self._num_averaged + 1 + self._eta)
        return (1 - share) * self._average + share * center

    def _judged(self, population: SolutionBatch, num_children: int, average: Tensor) -> tuple[list[Candidate], Tensor]:
        """The next population's candidates, including the new average, and the solution to return until then."""
        sign = 1.0 if self.problem.senses[self._obj_index] == "max" else -1.0
        evals = (sign * population.evals[:, self._obj_index]).tolist()
        room, candidates, handed_out = self._popsize // 8, self._candidates, average
        if candidates:
            candidates, best = judged(candidates, evals[num_children:], evals[:num_children], room=room)
            handed_out = best.values
        return [*candidates, Candidate(average)] if room else [], handed_out

    def _resample(self) -> SolutionBatch:
        children = SolutionBatch(self.problem, self._popsize, device=self._population.device, empty=True)
        values = children.access_values()
        fill_normal(values, self._stdev, center=self._center, generator=self.problem.generator)  # eq. 1
        if self._center is None:
            order = self._rank(self._population, self._num_children)
            elites = self._population.values[order[: self._num_elites]].as_subclass(Tensor)
            parents = self.problem.make_randint(self._popsize, n=self._num_elites, device=values.device)
            for child, parent in enumerate(parents.tolist()):  # row by row: no second (N, D) tensor
                values[child] += elites[parent]  # eq. 1
            if self._clone_elites:
                values[: len(elites)] = elites
        for row, candidate in enumerate(self._candidates, self._popsize - len(self._candidates)):
            values[row] = candidate.values
        return children
