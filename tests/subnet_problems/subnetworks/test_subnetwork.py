"""Subnetwork: a policy made of a network and a mask."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from small_subnetworks import BOX, DISCRETE, NORMALIZER, PARTS, RNN, bits, make
from torch import nn

from subnet_problems import FrozenNetwork, MaskedGymProblem, Subnetwork
from subnet_problems.networks._philox import episode_seeds
from subnet_problems.tasks import DiscreteActions, Normalizer

# The policy -----------------------------------------------------------------------------------------------------


def test_a_subnetwork_counts_its_kept_weights():
    subnet = make(sparsity=0.6)
    assert subnet.num_weights == 4 * 6 + 6 * 5 + 5 * 2
    assert subnet.num_active == round(64 * 0.4)
    assert subnet.sparsity == 1 - 26 / 64
    assert int((subnet.weights != 0).sum()) == subnet.num_active
    assert repr(make(env="CartPole-v1")) == "<Subnetwork for CartPole-v1: 26 of 64 weights, sparsity 0.594>"


def test_kept_weights_equal_the_frozen_ones_and_others_are_plus_zero():
    subnet = make(rescale=False)
    expected = torch.where(subnet.mask, subnet.network.weights, torch.zeros(()))
    assert bits(subnet.weights) == bits(expected)


def test_kept_weights_are_rescaled_per_layer():
    subnet = make(rescale=True)
    for layer in subnet.network.layers:
        kept = int(subnet.mask[layer.slice].sum())
        scale = np.float32(math.sqrt(layer.size / kept))
        expected = subnet.network.weights[layer.slice] * subnet.mask[layer.slice] * scale
        assert torch.equal(subnet.weights[layer.slice], expected)


def test_act_accepts_composite_observations():
    subnet = make(**PARTS)
    place = np.array([0.25, -0.5])
    action = subnet.act({"gear": 2, "place": place})
    np.testing.assert_equal(action, make(actions=PARTS["actions"]).act([0, 1, *place]))
    assert (type(action), action[0].dtype, action[1].dtype) == (tuple, np.float32, np.int8)
    np.testing.assert_equal(subnet.prune().act({"gear": 2, "place": place}), action)
    assert subnet.prune().observations == subnet.observations


def test_a_task_with_other_composite_observations_is_refused():
    class Wide(gym.Env):
        observation_space = gym.spaces.Dict({"gear": gym.spaces.Discrete(2), "place": gym.spaces.Box(-1, 1, (2,))})
        action_space = gym.spaces.Tuple([gym.spaces.Box(-1, 2, (1,)), gym.spaces.MultiBinary(1)])

    with pytest.raises(
        ValueError, match=r"^env: expected observations as DictObservations\(.*start=\(1,\).*, got Dict"
    ):
        make(**PARTS).make_task(Wide, episode_length=3)
    assert make(actions=PARTS["actions"]).make_task(Wide, episode_length=3).obs_length == 4


def test_changes_to_the_given_mask_have_no_effect():
    mask = torch.ones(64, dtype=torch.bool)
    frozen = FrozenNetwork((6, 5), obs_length=4, act_length=2)
    subnet = Subnetwork(frozen, mask, actions=BOX)
    mask.zero_()
    assert subnet.num_active == 64


def test_to_policy_normalizes_applies_the_network_and_clips():
    subnet = make(normalizer=NORMALIZER, rescale=True)
    w = [subnet.weights[layer.slice].view(layer.shape) for layer in subnet.network.layers]
    obs = torch.randn((7, 4), generator=torch.Generator().manual_seed(1))
    x = (obs - torch.from_numpy(NORMALIZER.mean)) * torch.from_numpy(NORMALIZER.scale)
    output = torch.tanh(torch.tanh(x @ w[0].T) @ w[1].T) @ w[2].T
    clipped = torch.stack([output[:, 0].clamp(-1, 1), output[:, 1].clamp(max=2)], dim=1)
    torch.testing.assert_close(subnet.to_policy()(obs), clipped)
    torch.testing.assert_close(subnet.to_policy(clip_actions=False)(obs), output)
    assert not torch.equal(clipped, output)


def test_act_returns_actions_of_the_space():
    obs = np.array([[0.3, -0.2], [0.5, 1.0]])
    box, discrete = make(actions=BOX), make(actions=DISCRETE)
    output = box.to_policy()(torch.tensor([0.3, -0.2, 0.5, 1.0])).detach().numpy()
    assert box.act(obs).dtype == np.float32
    np.testing.assert_array_equal(box.act(obs), output)
    assert discrete.act(obs) == 1 + output.argmax()
    assert gym.spaces.Discrete(2, start=1).contains(discrete.act(obs))


def test_act_accepts_all_finite_observations_and_no_others():
    subnet = make(sparsity=0.2)  # hidden units and outputs of tanh stay finite
    obs = np.full((3, 4), np.finfo(np.float32).max, dtype=np.float32)
    assert np.isfinite(subnet.act(obs)).all()
    for wrong in (np.nan, np.inf, -np.inf):
        obs[1, 2] = wrong
        with pytest.raises(ValueError, match=r"^obs: expected finite numbers"):
            subnet.act(obs)


def test_act_does_not_keep_the_state_of_a_recurrent_network():
    subnet = make(RNN, sparsity=0.2)
    obs = np.ones(4)
    np.testing.assert_array_equal(subnet.act(obs), subnet.act(obs))


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"network": nn.Linear(4, 2)}, TypeError, "network"),
        ({"mask": [1.0] * 64}, TypeError, "mask"),
        ({"mask": [[1], [1, 0]]}, TypeError, "mask"),
        ({"mask": [200] * 64}, ValueError, "mask"),
        ({"mask": torch.ones(64)}, TypeError, "mask"),
        ({"mask": torch.ones(63, dtype=torch.bool)}, ValueError, "mask"),
        ({"mask": torch.ones((1, 64), dtype=torch.bool)}, ValueError, "mask"),
        ({"actions": DiscreteActions(3)}, ValueError, "actions"),
        ({"actions": gym.spaces.Discrete(2)}, TypeError, "actions"),
        ({"actions": None}, TypeError, "actions"),
        ({"rescale": 1}, TypeError, "rescale"),
        ({"normalizer": Normalizer(np.zeros(3, np.float32), np.ones(3, np.float32))}, ValueError, "normalizer"),
    ],
    ids=str,
)
def test_errors_name_the_invalid_argument(change, error, name):
    good = {
        "network": FrozenNetwork((6, 5), obs_length=4, act_length=2),
        "mask": torch.ones(64, dtype=torch.bool),
        "actions": BOX,
    }
    with pytest.raises(error, match=f"^{name}: expected "):
        Subnetwork(**(good | change))


# Tests on fresh episodes ----------------------------------------------------------------------------------------


def cart_pole(**arguments) -> Subnetwork:
    return make(actions=DiscreteActions(2), env="CartPole-v1", **arguments)


def test_tests_are_reproducible_and_recorded_by_tested():
    subnet = cart_pole()
    returns = subnet.test(num_episodes=5, seed=3)
    assert subnet.tests == {}  # testing does not change the policy
    assert returns.shape == (5,)
    assert returns.min() >= 1
    assert returns.max() <= 500
    np.testing.assert_array_equal(subnet.test(num_episodes=5, seed=3), returns)
    assert subnet.tested(num_episodes=5, seed=3).tests == {
        "mean": pytest.approx(returns.mean()),
        "standard_error": pytest.approx(returns.std(ddof=1) / math.sqrt(5)),
        "num_episodes": 5,
        "seed": 3,
    }


def test_an_episode_does_not_depend_on_how_many_are_tested():
    subnet = cart_pole()
    assert subnet.test(num_episodes=2, seed=3).tolist() == subnet.test(num_episodes=6, seed=3)[:2].tolist()


def test_different_seeds_give_different_episodes():
    subnet = cart_pole()
    returns = subnet.test(num_episodes=8, seed=3)
    assert subnet.test(num_episodes=8, seed=4).tolist() != returns.tolist()


def test_tests_equal_episodes_stepped_by_hand_on_gymnasium():
    subnet = cart_pole(normalizer=NORMALIZER, rescale=True)
    by_hand = []
    for seed in episode_seeds(5, 4, stream=2**64 - 1):
        env, ended, total = gym.make("CartPole-v1"), False, 0.0
        obs, _ = env.reset(seed=int(seed))
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(subnet.act(obs))
            total, ended = total + reward, terminated or truncated
        by_hand.append(total)
    assert subnet.test(num_episodes=4, seed=5).tolist() == by_hand


def test_a_test_of_one_episode_has_no_standard_error_and_can_be_saved(tmp_path):
    subnet = cart_pole().tested(num_episodes=1)
    subnet.save(tmp_path / "one.safetensors")
    assert subnet.tests["standard_error"] is None
    assert Subnetwork.load(tmp_path / "one.safetensors").tests == subnet.tests


def test_saved_test_results_can_be_reproduced(tmp_path):
    subnet = cart_pole().tested(num_episodes=4, seed=7)
    returns = subnet.test(num_episodes=4, seed=7)
    subnet.save(tmp_path / "tested.safetensors")
    again = Subnetwork.load(tmp_path / "tested.safetensors")
    assert again.tests == subnet.tests
    np.testing.assert_array_equal(again.test(num_episodes=4, seed=7), returns)


def test_tests_on_the_task_of_a_problem_equal_tests_of_the_problem():
    def make(**options):
        return gym.make("CartPole-v1", **options)

    problem = MaskedGymProblem(make, hidden_sizes=(4,), episode_length=7, seed=0)
    solution = problem.generate_batch(1)[0]
    subnet = problem.to_subnetwork(solution)
    returns = subnet.test(num_episodes=5, seed=3, env=problem.task)
    assert returns.tolist() == problem.test(solution, num_episodes=5, seed=3).tolist()
    assert returns.max() > 7
    assert subnet.test(num_episodes=5, env=problem.task, episode_length=6).max() <= 6


def test_tests_accept_a_callable_and_an_episode_length():
    subnet = make(actions=DiscreteActions(2))
    returns = subnet.test(num_episodes=3, env=lambda: gym.make("CartPole-v1"), episode_length=4)
    assert returns.tolist() == [4.0] * 3


@pytest.mark.parametrize(
    ("subnet", "options", "error", "message"),
    [
        (make(), {}, ValueError, "env: expected a Gymnasium id or a callable"),
        (cart_pole(), {"env": "Acrobot-v1"}, ValueError, "env: expected observations of length 4 and 2 outputs"),
        (make(actions=BOX), {"env": "CartPole-v1"}, ValueError, "env: expected "),
        (cart_pole(), {"env": "NoSuchTask-v0"}, ValueError, "env: 'NoSuchTask-v0'"),
        (cart_pole(), {"num_episodes": 0}, ValueError, "num_episodes: expected "),
        (cart_pole(), {"num_episodes": 2.0}, TypeError, "num_episodes: expected "),
        (cart_pole(), {"seed": -1}, ValueError, "seed: expected "),
    ],
    ids=[
        "no task",
        "other lengths",
        "other actions",
        "unknown task",
        "no episodes",
        "half an episode",
        "negative seed",
    ],
)
def test_errors_name_the_invalid_argument_of_a_test(subnet, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        subnet.test(**({"num_episodes": 2} | options))
    assert subnet.tests == {}


# Acting


def shaped(obs_shape, **options):
    network = FrozenNetwork((3,), obs_length=6, act_length=2, obs_shape=obs_shape, seed=1, **options)
    return Subnetwork(network, torch.ones(network.num_weights, dtype=torch.bool), actions=BOX)


@pytest.mark.parametrize("obs_shape", [(6,), (2, 3), (1, 6), (6, 1)])
def test_a_batch_of_observations_gives_the_actions_of_each(obs_shape, tmp_path):
    subnet = shaped(obs_shape)
    subnet.save(tmp_path / "a.safetensors")
    batch = np.random.default_rng(0).normal(size=(5, *obs_shape)).astype(np.float32)
    for policy in (subnet, Subnetwork.load(tmp_path / "a.safetensors")):
        each = [policy.act(obs) for obs in batch]
        assert {action.shape for action in each} == {(2,)}
        np.testing.assert_array_equal(policy.act(batch), np.stack(each))
        np.testing.assert_array_equal(policy.act(batch.reshape(5, 6)), np.stack(each))
        np.testing.assert_array_equal(policy.act(batch[:1]), np.stack(each[:1]))
        np.testing.assert_array_equal(policy.act(batch[0].reshape(-1)), each[0])
        assert policy.act(batch[:0]).shape == (0, 2)


def test_a_batch_gives_an_array_of_discrete_actions():
    subnet = make(actions=DISCRETE)
    batch = np.random.default_rng(0).normal(size=(9, 4))
    assert subnet.act(batch).tolist() == [int(subnet.act(obs)) for obs in batch]


@pytest.mark.parametrize("shape", [(5,), (7,), (0,), (), (2, 5), (4, 3), (2, 3, 3)])
def test_an_observation_of_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^obs: expected shape \(2, 3\), or \(n, 2, 3\), got "):
        shaped((2, 3)).act(np.zeros(shape))


def test_acting_follows_changes_of_the_policy():
    obs = np.array([0.3, -1.0, 0.5, 2.0])
    subnet = make()
    subnet.act(obs)
    subnet.mask[:] = False  # changed in place
    assert subnet.act(obs).tolist() == [0.0, 0.0]
    subnet.mask[:] = True
    np.testing.assert_array_equal(subnet.act(obs), make(sparsity=0.0).act(obs))
    subnet = replace(subnet, normalizer=NORMALIZER)
    np.testing.assert_array_equal(subnet.act(obs), make(sparsity=0.0, normalizer=NORMALIZER).act(obs))


def test_the_module_is_created_once_for_many_actions(monkeypatch):
    made = []
    to_module = FrozenNetwork.to_module
    monkeypatch.setattr(FrozenNetwork, "to_module", lambda self, weights: made.append(1) or to_module(self, weights))
    subnet = make()
    subnet.act(np.zeros(4))
    made.clear()
    for _ in range(5):
        subnet.act(np.zeros(4))
    assert made == []


def test_several_threads_may_share_a_policy():
    subnet = make((40, 40))
    batch = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    alone = subnet.act(batch)
    with ThreadPoolExecutor(4) as threads:
        for actions in threads.map(subnet.act, [batch] * 8):
            np.testing.assert_array_equal(actions, alone)
