"""Check that an EvoTorch network string from someone else's file is safe to build, without allocating memory for it."""

from __future__ import annotations

import ast
import math
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .._checks import reason_of


def check_string(
    string: str, constants: dict[str, Any], shapes: list[tuple[int, ...]], obs_length: int, act_length: int
) -> None:
    """Build and run a string's network without memory (on PyTorch's meta device), and check its shapes.

    Raises:
        ValueError: The string calls something that is not a module, needs too much memory or time, or its network has
            other shapes than ``shapes`` or another output length than ``act_length``.
    """
    from evotorch.neuroevolution.net import str_to_net

    num_weights = sum(math.prod(shape) for shape in shapes)
    try:
        numbers = _check_calls(string)
        if _largest_int([numbers, constants]) > 2**16 + num_weights:  # [1] * n fills the memory without any tensor
            raise ValueError("a whole number in it is larger than its number of weights justifies")
        with torch.device("meta"), _WithoutMemory(num_weights):
            module = str_to_net(string, **constants).float()
            found = [tuple(parameter.shape) for parameter in module.parameters()]
            output = module(torch.empty(obs_length, dtype=torch.float32)) if found == shapes else None
    except Exception as error:
        raise ValueError(f"network.string: EvoTorch cannot read {string!r}: {reason_of(error)}") from error
    if found != shapes:
        raise ValueError(f"network.string: expected layers {shapes}, got {found}")
    output = output[0] if isinstance(output, tuple) else output
    if not isinstance(output, torch.Tensor) or output.shape != (act_length,):
        raise ValueError(f"network.string: expected an output of shape ({act_length},), got {output}")


class _WithoutMemory(TorchFunctionMode):
    """Create tensors without memory, and stop code that creates more or larger tensors than a network needs."""

    def __init__(self, num_weights: int) -> None:
        super().__init__()
        self._left = 2**20 + 64 * num_weights

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:  # of a layer that sets its own device
            kwargs["device"] = "meta"
        result = func(*args, **kwargs)
        self._left -= 256 + _count(result)
        if self._left < 0:
            raise ValueError("it needs more memory or time than its number of weights justifies")
        return result


def _count(result: Any) -> int:
    """Return the number of elements in the tensors of a result."""
    if isinstance(result, torch.Tensor):
        return result.numel()
    return sum(map(_count, result)) if isinstance(result, list | tuple) else 0


def _check_calls(string: str) -> list[Any]:
    """Check that a string calls only modules, because EvoTorch calls whatever has the name, even ``__setattr__``.

    Returns:
        The constants in the string.
    """
    from evotorch.neuroevolution.net import layers

    constants = []
    for node in ast.walk(ast.parse(f"(\n{string}\n)", mode="eval")):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            found = getattr(layers, name, getattr(nn, name, None))
            if not isinstance(found, type) or not issubclass(found, nn.Module):
                raise ValueError(f"{ast.unparse(node.func)} is not a module")
        if isinstance(node, ast.Constant):
            constants.append(node.value)
    return constants


def _largest_int(value: Any) -> int:
    """Return the largest whole number inside a JSON value, at least 0."""
    if isinstance(value, dict | list | tuple):
        return max(map(_largest_int, value.values() if isinstance(value, dict) else value), default=0)
    return value if isinstance(value, int) else 0
