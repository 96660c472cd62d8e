"""Sinusoidal positions: of clips in a masked video, and of (center, width) references."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _waves(position: Tensor, width: int) -> Tensor:
    """Interleaved sine and cosine `[..., width]` of `position` `[...]` in radians."""
    index = torch.arange(0, width, 2, device=position.device)
    angle = position[..., None] * torch.exp(index * (-math.log(10_000.0) / width))
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2)


def clip_positions(mask: Tensor, width: int) -> Tensor:
    """`[B, T]` mask to `[B, T, width]`: the clip's rank among the real ones, scaled to (0, 2 pi] (DETR's sine
    encoding).
    """
    rank = mask.cumsum(1, dtype=torch.float32)
    return _waves(rank / (rank[:, -1:] + 1e-6) * (2 * math.pi), width)


def reference_positions(references: Tensor, width: int) -> Tensor:
    """(center, width) `[..., 2]` in 0..1 to `[..., width]`: half for the center, half for the width
    (DAB-DETR, Eq. 9).
    """
    return _waves(references * (2 * math.pi), width // 2).flatten(-2)
