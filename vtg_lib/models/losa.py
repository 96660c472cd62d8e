"""LoSA (Gupta et al., WACV 2025): long- and short-range adapters on every level, and their gated fusion.

No public code of the method was found. How it reads video and text here is numbered in
`vtg_lib/papers/sdst/deviations.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.convolution import TemporalConv
from vtg_lib.layers.dense_stream import DenseStream
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.side_tuning import Levels, SideTuned, SideTuningConfig, Tuner, read_text


@dataclass(frozen=True, kw_only=True)
class Config(SideTuningConfig):
    """`SideTuningConfig`; the short-range adapter's width is `width / bottleneck`, it sees `kernel` clips."""

    bottleneck: int = 2
    kernel: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1 or self.width % self.bottleneck:
            self.refuse("bottleneck", f"a divisor of the width {self.width}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            self.refuse("kernel", "an odd number of clips")


class ShortRange(nn.Module):
    """A bottleneck around a temporal convolution: what happens within a few clips."""

    def __init__(self, width: int, narrow: int, kernel: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, narrow)
        self.local = TemporalConv(narrow, narrow, kernel)
        self.up = nn.Linear(narrow, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, T, D]`."""
        return self.up(F.relu(self.local(F.relu(self.down(x)), mask)))


class LongShortRange(Tuner):
    """Every level has adapters of its own, side by side; their gated sum enhances the last level.

    The long-range adapter is a transformer block over the whole video. Both read clips that have attended to
    the words of their level.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.width, count = config.width, config.levels
        narrow = config.width // config.bottleneck
        self.long = nn.ModuleList(DenseStream(config.width, config.heads) for _ in range(count))
        self.short = nn.ModuleList(ShortRange(config.width, narrow, config.kernel) for _ in range(count))
        self.gates = nn.Parameter(torch.zeros(2, count))  # long, short
        self.norm = nn.LayerNorm(config.width)

    def forward(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """See `Tuner`."""
        position, gates = levels.position(self.width), self.gates.tanh()
        keeps = self.path_masks(levels, len(self.long), DenseStream.BRANCHES)
        total = levels.video[-1]
        blocks = cast(Iterable[DenseStream], self.long)
        for level, (long, short, keep) in enumerate(zip(blocks, self.short, keeps, strict=True)):
            stages = read_text(long, levels.video[level], levels.text[level], position, levels, keep)
            near = short(stages["cross"], levels.mask)
            total = total + gates[0, level] * stages["ffn"] + gates[1, level] * near
        return self.norm(total), levels.text[-1]


class LoSA(SideTuned):
    """The shared heads on long- and short-range adapters."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, LongShortRange(config))


ENTRY = ModelEntry(LoSA, Config, published_parameters=6.4)
