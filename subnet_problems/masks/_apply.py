"""Multiply frozen weights by masks, and optionally rescale them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..networks._layer import Layer


def apply_mask(weights: Tensor, mask: Tensor, layers: Sequence[Layer], *, rescale: bool | Sequence[float]) -> Tensor:
    """Multiply frozen weights by the values of masks and, if ``rescale`` is True, by 1 / sqrt(density) of each layer.

    The density rescales only tensors of two or more dimensions: a bias is added once at any density.

    Args:
        weights: ``(D,)``.
        mask: ``(N, D)`` bool, or int8 of a rule with other values.
        layers: The network's parameter tensors.
        rescale: True or False, or factors, one for each of ``layers``.

    Returns:
        ``(N, D)`` float32.
    """
    masked = (mask * weights).add_(0.0)  # turns -0.0 into 0.0; takes half the time of torch.where
    for i, layer in enumerate(layers if rescale else ()):
        if not isinstance(rescale, bool):
            masked[:, layer.slice] *= rescale[i]
        elif len(layer.shape) >= 2:
            masked[:, layer.slice] *= scale_of(mask, layer)
    return masked


def scale_of(mask: Tensor, layer: Layer) -> Tensor:
    """Return 1 / sqrt(density) of a layer for each of the masks ``(N, D)``, as ``(N, 1)`` float32."""
    kept = mask[:, layer.slice].bool().sum(dim=1, keepdim=True)
    # float64 division and square root are exactly rounded, so the bits are the same on every machine. The clamp avoids
    # a division by 0 for a layer that keeps nothing.
    return torch.sqrt(layer.size / kept.clamp(min=1).double()).float()
