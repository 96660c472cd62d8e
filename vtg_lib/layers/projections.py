"""Projections of the inputs and multi-layer heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.dropout import Dropout


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them (DETR's prediction heads)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class InputProjection(nn.Module):
    """LayerNorm, dropout, linear (+ ReLU but for the last), `depth` times (Moment-DETR's input
    projections).
    """

    def __init__(self, inputs: int, width: int, dropout: float, depth: int = 2) -> None:
        super().__init__()
        sizes = [inputs] + [width] * depth
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[:-1])
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.linears) - 1
        for depth, (norm, linear) in enumerate(zip(self.norms, self.linears, strict=True)):
            x = linear(self.dropout(norm(x)))
            x = F.relu(x) if depth < last else x
        return x


def temporal_endpoints(mask: Tensor) -> Tensor:
    """Temporal endpoint features (TEF) `[B, T, 2]`: start and end of each clip as a fraction of the video; 0
    on padding.

    Args:
        mask: `[B, T]`, True on real clips.
    """
    length = mask.sum(1, keepdim=True).clamp(min=1)
    start = torch.arange(mask.shape[1], device=mask.device) / length
    return torch.stack((start, start + 1 / length), -1) * mask[..., None]


def append_endpoints(video: Tensor, mask: Tensor) -> Tensor:
    """Appends TEF to `[B, T, D]` or `[B, K, T, D]` features: D + 2 channels."""
    tef = temporal_endpoints(mask).to(video.dtype)
    if video.dim() == 4:
        tef = tef[:, None].expand(-1, video.shape[1], -1, -1)
    return torch.cat((video, tef), -1)
