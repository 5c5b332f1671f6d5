"""A masked problem made from a policy contains exactly that policy."""

import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo, OddSpaces
from evaluations import fitness
from gymnasium.envs.classic_control import CartPoleEnv
from small_subnetworks import module

from subnet_problems import (
    FrozenNetwork,
    MaskedGymProblem,
    Normalizer,
    ParetoSparsityProblem,
    Subnetwork,
    Threshold,
    TopK,
)
from subnet_problems.networks._philox import episode_seeds


def found(*, mask=None, normalized=False, **options):
    """A policy for CartPole as a search returns it, with half of its 48 weights kept."""
    defaults = {"hidden_sizes": (8,), "seed": 4, "num_episodes": 2, "weight_gain": 2.0, "network_seed": 3}
    mask = TopK(0.5) if mask is None else mask
    problem = MaskedGymProblem(
        "CartPole-v1", mask_rule=mask, observation_normalization=normalized, **defaults | options
    )
    batch = problem.generate_batch(4)
    for _ in range(2):  # so that the normalizer has observations of several rounds
        problem.evaluate(batch)
    return problem.to_subnetwork(batch[1])


def returns_by_hand(subnet, seeds):
    """Returns of episodes with these seeds, stepped by hand on Gymnasium."""
    env, returns = gym.make(subnet.env, **subnet.env_config), []
    for seed in seeds.tolist():
        obs, _ = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(subnet.act(obs))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    env.close()
    return returns


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("mask", [Threshold(0.0), TopK(0.5, rescale=False), TopK(0.5), "pruned"], ids=repr)
def test_a_problem_from_a_policy_contains_the_same_policy(mask, normalized):
    subnet = found(normalized=normalized).prune() if mask == "pruned" else found(mask=mask, normalized=normalized)
    problem = MaskedGymProblem.from_subnetwork(subnet, backend="gymnasium", num_episodes=5, seed=9)
    assert problem.network is subnet.network
    assert problem.observation_normalization == normalized
    scores = problem.scores_from_mask(subnet.mask, seed=0)
    assert torch.equal(problem.mask(scores), subnet.mask)
    assert torch.equal(problem.decode(scores), subnet.weights)
    same = problem.mask_to_subnetwork(subnet.mask)
    assert (same.rescale, same.env, same.env_config) == (subnet.rescale, subnet.env, subnet.env_config)
    assert (same.normalizer is not None) == normalized
    if normalized:
        np.testing.assert_array_equal(same.normalizer.mean, subnet.normalizer.mean)
        np.testing.assert_array_equal(same.normalizer.scale, subnet.normalizer.scale)
    problem.evaluate_masks(subnet.mask[None])
    returns = problem.last_returns
    expected = returns_by_hand(subnet, episode_seeds(9, 10, stream=0)[::2])
    assert returns[0].tolist() == expected
    assert len(set(expected)) > 1


def test_observation_statistics_start_from_the_policy_and_are_updated():
    subnet = found(normalized=True)
    problem = MaskedGymProblem.from_subnetwork(subnet, num_episodes=2, seed=0)
    before = problem.get_observation_stats()
    assert before.count == 10**6
    problem.evaluate_masks(subnet.mask[None])
    after = problem.get_observation_stats()
    assert after.count == 10**6 + problem.interaction_count
    assert (after.mean != before.mean).any()
    np.testing.assert_allclose(after.mean, before.mean, atol=1e-3)


def test_a_pruned_policy_keeps_its_factors_at_other_sparsities():
    subnet = found().prune()
    assert subnet.rescale == tuple(subnet.scales)
    problem = MaskedGymProblem.from_subnetwork(subnet, sparsity=0.9)
    mask = problem.mask(problem.scores_from_mask(subnet.mask, seed=1))
    assert mask.sum() == 5
    sparser = problem.mask_to_subnetwork(mask)
    assert sparser.rescale == subnet.rescale
    assert torch.equal(sparser.weights, subnet.weights * mask)


@pytest.mark.parametrize("pruned", [False, True])
def test_a_policy_is_an_individual_of_the_pareto_problem_made_from_it(pruned):
    subnet = found().prune() if pruned else found()
    problem = MaskedGymProblem.from_subnetwork(subnet)
    front = ParetoSparsityProblem(problem)
    scores, density = problem.scores_from_mask(subnet.mask, seed=1), subnet.num_active / subnet.num_weights
    individual = np.append(scores.numpy(), np.log2(density))
    for x in (individual, front.confined(individual)):
        assert torch.equal(front.to_subnetwork(x).weights, subnet.weights)


@pytest.mark.parametrize("rescale", [False, True])
def test_a_given_sparsity_keeps_the_rescaling_of_the_policy(rescale):
    problem = MaskedGymProblem.from_subnetwork(found(mask=TopK(0.5, rescale=rescale)), sparsity=0.75)
    assert (problem.mask_rule.sparsity, problem.mask_rule.rescale) == (0.75, rescale)


def test_a_mask_rule_may_be_given():
    subnet = found(mask=TopK(0.5, rescale=False))
    mask = TopK(0.8, scope="erdos_renyi", rescale=subnet.rescale)
    assert MaskedGymProblem.from_subnetwork(subnet, mask_rule=mask).mask_rule is mask


@pytest.mark.parametrize("pruned", [False, True])
def test_a_rule_with_another_rescaling_is_refused(pruned):
    subnet, rule = found(mask=TopK(0.5)), TopK(0.5, rescale=False)
    subnet, rule = (subnet.prune(), TopK(0.5)) if pruned else (subnet, rule)
    with pytest.raises(
        ValueError, match=r"^mask_rule: expected a rule with the policy's own rescale=[(T].*, got TopK\(0\.5"
    ):
        MaskedGymProblem.from_subnetwork(subnet, mask_rule=rule)


def test_the_environment_and_configuration_come_from_the_policy():
    subnet = found(env_config={"sutton_barto_reward": True})
    problem = MaskedGymProblem.from_subnetwork(subnet, env_config={"render_mode": None}, episode_length=7)
    assert problem.task.name == "CartPole-v1"
    assert problem.task.env_config == {"sutton_barto_reward": True, "render_mode": None}
    assert problem.episode_length == 7


def test_a_policy_without_an_environment_id_requires_env():
    made = MaskedGymProblem(OddSpaces, env_config={"discrete": True}, hidden_sizes=(3,), episode_length=9, seed=0)
    subnet = made.mask_to_subnetwork(torch.arange(made.solution_length) % 2 == 0)
    with pytest.raises(
        ValueError, match=r"^env: expected a Gymnasium id or a callable, because the subnetwork knows no"
    ):
        MaskedGymProblem.from_subnetwork(subnet, episode_length=9)
    problem = MaskedGymProblem.from_subnetwork(subnet, OddSpaces, episode_length=9)
    assert problem.task.actions == subnet.actions
    assert problem.task.env_config == {"discrete": True}
    with pytest.raises(TypeError, match=r"^env: expected a Gymnasium id or a callable that makes an environment, got "):
        MaskedGymProblem.from_subnetwork(subnet, made.task)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Acrobot-v1", "env: expected observations of length 4 and 2 outputs, got 6 and 3"),
        ("Nowhere-v0", "env: 'Nowhere-v0' .*cannot be made"),
    ],
)
def test_an_environment_with_other_spaces_is_refused(env, message):
    subnet = found()
    for play in (subnet.test, lambda env: MaskedGymProblem.from_subnetwork(subnet, env)):
        with pytest.raises(ValueError, match=rf"^{message}"):
            play(env=env)


def test_a_policy_from_a_file_can_be_continued(tmp_path):
    subnet = found(mask=TopK(0.5), normalized=True)
    subnet.save(tmp_path / "policy.safetensors")
    problem = MaskedGymProblem.from_subnetwork(Subnetwork.load(tmp_path / "policy.safetensors"))
    assert torch.equal(problem.decode(problem.scores_from_mask(subnet.mask, seed=2)), subnet.weights)


def test_a_policy_of_a_given_module_can_be_continued_from_a_file(tmp_path):
    made = MaskedGymProblem("CartPole-v1", module(), sparsity=0.5, seed=0)
    subnet = made.to_subnetwork(made.generate_batch(1)[0])
    subnet.save(tmp_path / "policy.safetensors")
    loaded = Subnetwork.load(tmp_path / "policy.safetensors", network=module())
    problem = MaskedGymProblem.from_subnetwork(loaded)
    assert torch.equal(problem.decode(problem.scores_from_mask(subnet.mask, seed=2)), subnet.weights)


def test_a_problem_from_a_policy_can_be_pickled():
    problem = MaskedGymProblem.from_subnetwork(found(normalized=True), seed=0)
    copy = pickle.loads(pickle.dumps(problem))
    values = problem.generate_batch(3).values
    assert torch.equal(fitness(problem, values, 2), fitness(copy, values, 2))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("subnet", "policy.safetensors", TypeError),
        ("sparsity", 1.0, ValueError),
        ("sparsity", 0.9999, ValueError),
        ("mask_rule", "half", TypeError),
        ("score_stdev", 0.0, ValueError),
        ("hidden_sizes", (8,), ValueError),
        ("network_args", {"a": 1}, ValueError),
        ("bias", True, ValueError),
        ("weight_init", "uniform", ValueError),
        ("weight_gain", 2.0, ValueError),
        ("network_seed", 3, ValueError),
        ("observation_normalization", True, ValueError),
        ("observation_normalization", 1, TypeError),
        ("env_config", {"no_such": 1}, ValueError),
    ],
    ids=str,
)
def test_errors_name_the_invalid_argument_before_any_episode(name, value, error, monkeypatch):
    subnet = found()
    monkeypatch.setattr(CartPoleEnv, "reset", lambda *_, **__: pytest.fail("it was played"))
    reported_as = "env" if name == "env_config" else name
    with pytest.raises(error, match=rf"^{reported_as}: .*(expected|cannot) "):
        MaskedGymProblem.from_subnetwork(**{"subnet": subnet} | {name: value})


def test_a_rule_and_a_sparsity_conflict():
    with pytest.raises(ValueError, match=r"^sparsity: expected None when mask_rule is given, got 0\.9"):
        MaskedGymProblem.from_subnetwork(found(), mask_rule=TopK(0.9), sparsity=0.9)


def test_a_policy_without_kept_weights_is_refused():
    subnet = found()
    subnet = replace(subnet, mask=torch.zeros_like(subnet.mask))
    with pytest.raises(ValueError, match=r"^subnet: expected a policy that keeps at least one weight, got "):
        MaskedGymProblem.from_subnetwork(subnet)


def test_a_normalizer_with_impossible_statistics_is_refused():
    normalizer = Normalizer(np.zeros(4, np.float32), np.array([1, 2, 3, 11], np.float32))
    subnet = replace(found(), normalizer=normalizer)
    with pytest.raises(ValueError, match=r"^subnet: expected scales above 0 and at most 10, "):
        MaskedGymProblem.from_subnetwork(subnet)


def test_a_policy_for_another_observation_shape_is_refused():
    network = FrozenNetwork((3,), obs_length=6, act_length=3, obs_shape=(3, 2))
    made = MaskedGymProblem(OddSpaces, env_config={"discrete": True}, hidden_sizes=(3,), episode_length=9)
    subnet = Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=made.task.actions)
    with pytest.raises(ValueError, match=r"^subnet: expected one with obs_shape = \(2, 3\)"):
        MaskedGymProblem.from_subnetwork(subnet, OddSpaces, env_config={"discrete": True}, episode_length=9)


# Scores from a mask


def test_dead_weights_are_removed_first():
    mask = torch.zeros(48, dtype=torch.bool)
    mask[:4] = True  # all inputs and an output of the first hidden unit
    mask[32] = True
    mask[4:8] = True  # all inputs of the second hidden unit, which has no output
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), sparsity=1 - 5 / 48)
    for seed in range(5):
        kept = problem.mask(problem.scores_from_mask(mask, seed=seed))
        assert kept.nonzero().flatten().tolist() == [0, 1, 2, 3, 32]


def test_kept_scores_have_the_initial_stdev_and_depend_only_on_the_seed():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(200,), score_stdev=0.3, seed=1)
    mask = problem.mask(problem.generate_batch(1).values[0])
    scores = problem.scores_from_mask(mask, seed=5)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, problem.scores_from_mask(mask.numpy(), seed=5))
    assert not torch.equal(scores, problem.scores_from_mask(mask, seed=6))
    assert torch.equal(scores > 0, mask)
    assert scores[mask].square().mean().sqrt() == pytest.approx(0.3, rel=0.1)


def test_scores_of_removed_weights_have_the_specified_distances_from_0():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(200,), sparsity=0.9, score_stdev=0.3, seed=1)
    mask = problem.mask(problem.generate_batch(1).values[0])
    num_kept = int(mask.sum())
    scores = problem.scores_from_mask(mask, seed=5)
    for reach, share in ((0.15, 0.5), (0.3, 1.0), (0.6, 2.0)):  # in stdevs 0.5, 1 and 2
        assert int((~mask & (scores >= -reach - 1e-6)).sum()) == int(share * num_kept)
    assert scores.min() > -4.1 * 0.3


def test_scores_from_a_mask_exist_for_networks_that_are_not_chains():
    problem = MaskedGymProblem("CartPole-v1", "RNN(obs_length, 3) >> Linear(3, act_length)", sparsity=0.5)
    mask = torch.arange(problem.solution_length) % 2 == 0
    assert torch.equal(problem.mask(problem.scores_from_mask(mask, seed=0)), mask)


def test_a_mask_that_the_rule_cannot_produce_is_refused():
    problem = MaskedGymProblem(Echo, mask_rule=Threshold(5.0), hidden_sizes=(2,), episode_length=3)
    with pytest.raises(ValueError, match=r"^mask: expected a mask that the rule Threshold\(5, "):
        problem.scores_from_mask(torch.ones(4, dtype=torch.bool), seed=0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("mask", torch.ones(48), TypeError),
        ("mask", torch.ones(3, dtype=torch.bool), ValueError),
        ("seed", -1, ValueError),
    ],
    ids=str,
)
def test_errors_name_the_invalid_argument_of_scores_from_mask(name, value, error):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,))
    with pytest.raises(error, match=rf"^{name}: expected "):
        problem.scores_from_mask(**{"mask": torch.ones(48, dtype=torch.bool), "seed": 0} | {name: value})
