"""The random words of each seed, and the numbers made from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subnet_problems.networks._philox import episode_seeds, raw_words, signs, standard_normal, symmetric_uniform

_WORDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8)
_HALF_KEYS = st.integers(0, 2**64 - 1)


def philox_4x64(key: tuple[int, int], counter: int) -> list[int]:
    """Four words of Philox4x64-10, as defined by Salmon et al. (2011), in Python integers."""
    words = [(counter >> 64 * i) % 2**64 for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * words[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * words[2], 2**64)
        words = [high1 ^ words[1] ^ k0, low1, high0 ^ words[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
    return words


@settings(max_examples=20, deadline=None)
@given(seed=_HALF_KEYS, stream=_HALF_KEYS, substream=_HALF_KEYS)
def test_words_equal_those_of_the_published_generator(seed, stream, substream):
    # NumPy adds one to the counter before it makes the first block.
    blocks = [philox_4x64((seed, stream), (substream << 128) + i) for i in (1, 2)]
    assert raw_words(seed, 8, stream=stream, substream=substream).tolist() == blocks[0] + blocks[1]


def test_a_word_does_not_depend_on_how_many_are_drawn():
    assert raw_words(3, 5, stream=2).tolist() == raw_words(3, 1000, stream=2)[:5].tolist()


def test_different_seeds_streams_and_substreams_give_different_words():
    distinct = {int(raw_words(s, 1, stream=t, substream=u)[0]) for s in range(5) for t in range(5) for u in range(5)}
    assert len(distinct) == 125


@settings(max_examples=50, deadline=None)
@given(words=_WORDS)
def test_uniform_numbers_are_odd_multiples_of_two_to_the_minus_24_between_minus_one_and_one(words):
    values = symmetric_uniform(np.array(words, dtype=np.uint64))
    for word, value in zip(words, values.tolist(), strict=True):
        assert value * 2**24 == 2 * (word >> 40) + 1 - 2**24
        assert int(value * 2**24) % 2 == 1
        assert -1 < value < 1
    np.testing.assert_array_equal(values.astype(np.float32).astype(np.float64), values)


@settings(max_examples=50, deadline=None)
@given(words=_WORDS)
def test_a_word_with_all_bits_flipped_gives_the_opposite_number_and_sign(words):
    array = np.array(words, dtype=np.uint64)
    np.testing.assert_array_equal(symmetric_uniform(~array), -symmetric_uniform(array))
    np.testing.assert_array_equal(signs(~array), -signs(array))


def test_signs_come_from_the_top_bit():
    words = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert signs(words).tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_normal_numbers_are_finite_for_every_word():
    extremes = np.array([0, 0, 0, 2**64 - 1, 2**64 - 1, 0, 2**64 - 1, 2**64 - 1], dtype=np.uint64)
    values = standard_normal(extremes)
    assert values.shape == (4,)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 9


def test_normal_numbers_have_the_moments_of_the_standard_normal():
    values = standard_normal(raw_words(11, 200_000))
    assert abs(values.mean()) < 5 / np.sqrt(len(values))
    assert abs(values.std() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.15


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_episode_seeds_are_integers_that_every_simulator_accepts(seed):
    seeds = episode_seeds(seed, 1000, stream=4, substream=9)
    assert seeds.dtype == np.int64
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    assert seeds.tolist() == [int(w) >> 33 for w in raw_words(seed, 1000, stream=4, substream=9).tolist()]
