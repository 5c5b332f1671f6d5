"""Continuation: a pymoo algorithm that moves one center along a front, from its easy end to its hard end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from ._candidates import hope, surest
from ._center import FIRST_GENERATIONS, GENERATIONS, moved
from ._checks import check_positive, check_vector, check_whole_number
from ._continuation_checks import (
    check_center,
    check_descending,
    check_evaluated,
    check_levels,
    check_names,
    check_problem,
)
from ._continuation_output import ContinuationOutput
from ._decoding import LeveledProblem
from ._fitness import pooled_stdev
from ._member import Member
from ._pareto import last_bounds
from ._reevaluation import without_infinities

Floats = NDArray[np.float64]

#: Weight of the newest center in the average of centers.
_NEWEST = 1 / 6
#: Maximum number of candidates of a level.
_ROOM = 16


class Continuation(Algorithm):
    """Move one center along a front, from its easy end to its hard end; the level is the last variable.

    Members of a front are neighbors: a policy with 100 weights is a good warm start for one with 80. On LunarLander, a
    search for 80 weights without a warm start fails on nearly all seeds. So this algorithm solves the easy problem
    first, then lowers the level by a small step every few generations. This is numerical continuation, also known as
    the epsilon-constraint method with warm starts.

    Each level is searched as by ``ElitistGaussianResampling``: all children are drawn around one center, which moves
    towards the expectation of the best (for a ``LeveledProblem``) or towards the best themselves (for other problems).
    After each generation the average of the centers becomes a candidate of the current level. One eighth of each
    population, at least two individuals, are candidates that are evaluated again: those of the current level first,
    then the most promising ones of other levels. A level keeps all evaluations of its candidates. It returns the
    candidate whose first objective has the lowest upper confidence bound, mean + stdev / sqrt(n). The front (``opt``)
    consists of the candidates that the levels return and that are not dominated; dominance compares these bounds and
    the means of the other objectives.

    After the last level the search returns to the level with the costliest fall of the front, and descends again. The
    cost of a fall is its height times the number of levels from there on. The search starts there from the center of
    the level before. Each return to a level lowers its cost. This repeats until the termination.

    Infinite objectives are allowed; NaN is an error. A generation that fails, or that ``tell`` refuses, changes
    nothing: the next one has the same individuals. All individuals are within the problem's bounds.

    All settings can be read under the names of the arguments.

    Example:
        >>> from pymoo.optimize import minimize
        >>> from subnet_problems import MaskedGymProblem, ParetoSparsityProblem
        >>> masked = MaskedGymProblem("CartPole-v1", sparsity=0.5, seed=0, common_random_numbers=False)
        >>> problem = ParetoSparsityProblem(masked, min_sparsity=0.5)
        >>> result = minimize(problem, Continuation(16, num_levels=3), ("n_gen", 30), seed=0)
        >>> subnet = problem.to_subnetwork(result.X[0])

    Args:
        pop_size: N, the number of individuals evaluated per generation; at least 4. Default: 64.
        num_levels: Number of levels, spread evenly over the range of the last variable, from its upper bound down.
            Default: 20, or 1 if the bounds are equal.
        levels: The levels themselves, instead of ``num_levels``: descending values of the last variable.
        first_generations: Minimum number of generations at the first level; at least 2. Default: 25.
        first_interactions: Minimum number of interactions at the first level, as the problem's ``interaction_count``
            counts them. All later levels build on the first one, so give it a share of a large budget. Default: 0.
        generations: Number of generations at each later level, per visit; at least 2. A level, also the first, ends
            early if nothing better can be learned: if the level's returned candidate and all elites were as good as the
            best evaluation ever seen. Default: 3.
        stdev: Standard deviation of the noise on all variables but the last. Default: 0.05.
        initial_stdev: Standard deviation of the initial individuals around 0. Default: 0.1.
        num_elites: Number of best individuals, and of worst individuals, from which the center learns. Default: a
            quarter of the population.
        center: ``(D + 1,)``, an individual for a warm start; it becomes the first candidate, and its last variable is
            replaced by the first level. Default: None, initial individuals drawn around 0.
        **arguments: Arguments of every pymoo algorithm, such as ``termination``, ``callback``, ``display``, ``seed``.

    Attributes:
        levels: ``(L,)``, descending values of the last variable. All attributes listed here exist after ``setup``.
        level: The index of the current level.
        candidates: The candidates of each level, at most 16.
        opt: The front: a population whose ``F`` is the mean of all evaluations. Its data has ``num_evaluations`` and
            ``level``, the index of the level. Before any candidate is evaluated, it holds the best individual.

    Raises:
        TypeError: An argument has the wrong type or is unknown.
        ValueError: A number is out of range, levels do not descend, or both ``num_levels`` and ``levels`` are given.
    """

    def __init__(
        self,
        pop_size: int = 64,
        *,
        num_levels: int | None = None,
        levels: ArrayLike | None = None,
        first_generations: int = FIRST_GENERATIONS,
        first_interactions: int = 0,
        generations: int = GENERATIONS,
        stdev: float = 0.05,
        initial_stdev: float = 0.1,
        num_elites: int | None = None,
        center: ArrayLike | None = None,
        **arguments: Any,
    ) -> None:
        check_names(arguments)
        super().__init__(**{"output": ContinuationOutput(), **arguments})
        self.pop_size = check_whole_number("pop_size", pop_size, minimum=4)
        if levels is not None and num_levels is not None:
            raise ValueError(f"num_levels: expected None when levels is given, got {num_levels!r}")
        self._given_levels = None if levels is None else check_descending("levels", levels)
        if self._given_levels is not None:
            num_levels = len(self._given_levels)
        self.num_levels = check_whole_number("num_levels", 20 if num_levels is None else num_levels)
        # Candidates are evaluated from the second generation of a level on.
        self.first_generations = check_whole_number("first_generations", first_generations, minimum=2)
        self.first_interactions = check_whole_number("first_interactions", first_interactions, minimum=0)
        self.generations = check_whole_number("generations", generations, minimum=2)
        self.stdev = check_positive("stdev", stdev)
        self.initial_stdev = check_positive("initial_stdev", initial_stdev)
        self._given_center = None if center is None else check_vector("center", center)
        if num_elites is None:
            num_elites = self.pop_size // 4
        # A single slot would always go to the newest candidate, so none would be evaluated twice.
        self._num_again = max(2, self.pop_size // 8)
        self.num_elites = check_whole_number("num_elites", num_elites, maximum=self.pop_size - self._num_again)

    def setup(self, problem: Any, verbose: bool = False, progress: bool = False, **options: Any) -> Algorithm:
        """Start a run; the state of an earlier run is discarded.

        Args:
            problem: A pymoo problem with at least two objectives, without constraints, with finite bounds of its last
                variable.
            verbose: Whether each generation is printed. Default: False.
            progress: Whether a progress bar is shown. Default: False.
            **options: Arguments of every pymoo algorithm, such as ``termination``, ``callback``, ``seed``. A second run
                needs a new ``termination``.

        Returns:
            The algorithm itself.

        Raises:
            TypeError: The problem is not a pymoo problem, or an option is unknown.
            ValueError: The problem is not supported, levels or the center are out of its bounds, or a second run has no
                termination.
        """
        check_names(options)
        check_problem(problem, counts=self.first_interactions > 0)
        low, high = last_bounds(problem)
        spread = np.linspace(high, low, self.num_levels if high > low else 1)
        levels = spread if self._given_levels is None else check_levels(problem, self._given_levels)
        center = None if self._given_center is None else check_center(problem, self._given_center)
        if self.is_initialized:
            if options.get("termination") is None:
                raise ValueError("termination: expected one for a second run, got none")
            self.__dict__.update(is_initialized=False, n_iter=None, pop=None, off=None, opt=None, history=[], data={})
            self.evaluator.n_eval = 0
        self.levels, self._center = levels, center
        return super().setup(problem, verbose=verbose, progress=progress, **options)

    def _setup(self, problem: Any, **_: Any) -> None:
        self.level = 0
        self.candidates: list[list[Member]] = [[] for _ in self.levels]
        if self._center is not None:
            self._center = self._at(self._center)
            self.candidates[0].append(Member(self._center, 0))
        self._centers: list[Floats | None] = [None for _ in self.levels]  # the last center of each level
        self._num_returns = np.zeros(len(self.levels), dtype=np.int64)
        self._average: Floats | None = None
        self._num_averaged = 0
        self._left = self.first_generations  # generations until the level changes
        self._first_until = self.first_interactions and problem.interaction_count + self.first_interactions
        self._asked: Floats | None = None  # individuals to be evaluated; the last ones are ``_again``
        self._again: list[Member] = []
        self._noise = 0.0  # standard deviation of evaluations of one individual
        self._best, self._worst = math.inf, -math.inf  # of the first objective, over all evaluations

    def _initialize_infill(self) -> Population:
        return self._infill()

    def _initialize_advance(self, infills: Any = None, **_: Any) -> None:
        self._advance(infills)

    def _infill(self) -> Population:
        if self._asked is None:
            self._again = self._chosen_again()
            noise = self.random_state.normal(size=(self.pop_size - len(self._again), self.problem.n_var))
            x = noise * self.initial_stdev if self._center is None else self._center + self.stdev * noise
            x[:, -1] = self.levels[self.level]
            x = x.clip(self.problem.xl, self.problem.xu)
            self._asked = np.concatenate([x, *(member.x[None] for member in self._again)])
        return Population.new("X", self._asked.copy())

    def _chosen_again(self) -> list[Member]:
        """Candidates to evaluate again: those of the current level, then the most promising one of each other level.

        Candidates of other levels are sorted by fewest evaluations, then by nearest level.
        """
        current = sorted(self.candidates[self.level], key=self._hope, reverse=True)
        elsewhere = (members for level, members in enumerate(self.candidates) if members and level != self.level)
        others = [max(members, key=self._hope) for members in elsewhere]
        others.sort(key=lambda member: (len(member.evaluations), abs(member.level - self.level)))
        return [*current, *others][: self._num_again]

    def advance(self, infills: Any = None, **options: Any) -> Any:
        """Learn from an evaluated generation, as ``tell`` does.

        Args:
            infills: The population that ``ask`` returned, evaluated.
            **options: Ignored.

        Returns:
            The front, or the result at the end of the run.

        Raises:
            ValueError: It is not the generation that ``ask`` returned, or an objective is NaN. The state is then
                unchanged.
        """
        check_evaluated(infills, self._asked, self.problem.n_obj)
        return super().advance(infills=infills, **options)

    def _advance(self, infills: Any = None, **_: Any) -> None:
        objectives = np.asarray(infills.get("F"), dtype=np.float64)  # checked by ``advance``
        num_children = self.pop_size - len(self._again)
        children = objectives[:num_children, 0]
        ranked = np.argsort(children, kind="stable").tolist()
        center = self._moved_center(infills.get("X")[:num_children], ranked)
        share = max(_NEWEST, 1 / (self._num_averaged + 1))
        average = center if self._average is None else (1 - share) * self._average + share * center
        newest = Member(self._at(average), self.level)
        # The problem's code has run (but for a change of level, at the end): nothing else fails from here on.
        self._average, self._num_averaged = average, self._num_averaged + 1
        self._center = self._centers[self.level] = center
        for member, row in zip(self._again, objectives[num_children:], strict=True):
            member.evaluations.append(row)
        self._add(newest, children)
        self._best = min(self._best, float(objectives[:, 0].min()))
        self._worst = max(self._worst, float(objectives[:, 0].max()))
        self.pop, self._asked, self._again = infills, None, []
        self._left -= 1
        if self._is_over() or self._is_perfect(children[ranked[: self.num_elites]]):
            self._change_level()

    def _is_over(self) -> bool:
        """Whether the current level has had its generations, and the first one its interactions, too."""
        if self._left > 0 or self.level > 0 or self.first_interactions == 0:
            return self._left <= 0
        return int(self.problem.interaction_count) >= self._first_until

    def _moved_center(self, x: Floats, ranked: Sequence[int]) -> Floats:
        if isinstance(self.problem, LeveledProblem):
            stdev = self.initial_stdev if self._center is None else self.stdev
            x = self.problem.expected_individuals(x, center=self._center, stdev=stdev)
        before = x.mean(axis=0) if self._center is None else self._center
        return self._at(moved(x, ranked, self.num_elites, before=before))

    def _at(self, center: Floats, *, level: int | None = None, narrowed: bool = False) -> Floats:
        """Set a center to a level (or the current one), within bounds, and to where noise changes the phenotype."""
        center = center.clip(self.problem.xl, self.problem.xu)
        center[-1] = self.levels[self.level if level is None else level]
        if not isinstance(self.problem, LeveledProblem):
            return center
        return self.problem.confined(self.problem.narrowed(center) if narrowed else center)

    def _add(self, newest: Member, children: Floats) -> None:
        """Add a candidate to the current level; if there is no room, drop the least promising, never the best."""
        members = self.candidates[self.level]
        members.append(newest)
        if len(members) > _ROOM:
            self._noise = self._measured_noise(children.tolist())
            best = self.handed_out(self.level)
            rest = [member for member in members if member is not best]
            members.remove(min(rest, key=self._hope))
        self._noise = self._measured_noise()

    def _measured_noise(self, otherwise: Sequence[float] = ()) -> float:
        return pooled_stdev([member.fitness for members in self.candidates for member in members], otherwise)

    def _is_perfect(self, elites: Floats) -> bool:
        """Whether the returned candidate and all elites always equal the best evaluation ever, and others do not.

        A best evaluation that only one individual reached may still be surpassed. If all evaluations are equal, they
        carry no information.
        """
        member = self.handed_out(self.level)
        enough = member is not None and len(member.evaluations) >= 4 and min(member.fitness) >= -self._best
        return enough and bool((elites <= self._best).all()) and self._best < self._worst

    def _change_level(self) -> None:
        """Move to the next level, or from the last level back to the costliest fall of the front."""
        self._left = self.generations
        if len(self.levels) == 1:
            return
        goes_back = self.level + 1 == len(self.levels)
        level = self._where_to_go_back_to() if goes_back else self.level + 1
        center = self._centers[level - 1] if goes_back else self._center
        if center is not None:
            center = self._at(center, level=level, narrowed=True)
        self.level, self._center = level, center
        if goes_back:
            self._average, self._num_averaged = None, 0

    def _where_to_go_back_to(self) -> int:
        """The level with the costliest fall of the front: height times the number of levels from there on.

        The cost is divided by 1 plus the number of earlier returns to the level.
        """
        members = [self.handed_out(level) for level in range(len(self.levels))]
        values = np.array([[-math.inf if member is None else member.value(self._noise)] for member in members])
        # A candidate of a harder level is valid at an easier one.
        front = np.maximum.accumulate(without_infinities(values)[::-1, 0])[::-1]
        costs = (front[:-1] - front[1:]) * np.arange(len(front) - 1, 0, -1) / (1 + self._num_returns[1:])
        level = 1 + int(np.argmax(costs)) if costs.max() > 0.0 else len(self.levels) - 1
        self._num_returns[level] += 1
        return level

    def handed_out(self, level: int) -> Member | None:
        """The candidate that a level returns: the one with the best confidence bound.

        Args:
            level: The index of the level.

        Returns:
            The candidate; None if none has been evaluated yet.
        """
        evaluated = [member for member in self.candidates[level] if member.evaluations]
        return max(evaluated, key=self._surest, default=None)

    def promising(self) -> list[list[Member]]:
        """The candidates of each level that may be on the front, best confidence bound first.

        Candidates without evaluations come last. The list of a level is empty if a harder level returns a candidate
        that is better than the upper confidence bounds of all candidates of this level.
        """
        best, result = (-math.inf, 0.0, 0.0), []
        for level in reversed(range(len(self.levels))):
            members = sorted(self.candidates[level], key=self._surest, reverse=True)
            evaluated = [member for member in members if member.evaluations]
            may_be_best = not evaluated or max(map(self._hope, evaluated)) > best
            result.append(members if may_be_best else [])
            best = max([best, *map(self._surest, members[:1])])
        return result[::-1]

    def _hope(self, member: Member) -> tuple[float, float, float]:
        return hope(member.fitness, self._noise)

    def _surest(self, member: Member) -> tuple[float, float, float]:
        return surest(member.fitness, self._noise) if member.evaluations else (-math.inf, 0.0, 0.0)

    def _set_optimum(self) -> None:
        members = [member for level in range(len(self.levels)) if (member := self.handed_out(level)) is not None]
        if not members:  # after the first generation
            best = self.pop[int(np.argmin(self.pop.get("F")[:, 0]))]
            members = [Member(best.X, self.level, [np.asarray(best.F, dtype=np.float64)])]
        bounds = np.array([member.bounds(self._noise) for member in members])
        front = NonDominatedSorting().do(without_infinities(bounds), only_non_dominated_front=True)
        self.opt = Population.create(*(members[i].individual() for i in sorted(front)))
