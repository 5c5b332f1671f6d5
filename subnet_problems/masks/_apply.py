"""Multiply frozen weights by masks, and optionally rescale them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..networks._weights import MaskedWeights, num_kept

if TYPE_CHECKING:
    from ..networks._layer import Layer


def masked_weights(
    weights: Tensor, mask: Tensor, layers: Sequence[Layer], *, rescale: bool | Sequence[float]
) -> MaskedWeights:
    """Return the weights of networks that multiply frozen weights by the values of masks.

    Args:
        weights: ``(D,)``.
        mask: ``(N, D)`` bool, or int8 of a rule with other values.
        layers: The network's parameter tensors.
        rescale: True multiplies the kept weights of a layer by 1 / sqrt(its density), False by 1. Or factors, one for
            each of ``layers``. The density rescales only tensors of two or more dimensions: a bias is added once at any
            density.
    """
    if isinstance(rescale, bool) and not rescale:
        return MaskedWeights(weights, mask, layers, None)
    scales = torch.ones(len(mask), len(layers), dtype=torch.float32, device=mask.device)
    for i, layer in enumerate(layers):
        if not isinstance(rescale, bool):
            scales[:, i] = rescale[i]
        elif len(layer.shape) >= 2:
            scales[:, i] = scale_of(mask, layer)
    return MaskedWeights(weights, mask, layers, scales)


def apply_mask(weights: Tensor, mask: Tensor, layers: Sequence[Layer], *, rescale: bool | Sequence[float]) -> Tensor:
    """Multiply frozen weights by masks; the arguments are those of ``masked_weights``.

    Returns:
        ``(N, D)`` float32.
    """
    return masked_weights(weights, mask, layers, rescale=rescale).dense()


def scale_of(mask: Tensor, layer: Layer) -> Tensor:
    """Return 1 / sqrt(density) of a layer for each of the masks ``(N, D)``, as ``(N,)`` float32."""
    kept = num_kept(mask[:, layer.slice])
    # float64 division and square root are exactly rounded, so the bits are the same on every machine. The clamp avoids
    # a division by 0 for a layer that keeps nothing.
    return torch.sqrt(layer.size / kept.clamp(min=1).double()).float()
