"""Select the k highest scores exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def keep_highest(scores: Tensor, num_kept: int, *, out: Tensor) -> None:
    """Set ``out`` (D,) to True at the ``num_kept`` highest ``scores`` (D,). Of equal scores the first are taken."""
    if num_kept == 0:
        out.fill_(False)
        return
    lowest = lowest_kept(scores, num_kept)
    torch.ge(scores, lowest, out=out)
    surplus = int(out.count_nonzero()) - num_kept
    if surplus:  # too many scores equal the lowest kept one: drop the last of them
        equal = torch.nonzero(scores == lowest).flatten()
        out[equal[len(equal) - surplus :]] = False


def lowest_kept(scores: Tensor, num_kept: int) -> float:
    """Return the lowest of the ``num_kept`` highest ``scores`` (D,); ``num_kept`` is at least 1."""
    return kth_lowest(scores, scores.numel() - num_kept + 1)


def kth_lowest(values: Tensor, k: int) -> float:
    """Return the k-th lowest of ``values`` (D,), k from 1. This is several times faster than ``torch.kthvalue``."""
    if values.is_cpu:
        return float(np.partition(values.numpy(), k - 1)[k - 1])
    return float(values.sort().values[k - 1])
