"""Export of a subnetwork as an ONNX model, from observations to actions."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..._checks import check_path
from ..._files import write_whole
from ...networks.forward._chain import as_chain
from ...tasks._action_rules import Actions, BoxActions, DiscreteActions, MultiBinaryActions, MultiDiscreteActions
from .._parts import PolicyParts
from .._policy_module import PolicyModule
from .._pruning import compact, masked_layers, to_module


def export_onnx(subnet: PolicyParts, path: str | Path) -> Path:
    """See ``subnet_problems.Subnetwork.export_onnx``."""
    path = check_path("path", path)
    names = [f"action{place}" for place, _ in subnet.actions.leaves()]
    if len(set(names)) < len(names):
        raise ValueError(f"actions: expected parts whose names differ, got {names}")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx needs the packages onnx and onnxscript (the extra 'onnx'): {error}") from error
    module = subnet.network.to_module(subnet.weights)
    shape = (3, subnet.network.obs_length)
    obs = torch.randn(shape, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    if as_chain(module) is not None:
        module = to_module(compact(masked_layers(subnet)))
    else:
        _check_batches(module, obs, subnet)
    policy = _ActingModule(PolicyModule(module, subnet.normalizer, None), subnet.actions).eval()
    with _quiet():
        program = torch.onnx.export(
            policy, (obs,), dynamo=True, verbose=False, input_names=["obs"], output_names=names,
            dynamic_shapes={"obs": {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    assert program is not None
    for described in (program.model, program.model.graph, *program.model.graph, *program.model.graph.inputs):
        described.metadata_props.clear()  # they hold stack traces, with paths of this machine
    model = program.model_proto
    model.doc_string = f"{subnet!r}"
    write_whole(path, model.SerializeToString())
    return path


def _check_batches(module: nn.Module, obs: Tensor, subnet: PolicyParts) -> None:
    """Raise ``ValueError`` if a network has a state, or if a row's outputs depend on the rest of the batch."""
    with torch.no_grad():
        if isinstance(module(obs[0].clone()), tuple):
            raise ValueError(f"network: expected one without a state, as recurrent ones have, got {subnet.network!r}")
        # Batches of several sizes, and one with rows of very different scales: a network may divide by the maximum.
        batches = [obs, obs[:1], obs.repeat(2, 1)[:5], obs * torch.tensor([[1.0], [1e-3], [1e3]], dtype=torch.float32)]
        try:
            same = all(_treats_alone(module, batch) for batch in batches)
        except (RuntimeError, ValueError, IndexError):
            same = False
    if not same:
        raise ValueError(
            f"network: expected one that treats the observations of a batch independently, got {subnet.network!r}"
        )


def _treats_alone(module: nn.Module, batch: Tensor) -> bool:
    """True if a module's outputs for a batch equal its outputs for the single rows."""
    rows = torch.stack([module(row.clone()) for row in batch])
    return torch.allclose(module(batch.clone()), rows, rtol=1e-4, atol=1e-5, equal_nan=True)


class _ActingModule(nn.Module):
    """A policy and its action rule, from ``(batch, obs_length)`` to an action's parts in the environment's format."""

    def __init__(self, policy: nn.Module, actions: Actions) -> None:
        super().__init__()
        self.policy = policy
        leaves = [leaf for _, leaf in actions.leaves()]
        self.lengths = [leaf.length for leaf in leaves]
        self.rules = nn.ModuleList(_rule_of(leaf) for leaf in leaves)

    def forward(self, obs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """A tensor for each part of the action."""
        outputs: Tensor = self.policy(obs)
        if len(self.rules) == 1:
            part: Tensor = self.rules[0](outputs)
            return part
        return tuple(rule(o) for rule, o in zip(self.rules, torch.split(outputs, self.lengths, dim=-1), strict=True))


def _rule_of(leaf: Actions) -> nn.Module:
    match leaf:
        case DiscreteActions():
            return _Choice(leaf)
        case MultiDiscreteActions():
            return _Choices(leaf)
        case MultiBinaryActions():
            return _Bits(leaf)
        case BoxActions():
            return _Numbers(leaf)
    raise TypeError(f"actions: expected a kind that the ONNX export supports, got {leaf!r}")


class _Choice(nn.Module):
    def __init__(self, rule: DiscreteActions) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, outputs: Tensor) -> Tensor:
        """``(batch,)`` int64."""
        return outputs.argmax(dim=-1) + self.rule.start


class _Choices(nn.Module):
    def __init__(self, rule: MultiDiscreteActions) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, outputs: Tensor) -> Tensor:
        """``(batch, *shape)`` of the space's dtype."""
        largest = [part.argmax(dim=-1) for part in torch.split(outputs, list(self.rule.nvec), dim=-1)]
        numbers = torch.stack(largest, dim=-1) + torch.tensor(self.rule.start)
        return numbers.to(getattr(torch, self.rule.dtype)).reshape(-1, *self.rule.shape_of_action)


class _Bits(nn.Module):
    def __init__(self, rule: MultiBinaryActions) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, outputs: Tensor) -> Tensor:
        """``(batch, *shape)`` int8."""
        return (outputs > 0.0).to(torch.int8).reshape(-1, *self.rule.shape)


class _Numbers(nn.Module):
    low: Tensor
    high: Tensor

    def __init__(self, rule: BoxActions) -> None:
        super().__init__()
        low, high, dtype = rule.bounds
        self.shape, self.dtype = rule.shape, getattr(torch, dtype.name)
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))

    def forward(self, outputs: Tensor) -> Tensor:
        """``(batch, *shape)`` of the space's dtype."""
        if not self.dtype.is_floating_point:
            outputs = outputs.round()
        clipped = torch.minimum(torch.maximum(outputs.to(self.low.dtype), self.low), self.high)
        return clipped.to(self.dtype).reshape(-1, *self.shape)


#: Warning filters and log levels belong to the process. Exports in several threads take turns, so that each restores
#: the settings it found.
_quieting = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of PyTorch's exporter about optional packages and about its own deprecated parts."""
    logger = logging.getLogger("torch.onnx")
    with _quieting, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
