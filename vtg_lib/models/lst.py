"""LST (Sung, Cho and Bansal, NeurIPS 2022): a ladder side network, a narrow transformer fed by every level of
the backbone.

Facts not in the paper are from ylsung/Ladder-Side-Tuning @ 1798e82. How it reads video and text here is
numbered in `vtg_lib/papers/sdst/deviations.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vtg_lib.layers.dense_stream import DenseStream
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.side_tuning import Levels, SideTuned, SideTuningConfig, Tuner, read_text

TEMPERATURE = 0.1  # of the gates


@dataclass(frozen=True, kw_only=True)
class Config(SideTuningConfig):
    """`SideTuningConfig`, and the factor by which the side network is narrower (4 in the vision-language
    experiments).
    """

    reduction: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction < 1 or self.width % (self.reduction * self.heads):
            self.refuse(
                "reduction", f"a divisor of {self.width} that leaves {self.heads} heads a whole width"
            )


class LadderNetwork(Tuner):
    """A block of its own for every level, at a fraction of the width; a gate mixes the level into the side
    state.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.side_width = narrow = config.width // config.reduction
        self.ladders = nn.ModuleList(nn.Linear(config.width, narrow) for _ in range(config.levels))
        self.words = nn.Linear(config.width, narrow)
        self.gates = nn.Parameter(torch.zeros(config.levels))
        self.blocks = nn.ModuleList(DenseStream(narrow, config.heads) for _ in range(config.levels))
        self.up = nn.Linear(narrow, config.width)

    def forward(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """See `Tuner`. The side state starts at zero: the backbone's input embedding is not among the
        levels.
        """
        position, words = levels.position(self.side_width), self.words(levels.text)
        keeps = self.path_masks(levels, len(self.blocks), DenseStream.BRANCHES)
        state = torch.zeros_like(position)
        blocks = cast(Iterable[DenseStream], self.blocks)
        for level, (ladder, block, keep) in enumerate(zip(self.ladders, blocks, keeps, strict=True)):
            gate = (self.gates[level] / TEMPERATURE).sigmoid()  # of the side state (LST, Eq. 1)
            state = gate * state + (1 - gate) * ladder(levels.video[level])
            state = read_text(block, state, words[level], position, levels, keep)["ffn"]
        return self.up(state), levels.text[-1]


class LST(SideTuned):
    """The shared heads on a ladder side network."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, LadderNetwork(config))


ENTRY = ModelEntry(LST, Config, published_parameters=2.04)
