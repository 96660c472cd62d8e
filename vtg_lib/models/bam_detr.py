"""BAM-DETR (Lee and Byun, ECCV 2024): moments from any point inside them, their borders found apart, ranked
by quality.

Facts not in the paper are from Pilhyeon/BAM-DETR @ 914b3e7. Its code counts 1,988,614 parameters more, which
have no part in the result: an encoder of the text whose output is not read, class heads without a loss beside
the quality head, positions of borders and of words, and norms that are never called.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.boundary_decoder import BoundaryDecoder, borders
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.query_relation import class_score
from vtg_lib.layers.suppression import gaussian, greedy_nms
from vtg_lib.losses.boundary import border_feature_loss, inside_video, match_borders, quality_loss
from vtg_lib.losses.matching import MatchCost, Matches
from vtg_lib.losses.set_prediction import loss_giou, loss_l1, loss_label
from vtg_lib.models.config import ModelEntry
from vtg_lib.models.parts.query_encoder import QueryEncoder, QueryEncoderConfig, query_saliency
from vtg_lib.spans import cw_to_se, se_to_cw


@dataclass(frozen=True, kw_only=True)
class Config(QueryEncoderConfig):
    """`QueryEncoderConfig`, and what is BAM-DETR's own.

    Attributes:
        ranking: a key of `RANKING`: what moments are ranked by.
        weight_l1, weight_giou: of start and end; weight_ranking: of `ranking`'s loss; weight_border: of the
            border features.
        nms_threshold, nms_sigma: Gaussian soft-NMS among moments whose IoU is above the threshold; at 1 there
            is none.
    """

    ranking: str = "quality"
    weight_l1: float = 10.0
    weight_giou: float = 1.0
    weight_ranking: float = 2.0
    weight_border: float = 1.0
    nms_threshold: float = 0.3
    nms_sigma: float = 0.5

    def __post_init__(self) -> None:
        self.expect_choice(ranking=RANKING)
        self.expect_width(4)


class QualityRanking(nn.Module):
    """Quality, the IoU that a moment is believed to have, read off the anchor and how the borders differ from
    it.
    """

    score_cost = 0.0  # of the score in the matching

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.head = MLP(3 * c.width, c.width, 1, 3)

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        """states `[S, B, Q, 3 D]` -> `quality [S, B, Q]` in 0..1."""
        anchor, start, end = states.chunk(3, -1)
        return {
            "quality": self.head(torch.cat((anchor, start - anchor, end - anchor), -1))
            .squeeze(-1)
            .float()
            .sigmoid()
        }

    def loss(self, layers: dict[str, Tensor], matches: Matches, batch: Batch) -> Tensor:
        """`[S]`."""
        return quality_loss(layers["quality"], layers["spans"], batch.spans, batch.span_mask)


class ClassRanking(nn.Module):
    """Foreground probability as in DETR, which quality-based ranking replaces."""

    score_cost = 4.0

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(3 * c.width, 2) for _ in range(c.decoder_layers))

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        """states `[S, B, Q, 3 D]` -> `logits [S, B, Q, 2]` (class 0 = foreground)."""
        return {
            "logits": torch.stack(
                [head(state) for head, state in zip(self.heads, states, strict=True)]
            ).float()
        }

    def loss(self, layers: dict[str, Tensor], matches: Matches, batch: Batch) -> Tensor:
        """`[S]`."""
        return loss_label(layers["logits"], matches.positive)


RANKING: dict[str, type[QualityRanking] | type[ClassRanking]] = {
    "quality": QualityRanking,
    "class": ClassRanking,
}


class BAMDETR(QueryEncoder):
    """QD-DETR's encoders, dual-pathway decoder, quality head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.decoder = BoundaryDecoder(c.queries, c.decoder_layers, c.width, c.heads, c.hidden, c.dropout)
        self.ranking = RANKING[c.ranking](c)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`.

        layers: `spans [S, B, Q, 2]`, which may reach beyond the video, and `quality [S, B, Q]` or
        `logits [S, B, Q, 2]`. extras: the decoder's `states [S, B, Q, 3 D]` and its `memory [B, T, D]`;
        `borders [2, B, T, D]`, features of starts and ends; while training also `negative_saliency [B, T]`
        with another sample's text. trace: see `Decoded`.
        """
        encoded = self.encode(batch)
        decoded, features = self.decoder(
            encoded.memory, encoded.local, encoded.position, batch.video_mask, trace
        )
        return self.output(decoded, encoded.memory, encoded.saliency, borders=features, **encoded.negatives)

    def post_process(self, output: Output) -> Output:
        """Gaussian soft-NMS among moments that overlap by more than the threshold; the spans come by falling
        score.
        """
        decay = gaussian(self.config.nms_sigma, self.config.nms_threshold)
        spans, scores = greedy_nms(output.spans, output.scores, output.scores.shape[1], decay)
        return dataclasses.replace(output, spans=spans, scores=scores)

    def read(self, states: Tensor, references: Tensor | None) -> dict[str, Tensor]:
        """What the decoder's states `[..., Q, 3 D]` say: `spans [..., Q, 2]`, those of the references, and
        what ranks them.
        """
        assert references is not None
        return {"spans": se_to_cw(torch.stack(borders(references), -1))} | self.ranking(states)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Borders and ranking of every decoder layer, matched on its own; border features; QD-DETR's
        saliency. Weighted.
        """
        c, layers, mask = self.config, output.layers, batch.video_mask
        cost = MatchCost(score=self.ranking.score_cost)
        matches = match_borders(layers["spans"], class_score(layers), batch.spans, batch.span_mask, cost)
        predicted = cw_to_se(matches.gather(layers["spans"].float()))  # not cut to the video
        target = inside_video(batch.spans).expand_as(predicted)
        losses = {
            "l1": c.weight_l1 * loss_l1(predicted, target, matches.valid).sum(),
            "giou": c.weight_giou * loss_giou(predicted, target, matches.valid).sum(),
            c.ranking: c.weight_ranking * self.ranking.loss(layers, matches, batch).sum(),
        }
        if c.weight_border:
            borders_loss = border_feature_loss(output.extras["borders"], batch.spans, batch.span_mask, mask)
            losses["border"] = c.weight_border * borders_loss
        saliency = query_saliency(output, batch, c.saliency_margin)
        return losses | {"saliency": c.weight_saliency * saliency}


ENTRY = ModelEntry(BAMDETR, Config)
