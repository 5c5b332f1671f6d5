"""Check that a module computes only with its weights, its buffers and the observations; compare outputs."""

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

#: The number of observations that a network is tried on.
NUM_PROBES = 2
#: The scales of these observations. They differ because a module may clip its input.
_SCALES = np.array([[1.0], [10.0]])
#: How often a module is called again. A module that draws random numbers in 5 % of its calls passes 4 times in 100.
_REPEATS = 32
#: How often ``rounding`` perturbs the weights, and how far: by more than the last bit, or few weights would change.
_NUM_NUDGES = 4
_LAST_BIT = 2.0**-23
_NUDGE = 16 * _LAST_BIT
#: Modules draw from generators that the whole process shares, so one thread at a time may seed and use them.
_generators = threading.RLock()


def probe_inputs(obs_length: int) -> FloatArray:
    """Return the observations that a network is tried on: ``(2, obs_length)``, in (-1, 1) and in (-10, 10)."""
    words = raw_words(0, NUM_PROBES * obs_length)
    inputs: FloatArray = (_SCALES * symmetric_uniform(words).reshape(NUM_PROBES, -1)).astype(np.float32)
    return inputs


def probe(module: nn.Module, inputs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the outputs ``(n, act_length)`` for a sequence of observations; a state is passed on to the next call."""
    outputs, state = [], None
    with torch.no_grad():
        for obs in torch.from_numpy(inputs.copy()):  # some modules write into their input
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
    """Return True if outputs equal the expected ones except for rounding, which differs between machines.

    Args:
        outputs: ``(n, act_length)``.
        expected: ``(n, act_length)``.
        rtol: Relative tolerance, as a fraction of the largest expected value of each output.
        rounding: Returns ``(act_length,)`` from the function ``rounding``; called only if ``rtol`` does not suffice.
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
    """Return how far each output ``(act_length,)`` moves, at most, if each weight changes by about its last bit.

    This measures how strongly rounding affects a module. A deep network with large weights may keep hardly one correct
    digit, and an output whose terms cancel may be exactly 0 in one order of summation and not in another.
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
    """Return what a module depends on besides its weights, buffers, observation and state; empty if nothing is found.

    The module is called repeatedly with other random numbers; its buffers must not change.
    """
    outputs, before = probe(module, inputs), buffers_of(module)
    margin = cache(lambda: rounding(module, inputs))
    with seeded(seed):
        for _ in range(_REPEATS):
            if not agree(probe(module, inputs), outputs, rtol=1e-5, rounding=margin):
                return (
                    "another call on the same observations gave other outputs (does it draw random numbers, or keep "
                    "something between calls?)"
                )
    changed = [name for name, buffer in buffers_of(module).items() if not _same(buffer, before[name])]
    return f"its forward pass changes its buffers {changed}" if changed else ""


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's buffers, by name; a shared buffer appears under its first name only."""
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def set_buffers(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Replace a module's buffers, by the names of ``buffers_of``."""
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
    """Seed the global generators of PyTorch, NumPy and Python, and restore their states on exit."""
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
