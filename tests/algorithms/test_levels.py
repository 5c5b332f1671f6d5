"""The default search goes to few weights through levels that have more."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from evotorch import Problem
from evotorch.algorithms import SNES

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import MaskedGymProblem, Threshold, TopK


class Leveled(Problem):
    """At level k the first k + 1 values count; nothing is decoded, and what is asked of it is noted."""

    num_levels = 3

    def __init__(self):
        super().__init__("max", solution_length=6, initial_bounds=(-1.0, 1.0), seed=0)
        self.level, self.evaluated_at, self.narrowed_at, self.fail = 2, [], [], False

    def _evaluate_batch(self, batch):
        if self.fail:
            raise RuntimeError("no")
        self.evaluated_at.append(self.level)
        batch.set_evals(-batch.values[:, : self.level + 1].square().sum(dim=-1))

    @contextmanager
    def at_level(self, level):
        before, self.level = self.level, level
        try:
            yield
        finally:
            self.level = before

    def expected_solutions(self, values, *, center, stdev):
        return values.clone()

    def confined(self, center):
        return center

    def narrowed(self, center):
        self.narrowed_at.append(self.level)
        return center


def test_levels_follow_one_another_and_the_last_stays():
    problem = Leveled()
    searcher = ElitistGaussianResampling(problem, popsize=16)
    levels = []
    for _ in range(36):
        searcher.step()
        levels.append(searcher.level)
        assert problem.level == 2  # outside of the search's steps it is what it is
    assert problem.evaluated_at == levels == [0] * 25 + [1] * 3 + [2] * 8
    assert problem.narrowed_at == [1, 2]


def test_a_level_begins_with_the_center_and_nothing_else_of_the_one_before():
    searcher = ElitistGaussianResampling(Leveled(), popsize=16)
    searcher.run(25)
    center = searcher._center.clone()
    searcher.step()
    children = searcher.population.values.as_subclass(torch.Tensor)
    assert len(children) == 16
    assert (children - center).std().item() == pytest.approx(0.05, rel=0.2)
    assert torch.equal(searcher.status["center"], searcher._center)  # no candidate of an easier level is handed out


def test_a_search_tells_when_its_last_level_begins():
    searcher = ElitistGaussianResampling(Leveled(), popsize=16)
    searcher.run(searcher.last_level_from - 1)
    assert searcher.level == 1
    searcher.step()
    assert searcher.level == 2
    assert ElitistGaussianResampling(lander(TopK(0.9)), popsize=16).last_level_from == 1


def test_a_generation_that_fails_at_a_change_of_level_is_taken_again():
    other = ElitistGaussianResampling(Leveled(), popsize=16)
    other.run(27)
    searcher = ElitistGaussianResampling(Leveled(), popsize=16)
    searcher.run(25)
    searcher.problem.fail = True
    with pytest.raises(RuntimeError, match="no"):
        searcher.step()
    assert searcher.problem.level == 2
    searcher.problem.fail = False
    searcher.run(2)
    assert torch.equal(searcher.population.values, other.population.values)


@pytest.mark.parametrize("options", [{"continuation": False}, {"recombination": "weighted"}], ids=str)
def test_levels_are_not_for_every_search(options):
    problem = Leveled()
    searcher = ElitistGaussianResampling(problem, popsize=16, **options)
    assert not searcher.continuation
    assert searcher.last_level_from == 1
    searcher.run(27)
    SNES(problem, stdev_init=0.1, popsize=16).run(1)
    assert set(problem.evaluated_at) == {2}


def lander(mask):
    return MaskedGymProblem(
        "LunarLander-v3", env_config={"continuous": True}, hidden_sizes=(30, 30), mask_rule=mask, episode_length=30,
        seed=0,
    )  # fmt: skip


def test_few_weights_are_found_through_masks_of_more():
    problem = lander(TopK(0.99, scope="erdos_renyi"))
    assert problem.num_levels == 15
    values, kept = problem.generate_batch(2).values, []
    for level in range(problem.num_levels):
        with problem.at_level(level):
            problem.evaluate_array(values.numpy())
            kept.append(round(problem.network.num_weights * (1.0 - problem.status["mean_sparsity"])))
            assert problem.mask(values).sum(dim=1).tolist() == [12, 12]  # masks and policies are the rule's own
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[4], kept[-1]) == (120, 62, 12)
    problem.evaluate_array(values.numpy())
    assert problem.status["mean_sparsity"] == pytest.approx(0.99)


def test_what_is_learned_and_where_noise_goes_is_that_of_the_level():
    problem = lander(TopK(0.99, scope="erdos_renyi"))
    center = problem.generate_batch(1).values.as_subclass(torch.Tensor)[0]
    easy = lander(TopK(0.9, scope="erdos_renyi"))
    values = problem.generate_batch(3).values.as_subclass(torch.Tensor)
    with problem.at_level(0):
        asked = problem.expected_solutions(values, center=center, stdev=0.05)
        confined = problem.confined(9.0 * center)
    assert torch.equal(asked, easy.expected_solutions(values, center=center, stdev=0.05))
    assert torch.equal(confined, easy.confined(9.0 * center))
    assert not torch.equal(asked, problem.expected_solutions(values, center=center, stdev=0.05))
    aside = problem.narrowed(center) < problem.mask_rule.cutoffs(center[None], problem.network.layers)[0] - 0.9
    assert aside.count_nonzero() > 250


def test_the_best_of_all_is_of_the_rules_own_sparsity():
    problem = lander(TopK(0.99))
    with problem.at_level(3):
        problem.evaluate(problem.generate_batch(4))
    assert "best" not in problem.status
    problem.evaluate(problem.generate_batch(4))
    assert problem.status["best"].evals.isfinite().all()


@pytest.mark.parametrize("mask", [Threshold(0.0), TopK(0.9), TopK(0.95)], ids=repr)
def test_what_is_found_from_nothing_is_one_level(mask):
    problem = lander(mask)
    assert problem.num_levels == 1
    center = problem.generate_batch(1).values.as_subclass(torch.Tensor)[0]
    if isinstance(mask, Threshold):
        assert problem.narrowed(center) is center


@pytest.mark.parametrize("level", [-1, 15, 1.5])
def test_a_level_that_is_not_there_is_refused(level):
    problem = lander(TopK(0.99))
    with pytest.raises((TypeError, ValueError), match=r"^level: expected"), problem.at_level(level):
        pass


def test_a_search_goes_on_from_any_level_to_the_same_bits(tmp_path):
    def search():
        return ElitistGaussianResampling(lander(TopK(0.99, scope="erdos_renyi")), popsize=8)

    whole = search()
    whole.run(31)
    assert whole.level == 2
    part = search()
    Checkpointer(part, tmp_path / "checkpoint", every=1)
    part.run(27)
    resumed = resume(tmp_path / "checkpoint", allow_pickle=True)
    assert resumed.level == 1
    resumed.run(4)
    assert torch.equal(resumed.population.values, whole.population.values)
    assert torch.equal(resumed.status["center"], whole.status["center"])


def test_levels_that_keep_as_many_weights_are_one_and_begin_at_ten_weights():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.96, seed=0)  # 48 weights
    values, kept = problem.generate_batch(1).values, []
    for level in range(problem.num_levels):
        with problem.at_level(level):
            problem.evaluate_array(values.numpy())
            kept.append(round(48 * (1.0 - problem.status["mean_sparsity"])))
    assert kept == sorted(set(kept), reverse=True)
    assert (kept[0], kept[-1]) == (10, 2)


class OfMyOwn(TopK):
    """A rule that is not known."""


@pytest.mark.parametrize("mask", [OfMyOwn(0.99), TopK(0.99, rescale="fixed")], ids=repr)
def test_a_rule_of_ones_own_and_fixed_factors_are_one_level(mask):
    assert lander(mask).num_levels == 1


def test_what_was_set_aside_stays_aside_however_long_the_search_goes_on():
    problem = lander(TopK(0.97, scope="erdos_renyi"))
    layers = problem.network.layers
    center = problem.narrowed(problem.generate_batch(1).values.as_subclass(torch.Tensor)[0])
    aside = center < problem.mask_rule.cutoffs(center[None], layers)[0] - 0.9
    assert aside.any()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        center = problem.confined(center + 0.03 * torch.randn(len(center), generator=generator) * ~aside)
    assert (center < problem.mask_rule.cutoffs(center[None], layers)[0] - 0.6)[aside].all()
