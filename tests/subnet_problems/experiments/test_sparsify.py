"""Sparsifying a policy: the start of the search, its result, and its resumption."""

import csv
import io

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import SHORT_POLE, Dim, Echo
from interruptions import contents, stop_at
from rich.console import Console
from small_subnetworks import RNN, module

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, MaskedGymProblem, Subnetwork, Threshold, TopK, sparsify
from subnet_problems.experiments import pareto_search
from subnet_problems.experiments._sparsify import _rule, begin


def quiet():
    return Console(file=io.StringIO(), width=200)


def short_cart_pole(**options):
    """CartPole of 100 steps."""
    return gym.make("CartPole-v1", max_episode_steps=100, **options)


def cart_pole(env=SHORT_POLE, **options):
    return MaskedGymProblem(env, **{"hidden_sizes": (8,), "seed": 0, **options})


def policy(mask=None, *, rule=None, **options):
    """A policy with the given mask, or with the mask that the rule makes of initial scores."""
    problem = cart_pole(mask_rule=rule, **options)
    return problem.to_subnetwork(problem.generate_batch(1)[0]) if mask is None else problem.mask_to_subnetwork(mask)


def searched(problem, *, budget=6_000):
    search = ElitistGaussianResampling(problem, popsize=12)
    while problem.interaction_count < budget:
        search.step()
    return search


def first_mask(algorithm):
    """The mask of the center from which a search starts."""
    problem = algorithm.problem
    center = algorithm._center.copy()
    center[-1] = problem.xu[-1]
    return problem.mask(center[None])[0]


def test_fewer_weights_still_earn_the_reward(tmp_path):
    search = searched(cart_pole(short_cart_pole, sparsity=0.2))
    before = search.problem.to_subnetwork(search.status["center"])
    assert before.test(num_episodes=50, env=short_cart_pole).mean() >= 95.0
    console = quiet()
    small = sparsify(
        search, tmp_path, min_reward=95.0, budget=40_000, popsize=8, test_episodes=20, console=console
    )  # fmt: skip
    assert before.num_active == 38
    assert small.num_active <= 12
    assert small.test(num_episodes=50, env=short_cart_pole).mean() >= 95.0
    assert (small.network.seed, small.num_weights) == (before.network.seed, 48)
    assert torch.equal(Subnetwork.load(tmp_path / "smallest.safetensors").mask, small.mask)
    assert f"The smallest policy that earns 95 has {small.num_active} weights" in console.file.getvalue()
    assert {file.name for file in tmp_path.iterdir()} >= {"policies", "front.csv", "front.png", "progress.csv"}


POLICIES = {
    "free sparsity": lambda: policy(),
    "ranked together": lambda: policy(sparsity=0.5),
    "ranked by layers": lambda: policy(hidden_sizes=(8, 8), rule=TopK(0.7, scope="layer")),
    "of a front": lambda: policy(rule=TopK(0.7, scope="erdos_renyi")),
    "pruned": lambda: policy(sparsity=0.7).prune(),
    "normalized": lambda: searched_normalized(),
    "biased": lambda: policy(bias=True, sparsity=0.5),
    "dense": lambda: policy(torch.ones(48, dtype=torch.bool)),
    "of one weight": lambda: policy(torch.arange(48) == 7),
    "sparser than the default end": lambda: policy(torch.arange(900) % 300 == 2, hidden_sizes=(150,)),
    "recurrent": lambda: policy(network=RNN, hidden_sizes=None, sparsity=0.5),
    "a layer's norm": lambda: policy(network=module(), hidden_sizes=None, sparsity=0.5),
}


def searched_normalized():
    problem = cart_pole(observation_normalization=True, sparsity=0.5)
    problem.evaluate(batch := problem.generate_batch(20))
    return problem.to_subnetwork(batch[0])


@pytest.mark.parametrize("kind", POLICIES)
def test_the_search_starts_with_the_mask_of_the_policy_and_ends_with_fewer_weights(kind, tmp_path):
    subnet = POLICIES[kind]()
    if kind not in ("recurrent", "a layer's norm", "normalized"):
        subnet.save(tmp_path / "policy.safetensors")
    file = tmp_path / "policy.safetensors"
    algorithm = begin(file if file.exists() else subnet, tmp_path / "out", popsize=4)
    problem = algorithm.problem
    assert torch.equal(first_mask(algorithm), subnet.mask)
    kept = subnet.num_weights * 2 ** np.array([problem.xl[-1], problem.xu[-1]])
    assert kept[1] == pytest.approx(subnet.num_active)
    assert kept[0] == pytest.approx(max(1.0, min(subnet.num_active / 10, 0.003 * subnet.num_weights)))
    obs = np.array([0.1, -0.2, 0.03, 0.4], np.float32)
    begun = problem.masked.mask_to_subnetwork(subnet.mask)
    torch.testing.assert_close(begun.to_policy()(torch.tensor(obs)), subnet.to_policy()(torch.tensor(obs)))
    found, stopped = pareto_search.run(
        algorithm, tmp_path / "out", budget=1_500, min_reward=1.0, test_episodes=2, console=quiet()
    )  # fmt: skip
    assert not stopped
    assert found[0].subnet.num_active <= subnet.num_active
    assert (tmp_path / "out" / "smallest.safetensors").exists()


@pytest.mark.parametrize("options", [{}, {"sparsity": 0.5}, {"observation_normalization": True}])
def test_a_search_can_be_given_instead_of_a_policy(options, tmp_path):
    def make(**config):
        return Dim(**config)

    problem = MaskedGymProblem(
        make, hidden_sizes=(6,), env_config={"steps": 7}, episode_length=3, seed=0, **options
    )  # fmt: skip
    search = ElitistGaussianResampling(problem, popsize=8)
    search.run(3)
    algorithm = begin(search, tmp_path, popsize=4)
    masked = algorithm.problem.masked
    handed_out = problem.to_subnetwork(search.status["center"])
    assert torch.equal(first_mask(algorithm), handed_out.mask)
    assert (masked.task.env, masked.task.env_config, masked.episode_length) == (make, {"steps": 7}, 3)
    assert masked.observation_normalization == problem.observation_normalization
    assert begin(search, tmp_path / "longer", episode_length=5).problem.masked.episode_length == 5
    small = sparsify(search, tmp_path, min_reward=-99.0, budget=300, popsize=4, test_episodes=2, console=quiet())
    assert small.num_active <= handed_out.num_active


def test_the_scope_of_the_rule_follows_the_policy():
    assert _rule(POLICIES["of a front"]()).scope == "erdos_renyi"
    assert _rule(POLICIES["dense"]()).scope == "erdos_renyi"
    assert _rule(policy()).scope == "global"
    assert _rule(policy()).rescale is False
    assert _rule(POLICIES["of a front"]()).rescale is True
    pruned = policy(sparsity=0.7).prune()
    assert _rule(pruned).rescale == pruned.rescale


def test_a_search_with_another_fitness_needs_its_options_again(tmp_path):
    problem = MaskedGymProblem(SHORT_POLE, hidden_sizes=(4,), sparsity=0.5, seed=0, decrease_rewards_by=0.5)
    problem.backend = "gymnasium"
    searcher = ElitistGaussianResampling(problem, popsize=4)
    searcher.step()
    with pytest.raises(ValueError, match=r"^policy: expected a search whose fitness is the mean return, or .*decrease"):
        begin(searcher, tmp_path)
    for options, is_return in (({"decrease_rewards_by": None}, True), ({"decrease_rewards_by": 0.5}, False)):
        masked = begin(searcher, tmp_path / str(is_return), **options).problem.masked
        assert masked.fitness_is_return is is_return
        assert masked.backend == "gymnasium"


def test_a_resumed_sparsify_gives_the_same_policy(tmp_path, monkeypatch):
    subnet = policy(sparsity=0.2)
    options = {"min_reward": 1.0, "budget": 3_000, "popsize": 4, "test_episodes": 2, "console": quiet()}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    small = sparsify(subnet, whole, **options)
    with monkeypatch.context() as patch:
        stop_at(patch, 1_500)
        with pytest.raises(KeyboardInterrupt):
            sparsify(subnet, stopped, **options)
    assert Subnetwork.load(stopped / "smallest.safetensors").tests["mean"] >= 1.0  # the best policy so far
    with pytest.raises(FileExistsError, match=r"^folder: expected a file that does not exist, got .*checkpoint"):
        sparsify(subnet, stopped, **options)
    again = sparsify(subnet, stopped, resume=True, **options)
    assert torch.equal(again.mask, small.mask)
    assert contents(stopped) == contents(whole)
    with pytest.raises(FileNotFoundError, match=r"^resume: expected a folder with the checkpoint of a search, got "):
        sparsify(subnet, tmp_path / "another", resume=True, **options)
    with open(whole / "progress.csv", newline="") as file:
        areas = [float(row["hypervolume"]) for row in csv.DictReader(file)]
    assert max(areas) > 0.0


@pytest.mark.parametrize(
    ("env", "min_reward", "sentence"),
    [
        (Echo, None, "There is no smallest policy: the task has no reward threshold, and min_reward is not given."),
        (Echo, 1e9, "No policy earns 1e+09; a longer search (or another seed) may find one."),
    ],
)
def test_without_a_sufficient_policy_none_is_returned_and_a_message_says_why(env, min_reward, sentence, tmp_path):
    problem, console = MaskedGymProblem(env, hidden_sizes=(3,), sparsity=0.5, seed=0), quiet()
    subnet = problem.to_subnetwork(problem.generate_batch(1)[0])
    options = {"env": env, "budget": 300, "popsize": 4, "test_episodes": 2, "console": console}
    assert sparsify(subnet, tmp_path, min_reward=min_reward, **options) is None
    assert sentence in console.file.getvalue()
    assert (tmp_path / "front.csv").exists()


def of_dense_weights():
    return ElitistGaussianResampling(DenseGymProblem("CartPole-v1", hidden_sizes=(4,), seed=0), popsize=4)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (lambda: 3, {}, TypeError, r"^policy: expected a Subnetwork, its file or a search, got 3$"),
        (of_dense_weights, {}, ValueError, r"^policy: expected a search on a MaskedGymProblem, got "),
        (
            lambda: ElitistGaussianResampling(cart_pole(), popsize=4),
            {},
            ValueError,
            r"^policy: expected one that has a",
        ),
        (lambda: policy(torch.zeros(48, dtype=torch.bool)), {}, ValueError, r"^policy: expected a policy that keeps a"),
        (
            policy,
            {"max_sparsity": 0.2},
            ValueError,
            r"^max_sparsity: expected at least 0\.\d+, the sparsity of start, got 0\.2$",
        ),
        (
            policy,
            {"max_sparsity": 0.999},
            ValueError,
            r"^max_sparsity: expected one that keeps at least 1 of 48 weights, got 0\.999$",
        ),
        (policy, {"popsize": 3}, ValueError, r"^popsize: expected a whole number >= 4, got 3$"),
        (policy, {"seed": -1}, ValueError, r"^seed: expected"),
        (policy, {"env": "Acrobot-v1"}, ValueError, r"^env: expected"),
        (policy, {"resume": 1}, TypeError, r"^resume: expected"),
        (policy, {"min_reward": "all"}, TypeError, r"^min_reward: expected"),
        (policy, {"observation_normalization": True}, ValueError, r"^observation_normalization: expected False"),
    ],
)
def test_errors_name_the_invalid_argument(given, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        sparsify(given(), tmp_path / "new", console=quiet(), **options)
    assert not (tmp_path / "new").exists()


def test_a_policy_of_a_custom_rule_can_be_sparsified(tmp_path):
    class Odd(Threshold):
        """Keeps scores far from 0."""

        def __call__(self, scores, layers):
            return scores.abs() > 0.1

    subnet = policy(rule=Odd())
    assert torch.equal(first_mask(begin(subnet, tmp_path, popsize=4)), subnet.mask)
