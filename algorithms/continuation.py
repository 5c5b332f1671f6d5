"""Continuation: a pymoo algorithm that follows a front from its easy end to its hard end with one center."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.util.display.column import Column
from pymoo.util.display.output import Output
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from ._candidates import hope, surest
from ._center import moved
from ._checks import check_positive, check_whole_number
from ._fitness import pooled_stdev
from .pareto import last_bounds
from .reevaluation import without_infinities

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
            center: ``(D + 1,)``; or None, where they are initial ones.
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


class Continuation(Algorithm):
    """One center that learns while its last variable, the level, goes from the easy end of a front to its hard end.

    A front's members are neighbors: a policy that has 100 weights is a good beginning for one that has 80, while from
    nothing 80 weights are not found. So this algorithm solves the easy problem first, and then lowers the level, by a
    small step every few generations. The field calls this numerical continuation, or the epsilon-constraint method
    with warm starts.

    At each level it is the search of ``ElitistGaussianResampling``: all children are drawn around one center, which
    moves towards what is expected of the best of them (``LeveledProblem``). After each generation the average of the
    centers becomes a candidate of the current level. Some of each population are candidates, which are evaluated
    again: a level knows all evaluations of each of its candidates, and hands out the one with the best lower
    confidence bound of the first objective, mean - stdev / sqrt(n). The front (``opt``) is what the levels hand out,
    without those that a sparser level beats.

    After the last level it goes back: to the level where the front falls most, from the center of the level before
    it, and down again from there. It does so until the termination.

    Infinite objectives are allowed; NaN is an error.

    Example:
        >>> from pymoo.optimize import minimize
        >>> from subnet_problems import MaskedGymProblem, ParetoSparsityProblem
        >>> masked = MaskedGymProblem("CartPole-v1", sparsity=0.5, seed=0, common_random_numbers=False)
        >>> problem = ParetoSparsityProblem(masked, min_sparsity=0.5)
        >>> result = minimize(problem, Continuation(16, num_levels=3), ("n_gen", 30), seed=0)
        >>> subnet = problem.to_subnetwork(result.X[0])

    Args:
        pop_size: N, how many individuals are evaluated in a generation.
        num_levels: How many levels, spread evenly between the bounds of the last variable, from its upper bound down.
        levels: Or the levels themselves: values of the last variable, descending.
        first_generations: How many generations the first level has.
        generations: How many each of the others has, each time it is visited. A level has fewer, where it hands out
            what was as good as the best evaluation ever seen, every time.
        stdev: Standard deviation of the noise on all variables but the last.
        initial_stdev: That of the initial individuals around 0.
        num_elites: How many of the best, and how many of the worst, the center learns from. Default a quarter of the
            population.
        center: ``(D + 1,)``, an individual to begin from. Default none: the initial individuals are drawn around 0.
        **arguments: Those of every pymoo algorithm, such as ``termination``, ``callback``, ``display``, ``seed``.

    Raises:
        TypeError: An argument has the wrong type or is unknown.
        ValueError: A number is out of range, levels do not descend, or both ``num_levels`` and ``levels`` are given; in
            ``setup``: the last variable has no finite bounds, or levels are outside of them; in a generation: an
            objective is NaN.
    """

    def __init__(
        self,
        pop_size: int = 64,
        *,
        num_levels: int | None = None,
        levels: ArrayLike | None = None,
        first_generations: int = 25,
        generations: int = 3,
        stdev: float = 0.05,
        initial_stdev: float = 0.1,
        num_elites: int | None = None,
        center: ArrayLike | None = None,
        **arguments: Any,
    ) -> None:
        known = inspect.signature(Algorithm.__init__).parameters.keys() - {"self", "kwargs"}
        for name, value in arguments.items():
            if name not in known:
                raise TypeError(f"{name}: expected an argument of pymoo's algorithms, {sorted(known)}, got {value!r}")
        arguments.setdefault("output", ContinuationOutput())
        super().__init__(**arguments)
        self.pop_size = check_whole_number("pop_size", pop_size)
        if self.pop_size < 2:
            raise ValueError(f"pop_size: expected a whole number >= 2, got {pop_size!r}")
        if levels is not None and num_levels is not None:
            raise ValueError(f"num_levels: expected None where levels are given, got {num_levels!r}")
        self.num_levels = check_whole_number("num_levels", 18 if num_levels is None else num_levels)
        self._given_levels = None if levels is None else _descending(levels)
        self.first_generations = check_whole_number("first_generations", first_generations)
        self.generations = check_whole_number("generations", generations)
        self.stdev = check_positive("stdev", stdev)
        self.initial_stdev = check_positive("initial_stdev", initial_stdev)
        self._given_center = None if center is None else _numbers("center", center)
        most = self.pop_size - self.pop_size // 8
        self.num_elites = check_whole_number(
            "num_elites", max(1, self.pop_size // 4) if num_elites is None else num_elites, maximum=most
        )

    def _setup(self, problem: Any, **_: Any) -> None:
        low, high = last_bounds(problem)
        if self._given_levels is None:
            self.levels = np.linspace(high, low, self.num_levels if high > low else 1)
        else:
            self.levels = self._given_levels
            for i, level in enumerate(self.levels):
                if not low <= level <= high:
                    raise ValueError(f"levels[{i}]: expected a level in [{low:g}, {high:g}], got {level:g}")
        self.level = 0  # the index of the current one
        self.candidates: list[list[Member]] = [[] for _ in self.levels]
        self._centers: list[Floats | None] = [None for _ in self.levels]  # the last one at each level
        self._center = None if self._given_center is None else self._first_center(problem, self._given_center)
        self._average: Floats | None = None
        self._num_averaged = 0
        self._left = self.first_generations  # generations, until the level changes
        self._again: list[Member] = []
        self._best_seen = math.inf  # the first objective of the best evaluation of all

    def _first_center(self, problem: Any, center: Floats) -> Floats:
        """Where the user wants to begin.

        Raises:
            ValueError: It has not as many numbers as the problem has variables.
        """
        if center.shape != (problem.n_var,):
            raise ValueError(f"center: expected shape (D + 1,) = ({problem.n_var},), got {center.shape}")
        return self._at(center, 0)

    def _initialize_infill(self) -> Population:
        return self._infill()

    def _initialize_advance(self, infills: Any = None, **_: Any) -> None:
        self._advance(infills)

    def _infill(self) -> Population:
        self._again = self._chosen_again()
        num_children = self.pop_size - len(self._again)
        noise = self.random_state.normal(size=(num_children, self.problem.n_var))
        x = noise * self.initial_stdev if self._center is None else self._center + self.stdev * noise
        x[:, -1] = self.levels[self.level]
        return Population.new("X", np.concatenate([x, *(member.x[None] for member in self._again)]))

    def _advance(self, infills: Any = None, **_: Any) -> None:
        objectives = self._checked(infills)
        num_children = len(objectives) - len(self._again)
        center = self._moved_center(infills.get("X")[:num_children], objectives[:num_children, 0])
        self._num_averaged += 1
        share = max(_NEWEST, 1 / self._num_averaged)
        self._average = center if self._average is None else (1 - share) * self._average + share * center
        self._center = self._centers[self.level] = center
        for member, row in zip(self._again, objectives[num_children:], strict=True):
            member.evaluations.append(row)
        self._add(Member(self._at(self._average, self.level), self.level), objectives[:num_children, 0])
        self.pop, self._again = infills, []
        self._best_seen = min(self._best_seen, float(objectives[:, 0].min()))
        self._left -= 1
        if self._left == 0 or self._is_perfect():
            self._change_level()

    def _checked(self, infills: Any) -> Floats:
        """The objectives of a generation.

        Raises:
            ValueError: It is not the one that was asked for, or an objective is NaN.
        """
        expected = f"the {self.pop_size} individuals that were asked for, evaluated"
        if infills is None or len(infills) != self.pop_size:
            raise ValueError(f"infills: expected {expected}, got {None if infills is None else len(infills)}")
        for i, individual in enumerate(infills):
            if len(individual.F) != self.problem.n_obj:
                raise ValueError(f"infills: expected {expected}, got one without objectives at index {i}")
            if np.isnan(individual.F).any():
                raise ValueError(
                    f"problem: expected F without NaN, got {np.asarray(individual.F).tolist()} for individual {i}"
                )
        return np.asarray(infills.get("F"), dtype=np.float64)

    def _moved_center(self, x: Floats, fitness: Floats) -> Floats:
        ranked = np.argsort(fitness, kind="stable").tolist()
        leveled = self.problem if isinstance(self.problem, LeveledProblem) else None
        if leveled is not None:
            x = leveled.expected_individuals(x, center=self._center, stdev=self.stdev)
        before = x.mean(axis=0) if self._center is None else self._center
        return self._at(moved(x, ranked, min(self.num_elites, len(x)), before=before), self.level)

    def _at(self, center: Floats, level: int) -> Floats:
        """A center at a level, where noise changes what is decoded."""
        center = center.copy()
        center[-1] = self.levels[level]
        return self.problem.confined(center) if isinstance(self.problem, LeveledProblem) else center

    def _chosen_again(self) -> list[Member]:
        """Candidates of the current level that are evaluated again: those that may well be the best."""
        members = self.candidates[self.level]
        stdev = self._stdev_of_evaluations()
        return sorted(members, key=lambda member: hope(member.shown, stdev), reverse=True)[: self.pop_size // 8]

    def _stdev_of_evaluations(self, otherwise: Sequence[float] = ()) -> float:
        """How much evaluations of one and the same individual differ."""
        return pooled_stdev([member.shown for members in self.candidates for member in members], otherwise)

    def _add(self, member: Member, others: Floats) -> None:
        """One more candidate of a level; where there are too many, the one that has shown least goes."""
        members = self.candidates[self.level]
        members.append(member)
        if len(members) > _ROOM:
            stdev = self._stdev_of_evaluations(others.tolist())
            members.remove(min(members, key=lambda member: hope(member.shown, stdev)))

    def _is_perfect(self) -> bool:
        """Whether the current level hands out what was always as good as the best that was ever seen."""
        member = self.handed_out(self.level)
        return member is not None and len(member.shown) >= 4 and bool(min(member.shown) >= -self._best_seen)

    def _change_level(self) -> None:
        """On to the next level; from the last one back to where the front falls most."""
        self._left = self.generations
        if self.level + 1 < len(self.levels):
            self.level += 1
        else:
            self.level, center = self._weakest()
            self._center, self._average, self._num_averaged = center, None, 0
        if self._center is not None:
            self._center = self._at(self._center, self.level)

    def _weakest(self) -> tuple[int, Floats | None]:
        """The level at which the front falls most, and the center of the level before."""
        stdev, best, values = self._stdev_of_evaluations(), -math.inf, []
        for level in reversed(range(len(self.levels))):
            member = self.handed_out(level)
            num_bad, _, mean = (-1.0, 0.0, 0.0) if member is None else surest(member.shown, stdev)
            best = best if num_bad else max(best, mean)
            values.append(best)
        values.reverse()
        falls = [before - after for before, after in pairwise(values) if after > -math.inf]
        level = 1 + int(np.argmax(falls)) if falls and max(falls) > 0.0 else len(self.levels) - 1
        return level, self._centers[max(level - 1, 0)]

    def handed_out(self, level: int) -> Member | None:
        """The candidate of a level that is handed out: the one with the best lower confidence bound.

        Args:
            level: Its index.

        Returns:
            The candidate; None where none has been evaluated yet.
        """
        evaluated, stdev = [member for member in self.candidates[level] if member.shown], self._stdev_of_evaluations()
        return max(evaluated, key=lambda member: surest(member.shown, stdev), default=None)

    def promising(self) -> list[list[Member]]:
        """The candidates of each level, the most promising first; those that were never evaluated are the last."""
        stdev, never = self._stdev_of_evaluations(), (-math.inf, 0.0, 0.0)
        return [
            sorted(members, key=lambda m: surest(m.shown, stdev) if m.shown else never, reverse=True)
            for members in self.candidates
        ]

    def _set_optimum(self) -> None:
        members = [member for level in range(len(self.levels)) if (member := self.handed_out(level)) is not None]
        if not members:  # nothing has been evaluated twice: the best of the first generation
            self.opt = self.pop[[int(np.argmin(self.pop.get("F")[:, 0]))]]
            return
        stdev = self._stdev_of_evaluations()
        bounds = np.array([member.bounds(stdev) for member in members])
        front = NonDominatedSorting().do(without_infinities(bounds), only_non_dominated_front=True)
        self.opt = Population.create(*(members[i].individual() for i in sorted(front)))


class Member:
    """A candidate of a level, and all that its evaluations have shown.

    Attributes:
        x: ``(D + 1,)``.
        level: The index of its level.
        evaluations: The objectives of each evaluation, ``(M,)``.
    """

    def __init__(self, x: Floats, level: int) -> None:
        self.x, self.level = x, level
        self.evaluations: list[Floats] = []

    @property
    def shown(self) -> tuple[float, ...]:
        """Evaluations of the first objective, the higher the better."""
        return tuple(-float(row[0]) for row in self.evaluations)

    @property
    def objectives(self) -> Floats:
        """The mean of all evaluations, ``(M,)``."""
        return np.asarray(np.mean(self.evaluations, axis=0))

    def bounds(self, stdev: float) -> Floats:
        """The objectives ``(M,)``, the first one's upper confidence bound in its place."""
        bounds = self.objectives
        bounds[0] += stdev / math.sqrt(len(self.evaluations))
        return bounds

    def individual(self) -> Individual:
        """It as pymoo has it; its data has ``num_evaluations`` and the index of its ``level``."""
        objectives, data = self.objectives, {"num_evaluations": len(self.evaluations), "level": self.level}
        return Individual(X=self.x, F=objectives, evaluated={"F", "G", "H"}, **data)


class ContinuationOutput(Output):
    """What ``minimize(..., verbose=True)`` prints: the level, how many policies the front has, and the best."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.front, self.best = Column("level"), Column("front", width=5), Column("f_min")
        self.columns += [self.level, self.front, self.best]

    def update(self, algorithm: Any) -> None:
        """Take over how far an algorithm is."""
        super().update(algorithm)
        self.level.set(float(algorithm.levels[algorithm.level]))
        self.front.set(len(algorithm.opt))
        self.best.set(float(algorithm.opt.get("F")[:, 0].min()))


def _descending(levels: ArrayLike) -> Floats:
    """Return levels as an array.

    Raises:
        TypeError: They are not real numbers.
        ValueError: There is none, they are not finite, or do not descend.
    """
    values = _numbers("levels", levels)
    if (np.diff(values) >= 0.0).any():
        raise ValueError(f"levels: expected numbers that descend, got {levels!r}")
    return values


def _numbers(name: str, values: ArrayLike) -> Floats:
    """Return a vector of finite numbers.

    Raises:
        TypeError: They are not real numbers.
        ValueError: There is none, they are not finite, or it is no vector.
    """
    try:
        vector = np.asarray(values)
    except ValueError:  # rows of several lengths
        vector = np.empty((0, 0))
    if vector.dtype == bool or not np.issubdtype(vector.dtype, np.number) or np.iscomplexobj(vector):
        raise TypeError(f"{name}: expected real numbers, got {values!r}")
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise ValueError(f"{name}: expected a vector of finite numbers, got {values!r}")
    return vector.astype(np.float64)
