"""Sim-DETR (ICCV 2025): TR-DETR whose queries know their group and rank, and whose states resemble the clips
of their moment.

The text at hand is a summary; what it leaves open, and what was chosen, is numbered in
`vtg_lib/papers/simdetr.yaml`. Each part can be added to every method of the library with a
`decoder` that relates its queries (`Relate`): see `SimParts`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.query_relation import DISTANCES, RANKINGS, QueryRelation, class_score
from vtg_lib.losses.boundary import quality_loss
from vtg_lib.losses.bridge import bridging_loss, clip_similarity
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.models import tr_detr
from vtg_lib.models.config import ModelEntry, Published


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


class SimParts:
    """Adds the parts to a method: `class SimQDDETR(SimParts, QDDETR)`, then `model.add_parts(parts)`.

    The method has a `decoder` with `relate`, reads its states with `read`, and gives `states` and `memory` in
    `extras`.
    """

    parts: PartsConfig
    decoder: Any
    _related: list[tuple[Tensor, Tensor]]

    def add_parts(self, parts: PartsConfig, width: int, states: int | None = None) -> None:
        """Make the parts; states: channels of the decoder's states, if not `width`. The first `width` of them
        are the query.
        """
        self.parts, self._related, self._width = parts, [], width
        self.iou_net = MLP(states or width, width, 1, 3) if parts.iou_head else None
        self.relation = QueryRelation(parts.distance) if parts.grouping else None
        self.bridge_scale = nn.Parameter(torch.tensor(parts.first_scale)) if parts.bridging else None
        if parts.grouping:
            self.decoder.relate = self.relate

    def quality(self, states: Tensor) -> Tensor | None:
        """Predicted IoU `[..., Q]` in 0..1 of states `[..., Q, D]`; None without the head."""
        return None if self.iou_net is None else self.iou_net(states).squeeze(-1).float().sigmoid()

    def relate(self, state: Tensor, reference: Tensor | None) -> Tensor:
        """See `Relate`."""
        with torch.no_grad():
            layer = self.read(state, reference)  # type: ignore[attr-defined]
            score, quality = class_score(layer), self.quality(state)
            rank = RANKINGS[self.parts.ranking](score, score if quality is None else quality)
        assert self.relation is not None
        bias, relation = self.relation(layer["spans"], rank)
        self._related.append((relation, bias.exp()))
        return bias

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """As the method; layers also `iou [S, B, Q]`.

        trace also `relation` (S_intra o R_rank) and `attention_factor` (S_attn), `[S - 1, B, Q, Q]`;
        `clip_similarity [S, B, Q, T]`.
        """
        self._related = []
        output = super().forward(batch, trace)  # type: ignore[misc]
        related, self._related = self._related, []
        layers, scores, extras, traced = (
            dict(output.layers),
            output.scores,
            dict(output.extras),
            dict(output.trace),
        )
        quality = self.quality(extras["states"])
        if quality is not None:
            layers["iou"] = quality
            scores = scores * quality[-1] if self.parts.rescore else scores
        if self.bridge_scale is not None:
            extras["clip_similarity"] = clip_similarity(
                extras["states"][..., : self._width], extras["memory"], self.bridge_scale
            )
        if trace and related:
            relation, factor = zip(*related, strict=True)
            traced |= {"relation": torch.stack(relation), "attention_factor": torch.stack(factor)}
        if trace and self.bridge_scale is not None:
            traced["clip_similarity"] = extras["clip_similarity"]
        return dataclasses.replace(output, scores=scores, layers=layers, extras=extras, trace=traced)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, of the IoU head, and of bridging for the queries that are matched in each
        layer. Weighted.
        """
        losses = super().loss(output, batch)  # type: ignore[misc]
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
