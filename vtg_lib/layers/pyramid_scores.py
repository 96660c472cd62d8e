"""Scores of the points of a pyramid, within a level and across levels (Flash-VTG's adaptive score
refinement).

Facts are from Zhuo-Cao/FlashVTG @ 25b9591. Axes: B samples, N points in a row, P points of all levels, D
channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.convolution import TemporalConv
from vtg_lib.layers.projections import MLP


class ScoreHead(nn.Module):
    """Convolutions with ReLU, then an MLP, to one score a point."""

    def __init__(self, width: int, kernel: int, convolutions: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(TemporalConv(width, width, kernel) for _ in range(convolutions))
        self.mlp = MLP(width, width // 2, 1, depth)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, N, D]`, mask `[B, N]` -> `[B, N]`."""
        for conv in self.convs:
            x = F.relu(conv(x, mask))
        return self.mlp(x).squeeze(-1)


class AdaptiveScore(nn.Module):
    """Intra-scale scores of every level by itself, and inter-scale scores of all levels in a row, in a
    learned mixture.

    In the row the last points of a level are neighbours of the first of the next, so padding is moved to its
    end.

    Args:
        kernel, convolutions: of each of the two `ScoreHead`s; depth: of its MLP.
    """

    def __init__(self, width: int, kernel: int, convolutions: int, depth: int) -> None:
        super().__init__()
        self.intra, self.inter = (ScoreHead(width, kernel, convolutions, depth) for _ in range(2))
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, levels: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Levels `[B, T // s, D]`, masks `[B, T // s]` -> logits `[B, P]`."""
        own = torch.cat([self.intra(x, mask) for x, mask in zip(levels, masks, strict=True)], 1)
        x, valid = torch.cat(levels, 1), torch.cat(masks, 1)
        order = (~valid).to(torch.uint8).argsort(dim=1, stable=True)  # [B, P], valid points first
        packed = x.gather(1, order[..., None].expand_as(x))
        across = self.inter(packed, valid.gather(1, order)).gather(1, order.argsort(1))
        return torch.lerp(across, own, self.share)
