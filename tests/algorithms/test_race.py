"""A race: which search takes the next step, which one continues, and what the status reports."""

import numpy as np
import pytest
import torch
from evotorch import Problem
from evotorch.algorithms import PGPE, SNES, SearchAlgorithm
from evotorch.algorithms.restarter import IPOP, Restart
from evotorch.logging import PandasLogger

from algorithms import Checkpointer, ElitistGaussianResampling, Race, resume
from subnet_problems import MaskedGymProblem
from subnet_problems.experiments import make_search


def search(seed, **options):
    options = {"popsize": 8, **options}
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(6,), episode_length=100, network_seed=seed, seed=seed)
    return ElitistGaussianResampling(problem, **options)


def race(num=3, *, steps=1_500, window=2):
    return Race([search(seed) for seed in range(num)], steps=steps, window=window)


def alone(seed, num_steps):
    """Mean fitness and interaction count after each step of a search outside a race."""
    searcher = search(seed)
    return [
        (searcher.step(), float(searcher.status["mean_eval"]), searcher.problem.interaction_count)[1:]
        for _ in range(num_steps)
    ]


def test_each_search_gets_its_steps_then_only_the_best_of_recent_generations_continues():
    racing = race()
    searchers = racing.searchers
    while len(racing.searchers) > 1:
        spent = [searcher.problem.interaction_count for searcher in searchers]
        before = [searcher.step_count for searcher in searchers]
        racing.step()
        turns = np.subtract([searcher.step_count for searcher in searchers], before)
        assert turns.sum() == 1
        assert spent[turns.argmax()] == min(spent)
    lengths = [searcher.step_count for searcher in searchers]
    histories = [alone(seed, length) for seed, length in enumerate(lengths)]
    assert all(history[-1][1] >= 1_500 > history[-2][1] for history in histories)
    means = [np.mean([evaluation for evaluation, _ in history[-2:]]) for history in histories]
    assert racing.searchers == [searchers[int(np.argmax(means))]]
    racing.run(5)
    assert [searcher.step_count for searcher in searchers if searcher not in racing.searchers] == [
        length for searcher, length in zip(searchers, lengths, strict=True) if searcher not in racing.searchers
    ]


def test_the_status_is_that_of_the_best_search_with_the_counts_of_all():
    racing = race()
    searchers = racing.searchers
    logger = PandasLogger(racing)
    for number in range(1, 30):
        racing.step()
        status = racing.status
        assert status["iter"] == racing.step_count == number == sum(searcher.step_count for searcher in searchers)
        for total, count in (("interaction", "interaction_count"), ("episode", "episode_count")):
            counted = sum(getattr(searcher.problem, count) for searcher in searchers)
            assert status[f"total_{total}_count"] == counted
        leader = next(searcher for searcher in searchers if searcher.problem is racing.problem)
        assert (status["center"] == leader.status["center"]).all()
        assert status["mean_eval"] == leader.status["mean_eval"]
    assert len(racing.searchers) == 1
    assert len(logger.to_dataframe()) == 29


@pytest.mark.parametrize(("at", "decided"), [(5, False), (25, True)])
def test_a_resumed_race_gives_bit_identical_results(at, decided, tmp_path):
    whole, stopped = race(), race()
    whole.run(30)
    Checkpointer(stopped, tmp_path / "checkpoint", every=5)
    for _ in range(at + 2):
        stopped.step()
    stopped = resume(tmp_path / "checkpoint", allow_pickle=True)
    assert stopped.step_count == at
    assert (len(stopped.searchers) == 1) == decided
    stopped.run(30 - at)
    assert stopped.status["center"].tolist() == whole.status["center"].tolist()
    assert stopped.status["total_interaction_count"] == whole.status["total_interaction_count"]
    assert stopped.problem.problem_seed == whole.problem.problem_seed


class Counting(Problem):
    """A sphere plus a constant ``offset``; ``evaluate`` may change the fitness of each generation."""

    def __init__(self, offset, *, sense="min", evaluate=None):
        super().__init__(sense, solution_length=3, initial_bounds=(-1, 1), seed=1)
        self.offset, self.interaction_count, self.episode_count = offset, 0, 0
        self.rule = evaluate

    def _evaluate_batch(self, batch):
        self.interaction_count += len(batch)
        self.episode_count += len(batch)
        batch.set_evals((batch.values**2).sum(dim=-1) + self.offset)
        if self.rule is not None:
            batch.set_evals(self.rule(self.interaction_count // len(batch), batch.evals[:, 0].clone()))


def test_searches_of_different_kinds_can_race_and_minimization_is_respected():
    problems = [Counting(offset) for offset in (2.0, -50.0, 3.0)]
    racing = Race(
        [
            SNES(problems[0], stdev_init=0.1, popsize=10),
            PGPE(problems[1], popsize=10, center_learning_rate=0.1, stdev_learning_rate=0.1, stdev_init=0.1),
            ElitistGaussianResampling(problems[2], popsize=10),
        ],
        steps=50,
    )
    racing.run(15)
    assert [searcher.problem for searcher in racing.searchers] == [problems[1]] == [racing.problem]


def infinite_at(generations, *values):
    """A rule that sets the fitness of the first solutions to ``values`` in these generations."""

    def evaluate(generation, evals):
        if generation in generations:
            evals[: len(values)] = torch.tensor(values)
        return evals

    return evaluate


@pytest.mark.parametrize("sense", ["min", "max"])
def test_the_search_with_the_fewest_infinitely_bad_means_continues(sense):
    bad = 1.0 if sense == "min" else -1.0
    inf = bad * np.inf
    rules = [infinite_at({1, 2, 3, 4, 5}, inf), infinite_at({2, 4}, inf), infinite_at({3}, inf), None]

    def winner(rules, offsets):
        problems = [
            Counting(bad * offset, sense=sense, evaluate=rule) for rule, offset in zip(rules, offsets, strict=True)
        ]
        racing = Race([ElitistGaussianResampling(problem, popsize=10) for problem in problems], steps=50, window=5)
        racing.run(5 * len(problems) + 1)
        assert [searcher.problem for searcher in racing.searchers] == [racing.problem]
        return problems.index(racing.problem)

    assert winner(rules, [1, 2, 3, 400]) == 3  # only the number of bad generations counts, not the finite values
    assert winner(rules[:3], [1, 2, 300]) == 2
    assert winner([rules[2]] * 3, [3, 1, 2]) == 1  # by the finite values
    assert winner([None, infinite_at({3}, -inf), None], [1, 500, 2]) == 1  # infinitely good once, never bad
    assert winner([infinite_at({2}, inf, -inf), None], [1, 500]) == 1  # a mean of both is NaN, and counts as bad


def restarting(seed, kind=IPOP, algorithm=ElitistGaussianResampling, **options):
    problem = search(seed).problem
    if kind is IPOP:
        options = {"min_fitness_stdev": 25.0, **options}
    return kind(problem, algorithm, {"popsize": 8} | ({"stdev_init": 0.1} if algorithm is SNES else {}), **options)


@pytest.mark.parametrize("algorithm", [ElitistGaussianResampling, SNES])
@pytest.mark.parametrize("kind", [Restart, IPOP])
def test_restarters_race_by_the_evaluations_of_their_inner_searches(kind, algorithm):
    racing = Race([restarting(seed, kind, algorithm) for seed in range(3)], steps=1_500, window=2)
    searchers, seen = racing.searchers, {seed: [] for seed in range(3)}
    for seed, searcher in enumerate(searchers):
        note = seen[seed].append
        searcher.problem.after_eval_hook.append(lambda batch, note=note: note(batch.evals.mean().item()))
    while len(racing.searchers) > 1:
        racing.step()
        means = {seed: np.mean(evals[-2:]) if evals else -np.inf for seed, evals in seen.items()}
        assert racing.problem is searchers[max(means, key=means.get)].problem
        leader = next(searcher for searcher in searchers if searcher.problem is racing.problem)
        assert racing.status["num_restarts"] == leader.num_restarts
        assert "center" in racing.status["search_algorithm"]
    assert (sum(searcher.num_restarts for searcher in searchers) > 3) == (kind is IPOP)
    racing.run(3)


def test_the_settings_of_a_race_are_read_only():
    racing = race(steps=700, window=3)
    assert (racing.steps, racing.window) == (700, 3)
    for name in ("steps", "window", "searchers"):
        with pytest.raises(AttributeError, match=f"'{name}' of 'Race' object has no setter"):
            setattr(racing, name, 5)


def test_the_status_has_only_the_entries_of_the_best_search():
    kinds = {"elitist": 0, "genetic": 1}
    racing = Race([make_search(kind, search(seed).problem, popsize=8) for kind, seed in kinds.items()], steps=1_500)
    leaders = set()
    while len(racing.searchers) > 1:
        racing.step()
        leader = next(searcher for searcher in racing.searchers if searcher.problem is racing.problem)
        assert ("center" in racing.status) == ("center" in leader.status)  # GeneticAlgorithm has no center
        leaders.add("center" in leader.status)
    assert leaders == {True, False}


def test_a_failed_step_does_not_change_the_status():
    racing = race()
    racing.run(5)
    before = dict(racing.status)

    def fail(_):
        raise KeyboardInterrupt

    for searcher in racing.searchers:
        searcher.problem.before_eval_hook.append(fail)
    with pytest.raises(KeyboardInterrupt):
        racing.step()
    assert racing.status["center"].tolist() == before["center"].tolist()
    assert racing.status["total_interaction_count"] == before["total_interaction_count"]


def test_generations_before_the_race_count():
    ahead, behind = search(1), search(0)
    ahead.run(30)
    racing = Race([ahead, behind], steps=1_500)
    racing.step()
    assert racing.problem is ahead.problem
    while len(racing.searchers) > 1:
        racing.step()
    assert ahead.status["mean_eval"] > behind.status["mean_eval"]
    assert racing.searchers == [ahead]


class Silent(SearchAlgorithm):
    """Its status says nothing about evaluations."""


@pytest.mark.parametrize(
    ("searchers", "options", "error", "message"),
    [
        (lambda: [search(0)], {}, ValueError, "searchers: expected at least two"),
        (lambda: [search(0), 3], {}, TypeError, "searchers: expected EvoTorch searches, got 3"),
        (lambda: [search(0)] * 2, {}, ValueError, "searchers: expected at least two, each on its own problem"),
        (
            lambda: [search(0), SNES(Problem("max", sum, solution_length=2, initial_bounds=(0, 1)), stdev_init=1.0)],
            {}, TypeError, "searchers: expected problems that count environment steps",
        ),
        (lambda: [search(0), race()], {}, TypeError, "searchers: expected searches that are not races"),
        (
            lambda: [search(0), Silent(search(1).problem)],
            {}, TypeError, "searchers: expected searches whose status has a mean_eval",
        ),
        (lambda: [search(0), search(1)], {"steps": 0}, ValueError, "steps: expected"),
        (lambda: [search(0), search(1)], {"steps": 1.5}, TypeError, "steps: expected"),
        (lambda: [search(0), search(1)], {"window": 0}, ValueError, "window: expected"),
        (lambda: [search(0), search(1)], {"window": 10**30}, ValueError, "window: expected"),
    ],
)  # fmt: skip
def test_errors_name_the_invalid_argument(searchers, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Race(searchers(), **{"steps": 100} | options)
