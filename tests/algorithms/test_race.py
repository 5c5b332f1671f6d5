"""A race: whose turn it is, who goes on, and what it reports."""

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
    """What a search comes to that is in no race."""
    searcher = search(seed)
    return [
        (searcher.step(), float(searcher.status["mean_eval"]), searcher.problem.interaction_count)[1:]
        for _ in range(num_steps)
    ]


def test_all_get_their_steps_then_the_best_of_the_last_generations_goes_on_alone():
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
    worths = [np.mean([evaluation for evaluation, _ in history[-2:]]) for history in histories]
    assert racing.searchers == [searchers[int(np.argmax(worths))]]
    racing.run(5)
    assert [searcher.step_count for searcher in searchers if searcher not in racing.searchers] == [
        length for searcher, length in zip(searchers, lengths, strict=True) if searcher not in racing.searchers
    ]


def test_the_status_is_that_of_the_best_with_the_counts_of_all():
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
def test_a_race_goes_on_from_a_checkpoint_to_the_same_bits(at, decided, tmp_path):
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
    """A sphere that is worth the more, the lower ``worth`` is, or what ``evaluate`` says of each generation."""

    def __init__(self, worth, *, sense="min", evaluate=None):
        super().__init__(sense, solution_length=3, initial_bounds=(-1, 1), seed=1)
        self.worth, self.interaction_count, self.episode_count = worth, 0, 0
        self.rule = evaluate

    def _evaluate_batch(self, batch):
        self.interaction_count += len(batch)
        self.episode_count += len(batch)
        batch.set_evals((batch.values**2).sum(dim=-1) + self.worth)
        if self.rule is not None:
            batch.set_evals(self.rule(self.interaction_count // len(batch), batch.evals[:, 0].clone()))


def test_searches_of_other_kinds_may_race_and_the_lowest_wins_where_it_is_to_be_low():
    problems = [Counting(worth) for worth in (2.0, -50.0, 3.0)]
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
    """Fitness of which some solutions' is infinite in these generations."""

    def evaluate(generation, evals):
        if generation in generations:
            evals[: len(values)] = torch.tensor(values)
        return evals

    return evaluate


@pytest.mark.parametrize("sense", ["min", "max"])
def test_of_searches_with_infinite_means_the_one_with_the_fewest_bad_ones_goes_on(sense):
    bad = 1.0 if sense == "min" else -1.0
    inf = bad * np.inf
    rules = [infinite_at({1, 2, 3, 4, 5}, inf), infinite_at({2, 4}, inf), infinite_at({3}, inf), None]

    def winner(rules, worths):
        problems = [
            Counting(bad * worth, sense=sense, evaluate=rule) for rule, worth in zip(rules, worths, strict=True)
        ]
        racing = Race([ElitistGaussianResampling(problem, popsize=10) for problem in problems], steps=50, window=5)
        racing.run(5 * len(problems) + 1)
        assert [searcher.problem for searcher in racing.searchers] == [racing.problem]
        return problems.index(racing.problem)

    assert winner(rules, [1, 2, 3, 400]) == 3  # by generations alone, whatever the finite ones are
    assert winner(rules[:3], [1, 2, 300]) == 2
    assert winner([rules[2]] * 3, [3, 1, 2]) == 1  # by the finite ones
    assert winner([None, infinite_at({3}, -inf), None], [1, 500, 2]) == 1  # infinitely good once, never bad
    assert winner([infinite_at({2}, inf, -inf), None], [1, 500]) == 1  # a mean of both is NaN, and counts as bad


def restarting(seed, kind=IPOP, algorithm=ElitistGaussianResampling, **options):
    problem = search(seed).problem
    if kind is IPOP:
        options = {"min_fitness_stdev": 25.0, **options}
    return kind(problem, algorithm, {"popsize": 8} | ({"stdev_init": 0.1} if algorithm is SNES else {}), **options)


@pytest.mark.parametrize("algorithm", [ElitistGaussianResampling, SNES])
@pytest.mark.parametrize("kind", [Restart, IPOP])
def test_restarters_race_by_what_the_searches_within_them_saw(kind, algorithm):
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


def test_a_race_can_be_asked_for_its_settings_but_not_changed():
    racing = race(steps=700, window=3)
    assert (racing.steps, racing.window) == (700, 3)
    for name in ("steps", "window", "searchers"):
        with pytest.raises(AttributeError, match=f"'{name}' of 'Race' object has no setter"):
            setattr(racing, name, 5)


def test_the_status_has_the_names_of_the_best_alone():
    kinds = {"elitist": 0, "genetic": 1}
    racing = Race([make_search(kind, search(seed).problem, popsize=8) for kind, seed in kinds.items()], steps=1_500)
    leaders = set()
    while len(racing.searchers) > 1:
        racing.step()
        leader = next(searcher for searcher in racing.searchers if searcher.problem is racing.problem)
        assert ("center" in racing.status) == ("center" in leader.status)  # GeneticAlgorithm has none
        leaders.add("center" in leader.status)
    assert leaders == {True, False}


def test_a_step_that_fails_leaves_the_status_of_the_one_before():
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


def test_what_a_search_showed_before_the_race_counts():
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
    """Says nothing of its evaluations."""


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
def test_a_wrong_race_is_refused_by_name(searchers, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Race(searchers(), **{"steps": 100} | options)
