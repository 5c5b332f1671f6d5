"""The default search reaches high sparsity through levels that keep more weights."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from evotorch import Problem
from evotorch.algorithms import SNES

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import FrozenNetwork, MaskedGymProblem, Threshold, TopK
from subnet_problems.masks._levels import levels_to


class Leveled(Problem):
    """At level k the first k + 1 values count. The genotype is the phenotype; calls are recorded."""

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


def test_levels_change_in_order_and_the_last_one_remains():
    problem = Leveled()
    searcher = ElitistGaussianResampling(problem, popsize=16)
    levels = []
    for _ in range(36):
        searcher.step()
        levels.append(searcher.level)
        assert problem.level == 2  # outside of the steps of the search the level does not change
    assert problem.evaluated_at == levels == [0] * 25 + [1] * 3 + [2] * 8
    assert problem.narrowed_at == [1, 2]


def test_a_level_takes_over_only_the_center_of_the_previous_level():
    searcher = ElitistGaussianResampling(Leveled(), popsize=16)
    searcher.run(25)
    center = searcher._center.clone()
    searcher.step()
    children = searcher.population.values.as_subclass(torch.Tensor)
    assert len(children) == 16
    assert (children - center).std().item() == pytest.approx(0.05, rel=0.2)
    assert torch.equal(searcher.status["center"], searcher._center)  # no candidate of an easier level is returned


def test_last_level_from_is_the_generation_at_which_the_last_level_starts():
    searcher = ElitistGaussianResampling(Leveled(), popsize=16)
    searcher.run(searcher.last_level_from - 1)
    assert searcher.level == 1
    searcher.step()
    assert searcher.level == 2
    assert ElitistGaussianResampling(lander(TopK(0.9)), popsize=16).last_level_from == 1


def test_a_generation_that_fails_at_a_level_change_can_be_repeated():
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
def test_other_searches_do_not_use_levels(options):
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


def test_levels_keep_fewer_and_fewer_weights():
    problem = lander(TopK(0.99, scope="erdos_renyi"))
    assert problem.num_levels == 15
    values, kept = problem.generate_batch(2).values, []
    for level in range(problem.num_levels):
        with problem.at_level(level):
            problem.evaluate_array(values.numpy())
            kept.append(round(problem.network.num_weights * (1.0 - problem.status["mean_sparsity"])))
            assert problem.mask(values).sum(dim=1).tolist() == [12, 12]  # masks of policies do not depend on the level
    assert kept == sorted(kept, reverse=True)
    assert (kept[0], kept[4], kept[-1]) == (120, 62, 12)
    problem.evaluate_array(values.numpy())
    assert problem.status["mean_sparsity"] == pytest.approx(0.99)


def test_expected_and_confined_scores_depend_on_the_level():
    problem = lander(TopK(0.99, scope="erdos_renyi"))
    center = problem.generate_batch(1).values.as_subclass(torch.Tensor)[0]
    easy = lander(TopK(0.9, scope="erdos_renyi"))
    values = problem.generate_batch(3).values.as_subclass(torch.Tensor)
    with problem.at_level(0):
        asked = torch.stack([*problem.expected_solutions(values, center=center, stdev=0.05)])
        confined = problem.confined(9.0 * center)
    assert torch.equal(asked, torch.stack([*easy.expected_solutions(values, center=center, stdev=0.05)]))
    assert torch.equal(confined, easy.confined(9.0 * center))
    assert not torch.equal(asked, torch.stack([*problem.expected_solutions(values, center=center, stdev=0.05)]))
    aside = problem.narrowed(center) < problem.mask_rule.cutoffs(center[None], problem.network.layers)[0] - 0.9
    assert aside.count_nonzero() > 250


def test_the_best_solution_so_far_has_the_final_sparsity():
    problem = lander(TopK(0.99))
    with problem.at_level(3):
        problem.evaluate(problem.generate_batch(4))
    assert "best" not in problem.status
    problem.evaluate(problem.generate_batch(4))
    assert problem.status["best"].evals.isfinite().all()


@pytest.mark.parametrize(("hidden_sizes", "mask", "num_levels"), [
    ((87, 87), TopK(0.97, scope="erdos_renyi"), 1),
    ((87, 87), TopK(0.97), 8),  # most of the weights that it keeps are dead
    ((87, 87), TopK(0.92), 1),
    ((30, 30), TopK(0.97, scope="erdos_renyi"), 8),  # a smaller network
    ((87, 87), TopK(0.99, scope="erdos_renyi"), 15),
    ((311, 311), TopK(0.99, scope="erdos_renyi"), 1),  # a larger one
])  # fmt: skip
def test_a_search_starts_at_an_easier_level_if_random_masks_have_few_live_weights(hidden_sizes, mask, num_levels):
    network = FrozenNetwork(hidden_sizes, obs_length=8, act_length=2, seed=0)
    assert len(levels_to(mask, network)) == num_levels


@pytest.mark.parametrize(("sparsity", "num_levels"), [(0.95, 1), (0.96, 7)])
def test_a_network_of_unknown_live_weights_is_searched_directly_up_to_a_sparsity_of_95_percent(sparsity, num_levels):
    network = FrozenNetwork("RNN(obs_length, 30) >> Linear(30, act_length)", obs_length=8, act_length=2, seed=0)
    assert len(levels_to(TopK(sparsity), network)) == num_levels


@pytest.mark.parametrize("mask", [Threshold(0.0), TopK(0.9)], ids=repr)
def test_rules_of_low_sparsity_have_one_level(mask):
    problem = lander(mask)
    assert problem.num_levels == 1
    center = problem.generate_batch(1).values.as_subclass(torch.Tensor)[0]
    if isinstance(mask, Threshold):
        assert problem.narrowed(center) is center


@pytest.mark.parametrize("level", [-1, 15, 1.5])
def test_an_invalid_level_is_refused(level):
    problem = lander(TopK(0.99))
    with pytest.raises((TypeError, ValueError), match=r"^level: expected"), problem.at_level(level):
        pass


def test_a_search_resumed_at_an_intermediate_level_gives_bit_identical_results(tmp_path):
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


def test_levels_keep_distinct_numbers_of_weights_and_start_at_ten():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=0.96, seed=0)  # 48 weights
    values, kept = problem.generate_batch(1).values, []
    for level in range(problem.num_levels):
        with problem.at_level(level):
            problem.evaluate_array(values.numpy())
            kept.append(round(48 * (1.0 - problem.status["mean_sparsity"])))
    assert kept == sorted(set(kept), reverse=True)
    assert (kept[0], kept[-1]) == (10, 2)


class CustomRule(TopK):
    """A rule that the library does not know."""


@pytest.mark.parametrize("mask", [CustomRule(0.99), TopK(0.99, rescale="fixed")], ids=repr)
def test_custom_rules_and_fixed_factors_have_one_level(mask):
    assert lander(mask).num_levels == 1


def test_narrowed_scores_stay_far_below_the_cutoff_in_long_searches():
    problem = lander(TopK(0.97, scope="erdos_renyi"))
    layers = problem.network.layers
    center = problem.narrowed(problem.generate_batch(1).values.as_subclass(torch.Tensor)[0])
    aside = center < problem.mask_rule.cutoffs(center[None], layers)[0] - 0.9
    assert aside.any()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        center = problem.confined(center + 0.03 * torch.randn(len(center), generator=generator) * ~aside)
    assert (center < problem.mask_rule.cutoffs(center[None], layers)[0] - 0.6)[aside].all()
