"""E3VA (Yin et al., ACM Multimedia 2024): low-rank adapters on a gradient highway beside the frozen backbone.

No public code of the method was found. How it reads video and text here is numbered in
`vtg_lib/papers/sdst/deviations.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.attention import FeedForward
from vtg_lib.layers.dense_stream import ContextAttention, PostNorm, kaiming_
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.side_tuning import Levels, SideTuned, SideTuningConfig, Tuner


@dataclass(frozen=True, kw_only=True)
class Config(SideTuningConfig):
    """`SideTuningConfig`, the bottleneck of an adapter and the rank of its two matrices."""

    bottleneck: int = 64
    rank: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_positive("bottleneck", "rank")


class LowRankLinear(nn.Sequential):
    """A linear layer whose matrix is a product of two of a small rank."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


class Adapter(nn.Module):
    """A bottleneck with a residual, both of its matrices of low rank (dual low rank); starts as the
    identity.
    """

    def __init__(self, width: int, bottleneck: int, rank: int) -> None:
        super().__init__()
        self.down = LowRankLinear(width, bottleneck, rank)
        self.up = LowRankLinear(bottleneck, width, rank)
        for parameter in self.up[1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.relu(self.down(x)))


class Highway(nn.Module):
    """The sum of the adapted levels, normalised. Gradients pass through as many layers as one adapter has."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(
            Adapter(config.width, config.bottleneck, config.rank) for _ in range(config.levels)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, levels: Tensor) -> Tensor:
        """`[K, B, N, D]` -> `[B, N, D]`."""
        return self.norm(sum(adapter(x) for adapter, x in zip(self.adapters, levels.unbind(0), strict=True)))


class Highways(Tuner):
    """A highway for the video and one for the text, which meet in one cross-attention and a feed-forward.

    Like the image model that the method was made for, it has no temporal module.
    """

    BRANCHES = 2

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.width = config.width
        self.video, self.text = Highway(config), Highway(config)
        self.cross = ContextAttention(config.width, config.heads)
        self.feed_forward = FeedForward(config.width, 4 * config.width)
        self.norms = nn.ModuleList(PostNorm(config.width) for _ in range(self.BRANCHES))
        kaiming_(self.feed_forward)

    def forward(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """See `Tuner`."""
        clips, words = self.video(levels.video), self.text(levels.text)
        ((first, second),) = self.path_masks(levels, 1, self.BRANCHES)
        keys, values = self.cross.prepare(words[None], words[None])
        read = self.cross.mix(clips + levels.position(self.width), keys[0], values[0], levels.text_mask)
        clips = self.norms[0](clips, read, first)
        return self.norms[1](clips, self.feed_forward(clips), second), words


class E3VA(SideTuned):
    """The shared heads on two highways of adapters."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, Highways(config))


ENTRY = ModelEntry(E3VA, Config, published_parameters=2.57)
