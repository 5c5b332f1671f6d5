"""Random numbers from NumPy's Philox, a counter-based generator whose raw stream NumPy promises to keep.

Only raw 64-bit words come from NumPy, since ``Generator``'s distributions may change between releases. All functions
here but ``standard_normal`` compute exactly, so that a seed gives the same bits on every platform.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def raw_words(seed: int, count: int, *, stream: int = 0, substream: int = 0) -> NDArray[np.uint64]:
    """Return the first ``count`` words of ``numpy.random.Philox(key=[seed, stream], counter=[0, 0, substream, 0])``.

    Args:
        seed: The first half of the key, in [0, 2**64).
        count: The number of words.
        stream: The second half of the key, in [0, 2**64).
        substream: The third word of the counter, in [0, 2**64).

    Returns:
        ``(count,)`` uint64. Word ``i`` does not depend on ``count``.
    """
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([0, 0, substream, 0], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=counter).random_raw(count), dtype=np.uint64)


def symmetric_uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn words into numbers in (-1, 1): ``(2 u + 1 - 2**24) / 2**24`` with ``u`` the word's top 24 bits.

    Every value is an odd multiple of 2**-24: exact in float32, never 0, and symmetric around 0.
    """
    return (2.0 * (words >> np.uint64(40)).astype(np.float64) + (1.0 - 2.0**24)) / 2.0**24


def signs(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn words into -1 (top bit 0) or 1 (top bit 1)."""
    return 2.0 * (words >> np.uint64(63)).astype(np.float64) - 1.0


def standard_normal(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn pairs of words ``(2 n,)`` into ``(n,)`` standard normal numbers (cosine half of the Box-Muller transform).

    Logarithm and cosine come from the platform, so the last bit of a float64 value can differ between platforms. After
    rounding to float32, about one value in 10**8 differs.
    """
    pairs = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return np.asarray(np.sqrt(-2.0 * np.log(pairs[0::2])) * np.cos(2.0 * np.pi * pairs[1::2]))


def episode_seeds(seed: int, count: int, *, stream: int, substream: int = 0) -> NDArray[np.int64]:
    """Return ``(count,)`` seeds in [0, 2**31), the range that every simulator accepts."""
    return (raw_words(seed, count, stream=stream, substream=substream) >> np.uint64(33)).astype(np.int64)
