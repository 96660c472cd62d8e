"""A temporal feature pyramid, and what its points predict.

Structure as in yeliudev/R2-Tuning @ 03fbcf6, which Zhuo-Cao/FlashVTG @ 25b9591 shares. A point of stride s
stands for s clips, all of them real: the last `length % s` clips of a video have no point at that stride,
which is what the public code does with one video at a time. In padded batches the public code also uses
points that stand for some padding; here padding changes nothing. Axes: B samples, T clips, P points of all
levels, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.convolution import ConvHead
from vtg_lib.spans import se_to_cw


@dataclass(frozen=True)
class Points:
    """The points of all levels, one after the other.

    Attributes:
        position: `[P]` first clip; stride: `[P]` clips.
        low, high: `[P]` least and greatest reach of the moments that a point predicts: clips from it to their
            farther end.
        valid: `[B, P]` points that stand for real clips only.
    """

    position: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor
    valid: Tensor

    @classmethod
    def of(cls, strides: Sequence[int], masks: Sequence[Tensor]) -> Points:
        """Points of a pyramid.

        Args:
            strides: of all levels, rising; masks: `[B, T // s]` per level, fewer than `strides` for short
                videos.
        """
        device = masks[0].device
        sizes = torch.tensor([mask.shape[1] for mask in masks], device=device)

        def spread(values: Sequence[float]) -> Tensor:
            return torch.tensor(values[: len(masks)], dtype=torch.float32, device=device).repeat_interleave(
                sizes
            )

        position = [
            torch.arange(mask.shape[1], device=device) * float(s)
            for s, mask in zip(strides, masks, strict=False)
        ]
        low, high = spread([0, *strides[1:]]), spread([*strides[1:], float("inf")])
        return cls(torch.cat(position), spread(strides), low, high, torch.cat(list(masks), 1))

    def spans(self, distances: Tensor, length: Tensor) -> Tensor:
        """Predicted spans `[B, P, 2]` (center, width), normalised, not clipped; zero where a point is not
        valid.

        Args:
            distances: `[B, P, 2]` to start and end, in strides; length: `[B]` clips.
        """
        reach = distances * self.stride[:, None]
        borders = torch.stack((self.position - reach[..., 0], self.position + reach[..., 1]), -1)
        return se_to_cw(borders / length[:, None, None]) * self.valid[..., None]


class Halving(nn.Module):
    """Convolution of kernel and stride 2, LayerNorm, ReLU; an odd last clip is left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pair = nn.Linear(2 * width, width)  # the two clips side by side
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` -> `[B, T // 2, D]`."""
        pairs = x[:, : x.shape[1] // 2 * 2].unflatten(1, (-1, 2)).flatten(2)
        return F.relu(self.norm(self.pair(pairs)))


class ConvPyramid(nn.Module):
    """A level of stride s is log2(s) `Halving`s of the rectified clips; no level builds on another.

    Args:
        strides: powers of two, rising from 1.

    Raises:
        ValueError: other strides.
    """

    def __init__(self, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        powers = [s.bit_length() - 1 for s in self.strides]
        if (
            not powers
            or powers[0]
            or sorted(set(powers)) != powers
            or self.strides != tuple(2**p for p in powers)
        ):
            raise ValueError(f"pyramid strides: expected powers of two rising from 1, got {self.strides}")
        self.levels = nn.ModuleList(
            nn.Sequential(*(Halving(width) for _ in range(power))) for power in powers
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`[B, T, D]`, mask `[B, T]` -> levels `[B, T // s, D]` and masks `[B, T // s]`, for the strides s <=
        T.

        The first level is the rectified clips. The public code rectifies them in place, so whatever reads the
        clips after the pyramid has to read this level.
        """
        x = F.relu(x)
        used = [(s, level) for s, level in zip(self.strides, self.levels, strict=True) if s <= x.shape[1]]
        return [level(x) for _, level in used], [mask[:, s - 1 :: s] for s, _ in used]


class DistanceHead(nn.Module):
    """Distances from a point to start and end: exp of a convolutional head, times a learned factor of the
    level.
    """

    def __init__(self, width: int, levels: int, kernel: int = 3) -> None:
        super().__init__()
        self.head = ConvHead(width, 2, 2, kernel)
        self.scale = nn.Parameter(torch.ones(levels))

    def forward(self, levels: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Levels `[B, T_s, D]`, masks `[B, T_s]` -> `[B, P, 2]` in strides."""
        return torch.cat(
            [
                self.head(x, mask).exp() * scale
                for x, mask, scale in zip(levels, masks, self.scale, strict=False)
            ],
            1,
        )


def best_over_levels(scores: Sequence[Tensor], masks: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The highest score of the points that stand for a clip.

    The public code repeats the n points of a level `length // n` times and the last one further, which
    stretches a level a little where the length is no multiple of its stride.

    Args:
        scores, masks: `[B, T // s]` per level, scores not negative; mask: `[B, T]` real clips.

    Returns:
        `[B, T]`, 0 on padding.
    """
    length = mask.sum(1, keepdim=True)
    clip = torch.arange(mask.shape[1], device=mask.device)
    spread = []
    for score, real in zip(scores, masks, strict=True):
        count = real.sum(1, keepdim=True)
        repeats = (length // count.clamp(min=1)).clamp(min=1)
        index = (clip // repeats).minimum((count - 1).clamp(min=0))
        spread.append(score.gather(1, index) * (count > 0))
    return torch.stack(spread).amax(0) * mask
