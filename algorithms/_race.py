"""A race: several searches take turns, then the best one continues alone. For tasks that depend much on the seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evotorch.algorithms import SearchAlgorithm
from evotorch.algorithms.restarter import Restart
from evotorch.algorithms.searchalgorithm import LazyReporter

from ._checks import check_whole_number
from ._fitness import rank_key

#: Counters of a problem, and the status names of their sums, as in EvoTorch's ``GymNE``.
_COUNTS = {"interaction_count": "total_interaction_count", "episode_count": "total_episode_count"}


@dataclass
class _Racer:
    searcher: SearchAlgorithm
    seen: deque[float]  # mean evaluations of the last generations

    def count(self, name: str) -> int:
        return int(getattr(self.searcher.problem, name))

    def step(self) -> None:
        playing = innermost(self.searcher)  # a restarter may replace it within the step
        self.searcher.step()
        self.look(playing)

    def look(self, playing: SearchAlgorithm) -> None:
        """Record the mean evaluation of the last generation, if any."""
        if playing.step_count:
            self.seen.append(float(playing.status["mean_eval"]))

    @property
    def rank_key(self) -> tuple[float, float, float]:
        """Key of the mean evaluation; higher is better, and a search that has not started ranks last."""
        sign = 1.0 if self.searcher.problem.senses[0] == "max" else -1.0
        return rank_key([sign * seen for seen in self.seen]) if self.seen else (float("-inf"), 0.0, 0.0)


class Race(SearchAlgorithm):
    """Several searches take turns until each has used ``steps`` environment steps; then the best continues alone.

    The result of a search depends on the network that was drawn (the paper, section 5: it is "highly sensitive to the
    initialization seed"). A race therefore draws several networks. The best search is the one with the highest mean
    evaluation over its last generations. These are the evaluations of the search itself, not separate tests.

    A step of the race is one step of the search that has used the fewest environment steps. ``problem`` and ``status``
    are those of the best search so far, with two exceptions: ``iter`` counts the steps of all searches, and the total
    counts of environment steps and episodes are sums over all searches.

    EvoTorch's restarters (``Restart``, ``IPOP``) may race too; the evaluations of the searches within them count.
    Searches with levels (``ElitistGaussianResampling.continuation``) should reach the last level within ``steps``,
    since evaluations at an easier level are not comparable. If mean evaluations are infinite, the search with fewer
    infinitely bad ones among the last is better.

    Example:
        >>> race = Race([ElitistGaussianResampling(make_problem(seed)) for seed in range(4)], steps=4_500_000)
        >>> race.run(1000)
        >>> subnetwork = race.problem.to_subnetwork(race.status["center"])

    Args:
        searchers: At least two searches, each on its own problem, which counts environment steps and episodes. The last
            generation of a search that has run before counts. The actors of dropped searches are killed.
        steps: Environment steps that each search uses before the best is selected.
        window: Number of last generations over which the evaluations are averaged. Default: 10.

    Raises:
        TypeError: An argument has the wrong type, or a problem does not count environment steps and episodes.
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
                raise TypeError(f"searchers: expected searches that are not races, got {searcher!r}")
            if not all(hasattr(searcher.problem, name) for name in _COUNTS):
                raise TypeError(f"searchers: expected problems that count environment steps, got {searcher.problem!r}")
        if len({id(searcher.problem) for searcher in searchers}) < max(2, len(searchers)):
            raise ValueError(f"searchers: expected at least two, each on its own problem, got {searchers!r}")
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
        self._dropped = dict.fromkeys(_COUNTS, 0)  # what dropped searches have used
        super().__init__(searchers[0].problem)
        self.after_step_hook.append(self._count_all)

    @property
    def searchers(self) -> list[SearchAlgorithm]:
        """The searches still in the race."""
        return [racer.searcher for racer in self._racers]

    @property
    def steps(self) -> int:
        """Environment steps that each search uses before the best is selected."""
        return self._steps

    @property
    def window(self) -> int:
        """Number of last generations over which the evaluations are averaged."""
        return self._window

    def _step(self) -> None:
        turn = min(self._racers, key=lambda racer: racer.count("interaction_count"))
        turn.step()
        best = max(self._racers, key=lambda racer: racer.rank_key)
        if all(racer.count("interaction_count") >= self._steps for racer in self._racers):
            for racer in self._racers:
                if racer is not best:
                    self._dropped = {name: count + racer.count(name) for name, count in self._dropped.items()}
                    if racer.searcher.problem.actors is not None:
                        racer.searcher.problem.kill_actors()
            self._racers = [best]
        self._problem = best.searcher.problem
        LazyReporter.__init__(self)  # the best search may now be of a different class, with different status names
        self.update_status(_status_of(best.searcher))

    def clear_status(self) -> None:
        """Do nothing: each step replaces the status, and a step that fails keeps the old one."""

    def _count_all(self) -> dict[str, int]:
        return {
            total: self._dropped[name] + sum(racer.count(name) for racer in self._racers)
            for name, total in _COUNTS.items()
        }


def innermost(searcher: SearchAlgorithm) -> SearchAlgorithm:
    """The search that runs: the searcher itself, or the current search within a restarter."""
    while isinstance(searcher, Restart):
        searcher = searcher.search_algorithm
    return searcher


def _status_of(searcher: SearchAlgorithm) -> dict[str, Any]:
    """Its status without ``algorithm_terminated``, for which ``IPOP`` needs a population that may not exist yet."""
    status = searcher.status
    return {name: status[name] for name in status if name != "algorithm_terminated"}
