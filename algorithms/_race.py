"""A race: several searches take turns, and the best of them goes on alone. For tasks where much depends on the seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evotorch.algorithms import SearchAlgorithm
from evotorch.algorithms.restarter import Restart
from evotorch.algorithms.searchalgorithm import LazyReporter

from ._checks import check_whole_number
from ._fitness import worth

#: What a problem counts, and the names of the sums in the status, as with EvoTorch's ``GymNE``.
_COUNTS = {"interaction_count": "total_interaction_count", "episode_count": "total_episode_count"}


@dataclass
class _Racer:
    searcher: SearchAlgorithm
    shown: deque[float]  # mean evaluations of its last generations

    def count(self, name: str) -> int:
        return int(getattr(self.searcher.problem, name))

    def step(self) -> None:
        playing = innermost(self.searcher)  # which a restarter may replace as soon as it has played
        self.searcher.step()
        self.look(playing)

    def look(self, playing: SearchAlgorithm) -> None:
        """Note what the last generation came to, if there has been one."""
        if playing.step_count:
            self.shown.append(float(playing.status["mean_eval"]))

    @property
    def worth(self) -> tuple[float, float, float]:
        """The higher the better; a search that has not begun is worth least."""
        sign = 1.0 if self.searcher.problem.senses[0] == "max" else -1.0
        return worth([sign * shown for shown in self.shown]) if self.shown else (float("-inf"), 0.0, 0.0)


class Race(SearchAlgorithm):
    """Searches that take turns until each has spent some environment steps; then the best goes on alone.

    How high a search comes depends on the network that was drawn (the paper, section 5: it is "highly sensitive to the
    initialization seed"). A race draws several and follows them until it can be told which is worth more. The best is
    the one whose last generations have the highest mean evaluation: what the searches themselves saw, no tests.

    A step of the race is one of its searches' steps: of that which has spent least. ``problem`` and ``status`` are
    those of the best search so far, but for ``iter``, which counts the steps of all, and for the total counts of
    environment steps and episodes, which are of all together.

    EvoTorch's restarters (``Restart``, ``IPOP``) may race, too: what counts is what the searches within them see.
    Searches that go through levels (``ElitistGaussianResampling.continuation``) should have reached the last one within
    ``steps``, since evaluations of an easier level are others.
    Where mean evaluations are infinite, those with fewer infinitely bad ones among the last are better.

    Example:
        >>> race = Race([ElitistGaussianResampling(make_problem(seed)) for seed in range(4)], steps=4_500_000)
        >>> race.run(1000)
        >>> subnetwork = race.problem.to_subnetwork(race.status["center"])

    Args:
        searchers: At least two, each on a problem of its own that counts environment steps and episodes. One that has
            run before begins with its last generation. The actors of those that are out are killed.
        steps: Environment steps after which a search has shown what it is worth.
        window: How many generations its worth is the mean of.

    Raises:
        TypeError: An argument has the wrong type, or a problem does not count.
        ValueError: There are fewer than two searches, two share a problem, the problems have several objectives or
            different senses, or a number is below 1.
    """

    def __init__(self, searchers: Sequence[SearchAlgorithm], *, steps: int, window: int = 10) -> None:
        if not isinstance(searchers, Sequence):
            raise TypeError(f"searchers: expected a list of EvoTorch searches, got {searchers!r}")
        for searcher in searchers:
            if not isinstance(searcher, SearchAlgorithm):
                raise TypeError(f"searchers: expected EvoTorch searches, got {searcher!r}")
            if isinstance(searcher, Race):
                raise TypeError(f"searchers: expected searches that are no races themselves, got {searcher!r}")
            if not all(hasattr(searcher.problem, name) for name in _COUNTS):
                raise TypeError(f"searchers: expected problems that count environment steps, got {searcher.problem!r}")
        if len({id(searcher.problem) for searcher in searchers}) < max(2, len(searchers)):
            raise ValueError(f"searchers: expected at least two, each on a problem of its own, got {searchers!r}")
        senses = [list(searcher.problem.senses) for searcher in searchers]
        if len(senses[0]) > 1 or any(sense != senses[0] for sense in senses):
            raise ValueError(f"searchers: expected problems with the same single objective, got {senses!r}")
        for searcher in searchers:
            if "mean_eval" not in innermost(searcher).status:
                raise TypeError(f"searchers: expected searches whose status has a mean_eval, got {searcher!r}")
        self._steps, self._window = check_whole_number("steps", steps), check_whole_number("window", window)
        self._racers = [_Racer(searcher, deque(maxlen=self._window)) for searcher in searchers]
        for racer in self._racers:
            racer.look(innermost(racer.searcher))
        self._dropped = dict.fromkeys(_COUNTS, 0)  # what those have spent who are out
        super().__init__(searchers[0].problem)
        self.after_step_hook.append(self._count_all)

    @property
    def searchers(self) -> list[SearchAlgorithm]:
        """Those still in the race."""
        return [racer.searcher for racer in self._racers]

    @property
    def steps(self) -> int:
        """Environment steps after which a search has shown what it is worth."""
        return self._steps

    @property
    def window(self) -> int:
        """How many generations its worth is the mean of."""
        return self._window

    def _step(self) -> None:
        turn = min(self._racers, key=lambda racer: racer.count("interaction_count"))
        turn.step()
        best = max(self._racers, key=lambda racer: racer.worth)
        if all(racer.count("interaction_count") >= self._steps for racer in self._racers):
            for racer in self._racers:
                if racer is not best:
                    self._dropped = {name: count + racer.count(name) for name, count in self._dropped.items()}
                    if racer.searcher.problem.actors is not None:
                        racer.searcher.problem.kill_actors()
            self._racers = [best]
        self._problem = best.searcher.problem
        LazyReporter.__init__(self)  # the best so far may be of another kind than the one before, with other names
        self.update_status(_status_of(best.searcher))

    def clear_status(self) -> None:
        """Nothing: each step replaces the status, and one that fails leaves that of the step before."""

    def _count_all(self) -> dict[str, int]:
        return {
            total: self._dropped[name] + sum(racer.count(name) for racer in self._racers)
            for name, total in _COUNTS.items()
        }


def innermost(searcher: SearchAlgorithm) -> SearchAlgorithm:
    """The search that plays: the searcher itself, or what a restarter has within it for now."""
    while isinstance(searcher, Restart):
        searcher = searcher.search_algorithm
    return searcher


def _status_of(searcher: SearchAlgorithm) -> dict[str, Any]:
    """Its status, but for what a restarter cannot always say: ``IPOP`` asks it of a population that may not be yet."""
    status = searcher.status
    return {name: status[name] for name in status if name != "algorithm_terminated"}
