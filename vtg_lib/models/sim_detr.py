"""Sim-DETR (ICCV 2025): TR-DETR whose queries know their group and rank, and whose states resemble the clips
of their moment.

The text at hand is a summary; what it leaves open, and what was chosen, is numbered in
`vtg_lib/papers/simdetr.yaml`. Each part can be added to every method of the library with a
`decoder` that relates its queries (`Relate`): see `SimParts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.query_relation import DISTANCES, RANKINGS, QueryRelation, class_score
from vtg_lib.layers.transformer import Related
from vtg_lib.losses.boundary import quality_loss
from vtg_lib.losses.bridge import bridging_loss, clip_similarity
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.models import tr_detr
from vtg_lib.models.config import ModelEntry, Published
from vtg_lib.models.parts.detr import Detr


@dataclass(frozen=True, kw_only=True)
class PartsConfig(Published):
    """Which parts there are.

    Attributes:
        iou_head: predict the IoU of every query's moment; rescore: rank moments by class score x IoU, not by
            the class alone.
        grouping: adjust the self-attention of all decoder layers but the first by distance and rank, which
            needs the IoU head unless `ranking` is "class".
        distance: a key of `DISTANCES`; ranking: of `RANKINGS`.
        bridging: the loss that ties matched queries to the clips of their moment; first_scale: what the
            learned tau starts at.
        weight_iou, weight_bridge: of the losses; bridging is averaged over decoder layers, so that depth does
            not scale it.
    """

    iou_head: bool = True
    rescore: bool = True
    grouping: bool = True
    distance: str = "border_l2"
    ranking: str = "class_iou"
    bridging: bool = True
    first_scale: float = 1.0
    weight_iou: float = 1.0
    weight_bridge: float = 1.0

    def __post_init__(self) -> None:
        self.expect_choice(distance=DISTANCES, ranking=RANKINGS)
        if self.grouping and not self.iou_head and self.ranking != "class":
            self.refuse("ranking", "'class' without the IoU head, which the others need: set iou_head")


class SimParts(Detr):
    """Adds the parts to a method: `class SimQDDETR(SimParts, QDDETR)`, then
    `model.add_parts(parts, width)`.
    """

    parts: PartsConfig

    def add_parts(self, parts: PartsConfig, width: int, states: int | None = None) -> None:
        """Make the parts; states: channels of the decoder's states, if not `width`. The first `width` of them
        are the query.
        """
        self.parts = parts
        self.iou_net = MLP(states or width, width, 1, 3) if parts.iou_head else None
        self.relation = QueryRelation(parts.distance) if parts.grouping else None
        self.bridge_scale = nn.Parameter(torch.tensor(parts.first_scale)) if parts.bridging else None
        if parts.grouping:
            self.decoder.relate = self.relate

    def quality(self, states: Tensor) -> Tensor | None:
        """Predicted IoU `[..., Q]` in 0..1 of states `[..., Q, D]`; None without the head."""
        return None if self.iou_net is None else self.iou_net(states).squeeze(-1).float().sigmoid()

    def relate(self, state: Tensor, reference: Tensor | None) -> Related:
        """Query grouping and ranking after a decoder layer, see `Relate`; its trace is `relation` (S_intra o
        R_rank) and `attention_factor` (S_attn), `[B, Q, Q]`.
        """
        assert self.relation is not None
        with torch.no_grad():
            layer = self.read(state, reference)
            score, quality = class_score(layer), self.quality(state)
            rank = RANKINGS[self.parts.ranking](score, score if quality is None else quality)
        bias, relation = self.relation(layer["spans"], rank)
        return Related(bias, {"relation": relation, "attention_factor": bias.exp()})

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """As the method; layers also `iou [S, B, Q]`.

        trace also what `relate` leaves, `[S - 1, B, Q, Q]`, and `clip_similarity [S, B, Q, T]`.
        """
        output = super().forward(batch, trace)
        states, memory = output.extras["states"], output.extras["memory"]
        quality = self.quality(states)
        if quality is not None:
            output.layers["iou"] = quality
            output.scores = output.scores * quality[-1] if self.parts.rescore else output.scores
        if self.bridge_scale is not None:
            query = states[..., : memory.shape[-1]]
            output.extras["clip_similarity"] = clip_similarity(query, memory, self.bridge_scale)
            output.trace |= {"clip_similarity": output.extras["clip_similarity"]} if trace else {}
        return output

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, of the IoU head, and of bridging for the queries that are matched in each
        layer. Weighted.
        """
        losses = super().loss(output, batch)
        spans = output.layers["spans"]
        if self.iou_net is not None:
            iou = quality_loss(output.layers["iou"], spans, batch.spans, batch.span_mask)
            losses["iou"] = self.parts.weight_iou * iou.sum()
        if self.bridge_scale is not None:
            matches = match(spans, class_score(output.layers), batch.spans, batch.span_mask, MatchCost())
            bridge = bridging_loss(output.extras["clip_similarity"], matches, batch.spans, batch.video_mask)
            losses["bridge"] = self.parts.weight_bridge * bridge.mean()
        return losses


@dataclass(frozen=True, kw_only=True)
class Config(PartsConfig, tr_detr.Config):
    """`PartsConfig` on TR-DETR's; six decoder layers, as published."""

    presets = {"qvhighlights": {}}

    decoder_layers: int = 6


class SimDETR(SimParts, tr_detr.TRDETR):
    """TR-DETR with the parts."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.add_parts(config, config.width)


ENTRY = ModelEntry(SimDETR, Config)
