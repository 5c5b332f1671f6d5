"""Statistics of observations, and the normalization and clipping in a policy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from subnet_problems import FrozenNetwork
from subnet_problems.subnetworks._policy_module import PolicyModule
from subnet_problems.tasks import BoxActions, DiscreteActions, MultiBinaryActions, Normalizer, TupleActions
from subnet_problems.tasks._episodes import Episodes
from subnet_problems.tasks._observation_stats import ObservationStats

LENGTH = 3


def observed(seed: int, *, popsize: int = 3, num_episodes: int = 2) -> tuple[Episodes, np.ndarray]:
    """Episodes of different lengths, and all their observations."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 30, size=(popsize, num_episodes))
    obs = [generator.normal([0, 5, -2], [1, 3, 0.5], size=(n, LENGTH)) for n in lengths.reshape(-1)]
    shape = (popsize, num_episodes, LENGTH)
    sums = np.array([o.sum(axis=0) for o in obs]).reshape(shape)
    squares = np.array([(o**2).sum(axis=0) for o in obs]).reshape(shape)
    return Episodes(np.zeros(lengths.shape), lengths, sums, squares), np.concatenate(obs)


def reordered(episodes: Episodes, order: np.ndarray) -> Episodes:
    """The same episodes, as episodes of one solution in another order."""
    return Episodes(*(a.reshape(1, len(order), *a.shape[2:])[:, order] for a in episodes))


def state(stats: ObservationStats) -> tuple:
    return stats.count, stats.sum.tolist(), stats.sum_of_squares.tolist()


@pytest.mark.parametrize("count", [1, 3, 10**6])
def test_statistics_from_a_normalizer_give_the_same_normalizer(count):
    normalizer = Normalizer(np.array([0, 500.1, -2e-5], np.float32), np.array([10, 0.003, 3.3333], np.float32))
    stats = ObservationStats.from_normalizer(normalizer, count=count)
    assert stats.count == count
    np.testing.assert_array_equal(stats.normalizer().mean, normalizer.mean)
    np.testing.assert_array_equal(stats.normalizer().scale, normalizer.scale)


def test_statistics_from_a_normalizer_can_be_updated():
    (first, obs), (second, others) = observed(0), observed(1)
    stats = ObservationStats(LENGTH).merged(first)
    both = ObservationStats.from_normalizer(stats.normalizer(), count=stats.count).merged(second)
    everything = np.concatenate([obs, others])
    assert both.count == len(everything)
    np.testing.assert_allclose(both.mean, everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(both.stdev, everything.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("mean", "scale"), [(0, 0), (0, -1), (0, 10.1), (1e12, 1)])
def test_a_normalizer_with_impossible_statistics_is_refused(mean, scale):
    normalizer = Normalizer(np.array([mean], np.float32), np.array([scale], np.float32))
    with pytest.raises(ValueError, match=r"^normalizer: expected scales above 0 and at most 10"):
        ObservationStats.from_normalizer(normalizer, count=10)


@pytest.mark.parametrize(
    ("name", "value", "error"), [("normalizer", None, TypeError), ("count", 0, ValueError), ("count", 2.0, TypeError)]
)
def test_from_normalizer_refuses_invalid_arguments(name, value, error):
    normalizer = Normalizer(np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(error, match=rf"^{name}: expected "):
        ObservationStats.from_normalizer(**{"normalizer": normalizer, "count": 1} | {name: value})


def test_mean_and_standard_deviation_equal_those_of_numpy():
    rounds = [observed(seed) for seed in range(4)]
    stats = ObservationStats(LENGTH)
    for episodes, _ in rounds:
        stats = stats.merged(episodes)
    obs = np.concatenate([o for _, o in rounds])
    assert stats.count == len(obs)
    np.testing.assert_allclose(stats.mean, obs.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(stats.stdev, obs.std(axis=0), rtol=1e-10)


def test_statistics_do_not_depend_on_the_order_of_episodes():
    episodes, _ = observed(0, popsize=5, num_episodes=4)
    # Added one by one, the rounding of these sums would depend on the order.
    episodes.obs_sum[0, 0] = 1e16
    episodes.obs_sum[3, 2] = -1e16
    episodes.obs_sum_of_squares[1, 1] = 1e20
    merged = state(ObservationStats(LENGTH).merged(episodes))
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(20)
        assert state(ObservationStats(LENGTH).merged(reordered(episodes, order))) == merged


def test_statistics_do_not_depend_on_the_split_of_the_population():
    episodes, _ = observed(1, popsize=5)
    shares = [Episodes(*(a[part] for a in episodes)) for part in (slice(0, 1), slice(1, 4), slice(4, 5))]
    together = ObservationStats(LENGTH).merged(episodes)
    assert state(ObservationStats(LENGTH).merged(Episodes.concatenate(shares))) == state(together)


def test_sums_of_a_round_are_rounded_once():
    tenths = np.full((1, 10, 1), 0.1)
    episodes = Episodes(np.zeros((1, 10)), np.ones((1, 10), dtype=np.int64), tenths, tenths)
    assert ObservationStats(1).merged(episodes).sum.tolist() == [1.0]


def test_merging_returns_new_statistics_and_does_not_change_the_old_ones():
    episodes, _ = observed(2)
    old = ObservationStats(LENGTH)
    new = old.merged(episodes)
    before = state(new)
    newer = new.merged(episodes)
    assert state(old) == (0, [0.0] * LENGTH, [0.0] * LENGTH)
    assert state(new) == before
    assert newer.count == 2 * new.count


def test_statistics_can_be_added_and_subtracted():
    first, second = (ObservationStats(LENGTH).merged(observed(seed)[0]) for seed in (3, 4))
    both = first + second
    assert both.count == first.count + second.count
    np.testing.assert_allclose((both - first).mean, second.mean, rtol=1e-12)
    np.testing.assert_allclose((both - first).sum_of_squares, second.sum_of_squares, rtol=1e-12)


def test_empty_statistics_have_no_normalizer():
    stats = ObservationStats(LENGTH)
    assert stats.normalizer() is None
    assert stats.mean.tolist() == [0.0] * LENGTH
    assert stats.stdev.tolist() == [1.0] * LENGTH


def test_the_standard_deviation_is_at_least_a_tenth():
    ones = np.ones((1, 1, 2))
    episodes = Episodes(np.zeros((1, 1)), np.array([[4]]), 4 * 7.0 * ones, 4 * 49.0 * ones)
    stats = ObservationStats(2).merged(episodes)
    np.testing.assert_allclose(stats.stdev, [0.1, 0.1])
    np.testing.assert_allclose(stats.normalizer().scale, [10.0, 10.0])


def test_normalized_observations_have_mean_0_and_standard_deviation_1():
    episodes, obs = observed(5)
    normalizer = ObservationStats(LENGTH).merged(episodes).normalizer()
    normalized = (obs.astype(np.float32) - normalizer.mean) * normalizer.scale
    assert normalizer.mean.dtype == normalizer.scale.dtype == normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-5)


def test_the_repr_of_statistics_has_the_number_of_observations():
    episodes, obs = observed(6)
    assert repr(ObservationStats(LENGTH).merged(episodes)) == f"<ObservationStats of {len(obs)} observations>"


BOX = BoxActions(low=(-1.0, -math.inf), high=(0.5, 2.0), shape=(2,))
NORMALIZER = Normalizer(np.array([1, 2, 3], dtype=np.float32), np.array([0.5, 2, 1], dtype=np.float32))


def doubling() -> nn.Linear:
    """A layer that returns twice the first and ten times the last number of an observation."""
    linear = nn.Linear(LENGTH, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[2.0, 0, 0], [0, 0, 10.0]]))
    return linear


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
def test_a_policy_normalizes_observations_and_clips_box_actions(shape):
    obs = torch.randn((*shape, LENGTH), generator=torch.Generator().manual_seed(0)) * 3
    output = PolicyModule(doubling(), NORMALIZER, BOX)(obs)
    first, second = 2 * (obs[..., 0] - 1) * 0.5, 10 * (obs[..., 2] - 3)
    torch.testing.assert_close(output, torch.stack([first.clamp(-1, 0.5), second.clamp(max=2.0)], dim=-1))


@pytest.mark.parametrize("actions", [None, DiscreteActions(2)])
def test_outputs_without_bounds_are_not_clipped(actions):
    output = PolicyModule(doubling(), None, actions)(torch.tensor([3.0, 0.0, -4.0]))
    assert output.tolist() == [6.0, -40.0]


def test_only_outputs_of_box_parts_are_clipped():
    parts = TupleActions((MultiBinaryActions((1,)), BoxActions(low=(-1.0,), high=(2.0,), shape=(1,))))
    output = PolicyModule(doubling(), None, parts)(torch.tensor([3.0, 0.0, -4.0]))
    assert output.tolist() == [6.0, -1.0]


def test_a_recurrent_policy_takes_and_returns_the_state_of_its_network():
    frozen = FrozenNetwork("RNN(obs_length, 4) >> Linear(4, act_length)", obs_length=LENGTH, act_length=2)
    network = frozen.to_module(frozen.weights)
    policy = PolicyModule(network, NORMALIZER, BOX)
    obs, seen_state, own_state = torch.tensor([1.0, -2.0, 0.5]), None, None
    for _ in range(3):
        output, own_state = policy(obs, own_state)
        expected, seen_state = network((obs - torch.tensor([1.0, 2, 3])) * torch.tensor([0.5, 2, 1]), seen_state)
        torch.testing.assert_close(output, torch.stack([expected[0].clamp(-1, 0.5), expected[1].clamp(max=2.0)]))
        obs = obs + 0.5


CHAIN = "Linear(obs_length, 4) >> Tanh() >> Linear(4, 3, bias=False) >> ReLU() >> Linear(3, act_length)"


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("network", [(4, 5), (), CHAIN, nn.Sequential(doubling(), nn.LayerNorm(2), nn.Sigmoid())])
@pytest.mark.parametrize("normalizer", [None, NORMALIZER])
@pytest.mark.parametrize("actions", [None, BOX, DiscreteActions(2)])
def test_a_feedforward_policy_can_be_scripted(network, normalizer, actions, tmp_path):
    frozen = FrozenNetwork(network, obs_length=LENGTH, act_length=2)
    policy = PolicyModule(frozen.to_module(frozen.weights), normalizer, actions)
    torch.jit.script(policy).save(tmp_path / "policy.pt")
    scripted = torch.jit.load(tmp_path / "policy.pt")
    for shape in ((), (4,), (2, 3)):
        obs = torch.randn((*shape, LENGTH), generator=torch.Generator().manual_seed(0)) * 3
        assert torch.equal(scripted(obs), policy(obs))


def test_statistics_and_bounds_are_buffers_of_a_policy():
    policy = PolicyModule(doubling(), NORMALIZER, BOX)
    assert set(policy.state_dict()) == {"network.weight", "obs_mean", "obs_scale", "low", "high"}
    assert [name for name, _ in policy.named_parameters()] == ["network.weight"]


def test_changing_a_policy_does_not_change_its_normalizer():
    normalizer = Normalizer(np.ones(LENGTH, dtype=np.float32), np.ones(LENGTH, dtype=np.float32))
    policy = PolicyModule(doubling(), normalizer, None)
    policy.load_state_dict({name: torch.zeros_like(value) for name, value in policy.state_dict().items()})
    assert normalizer.mean.tolist() == normalizer.scale.tolist() == [1.0] * LENGTH
