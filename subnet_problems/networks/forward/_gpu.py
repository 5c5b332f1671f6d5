"""The forward pass of chains on a GPU: one kernel for a step, and one wait, for the outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import reason_of
from .._weights import DenseWeights, MaskedWeights, PopulationWeights
from ._chain import as_chain, plan_of
from ._packed import Packed, row_places, scales_of
from ._way import FloatArray, Population

#: See ``launch`` in ``_gpu_kernel``.
Kernel = Callable[[Packed[Tensor], Tensor, int, Tensor, Tensor, Tensor, Tensor], None]


class GpuPolicy:
    """A policy of linear layers and activations on a GPU, to the same bits as ``ChainPolicy``.

    Buffers stay where they are for all steps. Only one thread may call it at a time.

    Args:
        weights: The weights of the N networks.
        plan: See ``plan_of``.
        num_episodes: E.
        device: A GPU, or the CPU with a kernel that runs there.
        kernel: What computes a step. Default: None, the Triton kernel.
    """

    def __init__(
        self,
        weights: PopulationWeights,
        plan: NDArray[np.int64],
        *,
        num_episodes: int,
        device: torch.device,
        kernel: Kernel | None = None,
    ) -> None:
        if kernel is None:
            from ._gpu_kernel import launch

            kernel = launch
        self._kernel, self._num_episodes, self._device = kernel, num_episodes, device
        self._packed = _packed(weights, plan, device)
        self._plan = torch.from_numpy(plan.astype(np.int32)).to(device)
        num_rows, widest = len(weights) * num_episodes, int(plan[:, :2].max())
        # Memory that the GPU reads without the CPU's help, and its counterpart on the GPU.
        pinned = device.type == "cuda"
        # Each thread has its own current device, stream and inference mode: a step uses this stream in any thread.
        self._stream = torch.cuda.current_stream(device) if pinned else None
        shapes = ((num_rows, int(plan[0, 0])), (num_rows, int(plan[-1, 1])))
        float32 = torch.float32  # whatever the default is
        self._host_obs, self._host_outputs = (torch.empty(s, dtype=float32, pin_memory=pinned) for s in shapes)
        self._obs, self._outputs = (torch.empty(s, dtype=float32, device=device) for s in shapes)
        self._scratch = torch.empty((num_rows, 2, widest), dtype=float32, device=device)
        self._rows = torch.empty(0, dtype=torch.int32, device=device)

    @torch.inference_mode()
    def act(self, rows: NDArray[np.int32], obs: FloatArray) -> FloatArray:
        """See ``PopulationPolicy``."""
        with torch.cuda.stream(self._stream):
            self._step(rows, obs)
        if self._stream is not None:
            self._stream.synchronize()
        outputs: FloatArray = self._host_outputs[: len(rows)].numpy().copy()
        return outputs

    def _step(self, rows: NDArray[np.int32], obs: FloatArray) -> None:
        count = len(rows)
        if count != len(self._rows):  # rows only ever end
            self._rows = torch.tensor(rows, device=self._device)
        self._host_obs.numpy()[:count] = obs
        inputs, outputs = self._obs[:count], self._outputs[:count]
        inputs.copy_(self._host_obs[:count], non_blocking=True)
        self._kernel(self._packed, self._plan, self._num_episodes, self._rows, inputs, self._scratch, outputs)
        self._host_outputs[:count].copy_(outputs, non_blocking=True)


def _packed(weights: PopulationWeights, plan: NDArray[np.int64], device: torch.device) -> Packed[Tensor]:
    """The weights on the device; bits are int32, because PyTorch computes little with uint16."""
    places = torch.from_numpy(row_places(plan)).to(device)
    if not isinstance(weights, MaskedWeights) or weights.mask.dtype != torch.bool:
        every = torch.full((1, len(places)), -1, dtype=torch.int32, device=device)
        return Packed(_gathered(weights.dense().to(device), places), every, scales_of(None, plan).to(device))
    kept = _gathered(weights.mask.to(device), places).view(len(weights), *places.shape)
    bits = torch.zeros(kept.shape[:2], dtype=torch.int32, device=device)
    for lane in range(kept.shape[2]):
        bits |= kept[:, :, lane].to(torch.int32) << lane
    frozen = _gathered((weights.frozen.to(device) + 0.0)[None], places)  # without -0.0, as in MaskedWeights.dense
    scales = None if weights.scales is None else weights.scales.cpu()
    return Packed(frozen, bits, scales_of(scales, plan).to(device))


def _gathered(values: Tensor, places: Tensor) -> Tensor:
    """``values`` ``(N, D)`` at ``places``, flat; 0 where a place is D."""
    return torch.nn.functional.pad(values, (0, 1))[:, places.flatten()]


@cache
def _kernel_runs(device: torch.device) -> bool:
    """Try the kernel once: Triton needs a C compiler, and a GPU that it supports."""
    if not find_spec("triton"):
        return False
    plan = np.array([[1, 1, 1, 1]])
    try:
        policy = GpuPolicy(DenseWeights(torch.zeros((1, 2))), plan, num_episodes=1, device=device)
        policy.act(np.zeros(1, dtype=np.int32), np.zeros((1, 1), dtype=np.float32))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler or driver raises
        warnings.warn(
            f"Triton's kernel does not run on {device}, so PyTorch's slower operations compute policies there: "
            f"{reason_of(error)}",
            stacklevel=2,
        )
        return False
    return True


def gpu_population(population: Population) -> GpuPolicy | None:
    """See ``Way``. It computes chains on a GPU for which Triton works."""
    chain = as_chain(population.module) if population.device.type == "cuda" else None
    if chain is None or not _kernel_runs(population.device):
        return None
    return GpuPolicy(population.weights, plan_of(chain), num_episodes=population.num_episodes, device=population.device)
