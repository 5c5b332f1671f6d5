"""Which scores are the k highest, by exact selection."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def keep_highest(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Write True to ``out`` (D,) where ``scores`` (D,) has its ``num_kept`` highest values, the first of equal ones."""
    if num_kept == 0:
        out.fill_(False)
        return
    lowest = lowest_kept(scores, num_kept)
    torch.ge(scores, lowest, out=out)
    surplus = int(out.count_nonzero()) - num_kept
    if surplus:  # more scores equal the lowest kept one than there is room for: the last of them go
        equal = torch.nonzero(scores == lowest).flatten()
        out[equal[len(equal) - surplus :]] = False


def lowest_kept(scores: Tensor, num_kept: int) -> float:
    """The lowest of the ``num_kept`` highest of ``scores`` (D,), of which there is at least one."""
    return kth_lowest(scores, scores.numel() - num_kept + 1)


def kth_lowest(values: Tensor, k: int) -> float:
    """The k-th lowest of ``values`` (D,), from 1. By what is fastest: ``torch.kthvalue`` is several times slower."""
    if values.is_cpu:
        return float(np.partition(values.numpy(), k - 1)[k - 1])
    return float(values.sort().values[k - 1])
