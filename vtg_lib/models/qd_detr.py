"""QD-DETR (Moon et al., CVPR 2023): query-dependent video representations by text-to-video cross-attention.

Facts not in the paper are from wjun0830/QD-DETR @ 56c63b2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.projections import MLP
from vtg_lib.losses.matching import MatchCost
from vtg_lib.losses.set_prediction import set_losses
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.query_encoder import QueryEncoder, QueryEncoderConfig, query_saliency


@dataclass(frozen=True, kw_only=True)
class Config(QueryEncoderConfig):
    """QD-DETR's sizes, see `QueryEncoderConfig`, and weights.

    Attributes:
        weight_l1, weight_giou, weight_class: of the set losses; cost_l1, cost_giou, cost_class: in the
            matching.
        highlights_only: the data set has no moments; only saliency is learned.
    """

    weight_l1: float = 10.0
    weight_giou: float = 1.0
    weight_class: float = 4.0
    cost_l1: float = 10.0
    cost_giou: float = 1.0
    cost_class: float = 4.0
    highlights_only: bool = False


class QDDETR(QueryEncoder):
    """Cross-attention encoder, self-attention encoder with a saliency token, decoder with dynamic anchors."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.decoder = AnchorDecoder(c.queries, c.decoder_layers, c.width, c.heads, c.hidden, c.dropout)
        self.span_head = MLP(c.width, c.width, 2, 3)
        self.class_head = nn.Linear(c.width, 2)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`.

        extras: the decoder's `states [S, B, Q, D]` and its `memory [B, T, D]`; while training
        `negative_saliency [B, T]` with another sample's text. trace: see `Decoded`.
        """
        encoded = self.encode(batch)
        decoded = self.decode(encoded.memory, encoded.position, batch, trace)
        return self.output(decoded, encoded.memory, encoded.saliency, **encoded.negatives)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Set prediction and saliency losses, weighted."""
        c = self.config
        saliency = query_saliency(output, batch, c.saliency_margin, labelled=c.highlights_only)
        if c.highlights_only:
            return {"saliency": c.weight_saliency * saliency}
        losses = set_losses(
            output.layers,
            batch,
            matches=output.extras.get("matches"),
            weights={"l1": c.weight_l1, "giou": c.weight_giou, "label": c.weight_class},
            cost=MatchCost(score=c.cost_class, l1=c.cost_l1, giou=c.cost_giou),
        )
        return losses | {"saliency": c.weight_saliency * saliency}


ENTRY = ModelEntry(QDDETR, Config, published_parameters=7.6)
