"""Networks: an architecture and a seed make weights that never change."""

from ._frozen_network import WEIGHT_INITS, FrozenNetwork
from ._layer import Layer

__all__ = [
    "WEIGHT_INITS",
    "FrozenNetwork",
    "Layer",
]
