"""Networks: an architecture, and a seed from which weights are drawn that never change."""

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
