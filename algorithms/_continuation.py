"""Continuation: a pymoo algorithm that follows a front from its easy end to its hard end with one center."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

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
from ._fitness import pooled_stdev
from ._member import Member
from ._pareto import last_bounds
from ._reevaluation import without_infinities

Floats = NDArray[np.float64]

#: The share of the newest center in the average of centers.
_NEWEST = 1 / 6
#: How many candidates a level keeps.
_ROOM = 16


@runtime_checkable
class LeveledProblem(Protocol):
    """A pymoo problem whose individuals are decoded at a level, which is their last variable.

    Many of them are decoded into the same, so that much of what was drawn is noise; see ``DecodingProblem``.
    """

    def expected_individuals(self, x: Floats, *, center: Floats | None, stdev: float) -> Floats:
        """For each individual the expectation of all that are decoded as it is.

        Args:
            x: ``(N, D + 1)`` individuals at one level, drawn from ``center + stdev * N(0, I)``.
            center: ``(D + 1,)``; or None, where they are initial ones, drawn around 0.
            stdev: Standard deviation of the noise.

        Returns:
            ``(N, D + 1)``.
        """
        ...

    def confined(self, center: Floats) -> Floats:
        """An individual that is decoded as ``center`` is, but around which noise changes what is decoded.

        Args:
            center: ``(D + 1,)``.

        Returns:
            ``(D + 1,)``.
        """
        ...

    def narrowed(self, center: Floats) -> Floats:
        """An individual like ``center``, around which noise changes only what may matter at its level.

        Args:
            center: ``(D + 1,)``, found at an easier level.

        Returns:
            ``(D + 1,)``.
        """
        ...


class Continuation(Algorithm):
    """One center that learns while its last variable, the level, goes from the easy end of a front to its hard end.

    A front's members are neighbors: a policy that has 100 weights is a good beginning for one that has 80, while from
    nothing 80 weights are not found. So this algorithm solves the easy problem first, and then lowers the level, by a
    small step every few generations. The field calls this numerical continuation, or the epsilon-constraint method
    with warm starts.

    At each level it is the search of ``ElitistGaussianResampling``: all children are drawn around one center, which
    moves towards what is expected of the best of them (``LeveledProblem``; of other problems, the best themselves).
    After each generation the average of the centers becomes a candidate of the current level. An eighth of each
    population, two at least, are candidates, which are evaluated again: those of the current level and, where there is
    room, the most hopeful ones of the others. A level keeps all evaluations of each of its
    candidates. It hands out the one whose first objective has the lowest upper confidence bound, mean +
    stdev / sqrt(n). The front (``opt``) is what the levels hand out, without those that another dominates by these
    bounds and the means of the other objectives.

    After the last level it goes back: to the level where a fall of the front costs most (its height, times the number
    of levels from there on), from the center of the level before it, and down again from there. Levels to which it
    went back often count less. It does so until the termination.

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
        pop_size: N, how many individuals are evaluated in a generation; at least 4.
        num_levels: How many levels, spread evenly between the bounds of the last variable, from its upper bound down.
            Default 20. There is one, where these bounds are equal.
        levels: Or the levels themselves: values of the last variable, descending.
        first_generations: How many generations the first level has, at least; 2 or more.
        first_interactions: It lasts on until the problem has counted so many more interactions with its simulator
            (``interaction_count``). All later levels build on what the first one finds: of a large budget, give it a
            share.
        generations: How many each of the others has, each time it is visited; at least 2. A level has fewer, where
            nothing better can be learned: where what it hands out and all elites were as good as the best evaluation
            ever seen.
        stdev: Standard deviation of the noise on all variables but the last.
        initial_stdev: That of the initial individuals around 0.
        num_elites: How many of the best, and how many of the worst, the center learns from. Default a quarter of the
            population.
        center: ``(D + 1,)``, an individual to begin from, at the first level whatever its own is; it is the first
            candidate. Default none: the initial individuals are drawn around 0.
        **arguments: Those of every pymoo algorithm, such as ``termination``, ``callback``, ``display``, ``seed``.

    Attributes:
        levels: ``(L,)``, values of the last variable, descending. It and the following are there after ``setup``.
        level: The index of the current one.
        candidates: The candidates of each level, at most 16.
        opt: The front: a population, whose ``F`` is the mean of all evaluations. Its data has ``num_evaluations`` and
            ``level``, the index of the level. Until a candidate has been evaluated, it is the best individual.

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
            raise ValueError(f"num_levels: expected None where levels are given, got {num_levels!r}")
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
        # One slot would go to the newest candidate every time, and none would be evaluated twice.
        self._num_again = max(2, self.pop_size // 8)
        self.num_elites = check_whole_number("num_elites", num_elites, maximum=self.pop_size - self._num_again)

    def setup(self, problem: Any, verbose: bool = False, progress: bool = False, **options: Any) -> Algorithm:
        """Begin a run; nothing is left of an earlier one.

        Args:
            problem: A pymoo problem with two objectives or more, without constraints. The bounds of its last variable
                are finite.
            verbose: Whether each generation is printed.
            progress: Whether a progress bar is shown.
            **options: Those of every pymoo algorithm, such as ``termination``, ``callback``, ``seed``. A second run
                needs a ``termination`` of its own.

        Returns:
            The algorithm itself.

        Raises:
            TypeError: The problem is no pymoo problem, or an option is unknown.
            ValueError: The problem cannot be served, levels or the center are out of its bounds, or a second run has no
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
                raise ValueError("termination: expected one for another run, got none")
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
        self._centers: list[Floats | None] = [None for _ in self.levels]  # the last one at each level
        self._num_returns = np.zeros(len(self.levels), dtype=np.int64)
        self._average: Floats | None = None
        self._num_averaged = 0
        self._left = self.first_generations  # generations, until the level changes
        self._first_until = self.first_interactions and problem.interaction_count + self.first_interactions
        self._asked: Floats | None = None  # the individuals that wait for their objectives; the last are ``_again``
        self._again: list[Member] = []
        self._noise = 0.0  # how much evaluations of one and the same individual differ
        self._best, self._worst = math.inf, -math.inf  # the first objective of all evaluations

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
        """Candidates to evaluate again: the most hopeful of the current level, then that of each other level.

        Of the other levels those come first whose candidate has been evaluated least, and of these the nearest.
        """
        current = sorted(self.candidates[self.level], key=self._hope, reverse=True)
        elsewhere = (members for level, members in enumerate(self.candidates) if members and level != self.level)
        others = [max(members, key=self._hope) for members in elsewhere]
        others.sort(key=lambda member: (len(member.evaluations), abs(member.level - self.level)))
        return [*current, *others][: self._num_again]

    def advance(self, infills: Any = None, **options: Any) -> Any:
        """Learn from a generation, as ``tell`` does.

        Args:
            infills: The population that ``ask`` returned, evaluated.
            **options: Of no meaning here.

        Returns:
            The front; at the end of the run its result.

        Raises:
            ValueError: It is not the generation that was asked for, or an objective is NaN. Nothing has changed then.
        """
        check_evaluated(infills, self._asked, self.problem.n_obj)
        return super().advance(infills=infills, **options)

    def _advance(self, infills: Any = None, **_: Any) -> None:
        objectives = np.asarray(infills.get("F"), dtype=np.float64)  # which ``advance`` has checked
        num_children = self.pop_size - len(self._again)
        children = objectives[:num_children, 0]
        ranked = np.argsort(children, kind="stable").tolist()
        center = self._moved_center(infills.get("X")[:num_children], ranked)
        share = max(_NEWEST, 1 / (self._num_averaged + 1))
        average = center if self._average is None else (1 - share) * self._average + share * center
        newest = Member(self._at(average), self.level)
        # What the problem computes is computed: from here on nothing fails.
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

    def _at(self, center: Floats, *, narrowed: bool = False) -> Floats:
        """A center at the current level, within bounds, where noise changes what is decoded."""
        center = center.clip(self.problem.xl, self.problem.xu)
        center[-1] = self.levels[self.level]
        if not isinstance(self.problem, LeveledProblem):
            return center
        return self.problem.confined(self.problem.narrowed(center) if narrowed else center)

    def _add(self, newest: Member, children: Floats) -> None:
        """One more candidate of the current level; of too many the least promising goes, never what is handed out."""
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
        """Whether what the level hands out, and all elites, are always as good as the best of all, which some are not.

        One that no other equals may still be surpassed; and where all are equal, nothing is known.
        """
        member = self.handed_out(self.level)
        enough = member is not None and len(member.evaluations) >= 4 and min(member.fitness) >= -self._best
        return enough and bool((elites <= self._best).all()) and self._best < self._worst

    def _change_level(self) -> None:
        """On to the next level; from the last one back to where a fall of the front costs most."""
        self._left = self.generations
        if len(self.levels) == 1:
            return
        if self.level + 1 < len(self.levels):
            self.level += 1
        else:
            self.level = self._where_to_go_back_to()
            self._center, self._average, self._num_averaged = self._centers[self.level - 1], None, 0
        if self._center is not None:
            self._center = self._at(self._center, narrowed=True)

    def _where_to_go_back_to(self) -> int:
        """The level at which a fall of the front costs most: its height, times how many levels from there on bear it.

        The more often the search went back to a level, the less it counts.
        """
        members = [self.handed_out(level) for level in range(len(self.levels))]
        values = np.array([[-math.inf if member is None else member.value(self._noise)] for member in members])
        # What a harder level hands out is good enough for an easier one.
        front = np.maximum.accumulate(without_infinities(values)[::-1, 0])[::-1]
        costs = (front[:-1] - front[1:]) * np.arange(len(front) - 1, 0, -1) / (1 + self._num_returns[1:])
        level = 1 + int(np.argmax(costs)) if costs.max() > 0.0 else len(self.levels) - 1
        self._num_returns[level] += 1
        return level

    def handed_out(self, level: int) -> Member | None:
        """The candidate that a level hands out: that with the best confidence bound.

        Args:
            level: The index of the level.

        Returns:
            The candidate; None where none has been evaluated yet.
        """
        evaluated = [member for member in self.candidates[level] if member.evaluations]
        return max(evaluated, key=self._surest, default=None)

    def promising(self) -> list[list[Member]]:
        """What may be on the front: the candidates of each level, the most promising first.

        Those that were never evaluated are the last. A level has none, where a harder level hands out what is better
        even if its own candidates are as good as they may well be.
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
