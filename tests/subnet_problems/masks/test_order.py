"""The k-th lowest of many values is exact, whatever a sample of them suggests."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subnet_problems import FrozenNetwork, TopK
from subnet_problems.masks._order import keep_highest_at_once, keep_highest_of_each, kth_lowest

N = 5_000
VALUES = {
    "normal": lambda rng: rng.standard_normal(N),
    "equal": lambda rng: np.full(N, 0.5),
    "few different": lambda rng: rng.integers(3, size=N).astype(float),
    "ascending": lambda rng: np.arange(N, dtype=float),
    "descending": lambda rng: -np.arange(N, dtype=float),
    "a period as long as the stride of the sample": lambda rng: np.arange(N) % 16 + 0.001 * rng.random(N),
    "infinite": lambda rng: np.where(rng.random(N) < 0.4, np.inf, rng.choice([-np.inf, 1.0, 2.0], N)),
    "outliers": lambda rng: np.where(rng.random(N) < 0.001, 1e30, rng.random(N)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", VALUES)
@given(k=st.integers(1, N) | st.sampled_from([1, 2, N - 1, N]), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_kth_lowest_of_many_values_is_exact(name, dtype, k, seed):
    values = torch.from_numpy(VALUES[name](np.random.default_rng(seed))).to(dtype)
    before = values.clone()
    assert kth_lowest(values, k) == values.sort().values[k - 1]
    assert torch.equal(values, before)


def test_nan_ranks_above_all_numbers():
    values = torch.from_numpy(VALUES["normal"](np.random.default_rng(0)))
    values[::7] = torch.nan
    expected = np.sort(values.numpy())
    for k in (1, 100, 2_500, 4_000):
        assert kth_lowest(values, k) == expected[k - 1]


@pytest.fixture
def large():
    """A network with many weights, and scores of which many are equal."""
    network = FrozenNetwork((180, 180), obs_length=4, act_length=2)
    scores = torch.randn((6, network.num_weights), generator=torch.Generator().manual_seed(0)).round(decimals=2)
    return network, scores


def test_masks_can_be_made_in_inference_mode(large):
    network, scores = large
    for rule in (TopK(0.9), TopK(0.99999, scope="layer")):
        expected = rule(scores, network.layers)
        with torch.inference_mode():
            assert torch.equal(rule(scores.clone(), network.layers), expected)


def test_masks_can_be_made_where_no_thread_can_start(large, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    network, scores = large
    expected = TopK(0.9)(scores, network.layers)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert torch.equal(TopK(0.9)(scores, network.layers), expected)


def test_masks_and_cutoffs_do_not_depend_on_the_number_of_threads(large):
    network, scores = large
    found = []
    before = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            for rule in (TopK(0.9), TopK(0.97, scope="erdos_renyi")):
                found.append((rule(scores, network.layers), rule.cutoffs(scores, network.layers)))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(found[:2], found[2:], strict=True):
        assert torch.equal(one[0], three[0])
        assert torch.equal(one[1], three[1])


@given(
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("inf"), float("-inf")]), min_size=1, max_size=12),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_all_rows_at_once_as_on_a_gpu_have_the_masks_of_each_row(scores, data):
    rows = torch.tensor([scores, scores[::-1], sorted(scores)])
    num_kept = data.draw(st.integers(0, len(scores)))
    expected, mask = torch.empty(rows.shape, dtype=torch.bool), torch.empty(rows.shape, dtype=torch.bool)
    keep_highest_of_each(rows, num_kept, out=expected)
    keep_highest_at_once(rows, num_kept, out=mask)
    assert torch.equal(mask, expected)
    assert (mask.sum(dim=1) == num_kept).all()
