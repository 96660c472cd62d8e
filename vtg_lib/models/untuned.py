"""The row "w/o Tuning" of SDST's Tab. H: heads on the last level, no side network over the others.

The paper does not describe it; what was chosen is numbered in `vtg_lib/papers/sdst/deviations.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vtg_lib.layers.dense_stream import DenseStream
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.side_tuning import Levels, SideTuned, SideTuningConfig, Tuner, read_text


@dataclass(frozen=True, kw_only=True)
class Config(SideTuningConfig):
    """`SideTuningConfig` with the last level only."""

    levels: int = 1


class LastLevel(Tuner):
    """One transformer block on the last level: text cross-attention, temporal self-attention,
    feed-forward.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.width = config.width
        self.block = DenseStream(config.width, config.heads)

    def forward(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """See `Tuner`."""
        clips, words = levels.video[-1], levels.text[-1]
        (keep,) = self.path_masks(levels, 1, DenseStream.BRANCHES)
        return read_text(self.block, clips, words, levels.position(self.width), levels, keep)["ffn"], words


class Untuned(SideTuned):
    """The shared heads on the last level."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, LastLevel(config))


ENTRY = ModelEntry(Untuned, Config, published_parameters=2.7)
