"""TD-DETR (Zhou et al., ICCV 2025): QD-DETR whose clips also ask the words what changes from clip to clip.

Its second idea, training on videos with a dynamic context, is `Synthesis` of `vtg_lib.data.hooks`, for any
method. Facts not in the paper are from xyangzhou/TD-DETR @ a0ce6d3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.attention import MultiHeadAttention
from vtg_lib.layers.projections import InputProjection
from vtg_lib.layers.transformer import CrossLayer, xavier_
from vtg_lib.models import qd_detr
from vtg_lib.models.config import ModelEntry

_OTHER_SETS = {"cross_layers": 3, "encoder_layers": 3, "decoder_layers": 3, "weight_saliency": 4.0}
_OTHER_SETS |= {"weight_l1": 10.0, "weight_giou": 1.0, "cost_l1": 10.0, "cost_giou": 1.0}


@dataclass(frozen=True, kw_only=True)
class Config(qd_detr.Config):
    """QD-DETR's config with the published sizes and weights, and what is TD-DETR's own.

    Attributes:
        beta: share of what the clips were before (Eq. 6); 1 - beta is that of what the changes asked for. At
            1 it is QD-DETR.
        beta_on: what beta weighs: the `residual` (the code; what the clips asked for has weight 1), or the
            `sum` of both attentions (Eq. 6 as printed), added to the residual.
        asks: what asks the second time: `changes` between clips (Eq. 3), or the `clips` themselves, a control
            with the same parameters.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "qvhighlights": {},
        "charades_sta": _OTHER_SETS,
        "tacos": _OTHER_SETS,
    }

    cross_layers: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 4
    weight_l1: float = 1.0
    weight_giou: float = 10.0
    cost_l1: float = 1.0
    cost_giou: float = 10.0
    beta: float = 0.7
    beta_on: str = "residual"
    asks: str = "changes"

    def __post_init__(self) -> None:
        self.expect_choice(beta_on=("residual", "sum"), asks=("changes", "clips"))
        if not 0 <= self.beta <= 1:
            self.refuse("beta", "a share in [0, 1]")


class DynamicsLayer(CrossLayer):
    """QD-DETR's text-to-video layer with a second attention to the same words (Eqs. 4 to 6)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, config: Config) -> None:
        super().__init__(width, heads, hidden, dropout, PReLU)
        self.tokenizer = InputProjection(width, width, dropout)
        self.attention_dynamics = MultiHeadAttention(width, heads, dropout)
        self.beta, self.beta_on = config.beta, config.beta_on

    def forward(  # type: ignore[override]
        self, x: Tensor, position: Tensor, key_mask: Tensor, context: Tensor, dynamics: Tensor
    ) -> Tensor:
        """As in `CrossLayer`, and dynamics `[B, T, D]`: what asks the second time."""
        asked = self.attention(x + position, context, context, key_mask)
        moved = self.attention_dynamics(F.relu(self.tokenizer(dynamics)), context, context, key_mask)
        if self.beta_on == "residual":
            x = self.dropout(asked, self.beta * x + (1 - self.beta) * moved)
        else:
            x = self.dropout(self.beta * asked + (1 - self.beta) * moved, x)
        return self.norm_feed_forward(self.dropout(self.feed_forward(self.norm_attention(x)), x))


class TDDETR(qd_detr.QDDETR):
    """QD-DETR with `DynamicsLayer`, and a token that stands before the first clip."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = config
        self.cross_encoder = nn.ModuleList(
            DynamicsLayer(c.width, c.heads, c.hidden, c.dropout, c) for _ in range(c.cross_layers)
        )
        xavier_(self.cross_encoder)
        self.start_token = nn.Parameter(torch.randn(c.width))

    def read_words(
        self, clips: Tensor, positions: Tensor, mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> Tensor:
        """See `QueryEncoder`. The changes of Eq. 3 are of clips and positions together, as in the code."""
        for layer in self.cross_encoder:
            asking = clips + positions
            if self.config.asks == "changes":
                start = self.start_token.to(asking.dtype).expand(len(asking), 1, -1)
                asking = asking - torch.cat((start, asking[:, :-1]), 1)
            clips = layer(clips, positions, text_mask, text, asking)
        return clips


ENTRY = ModelEntry(TDDETR, Config)
