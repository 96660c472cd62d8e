"""SG-DETR's feature pyramid, whose finest level has two points a clip, its anchors, and the ATSS head.

Structure as in chinagalaxy2002/SG_CGP @ 931cad1, where a video is a multiple of four clips long and the
points of padding are read like others. Here a level of stride s has `ceil(length / s)` points, the last of
which may stand for clips beyond the end, convolutions never read padding, and so padding changes nothing.
Axes: B samples, T clips, P points of all levels, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.convolution import ConvHead, DepthwiseConv, TemporalConv
from vtg_lib.layers.precision import full_precision

STRIDES = (0.5, 1.0, 2.0, 4.0)  # clips
SIZES = (4.0, 16.0, 32.0, 64.0)  # of the anchors of each level, clips
FIRST_STD = 0.01  # of weights at the start of training, of all convolutions here
# What the predicted offsets of center and log width are multiples of.
CENTER_UNIT, WIDTH_UNIT = 1 / 10, 1 / 5
MOST_GROWTH = math.log(1000 / 16)


class SeparableConv(nn.Module):
    """Depthwise convolution of kernel 3, a linear map of the channels, LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(width, 1)
        self.pointwise = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.depthwise.taps, std=FIRST_STD)
        nn.init.normal_(self.pointwise.weight, std=FIRST_STD)

    def forward(self, x: Tensor, mask: Tensor, stride: int = 1) -> Tensor:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, ceil(T / stride), D]`."""
        (x,) = self.depthwise(x, mask, stride)
        normed: Tensor = self.norm(self.pointwise(x))
        return normed


class LevelBlock(nn.Module):
    """Two `SeparableConv` with GELU between them; the first one may halve the number of points."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.first = SeparableConv(width)
        self.second = SeparableConv(width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x `[B, N, D]`, mask `[B, N]` -> the same of `ceil(N / stride)` points."""
        x, mask = self.first(x, mask, self.stride), mask[:, :: self.stride]
        return self.second(F.gelu(x), mask), mask


class FinePyramid(nn.Module):
    """Levels of strides ½, 1, 2, 4: of the doubled clips, of the clips, and of the level before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.finer = LevelBlock(width)
        self.clips = LevelBlock(width)
        self.coarser = LevelBlock(width, 2)
        self.coarsest = LevelBlock(width, 2)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """x `[B, T, D]`, mask `[B, T]` -> of every level `[B, ceil(T / s), D]` and `[B, ceil(T / s)]`."""
        twice = (t.repeat_interleave(2, 1) for t in (x, mask))
        coarser: tuple[Tensor, Tensor] = self.coarser(x, mask)
        coarsest = self.coarsest(F.gelu(coarser[0]), coarser[1])
        levels = (self.finer(*twice), self.clips(x, mask), coarser, coarsest)
        return [level for level, _ in levels], [real for _, real in levels]


@dataclass(frozen=True)
class Anchors:
    """One anchor a point, in clips; its borders are center ± (size - 1) / 2, as the public code counts.

    Attributes:
        center, size: `[P]`; counts: points of each level; valid: `[B, P]`, points of real clips.
    """

    center: Tensor
    size: Tensor
    counts: tuple[int, ...]
    valid: Tensor

    @classmethod
    def of(cls, masks: Sequence[Tensor]) -> Anchors:
        """Anchors of a `FinePyramid`'s masks."""
        device, counts = masks[0].device, tuple(mask.shape[1] for mask in masks)
        center = [
            (torch.arange(count, device=device) + 0.5) * stride
            for count, stride in zip(counts, STRIDES, strict=True)
        ]
        size = torch.tensor(SIZES, device=device).repeat_interleave(torch.tensor(counts, device=device))
        return cls(torch.cat(center), size, counts, torch.cat(list(masks), 1))

    def borders(self) -> Tensor:
        """(start, end) `[P, 2]` in clips."""
        half = (self.size - 1) / 2
        return torch.stack((self.center - half, self.center + half), -1)

    def decode(self, offsets: Tensor) -> Tensor:
        """Offsets `[B, P, 2]` of center and log width -> (start, end) `[B, P, 2]` in clips."""
        center = self.center + offsets[..., 0] * CENTER_UNIT * self.size
        half = ((offsets[..., 1] * WIDTH_UNIT).clamp(max=MOST_GROWTH).exp() * self.size - 1) / 2
        return torch.stack((center - half, center + half), -1)

    def levels(self, values: Tensor) -> Iterator[Tensor]:
        """`values` `[B, P, …]` level by level."""
        return iter(values.split(self.counts, 1))


class PointOutput(NamedTuple):
    """What the ATSS head says of every point.

    Attributes:
        logits, centerness: `[B, P]`, both logits; borders: `[B, P, 2]` (start, end) in clips.
    """

    logits: Tensor
    centerness: Tensor
    borders: Tensor

    def scores(self, anchors: Anchors) -> Tensor:
        """`[B, P]`: √(class · centerness), 0 on padding."""
        return (self.logits.sigmoid() * self.centerness.sigmoid()).sqrt() * anchors.valid


class AtssHead(nn.Module):
    """Class, center, width and centerness of every point (Zhang et al., CVPR 2020, one axis), from two stems
    of convolutions that all levels share.

    Args:
        convolutions: of each stem, before the last one; prior: the class probability at the start.
    """

    def __init__(self, width: int, convolutions: int, prior: float) -> None:
        super().__init__()
        self.class_head = ConvHead(width, 1, convolutions + 1, norm=True)
        self.box_head = ConvHead(width, 3, convolutions + 1, norm=True)  # center, width, centerness
        self.scale = nn.Parameter(torch.ones(len(STRIDES)))  # of center and width, by level
        for module in self.modules():
            if isinstance(module, TemporalConv):
                nn.init.normal_(module.taps.weight, std=FIRST_STD)
                if module.taps.bias is not None:
                    nn.init.zeros_(module.taps.bias)
        last = self.class_head.convs[-1]
        assert isinstance(last, TemporalConv)
        nn.init.constant_(last.taps.bias, math.log(prior / (1 - prior)))

    def forward(self, levels: Sequence[Tensor], masks: Sequence[Tensor], anchors: Anchors) -> PointOutput:
        """levels `[B, P_s, D]`, masks `[B, P_s]` of the pyramid, and its anchors.

        All levels stand in one row, with a place between two that convolutions read as zeros, as the ends.
        """
        x = torch.cat([F.pad(level, (0, 0, 0, 1)) for level in levels], 1)
        mask = torch.cat([F.pad(real, (0, 1)) for real in masks], 1)
        own = torch.ones(x.shape[1], dtype=torch.bool)
        own[torch.tensor(anchors.counts).add(1).cumsum(0) - 1] = False
        own = own.to(x.device)
        logits, boxes = (head(x, mask)[:, own].float() for head in (self.class_head, self.box_head))
        with full_precision(logits):
            counts = torch.tensor(anchors.counts, device=x.device)
            scale = self.scale.repeat_interleave(counts, output_size=len(anchors.center))
            borders = anchors.decode(boxes[..., :2] * scale[:, None])
            return PointOutput(logits.squeeze(-1), boxes[..., 2], borders)
