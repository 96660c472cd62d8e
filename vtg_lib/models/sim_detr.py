"""Sim-DETR (ICCV 2025): TR-DETR whose queries know their group and rank, and whose states resemble the clips
of their moment.

Facts are from echopedro0127/Sim-DETR @ e0276a1, a public copy; what it leaves open, and where the text says
something else, is numbered in `vtg_lib/papers/simdetr.yaml`. Each part can be added to every method of the
library with a `decoder` that relates its queries (`Relate`): see `SimParts`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.query_relation import GROUPINGS, RANKINGS, WHOSE, QueryRelation, class_score
from vtg_lib.layers.transformer import Related
from vtg_lib.losses.bridge import bridging_loss, clip_overlap, clip_similarity
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.losses.set_prediction import best_overlap
from vtg_lib.models import tr_detr
from vtg_lib.models.config import ModelEntry, Published
from vtg_lib.models.parts.detr import Detr
from vtg_lib.spans import cw_to_se


@dataclass(frozen=True, kw_only=True)
class PartsConfig(Published):
    """Which parts there are.

    Attributes:
        iou_head: predict the IoU of every query's moment; rescore: rank moments by class score x IoU, not by
            the class alone.
        grouping: adjust the self-attention of all decoder layers but the first by nearness and rank, which
            needs the IoU head unless `ranking` is "class".
        nearness: a key of `GROUPINGS`; ranking: of `RANKINGS`; relations: of `WHOSE`.
        bridging: the loss that ties matched queries to the clips of their moment, of all layers but the last.
        first_scale: what the learned exp(tau) starts at.
        weight_iou, weight_bridge: of the losses; cost_bridge: of the soft IoU of clips in the matching, where
            the last layer takes that of the layer before.
    """

    iou_head: bool = True
    rescore: bool = True
    grouping: bool = True
    nearness: str = "border"
    ranking: str = "class_iou"
    relations: str = "own"
    bridging: bool = True
    first_scale: float = 1 / 0.07
    weight_iou: float = 2.0
    weight_bridge: float = 6.0
    cost_bridge: float = 6.0

    def __post_init__(self) -> None:
        self.expect_choice(nearness=GROUPINGS, ranking=RANKINGS, relations=WHOSE)
        if self.grouping and not self.iou_head and self.ranking != "class":
            self.refuse("ranking", "'class' without the IoU head, which the others need: set iou_head")


class SimParts(Detr):
    """Adds the parts to a method: `class SimQDDETR(SimParts, QDDETR)`, then
    `model.add_parts(parts, width, heads)`.
    """

    parts: PartsConfig

    def add_parts(self, parts: PartsConfig, width: int, heads: int, states: int | None = None) -> None:
        """Make the parts; states: channels of the decoder's states, if not `width`. The first `width` of them
        are the query.
        """
        self.parts, self.heads = parts, heads
        self.iou_head = nn.Linear(states or width, 1) if parts.iou_head else None
        between = len(self.decoder.layers) - 1
        self.relation = QueryRelation(parts.nearness, between) if parts.grouping else None
        self.bridge_net = MLP(width, width, width, 3) if parts.bridging else None
        if parts.bridging:
            self.bridge_scale = nn.Parameter(torch.tensor(math.log(parts.first_scale)))
        if parts.grouping:
            self.decoder.relate = self.relate

    def quality(self, states: Tensor) -> Tensor | None:
        """Predicted IoU `[..., Q]` in 0..1 of states `[..., Q, D]`; None without the head."""
        return None if self.iou_head is None else self.iou_head(states).squeeze(-1).float().sigmoid()

    def relate(self, layer: int, state: Tensor, reference: Tensor | None) -> Related:
        """Query grouping and ranking after a decoder layer, see `Relate`; its trace is `relation` (S_intra o
        R_rank) and `attention_factor` (S_attn), `[B, Q, Q]`.
        """
        assert self.relation is not None
        found = self.read(state, reference)
        with torch.no_grad():
            score, quality = class_score(found), self.quality(state)
            rank = RANKINGS[self.parts.ranking](score, score if quality is None else quality)
        bias, relation = self.relation(layer, found["spans"], rank)
        trace = {"relation": relation, "attention_factor": bias.exp()}
        return Related(WHOSE[self.parts.relations](bias, self.heads), trace)

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
        if self.bridge_net is not None:
            query = states[..., : memory.shape[-1]]
            query = query + self.bridge_net(query)
            output.extras["clip_similarity"] = clip_similarity(query, memory, self.bridge_scale.exp())
            output.trace |= {"clip_similarity": output.extras["clip_similarity"]} if trace else {}
        return output

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The method's losses, of the IoU head, and of bridging for the queries that are matched in each
        layer. Weighted.
        """
        spans, own = output.layers["spans"], {}
        if self.iou_head is not None:
            best = best_overlap(cw_to_se(spans), cw_to_se(batch.spans), batch.span_mask)
            own["iou"] = self.parts.weight_iou * F.mse_loss(output.layers["iou"], best) * len(spans)
        if self.bridge_net is not None:
            overlap = clip_overlap(output.extras["clip_similarity"], batch.spans, batch.video_mask)
            cost = torch.cat((overlap[:-1], overlap[-2:-1])) if len(overlap) > 1 else overlap
            scores, cost = class_score(output.layers), -self.parts.cost_bridge * cost.detach()
            matches = match(spans, scores, batch.spans, batch.span_mask, MatchCost(), cost)
            output = dataclasses.replace(output, extras=output.extras | {"matches": matches})
            bridge = bridging_loss(overlap, matches, batch.spans, batch.video_mask)
            own["bridge"] = self.parts.weight_bridge * bridge[:-1].sum()
        return super().loss(output, batch) | own


@dataclass(frozen=True, kw_only=True)
class Config(PartsConfig, tr_detr.Config):
    """`PartsConfig` on TR-DETR's; four decoder layers, as in the public copy.

    Attributes:
        sentence_content: the decoder's queries start with the sentence's last word, not with zeros.
    """

    presets = {"qvhighlights": {}}

    decoder_layers: int = 4
    sentence_content: bool = True


class SimDETR(SimParts, tr_detr.TRDETR):
    """TR-DETR with the parts."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.sentence_content = config.sentence_content
        self.add_parts(config, config.width, config.heads)

    def query_content(self, words: Tensor, mask: Tensor) -> Tensor | None:
        """The projected last word."""
        if not self.sentence_content:
            return None
        return words[torch.arange(len(words), device=words.device), mask.sum(1) - 1][:, None]


ENTRY = ModelEntry(SimDETR, Config)
