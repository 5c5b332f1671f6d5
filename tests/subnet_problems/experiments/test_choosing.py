"""How the policies of a front are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from environments import SHORT_POLE

from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, TopK
from subnet_problems.experiments._choosing import (
    _anew,
    _by_size,
    _Candidate,
    _front,
    _Games,
    _not_beaten,
    _with_smaller,
    _worth_it,
    choose,
)
from subnet_problems.masks import live_masks


def candidate(size, *rewards):
    one = _Candidate(torch.arange(5000) < size)
    one.rewards = list(rewards)
    return one


def pole(*, rescale="fixed", count="live", hidden_sizes=(5, 5)):
    masked = MaskedGymProblem(
        SHORT_POLE, hidden_sizes=hidden_sizes, mask_rule=TopK(0.5, rescale=rescale), seed=0, episode_length=15,
        common_random_numbers=False,
    )  # fmt: skip
    return ParetoSparsityProblem(masked, count=count)


def groups(problem):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, problem.n_var))
    x[0, :, -1], x[1, :, -1] = -0.5, -1.0
    return list(x)


def test_policies_of_a_front_with_more_weights_earn_more():
    ones = [candidate(9, 5.0), candidate(4, 3.0), candidate(4, 2.0), candidate(7, 3.0), candidate(12, 4.9)]
    assert _front(ones, None) == [ones[1], ones[0]]


def test_policies_below_min_reward_are_left_out_unless_all_are_below():
    ones = [candidate(4, 3.0), candidate(9, 5.0), candidate(11, 9.0)]
    assert _front(ones, 5.0) == ones[1:]
    assert _front(ones, 10.0) == ones


def test_small_policies_are_grouped_by_their_number_of_weights():
    sizes = [[one.size for one in field] for field in _by_size([candidate(n) for n in [40, 7, 6, 7, 41, 43, 800, 830]])]
    assert sizes == [[6], [7, 7], [40, 41], [43], [800, 830]]


def test_groups_significantly_worse_than_a_sparser_group_are_dropped():
    def field(size, mean):
        return [candidate(size, mean - 10.0, mean, mean, mean + 10.0)]

    fields = [field(4, 50.0), field(5, 30.0), field(6, 47.0), field(7, 60.0)]
    assert _not_beaten(fields, None) == [fields[0], fields[2], fields[3]]
    assert _not_beaten(fields, 55.0) == [fields[3]]
    assert _not_beaten(fields, 1000.0) == _not_beaten(fields, None)  # no policy reaches this reward
    assert _not_beaten(fields[::-1], None) == _not_beaten(fields, None)
    endless = [[candidate(3, -np.inf, 0.0)], [candidate(4, 5.0, 6.0)]]
    assert _not_beaten(endless, None) == endless


@pytest.mark.parametrize("min_reward", [None, 12.0])
def test_chosen_policies_have_new_evaluations_on_gymnasium(min_reward):
    problem = pole()
    before = problem.masked.backend, problem.masked.episode_length
    found = choose(problem, groups(problem), min_reward=min_reward)
    assert (problem.masked.backend, problem.masked.episode_length) == before
    sizes, means = [one.subnet.num_active for one in found], [one.seen for one in found]
    assert sizes == sorted(set(sizes))
    assert means == sorted(set(means))
    assert min_reward is None or min(means) >= min_reward
    for one in found:
        assert one.num_evaluations == 60
        assert one.subnet.prune().num_active == one.subnet.num_active
        returns = one.subnet.test(num_episodes=200, seed=1)
        assert one.seen == pytest.approx(returns.mean(), abs=5 * returns.std() / one.num_evaluations**0.5 + 1.0)


def test_trimmed_policies_are_smaller_than_all_policies_of_the_search():
    problem = pole()
    found = choose(problem, groups(problem))
    alone = [problem.to_subnetwork(x).num_active for group in groups(problem) for x in group[:8]]
    assert found[0].subnet.num_active < min(alone)


def test_trimming_removes_weights_while_the_reward_is_high_enough():
    problem = pole()
    found = choose(problem, groups(problem), min_reward=8.0)  # every policy reaches this reward
    assert found[0].subnet.num_active == 3  # one path from an observation to an action


def test_smaller_versions_are_made_of_small_policies_first():
    problem = pole(hidden_sizes=(20, 20))
    few, many = (live_masks(problem.masked.network, torch.rand(problem.masked.solution_length) < p) for p in (0.2, 0.6))
    few, many = _Candidate(few), _Candidate(many)
    assert few.size < 80 < 100 < many.size
    few.rewards, many.rewards = [0.0], [1.0]
    for groups, start, least in [([[few], [many]], few, few.size - 5), ([[many]], many, many.size - 20)]:
        found = _with_smaller(_Games(problem.masked, 1.0), groups, None)
        made = [one for one in found if one not in (few, many)]
        assert made
        assert all(least < one.size < start.size for one in made)


def test_a_small_budget_is_spent_on_policies_that_improve_the_front_most():
    small, worse = [candidate(4, 30.0), candidate(4, 10.0)], [candidate(5, 20.0)]
    little, much = [candidate(7, 33.0)], [candidate(8, 60.0)]
    groups = [little, worse, much, small]
    assert _worth_it(groups, 5) == groups
    assert _worth_it(groups, 4) == [much, small, little]
    assert _worth_it(groups, 3) == [much, small]
    assert _worth_it(groups, 0) == [much]
    anew = [_anew(group, 1) for group in groups]  # the ranking still uses the earlier rewards
    assert not any(one.rewards for group in anew for one in group)
    assert _worth_it(anew, 3) == [anew[2], anew[3], anew[0]]
    endless = [[candidate(4, -np.inf)], [candidate(5, -np.inf)]]
    assert _worth_it(endless, 1) == endless[:1]


def test_choosing_respects_max_steps():
    steps = []
    for max_steps in (None, 60_000):
        problem = pole()
        found = choose(problem, groups(problem), min_reward=25.0, max_steps=max_steps)
        assert [one.num_evaluations for one in found] == [60] * len(found)
        assert found[-1].seen >= 25.0
        steps.append(problem.interaction_count)
    assert steps[1] < 60_000 < steps[0]


@pytest.mark.parametrize("rescale", [True, "fixed"])
def test_sizes_are_numbers_of_live_weights(rescale):
    problem = pole(rescale=rescale)
    found = choose(problem, groups(problem), trim=False)
    counts = [one.subnet.num_active for one in found]
    assert counts == sorted(set(counts))
    known = {problem.to_subnetwork(x).mask.numpy().tobytes() for group in groups(problem) for x in group}
    assert all(one.subnet.mask.numpy().tobytes() in known for one in found)  # no policy was trimmed


@pytest.mark.parametrize("options", [{"rescale": True}, {"count": "kept"}], ids=str)
def test_nothing_is_trimmed_if_rescaling_follows_the_mask_or_dead_weights_count(options):
    problem = pole(**options)
    known = {problem.to_subnetwork(x).mask.numpy().tobytes() for group in groups(problem) for x in group}
    found = choose(problem, groups(problem))
    assert found
    assert all(one.subnet.mask.numpy().tobytes() in known for one in found)
