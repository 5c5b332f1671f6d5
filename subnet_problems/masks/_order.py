"""Select the k highest scores exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._torch_threads import num_threads

T = TypeVar("T")

#: From this many values on, a sample narrows down where the k-th lowest value is: 1.5 times as fast, and 5 times for a
#: million values.
_MANY = 2**12
#: Number of values in the sample, as a fraction of all, and at most.
_SAMPLE, _MOST_SAMPLED = 16, 2**14
#: From this many scores on, rows are processed in parallel.
_LARGE = 2**15


def each_row(work: Callable[[int], T], scores: Tensor) -> list[T]:
    """Return ``work(i)`` for each row of scores ``(N, D)``; rows with many scores are processed in parallel threads."""
    number = num_threads() if scores.is_cpu and scores.shape[1] >= _LARGE else 1
    if number == 1 or len(scores) == 1:
        return [work(i) for i in range(len(scores))]
    try:
        with ThreadPoolExecutor(number) as pool:
            return list(pool.map(work, range(len(scores))))
    except RuntimeError:  # no thread can be started
        return [work(i) for i in range(len(scores))]


def keep_highest(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Set ``out`` (D,) to True at the ``num_kept`` highest ``scores`` (D,). Of equal scores the first are taken."""
    lowest = lowest_kept(scores, num_kept) if num_kept else math.inf
    if out.is_cpu:  # NumPy starts no threads, and counts faster
        kept, array = out.numpy(), scores.numpy()
        np.greater_equal(array, lowest, out=kept)
        surplus = int(np.count_nonzero(kept)) - num_kept
        if surplus > 0:  # too many scores equal the lowest kept one: drop the last of them
            kept[np.flatnonzero(array == lowest)[-surplus:]] = False
        return
    torch.ge(scores, lowest, out=out)
    surplus = int(out.count_nonzero()) - num_kept
    if surplus > 0:
        out[torch.nonzero(scores == lowest).flatten()[-surplus:]] = False


def keep_highest_of_each(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Do what ``keep_highest`` does for each row of ``scores`` (N, D)."""
    if out.is_cpu:
        each_row(lambda i: keep_highest(scores[i], num_kept, out=out[i]), scores)
    else:
        keep_highest_at_once(scores, num_kept, out=out)


def keep_highest_at_once(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Do what ``keep_highest_of_each`` does, for all rows together: on a GPU, each row would be waited for."""
    if num_kept == 0:
        out[:] = False
        return
    torch.ge(scores, _lowest_kept_at_once(scores, num_kept), out=out)
    for row in (out.sum(dim=1) > num_kept).nonzero().flatten().tolist():  # several scores equal the lowest kept one
        keep_highest(scores[row], num_kept, out=out[row])


def lowest_kept(scores: Tensor, num_kept: int) -> float:
    """Return the lowest of the ``num_kept`` highest ``scores`` (D,); ``num_kept`` is at least 1."""
    return kth_lowest(scores, scores.numel() - num_kept + 1)


def lowest_kept_of_each(scores: Tensor, num_kept: int) -> list[float]:
    """Return the lowest of the ``num_kept`` highest scores of each row of ``scores`` (N, D)."""
    if scores.is_cpu:
        return each_row(lambda i: lowest_kept(scores[i], num_kept), scores)
    lowest: list[float] = _lowest_kept_at_once(scores, num_kept).flatten().tolist()
    return lowest


def _lowest_kept_at_once(scores: Tensor, num_kept: int) -> Tensor:
    """Return ``lowest_kept_of_each`` as ``(N, 1)``, without a wait for the GPU."""
    place = scores.shape[1] - num_kept
    return scores.sort(dim=1).values[:, place : place + 1]


def kth_lowest(values: Tensor, k: int) -> float:
    """Return the k-th lowest of ``values`` (D,), k from 1. This is many times faster than ``torch.kthvalue``."""
    if not values.is_cpu:
        return float(values.sort().values[k - 1])
    array = values.numpy()
    is_large = array.size >= _MANY and array.dtype in (np.float32, np.float64)
    found = _kth_lowest_of_many(array, k) if is_large else None
    return float(np.partition(array, k - 1)[k - 1] if found is None else found)


def _kth_lowest_of_many(array: NDArray[Any], k: int) -> Any | None:
    """Return the k-th lowest value, if two values of a sample enclose it as expected; else None."""
    from ._order_kernel import enclosed  # Numba takes a while to load

    sample = array[:: max(_SAMPLE, array.size // _MOST_SAMPLED)]
    expected = len(sample) * k / array.size
    margin = 4.0 * math.sqrt(expected * (1.0 - k / array.size)) + 2.0  # four standard deviations of the rank
    first, last = int(expected - margin), int(expected + margin)
    ranks = [rank for rank in (first, last) if 0 <= rank < len(sample)]
    sample = np.partition(sample, ranks)
    low = sample[first] if first >= 0 else -np.inf
    high = sample[last] if last < len(sample) else np.inf
    num_below, inside = enclosed(array, sample.dtype.type(low), sample.dtype.type(high))
    position = k - 1 - num_below
    if not 0 <= position < len(inside):
        return None
    inside.partition(position)
    return inside[position]
