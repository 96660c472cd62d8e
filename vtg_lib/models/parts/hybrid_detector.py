"""SG-DETR's hybrid detector (Sec. 3.5): a DETR and an ATSS head on one pyramid, and the fusion of both.

Facts are from chinagalaxy2002/SG_CGP @ 931cad1. Axes: B samples, T clips, P points, Q queries, S layers, M
moments, D channels. Everything here is in the frame of filled videos (`Config.clip_multiple`), except for the
spans of an `Output`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.fine_pyramid import Anchors, AtssHead, FinePyramid, PointOutput
from vtg_lib.layers.fusion import weighted_fusion
from vtg_lib.layers.query_groups import QueryGroup
from vtg_lib.layers.suppression import greedy_nms, hard
from vtg_lib.losses.adaptive_assignment import Assigned, assign_points, point_losses
from vtg_lib.losses.matching import MatchCost
from vtg_lib.losses.points import clip_borders
from vtg_lib.losses.queries import group_losses, match_queries, query_losses
from vtg_lib.models.config import DetrConfig
from vtg_lib.models.parts.moment_head import COLLAB, HeadOutput, MomentHead, MomentHeadSizes, QuerySet
from vtg_lib.spans import cw_to_se, se_to_cw

# Which heads there are; the last two are one kind twice, each with initial weights of its own.
DETECTORS: dict[str, tuple[str, ...]] = {
    "hybrid": ("detr", "atss"),
    "detr": ("detr",),
    "atss": ("atss",),
    "two_detr": ("detr", "second_detr"),
    "two_atss": ("atss", "second_atss"),
}
FUSED = "fused"


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(DetrConfig):
    """`DetrConfig` and the detector's switches.

    Attributes:
        droppath: of every residual branch. detectors: a key of `DETECTORS`.
        selector: choose queries from the pyramid, else learn them. collab: positive anchors as extra queries,
            as many anchors drawn at random, or none; denoise: queries that are noisy moments, at most.
        iou_head: predict the IoU of every query's span; iou_match, iou_score: use it in the matching, and in
            the score and the selection (Sec. 3.6).
        prior: class probability at the start; convolutions: of the ATSS head's stems; candidates: points a
            level that may be positive.
        weight_*: of the losses; cost_*: in the matching.
        alone_least, alone_nms: least score and largest IoU of the spans of an ATSS head alone; fused_least,
            fused_nms: before they are fused; kept: of them.
        fusion_weights: of the heads in order; fusion_iou, fusion_least: see `weighted_fusion`.
        grid: in clips; borders are rounded to its multiples. A span is at least one clip long.
    """

    queries: int = 25
    droppath: float = 0.15
    detectors: str = "hybrid"
    selector: bool = True
    collab: str = "positive"
    denoise: int = 0
    iou_head: bool = True
    iou_match: bool = True
    iou_score: bool = True
    prior: float = 0.35
    convolutions: int = 3
    candidates: int = 12
    weight_span: float = 10.0
    weight_giou: float = 1.0
    weight_class: float = 5.0
    weight_iou: float = 1.0
    weight_proposals: float = 0.5
    weight_groups: float = 0.5
    weight_atss_class: float = 2.0
    weight_atss_span: float = 0.1
    weight_atss_giou: float = 2.0
    weight_atss_centerness: float = 0.5
    cost_class: float = 4.0
    cost_l1: float = 10.0
    cost_giou: float = 1.0
    cost_iou: float = 1.0
    alone_least: float = 0.05
    alone_nms: float = 0.5
    fused_least: float = 0.01
    fused_nms: float = 0.75
    kept: int = 10
    fusion_weights: tuple[float, ...] = (1.0, 2.5)
    fusion_iou: float = 0.8
    fusion_least: float = 0.1
    grid: float = 1.0

    def __post_init__(self) -> None:
        self.expect_choice(detectors=DETECTORS, collab=COLLAB)
        self.expect_positive("queries", "candidates", "kept", "decoder_layers")
        self.expect_probability("droppath")
        if not 0 < self.prior < 1:
            self.refuse("prior", "a probability between 0 and 1")
        if len(self.fusion_weights) != 2 or min(self.fusion_weights) <= 0:
            self.refuse("fusion_weights", "two positive numbers, one for each head")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the heads."""
        return DETECTORS[self.detectors]

    @property
    def readings(self) -> tuple[str, ...]:
        """What can be read off one output: both heads fused if there are two, and each alone."""
        return ((FUSED,) if len(self.names) == 2 else ()) + self.names

    def head_sizes(self) -> MomentHeadSizes:
        """Of a DETR head."""
        own = {field.name for field in dataclasses.fields(MomentHeadSizes)} - {"layers", "collab", "denoise"}
        return MomentHeadSizes(
            layers=self.decoder_layers,
            collab=self.detectors == "hybrid" and self.collab != "off",
            denoise=self.denoise > 0,
            **{name: getattr(self, name) for name in own},
        )


class HybridDetector(nn.Module):
    """Pyramid and heads."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = c = config
        points = any(name.endswith("atss") for name in c.names)
        self.pyramid = FinePyramid(c.width) if points or c.selector else None
        self.heads = nn.ModuleDict(
            {
                name: AtssHead(c.width, c.convolutions, c.prior)
                if name.endswith("atss")
                else MomentHead(c.head_sizes())
                for name in c.names
            }
        )

    def forward(
        self, memory: Tensor, position: Tensor, inner: Batch, ratio: Tensor, trace: bool = False
    ) -> Output:
        """Find the moments.

        Args:
            memory, position: `[B, T, D]`; inner: the batch with filled videos, whose moments are read while
                training; ratio: `[B]`, of a video's length to its filled one.

        Returns:
            The first head's spans and scores, not yet suppressed, in the videos' own frame; `saliency` is to
            be filled. layers: `spans [S, B, Q, 2]`, `logits [S, B, Q, 2]` (class 0 = foreground) and
            perhaps `iou [S, B, Q]`. extras: `length [B]` clips, `ratio`, `anchors`, when training `assigned`;
            `heads`: what each said; `found`: of each, spans `[B, Q, 2]` and scores `[B, Q]`. trace:
            `clip_attention [S, B, Q, T]` and `references [S, B, Q, 2]`.
        """
        c, mask = self.config, inner.video_mask
        length = mask.sum(1)
        levels, masks = ([], []) if self.pyramid is None else self.pyramid(memory, mask)
        extras: dict[str, Any] = {"length": length, "ratio": ratio, "heads": {}, "found": {}}
        if masks:
            extras["anchors"] = Anchors.of(masks)
            if self.training:
                borders = clip_borders(inner.spans, length)
                extras["assigned"] = assign_points(extras["anchors"], borders, inner.span_mask, c.candidates)
        results = []
        for name, head in self.heads.items():
            traced: dict[str, Any] = {}
            if isinstance(head, AtssHead):
                extras["heads"][name] = points = head(levels, masks, extras["anchors"])
                found, scores = self._points(points, extras), points.scores(extras["anchors"])
            else:
                assert isinstance(head, MomentHead)
                groups = self._groups(head, levels, extras, inner) if self.training else []
                said = head(levels, masks, memory, position, mask, groups, trace)
                extras["heads"][name], found = said, said.queries
                scores, count = found.scores(c.iou_score)[-1], found.spans.shape[2]
                extras.setdefault("states", said.decoded.states[:, :, :count])
                if trace:
                    traced["references"] = said.decoded.references[:, :, :count]
                    traced["clip_attention"] = said.decoded.attention[:, :, :count]
            extras["found"][name] = found.spans[-1], scores
            results.append((found, scores, traced))
        found, scores, traced = results[0]
        spans = found.spans / ratio[:, None, None]
        layers = {"spans": spans, "logits": torch.stack((found.logits, torch.zeros_like(found.logits)), -1)}
        layers |= {} if found.iou is None else {"iou": found.iou.sigmoid()}
        return Output(spans[-1], scores, scores, layers, extras, traced)

    @staticmethod
    def _points(points: PointOutput, extras: Mapping[str, Any]) -> QuerySet:
        spans = se_to_cw(points.borders / extras["length"][:, None, None])
        return QuerySet((spans * extras["anchors"].valid[..., None])[None], points.logits[None], None)

    def _groups(
        self, head: MomentHead, levels: list[Tensor], extras: Mapping[str, Any], inner: Batch
    ) -> list[QueryGroup]:
        c = self.config
        groups: list[QueryGroup | None] = []
        if c.denoise:
            groups.append(head.noise_group(inner.spans, inner.span_mask, c.denoise))
        if head.sizes.collab:
            given = (extras["anchors"], extras["assigned"], inner.spans, extras["length"])
            groups.append(head.anchor_group(levels, *given, random=c.collab == "random"))
        return [group for group in groups if group is not None]

    def answer(self, output: Output, reading: str) -> tuple[Tensor, Tensor]:
        """Moments of one head, or of both fused.

        Returns:
            Spans `[B, Q, 2]` (center, width) as shares of the filled videos, and scores `[B, Q]`; empty spans
            of score 0 where there are fewer.

        Raises:
            ValueError: the config has no such head.
        """
        c, found = self.config, output.extras["found"]
        if reading not in c.readings:
            raise ValueError(f"reading: expected one of {', '.join(c.readings)}; got {reading!r}")
        if reading != FUSED:
            return self._kept(reading, found[reading], c.alone_least, c.alone_nms)
        sets = [self._kept(name, found[name], c.fused_least, c.fused_nms) for name in c.names]
        return weighted_fusion(sets, c.fusion_weights, c.fusion_iou, c.fusion_least)

    def finish(self, output: Output, reading: str) -> Output:
        """`answer`, in the videos' own frame, cut to the video and rounded to the grid."""
        spans, scores = self.answer(output, reading)
        ratio = output.extras["ratio"]
        length = output.extras["length"] * ratio
        spans = _settled(spans / ratio[:, None, None], length, self.config.grid)
        return dataclasses.replace(output, spans=spans, scores=scores)

    def _kept(
        self, name: str, found: tuple[Tensor, Tensor], least: float, threshold: float
    ) -> tuple[Tensor, Tensor]:
        spans, scores = found
        spans = se_to_cw(cw_to_se(spans).clamp(0, 1))
        if name.endswith("atss"):
            return greedy_nms(spans, scores, self.config.kept, hard(threshold), least)
        return spans, scores

    def losses(self, output: Output, inner: Batch) -> dict[str, Tensor]:
        """Of Eqs. 12 and 13, weighted; `groups` of all extra queries."""
        c, losses = self.config, dict[str, Tensor]()

        def add(name: str, value: Tensor) -> None:
            losses[name] = losses[name] + value if name in losses else value

        for head in output.extras["heads"].values():
            if isinstance(head, PointOutput):
                for term, value in self._point_losses(head, output, inner).items():
                    add(f"atss_{term}", getattr(c, f"weight_atss_{term}") * value)
                continue
            for term, value in self._query_losses(head.queries, inner).items():
                add(term, value)
            if head.selected is not None:
                chosen = head.selected
                quality = None if chosen.iou is None else chosen.iou[None]
                proposals = QuerySet(chosen.spans[None], chosen.logits[None], quality)
                add("proposals", c.weight_proposals * self._total(self._query_losses(proposals, inner)))
            if self.training and (c.head_sizes().collab or c.denoise):
                add("groups", self._group_losses(head))
        return losses

    @staticmethod
    def _total(losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).sum()

    def _weighted(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: getattr(self.config, f"weight_{name}") * value for name, value in losses.items()}

    def _point_losses(self, points: PointOutput, output: Output, inner: Batch) -> dict[str, Tensor]:
        anchors, borders = output.extras["anchors"], clip_borders(inner.spans, output.extras["length"])
        assigned: Assigned | None = output.extras.get("assigned")
        if assigned is None:
            assigned = assign_points(anchors, borders, inner.span_mask, self.config.candidates)
        return point_losses(points, anchors, assigned, borders)

    def _query_losses(self, queries: QuerySet, inner: Batch) -> dict[str, Tensor]:
        c = self.config
        cost = MatchCost(score=c.cost_class, l1=c.cost_l1, giou=c.cost_giou)
        target, weight = (inner.spans, inner.span_mask), c.cost_iou * c.iou_match
        matches = match_queries(*queries, *target, cost, weight)
        return self._weighted(query_losses(*queries, inner.spans, matches))

    def _group_losses(self, head: HeadOutput) -> Tensor:
        total = head.queries.spans.sum() * 0
        for group, found in head.groups:
            known = (group.target, group.positive, group.real)
            terms = group_losses(found.spans, found.logits, *known, borders=group.borders)
            total = total + self.config.weight_groups * self._total(self._weighted(terms))
        return total


def _settled(spans: Tensor, length: Tensor, grid: float) -> Tensor:
    """Spans `[B, Q, 2]` (center, width) cut to their videos of `length` `[B]` clips, rounded, at least one
    clip long around their middle; empty ones stay.
    """
    size = length[:, None, None]
    borders = (cw_to_se(spans) * size).clamp(min=0).minimum(size)
    borders = (borders / grid).round() * grid if grid > 0 else borders
    settled = se_to_cw(borders)
    settled = torch.stack((settled[..., 0], settled[..., 1].clamp(min=1)), -1) / size
    return torch.where(spans[..., 1:] > 0, settled, spans)
