"""Masks times frozen weights, rescaled where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..networks._layer import Layer


def apply_mask(weights: Tensor, mask: Tensor, layers: Sequence[Layer], *, rescale: bool | Sequence[float]) -> Tensor:
    """Frozen weights times bits, and times 1 / sqrt(density) of each layer where ``rescale`` is on.

    Only tensors of two or more dimensions are rescaled: a bias is added once, whatever the density.

    Args:
        weights: ``(D,)``.
        mask: ``(N, D)`` bool.
        layers: The network's parameter tensors.
        rescale: See above; or factors, one for each of ``layers``.

    Returns:
        ``(N, D)`` float32.
    """
    masked = (mask * weights).add_(0.0)  # no -0.0, and half the time of torch.where
    for i, layer in enumerate(layers if rescale else ()):
        if not isinstance(rescale, bool):
            masked[:, layer.slice] *= rescale[i]
        elif len(layer.shape) >= 2:
            masked[:, layer.slice] *= scale_of(mask, layer)
    return masked


def scale_of(mask: Tensor, layer: Layer) -> Tensor:
    """1 / sqrt(density) of a layer in each of the masks ``(N, D)``: ``(N, 1)`` float32."""
    kept = mask[:, layer.slice].sum(dim=1, keepdim=True)
    # float64 division and square root are exactly rounded: the same bits everywhere. An empty layer has nothing to
    # scale.
    return torch.sqrt(layer.size / kept.clamp(min=1).double()).float()
