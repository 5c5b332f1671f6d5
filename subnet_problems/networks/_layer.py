"""Layer: one parameter tensor of a network, and where it lies in the vector of all weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn


@dataclass(frozen=True)
class Layer:
    """One parameter tensor of a network, and where it lies in the vector of all weights.

    Attributes:
        name: Its name in the module, as ``named_parameters`` gives it.
        shape: Its shape; ``(out, in)`` for a linear layer's weight.
        start: Index of its first weight in the ``(D,)`` vector.
        fan_in: How many inputs a unit of it sums.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    fan_in: int

    @property
    def size(self) -> int:
        """How many weights it has."""
        return prod(self.shape)

    @property
    def slice(self) -> slice:
        """Where it lies in the ``(D,)`` vector of weights."""
        return slice(self.start, self.start + self.size)


def list_layers(module: nn.Module) -> tuple[Layer, ...]:
    parameters = dict(module.named_parameters())
    # A bias is drawn as the weights it is added to, PyTorch's own convention: those before it, or else those after it.
    fan_ins: dict[str, int] = {}
    for name, value in reversed(parameters.items()):
        if value.ndim >= 2:
            fan_ins[name.rpartition(".")[0]] = prod(value.shape[1:])
    layers: list[Layer] = []
    start = 0
    for name, value in parameters.items():
        owner = name.rpartition(".")[0]
        if value.ndim >= 2:
            fan_ins[owner] = prod(value.shape[1:])
        layer = Layer(name, tuple(value.shape), start, fan_ins.get(owner, max(1, value.numel())))
        layers.append(layer)
        start += layer.size
    return tuple(layers)
