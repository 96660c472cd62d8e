"""SG-DETR's DETR head: queries that a selector chooses or that are learned, a decoder, and what reads it.

Facts are from chinagalaxy2002/SG_CGP @ 931cad1. Axes: B samples, P points of the pyramid, Q queries, K of a
group, N all of them, S layers, T clips, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtg_lib.layers.fine_pyramid import Anchors
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.query_groups import QueryGroup, choose_anchors, isolating_bias, noisy_moments
from vtg_lib.layers.selected_decoder import (
    FIRST_STD,
    DecodedQueries,
    LearnedQueries,
    QuerySelector,
    Selected,
    SelectedDecoder,
    prior_logit,
    zero_last,
)
from vtg_lib.losses.adaptive_assignment import Assigned
from vtg_lib.spans import inverse_sigmoid

COLLAB = ("positive", "random", "off")


@dataclass(frozen=True, kw_only=True)
class MomentHeadSizes:
    """What a `MomentHead` is built from; see `vtg_lib.models.sg_detr.Config`."""

    width: int
    heads: int
    hidden: int
    dropout: float
    droppath: float
    layers: int
    queries: int
    prior: float
    selector: bool
    iou_head: bool
    iou_score: bool
    collab: bool
    denoise: bool


class QuerySet(NamedTuple):
    """Predictions of all layers.

    Attributes:
        spans: `[S, B, Q, 2]` (center, width); logits: `[S, B, Q]` of the class; iou: `[S, B, Q]` logits, or
            None.
    """

    spans: Tensor
    logits: Tensor
    iou: Tensor | None

    def part(self, start: int, stop: int) -> QuerySet:
        """Queries from `start` to `stop`."""
        iou = None if self.iou is None else self.iou[..., start:stop]
        return QuerySet(self.spans[..., start:stop, :], self.logits[..., start:stop], iou)

    def scores(self, with_iou: bool) -> Tensor:
        """√(class · IoU) (Eq. 10), or the class alone, `[S, B, Q]`."""
        score = self.logits.sigmoid()
        return (score * self.iou.sigmoid()).sqrt() if with_iou and self.iou is not None else score


class HeadOutput(NamedTuple):
    """What a `MomentHead` found.

    Attributes:
        queries: of the main queries; groups: of each group, beside it; selected: what they started from.
        decoded: of all N queries, the main ones first.
    """

    queries: QuerySet
    groups: list[tuple[QueryGroup, QuerySet]]
    selected: Selected | None
    decoded: DecodedQueries


class MomentHead(nn.Module):
    """Selector, decoder, and heads of span, class and IoU."""

    def __init__(self, sizes: MomentHeadSizes) -> None:
        super().__init__()
        self.sizes = s = sizes
        self.selector, self.learned = None, None
        if s.selector:
            self.selector = QuerySelector(s.width, s.queries, s.prior, s.iou_head, s.iou_score)
        else:
            self.learned = LearnedQueries(s.width, s.queries)
        self.decoder = SelectedDecoder(
            s.layers, s.width, s.heads, s.hidden, s.dropout, s.droppath, s.iou_head
        )
        self.span_head = MLP(s.width, s.width, 2, 3)
        self.class_head = nn.Linear(s.width, 1)
        zero_last(self.span_head)
        nn.init.normal_(self.class_head.weight, std=FIRST_STD)
        nn.init.constant_(self.class_head.bias, prior_logit(s.prior))
        self.anchor_content = None
        if s.collab:
            project = nn.Linear(s.width, s.width)
            nn.init.normal_(project.weight, std=FIRST_STD)
            self.anchor_content = nn.Sequential(project, nn.LayerNorm(s.width))
        self.noise_content = nn.Parameter(torch.empty(s.width)) if s.denoise else None
        if self.noise_content is not None:
            nn.init.normal_(self.noise_content, std=FIRST_STD)

    def forward(
        self,
        levels: Sequence[Tensor],
        masks: Sequence[Tensor],
        memory: Tensor,
        position: Tensor,
        mask: Tensor,
        groups: Sequence[QueryGroup] = (),
        trace: bool = False,
    ) -> HeadOutput:
        """levels, masks: of the pyramid; memory, position `[B, T, D]`; mask `[B, T]`."""
        selected = None
        if self.selector is not None:
            selected = self.selector(levels, masks)
            content, reference = selected.content, selected.reference
        else:
            assert self.learned is not None
            content, reference = self.learned(len(memory))
        count = reference.shape[1]
        bias = isolating_bias(count, groups)
        content = torch.cat((content, *(group.content.to(content.dtype) for group in groups)), 1)
        reference = torch.cat((reference, *(group.reference for group in groups)), 1)
        decoded = self.decoder(content, reference, memory, position, mask, bias, trace)
        found = self.read(decoded)
        parts, first = [], count
        for group in groups:
            size = group.reference.shape[1]
            parts.append((group, found.part(first, first + size)))
            first += size
        return HeadOutput(found.part(0, count), parts, selected, decoded)

    def read(self, decoded: DecodedQueries) -> QuerySet:
        """What the states say."""
        spans = self.span_head(decoded.states).float() + inverse_sigmoid(decoded.references)
        return QuerySet(spans.sigmoid(), self.class_head(decoded.states).squeeze(-1).float(), decoded.iou)

    def anchor_group(
        self,
        levels: Sequence[Tensor],
        anchors: Anchors,
        assigned: Assigned,
        spans: Tensor,
        length: Tensor,
        random: bool,
    ) -> QueryGroup | None:
        """Positive anchors as queries that learn the anchors' moments, as many as the video with most of them
        has; elsewhere with negatives. None where no video has one.

        Args:
            levels: of the pyramid; spans: `[B, M, 2]` (center, width), normalised; length: `[B]` clips.
            random: the same number of queries, to learn the same moments, from anchors drawn at random.
        """
        assert self.anchor_content is not None
        chosen = choose_anchors(assigned.positive, anchors.valid, random)
        if chosen is None:
            return None
        learned, start = chosen

        def at(values: Tensor, index: Tensor) -> Tensor:
            return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

        place = torch.stack((anchors.center, anchors.size - 1), -1) / length[:, None, None]
        return QueryGroup(
            content=self.anchor_content(at(torch.cat(list(levels), 1), start)),
            reference=inverse_sigmoid(at(place, start)).sigmoid(),
            target=at(assigned.targets(spans), learned),
            positive=assigned.positive.gather(1, learned),
            real=anchors.valid.gather(1, learned) & anchors.valid.gather(1, start),
            block=learned.new_zeros(learned.shape[1]),
            borders=True,
        )

    def noise_group(self, spans: Tensor, mask: Tensor, queries: int) -> QueryGroup | None:
        """Noisy moments as queries, see `noisy_moments`."""
        assert self.noise_content is not None
        made = noisy_moments(spans, mask, queries)
        if made is None:
            return None
        reference, target, positive, real, block = made
        return QueryGroup(
            content=self.noise_content.expand(*positive.shape, -1),
            reference=inverse_sigmoid(reference).sigmoid(),
            target=target,
            positive=positive,
            real=real,
            block=block,
            borders=False,
        )
