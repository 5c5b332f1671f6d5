"""Layer: one parameter tensor of a network, and its position in the vector of all weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn


@dataclass(frozen=True)
class Layer:
    """One parameter tensor of a network, and its position in the vector of all weights.

    Attributes:
        name: Name in the module, as in ``named_parameters``.
        shape: Shape; ``(out, in)`` for the weight of a linear layer.
        start: Index of the first weight in the ``(D,)`` vector.
        fan_in: Number of inputs that a unit sums.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    fan_in: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def slice(self) -> slice:
        """Position in the ``(D,)`` vector of weights."""
        return slice(self.start, self.start + self.size)


def list_layers(module: nn.Module) -> tuple[Layer, ...]:
    """The parameter tensors of a module, in the order of its ``parameters()``."""
    parameters = dict(module.named_parameters())
    # As in PyTorch, a bias has the fan-in of its module's weights: of those before it, or else of those after it.
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
