"""``spend`` runs a search for a number of environment steps, and prints its progress."""

import io

import pytest
from environments import SHORT_POLE
from evotorch.algorithms import SNES
from rich.console import Console

from algorithms import ElitistGaussianResampling, Race
from subnet_problems import DenseGymProblem, MaskedGymProblem
from subnet_problems.experiments import spend


def terminal():
    return Console(file=io.StringIO(), width=120, force_terminal=True)


@pytest.mark.parametrize("kind", [MaskedGymProblem, DenseGymProblem])
def test_a_search_stops_at_the_first_generation_that_spends_the_budget(kind):
    problem, console = kind(SHORT_POLE, hidden_sizes=(3,), seed=0), terminal()
    searcher = ElitistGaussianResampling(problem, popsize=8)
    counts = []
    problem.after_eval_hook.append(lambda batch: counts.append(problem.interaction_count))
    spend(searcher, 1_000, console=console)
    assert counts[-2] < 1_000 <= counts[-1] == problem.interaction_count
    assert f"generation {searcher.step_count}, mean return" in console.file.getvalue()
    assert ("sparsity" in console.file.getvalue()) == (kind is MaskedGymProblem)
    before = searcher.step_count
    spend(searcher, 1_000, console=console)
    assert searcher.step_count == before
    spend(searcher, 2_000, console=console)
    assert problem.interaction_count >= 2_000


def test_a_race_ends_when_all_its_searches_together_spent_the_budget():
    problems = [MaskedGymProblem(SHORT_POLE, hidden_sizes=(3,), seed=0, network_seed=seed) for seed in range(3)]
    race = Race([ElitistGaussianResampling(problem, popsize=8) for problem in problems], steps=600)
    spend(race, 3_000, console=terminal())
    assert len(race.searchers) == 1
    steps = sum(problem.interaction_count for problem in problems)
    assert 3_000 <= steps == race.status["total_interaction_count"] < 3_000 + 8 * 30


def test_ctrl_c_raises_and_the_search_can_continue():
    problem = MaskedGymProblem(SHORT_POLE, hidden_sizes=(3,), seed=0)
    searcher = SNES(problem, popsize=8, stdev_init=0.1)

    def stop(batch):
        if searcher.step_count == 2:
            raise KeyboardInterrupt

    problem.before_eval_hook.append(stop)
    with pytest.raises(KeyboardInterrupt):
        spend(searcher, 2_000, console=terminal())
    assert 0 < problem.interaction_count < 2_000
    problem.before_eval_hook.remove(stop)
    spend(searcher, 2_000, console=terminal())
    assert problem.interaction_count >= 2_000


@pytest.mark.parametrize(("searcher", "budget", "error", "message"), [
    ("a search", 100, TypeError, "searcher: expected a search on a problem that counts environment steps, got "),
    (None, 0, ValueError, "budget: expected a whole number >= 1, got 0"),
])  # fmt: skip
def test_invalid_arguments_of_spend_raise(searcher, budget, error, message):
    problem = MaskedGymProblem(SHORT_POLE, hidden_sizes=(3,), seed=0)
    with pytest.raises(error, match=f"^{message}"):
        spend(searcher or ElitistGaussianResampling(problem), budget, console=terminal())
    assert problem.interaction_count == 0
