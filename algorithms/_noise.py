"""Normally distributed solutions, drawn in parallel if they are long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

#: From this length on, each solution is drawn from its own random stream, so that threads can share the work. Drawing
#: is half of the work of a search with a million weights, and PyTorch draws from one stream in one thread.
_LONG = 2**15


def fill_normal(values: Tensor, stdev: float, *, center: Tensor | None, generator: torch.Generator | None) -> None:
    """Fill ``values`` with ``center + stdev N(0, I)``: the same bits for any number of threads.

    Args:
        values: ``(N, D)``, written.
        stdev: Standard deviation.
        center: ``(D,)``; None for zeros.
        generator: The source of randomness; None for PyTorch's own.
    """
    if not values.is_cpu or values.shape[1] < _LONG or values.dtype not in (torch.float32, torch.float64):
        values.normal_(0.0, stdev, generator=generator)
        if center is not None:
            values += center
        return
    seed = int(torch.randint(2**31, (1,), generator=generator))
    offsets = None if center is None else center.detach().numpy()

    def fill(row: int) -> None:
        values[row].normal_(0.0, stdev, generator=torch.Generator().manual_seed(seed + row))
        if offsets is not None:
            np.add(values[row].numpy(), offsets, out=values[row].numpy())  # PyTorch would start threads of its own

    number = max(1, min(torch.get_num_threads(), len(values)))
    try:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(fill, range(len(values))))
    except RuntimeError:  # no thread can be started
        for row in range(len(values)):
            fill(row)
