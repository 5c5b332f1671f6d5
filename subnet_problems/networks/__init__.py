"""Networks: an architecture whose weights are drawn from a seed and never change."""

from ._frozen_network import FrozenNetwork
from ._inits import INITS, Init, Numbers
from ._layer import Layer

__all__ = [
    "INITS",
    "FrozenNetwork",
    "Init",
    "Layer",
    "Numbers",
]
