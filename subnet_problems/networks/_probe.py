"""Whether a module computes with its weights, its buffers and the observations alone, and whether two do the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._philox import raw_words, symmetric_uniform

FloatArray = NDArray[np.float32]

#: How many observations a network is tried on.
NUM_PROBES = 2
#: How large they are: a module may clip what it sees.
_SCALES = np.array([[1.0], [10.0]])
#: How often a module is called again. One that draws in 5 % of the calls passes 4 times in 100.
_REPEATS = 32
#: How often weights are moved to see what rounding does, and how far: by more than their last bit, or few would move.
_NUM_NUDGES = 4
_LAST_BIT = 2.0**-23
_NUDGE = 16 * _LAST_BIT
#: Modules draw from generators that belong to the process; they are borrowed by one thread at a time.
_generators = threading.RLock()


def probe_inputs(obs_length: int) -> FloatArray:
    """The observations that a network is tried on: ``(2, obs_length)``, in (-1, 1) and in (-10, 10)."""
    words = raw_words(0, NUM_PROBES * obs_length)
    inputs: FloatArray = (_SCALES * symmetric_uniform(words).reshape(NUM_PROBES, -1)).astype(np.float32)
    return inputs


def probe(module: nn.Module, inputs: NDArray[np.floating]) -> NDArray[np.floating]:
    """The outputs ``(n, act_length)`` for observations one after the other; a state is handed on to the next."""
    outputs, state = [], None
    with torch.no_grad():
        for obs in torch.from_numpy(inputs.copy()):  # some modules write into what they are given
            result = module(obs) if state is None else module(obs, state)
            output, state = result if isinstance(result, tuple) else (result, None)
            outputs.append(output.numpy())
    return np.stack(outputs)


def agree(
    outputs: NDArray[np.floating],
    expected: NDArray[np.floating],
    *,
    rtol: float,
    rounding: Callable[[], NDArray[np.float64]],
) -> bool:
    """Whether outputs are those expected, but for rounding, which differs between machines.

    Args:
        outputs: ``(n, act_length)``.
        expected: Likewise.
        rtol: How far an output may be off, as a share of itself.
        rounding: Gives the ``(act_length,)`` of ``rounding``; called only where it matters.
    """
    if outputs.shape != expected.shape:
        return False
    size = np.nan_to_num(np.abs(expected).astype(np.float64), posinf=0.0)
    margin = rtol * size.max(axis=0) + 1e-6 * size.max()
    same = (outputs == expected) | (np.isnan(outputs) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        distance = np.abs(outputs.astype(np.float64) - expected)
    if bool((same | (distance <= margin)).all()):
        return True
    return bool((same | (distance <= margin + 32 * rounding())).all())


def rounding(module: nn.Module, inputs: FloatArray) -> NDArray[np.float64]:
    """How far each output ``(act_length,)`` moves, at most, where each weight is off by about its last bit.

    It says how much rounding matters to a module: a deep network of large weights may leave hardly a digit, and an
    output whose terms cancel may be exactly 0 in one order of adding and not in another.
    """
    distance = np.zeros(1)
    with seeded(0):
        outputs = probe(module, inputs)
    for number in range(_NUM_NUDGES):
        nudged = deepcopy(module)
        with seeded(1 + number), torch.no_grad():
            for parameter in nudged.parameters():
                parameter.mul_(1.0 + _NUDGE * (2.0 * torch.rand_like(parameter) - 1.0))
        with seeded(0), np.errstate(invalid="ignore"):
            moved = np.nan_to_num(np.abs(probe(nudged, inputs).astype(np.float64) - outputs), posinf=0.0)
        distance = np.maximum(distance, moved.max(axis=0))
    return distance * (_LAST_BIT / _NUDGE)


def impurity(module: nn.Module, inputs: FloatArray, *, seed: int) -> str:
    """What a module computes with beside its weights, its buffers, the observation and its state; empty if nothing.

    It is called again and again, with other random numbers to draw; its buffers must stay what they are.
    """
    outputs, before = probe(module, inputs), buffers_of(module)
    margin = cache(lambda: rounding(module, inputs))
    with seeded(seed):
        for _ in range(_REPEATS):
            if not agree(probe(module, inputs), outputs, rtol=1e-5, rounding=margin):
                return (
                    "called again on the same observations it gave other outputs (does it draw random numbers, or keep "
                    "something from call to call?)"
                )
    changed = [name for name, buffer in buffers_of(module).items() if not _same(buffer, before[name])]
    return f"its forward pass changes its buffers {changed}" if changed else ""


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's buffers, by name; one that has several names by its first."""
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def set_buffers(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Give a module other buffers, by the names of ``buffers_of``."""
    first_names = {id(buffer): name for name, buffer in module.named_buffers()}
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        first = first_names[id(buffer)]
        if first in values:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, values[first])


def _same(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of PyTorch, NumPy and Python from a seed; afterwards they are what they were."""
    words = [seed & 0xFFFFFFFF, seed >> 32]
    with _generators, torch.random.fork_rng(devices=[]):
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        np.random.seed(words)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
