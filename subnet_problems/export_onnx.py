"""A subnetwork as an ONNX model, from observations to actions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ._checks import check_path
from ._files import write_whole
from .observations import PolicyModule
from .policies import as_chain
from .pruning import compact, masked_layers, to_module
from .spaces import Actions, BoxActions

if TYPE_CHECKING:
    from .subnetwork import Subnetwork


def export_onnx(subnet: Subnetwork, path: str | Path) -> None:
    """See ``subnet_problems.Subnetwork.export_onnx``."""
    path = check_path("path", path)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx needs the packages onnx and onnxscript (the extra 'onnx'): {error}") from error
    module = subnet.network.to_module(subnet.weights)
    obs = torch.randn((3, subnet.network.obs_length), generator=torch.Generator().manual_seed(0))
    if as_chain(module) is not None:
        module = to_module(compact(masked_layers(subnet)))
    else:
        _check_batches(module, obs, subnet)
    policy = _ActingModule(PolicyModule(module, subnet.normalizer, None), subnet.actions).eval()
    with _quiet():
        program = torch.onnx.export(
            policy, (obs,), dynamo=True, verbose=False, input_names=["obs"], output_names=["action"],
            dynamic_shapes={"obs": {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    assert program is not None
    for described in (program.model, program.model.graph, *program.model.graph, *program.model.graph.inputs):
        described.metadata_props.clear()  # stack traces, with paths of this machine
    model = program.model_proto
    model.doc_string = f"{subnet!r}"
    write_whole(path, model.SerializeToString())


def _check_batches(module: nn.Module, obs: Tensor, subnet: Subnetwork) -> None:
    """A network was made for one observation; as a model it must do the same for each of a batch."""
    with torch.no_grad():
        rows = [module(row) for row in obs]
        if isinstance(rows[0], tuple):
            raise ValueError(f"network: expected one without a state of its own, got {subnet.network!r}")
        try:
            same = torch.allclose(module(obs), torch.stack(rows), rtol=1e-4, atol=1e-5)
        except (RuntimeError, ValueError, IndexError):
            same = False
    if not same:
        raise ValueError(f"network: expected one that treats each observation of a batch alone, got {subnet.network!r}")


class _ActingModule(nn.Module):
    """A policy and its action rule, from ``(batch, obs_length)`` to actions as the environment takes them."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: nn.Module, actions: Actions) -> None:
        super().__init__()
        self.policy, self.actions = policy, actions
        if isinstance(actions, BoxActions):
            low, high, dtype = actions.bounds
            self.dtype = getattr(torch, dtype.name)
            self.register_buffer("low", torch.tensor(low))
            self.register_buffer("high", torch.tensor(high))

    def forward(self, obs: Tensor) -> Tensor:
        """Actions ``(batch,)`` int64 or ``(batch, *shape)``."""
        outputs: Tensor = self.policy(obs)
        if not isinstance(self.actions, BoxActions):
            return outputs.argmax(dim=-1) + self.actions.start
        if not self.dtype.is_floating_point:
            outputs = outputs.round()
        clipped = torch.minimum(torch.maximum(outputs.to(self.low.dtype), self.low), self.high)
        return clipped.to(self.dtype).reshape(-1, *self.actions.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporter tells of packages that it could also have used, and of its own deprecated parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
