"""What the side-tuners of SDST's Tab. H share: aligned levels in, moments and highlights out.

A tuner makes one sequence of clips and one of words from K frozen levels. Everything else is the same for all
of them: projections, a feature pyramid, heads, losses. It is R2-Tuning's (yeliudev/R2-Tuning @ 03fbcf6), as
`vtg_lib/papers/sdst/deviations.yaml` explains. Axes: B, K, T, L, D as in `vtg_lib.data.batches`, P points of
the pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.convolution import ConvHead
from vtg_lib.layers.dense_stream import Alignment, DenseStream
from vtg_lib.layers.pooling import WordPool
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.precision import full_precision
from vtg_lib.layers.projections import append_endpoints
from vtg_lib.layers.pyramid import ConvPyramid, DistanceHead, Points, best_over_levels
from vtg_lib.losses.contrastive import choose_positive, sampled_nce
from vtg_lib.losses.points import (
    at_least_one_clip,
    clip_borders,
    point_class_loss,
    point_distance_loss,
    point_targets,
)
from vtg_lib.models.config import Suppression
from vtg_lib.models.parts.levels import Paths, alignment_losses, draw_paths, last_levels

RADIUS = 1.5  # strides around the middle of a moment within which points predict it


@dataclass(frozen=True, kw_only=True)
class SideTuningConfig(Suppression):
    """Sizes and loss weights, beside `Suppression`; the defaults are R2-Tuning's for QVHighlights, with
    InternVideo2's channels.

    Attributes:
        video_dim, text_dim: channels of a level, without the two that `tef` appends to the video.
        levels: K, counted back from the last level.
        strides: of the feature pyramid.
        dropout: of the projections; droppath: of every residual branch of the tuner.
        weight_*: loss weights.
    """

    # What R2-Tuning publishes for a data set besides its defaults.
    presets = {
        "qvhighlights": {},
        "charades_sta": {"dropout": 0.35, "weight_saliency": 0.01, "nms": "linear", "grid": 0.1},
        "tacos": {"weight_saliency": 0.05, "nms": "linear", "grid": 0.0},
    }

    video_dim: int = 768
    text_dim: int = 768
    width: int = 256
    heads: int = 8
    levels: int = 4
    strides: tuple[int, ...] = (1, 2, 4, 8)
    dropout: float = 0.5
    droppath: float = 0.1
    tef: bool = True
    weight_class: float = 1.0
    weight_distance: float = 0.2
    weight_saliency: float = 0.1
    weight_video_align: float = 0.1
    weight_layer_align: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_width()
        self.expect_positive("levels")
        self.expect_probability("droppath")


@dataclass(frozen=True)
class Levels:
    """What a tuner reads: K levels in one shared space, the shallowest first.

    Attributes:
        video: `[K, B, T, D]`; mask: `[B, T]`; text: `[K, B, L, D]`; text_mask: `[B, L]`.
    """

    video: Tensor
    mask: Tensor
    text: Tensor
    text_mask: Tensor

    def position(self, width: int) -> Tensor:
        """Positions of the clips, `[B, T, width]`."""
        return clip_positions(self.mask, width).to(self.video.dtype)


def read_text(
    block: DenseStream,
    clips: Tensor,
    words: Tensor,
    position: Tensor,
    levels: Levels,
    keep: Sequence[Tensor | None],
) -> dict[str, Tensor]:
    """One block on one level: clips, position `[B, T, D]` attend to words `[B, L, D]`; see
    `DenseStream.forward`.
    """
    keys, values = block.cross.prepare(words[None], words[None])
    return block(clips, position, levels.mask, keys[0], values[0], levels.text_mask, keep)


class Tuner(nn.Module):
    """A side network over the levels. `forward(levels)` gives clips `[B, T, D]` and words `[B, L, D]`."""

    def __init__(self, config: SideTuningConfig) -> None:
        super().__init__()
        self.droppath = config.droppath

    def path_masks(self, levels: Levels, blocks: int, branches: int) -> Paths:
        """DropPath masks of `PostNorm` for every branch of every block."""
        rate = self.training * self.droppath
        return draw_paths(len(levels.mask), blocks, branches, rate, levels.mask.device)


class SideTuned(nn.Module):
    """Projections, a tuner, and the pyramid and heads that all tuners share.

    Args:
        tuner: what makes clips and words from the levels.
    """

    def __init__(self, config: SideTuningConfig, tuner: Tuner) -> None:
        super().__init__()
        self.config = c = config
        self.align = Alignment(c.video_dim + 2 * c.tef, c.text_dim, c.width, c.dropout)
        self.tuner = tuner
        self.pyramid = ConvPyramid(c.width, c.strides)
        self.class_head = ConvHead(c.width, 1, 2)
        self.distance_head = DistanceHead(c.width, len(c.strides))
        self.text_pool = WordPool(c.width)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: Q = P, one prediction a point, scored 0 where a point does not stand for
        real clips.

        layers: `spans [1, B, P, 2]`, `logits [1, B, P]`. extras: `points`, `length [B]` in clips,
        `distances [B, P, 2]` in strides, `similarity [B, T]` of clips and sentence; in the space that all
        levels share, `clips [K, B, T, D]` and pooled `text [K, B, D]`.

        Raises:
            ValueError: the features have fewer levels than the config needs.
        """
        mask, length = batch.video_mask, batch.video_mask.sum(1)
        levels = self._levels(batch)
        clips, words = self.tuner(levels)
        pyramid, masks = self.pyramid(clips, mask)
        points = Points.of(self.pyramid.strides, masks)
        with full_precision(mask):
            pyramid = [level.float() for level in pyramid]
            logits = [
                self.class_head(level, real).squeeze(-1) for level, real in zip(pyramid, masks, strict=True)
            ]
            distances = self.distance_head(pyramid, masks)
            sentence = self.text_pool(words.float(), batch.text_mask)
            # The pyramid's first level is the rectified clips.
            similarity = F.cosine_similarity(pyramid[0], sentence[:, None], dim=-1)
            text = self.text_pool(levels.text.float(), batch.text_mask)
        spans, joined = points.spans(distances, length), torch.cat(logits, 1)
        relevance = best_over_levels([level.sigmoid() for level in logits], masks, mask)
        return Output(
            spans=spans,
            scores=joined.sigmoid() * points.valid,
            saliency=relevance * similarity,
            layers={"spans": spans[None], "logits": joined[None]},
            extras={
                "points": points,
                "length": length,
                "distances": distances,
                "similarity": similarity,
                "clips": levels.video,
                "text": text,
            },
        )

    def _levels(self, batch: Batch) -> Levels:
        """The last K levels in the shared space (SDST, Eq. 2)."""
        video, text = last_levels(batch, self.config.levels)
        video = append_endpoints(video, batch.video_mask) if self.config.tef else video
        clips, words = self.align(video, text)
        return Levels(clips, batch.video_mask, words, batch.text_mask)

    def post_process(self, output: Output) -> Output:
        """See `Suppression`."""
        return self.config.suppress(output)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """R2-Tuning's losses, weighted: class and distances of the points, saliency, alignment over batch and
        levels.
        """
        c, extras = self.config, output.extras
        points, length = extras["points"], extras["length"]
        borders = at_least_one_clip(clip_borders(batch.spans, length), length)
        targets = point_targets(points, borders, batch.span_mask, RADIUS)
        positive, valid = choose_positive(batch.saliency, batch.video_mask, self.training)
        alignment = alignment_losses(extras["clips"], extras["text"], positive, valid)
        if c.levels == 1:  # nothing to be told apart from
            del alignment["layer_align"]
        terms = {
            "class": point_class_loss(output.layers["logits"][0], targets, points),
            "distance": point_distance_loss(extras["distances"], targets),
            "saliency": sampled_nce(extras["similarity"], batch.saliency, batch.video_mask, positive, valid),
        }
        terms |= {name: term / 2 for name, term in alignment.items()}  # the public loss is a mean
        return {name: getattr(c, f"weight_{name}") * term for name, term in terms.items()}
