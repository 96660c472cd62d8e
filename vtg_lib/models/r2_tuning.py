"""R2-Tuning (Liu et al., ECCV 2024): one light block, run from the last level of CLIP to earlier ones,
refines the clips.

Facts not in the paper are from yeliudev/R2-Tuning @ 03fbcf6. Axes: B, K, T, L, D as in
`vtg_lib.data.batches`; N tokens a clip, P points of the pyramid.

The block pools the N tokens of a clip (CLIP's CLS token and its patches) under the guidance of the words.
`Batch` holds them side by side: `video [B, K, T, N * video_dim]`, the CLS token first, as the published
features are stored. The renderer and all other feature sets give one vector a clip and level, which then is
the only token. What is left out there: attention to patches has one token to choose and chooses nothing, so
what is added to the clip is the clip plus the maximum over the words; pooling "clip" is this block without
the two matrices that then do nothing (0.13 M parameters).

The published 2.7 M are 2,836,242 parameters in units of 2^20; ours are the same. For highlights without
moments the public code has 1,846,281, of which the scale of absent distances is never used.

While training with videos of several lengths the public code lets padding in: into the maximum over the
words, the endpoint features, the positions and the convolutions. Here it changes nothing, as in the public
evaluation, which takes one sample at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output
from vtg_lib.layers.convolution import ConvHead
from vtg_lib.layers.dense_stream import Alignment, DenseStream
from vtg_lib.layers.pooling import POOLING, WordPool
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.precision import full_precision
from vtg_lib.layers.projections import temporal_endpoints
from vtg_lib.layers.pyramid import ConvPyramid, DistanceHead, Points, best_over_levels
from vtg_lib.losses.contrastive import choose_positive, sampled_nce
from vtg_lib.losses.points import (
    at_least_one_clip,
    clip_borders,
    point_class_loss,
    point_distance_loss,
    point_targets,
)
from vtg_lib.losses.saliency import above_median, clip_cross_entropy
from vtg_lib.models.config import ModelEntry, Suppression
from vtg_lib.models.parts.levels import alignment_losses, draw_paths, last_levels

_HIGHLIGHTS = {"task": "highlights", "strides": (1,), "tef": False}
PRESETS: dict[str, dict[str, Any]] = {
    "qvhighlights": {},
    "charades_sta": {"dropout": 0.35, "weight_saliency": 0.01, "nms": "linear", "grid": 0.1},
    "tacos": {"weight_saliency": 0.05, "nms": "linear", "grid": 0.0},
    "ego4d": {"dropout": 0.3, "nms": "linear", "grid": 0.0},
    "tvsum": {**_HIGHLIGHTS, "positive": "above median", "saliency_scale": 1 / 12},
    "youtube_highlights": _HIGHLIGHTS,
}


@dataclass(frozen=True, kw_only=True)
class Config(Suppression):
    """Sizes and loss weights, beside `Suppression`; the defaults are published for QVHighlights with
    CLIP-B/32 features.

    Attributes:
        video_dim: channels of one token, without the two that `tef` appends; text_dim: of a word.
        levels: K, the last ones of the features.
        pooling: a key of `POOLING`; "clip" for features with one vector a clip.
        task: a key of `TASKS`; "highlights" for data sets without moments.
        strides: of the pyramid; kernel: of the heads; radius: of the positive points around a moment's
            middle, in strides.
        positive: a key of `POSITIVE`, the clips that contrastive losses draw from.
        saliency_scale: brings a batch's saliency to 0..1 where it is a class target (task "highlights").
        dropout: of the projections; droppath: of every residual branch.
    """

    presets = PRESETS

    video_dim: int = 768
    text_dim: int = 512
    width: int = 256
    heads: int = 8
    levels: int = 4
    pooling: str = "tokens"
    task: str = "moments"
    strides: tuple[int, ...] = (1, 2, 4, 8)
    kernel: int = 3
    radius: float = 1.5
    positive: str = "relevant"
    saliency_scale: float = 1.0
    weight_class: float = 1.0
    weight_distance: float = 0.2
    weight_saliency: float = 0.1
    weight_video_align: float = 0.1
    weight_layer_align: float = 0.1
    dropout: float = 0.5
    droppath: float = 0.1
    tef: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_choice(pooling=POOLING, task=TASKS, positive=POSITIVE)
        self.expect_positive("levels")


POSITIVE = {"relevant": lambda saliency, mask: saliency, "above median": above_median}


class MomentTask(nn.Module):
    """Class and distances of the points; saliency is the best class of a clip's points times its similarity
    to the text.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.class_head = ConvHead(c.width, 1, 2, c.kernel)
        self.distance_head = DistanceHead(c.width, len(c.strides), c.kernel)

    def forward(self, levels: list[Tensor], masks: list[Tensor], similarity: Tensor) -> Output:
        """Levels `[B, T // s, D]`, masks `[B, T // s]`, similarity `[B, T]`."""
        logits = [self.class_head(x, mask).squeeze(-1) for x, mask in zip(levels, masks, strict=True)]
        points, distances = Points.of(self.config.strides, masks), self.distance_head(levels, masks)
        joined = torch.cat(logits, 1)
        best = best_over_levels([score.sigmoid() for score in logits], masks, masks[0])
        return Output(
            spans=points.spans(distances, masks[0].sum(1)),
            scores=joined.sigmoid() * points.valid,
            saliency=best * similarity,
            extras={"logits": joined, "distances": distances, "points": points},
        )

    def losses(self, output: Output, batch: Batch, positive: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Not yet weighted; positive, valid: from `choose_positive`."""
        points, length = output.extras["points"], batch.video_mask.sum(1)
        borders = at_least_one_clip(clip_borders(batch.spans, length), length)
        targets = point_targets(points, borders, batch.span_mask, self.config.radius)
        similarity = output.extras["similarity"]
        return {
            "class": point_class_loss(output.extras["logits"], targets, points),
            "distance": point_distance_loss(output.extras["distances"], targets),
            "saliency": sampled_nce(similarity, batch.saliency, batch.video_mask, positive, valid),
        }


class HighlightTask(nn.Module):
    """Only a class a clip, which is its saliency; no spans."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.class_head = ConvHead(c.width, 1, 2, c.kernel)

    def forward(self, levels: list[Tensor], masks: list[Tensor], similarity: Tensor) -> Output:
        """As `MomentTask`, of which only the first level is used."""
        logits = self.class_head(levels[0], masks[0]).squeeze(-1)
        none = logits.new_zeros(len(logits), 0, 2)
        return Output(spans=none, scores=none[..., 0], saliency=logits.sigmoid(), extras={"logits": logits})

    def losses(self, output: Output, batch: Batch, positive: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Not yet weighted; positive, valid: from `choose_positive`."""
        saliency, mask = batch.saliency * self.config.saliency_scale, batch.video_mask
        return {
            "class": clip_cross_entropy(output.extras["logits"], saliency, mask),
            "saliency": sampled_nce(
                output.extras["similarity"], saliency, mask, positive, valid, across=False
            ),
        }


TASKS: dict[str, type[MomentTask] | type[HighlightTask]] = {
    "moments": MomentTask,
    "highlights": HighlightTask,
}


class R2Tuning(nn.Module):
    """The R2 block over K levels, a pyramid on its last state, heads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.align = Alignment(c.video_dim + 2 * c.tef, c.text_dim, c.width, c.dropout)
        self.pool_tokens = POOLING[c.pooling](c.width)
        self.pooled_scale = nn.Parameter(torch.zeros(c.levels))
        self.level_gate = nn.Parameter(torch.zeros(c.levels - 1))
        self.refine = DenseStream(c.width, c.heads)
        self.pyramid = ConvPyramid(c.width, c.strides)
        self.pool_words = WordPool(c.width)
        self.task: MomentTask | HighlightTask = TASKS[c.task](c)
        self._initialise()

    def _initialise(self) -> None:
        """nncore's: Xavier-uniform attention, one matrix at a time; Kaiming-normal (fan out) feed-forward;
        zero biases.
        """
        block = self.refine
        for attention in (block.cross, block.self_attention):
            for linear in (attention.query, attention.key, attention.value, attention.out):
                nn.init.xavier_uniform_(linear.weight)
        for linear in (block.feed_forward.up, block.feed_forward.down):
            nn.init.kaiming_normal_(linear.weight, mode="fan_out")

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: Q = P points, without a score on padding; no spans for the task
        "highlights".

        extras: `logits [B, P]`, `distances [B, P, 2]` in strides, `points`; `similarity [B, T]` of clips and
        text; `clips [K, B, T, D]` (the first tokens) and pooled `text [K, B, D]` in the space that all levels
        share.

        Raises:
            ValueError: the features have fewer levels than the config needs, or another width.
        """
        mask = batch.video_mask
        tokens, words = self.align(*self._levels(batch))  # [K, B, T, N, D], [K, B, L, D]
        levels, masks = self.pyramid(self._refine(tokens, words, batch), mask)
        with full_precision(mask):
            text = self.pool_words(words.float(), batch.text_mask)
            levels = [level.float() for level in levels]
            # The text is that of the level which was read last, the earliest one.
            similarity = F.cosine_similarity(levels[0], text[0][:, None], dim=-1)
            output = self.task(levels, masks, similarity)
        output.extras |= {
            "similarity": similarity,
            "clips": tokens[..., 0, :],
            "text": text,
            "length": mask.sum(1),
        }
        return output

    def _levels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens `[B, K, T, N, Dv]`, with endpoints if the config says so, and words `[B, K, L, Dt]` of the
        last K levels.
        """
        c = self.config
        video, text = last_levels(batch, c.levels)
        number, rest = divmod(video.shape[-1], c.video_dim)
        if rest or number < 1 or (number > 1 and c.pooling == "clip"):
            wanted = "" if c.pooling == "clip" else "a multiple of "
            raise ValueError(
                f"R2-Tuning: expected {wanted}{c.video_dim} video channels (pooling {c.pooling}), got"
                f" {video.shape[-1]}; set video_dim to the channels of one token, and pooling to 'tokens'"
                " where a clip has several"
            )
        tokens = video.unflatten(-1, (number, c.video_dim))
        if c.tef:
            ends = temporal_endpoints(batch.video_mask).to(tokens.dtype)[:, None, :, None]
            tokens = torch.cat((tokens, ends.expand(*tokens.shape[:-1], 2)), -1)
        return tokens, text

    def _refine(self, tokens: Tensor, words: Tensor, batch: Batch) -> Tensor:
        """The recurrence from the last level to the first: tokens `[K, B, T, N, D]`, words `[K, B, L, D]` ->
        `[B, T, D]`.
        """
        c, mask = self.config, batch.video_mask
        rate = self.training * c.droppath
        keep = draw_paths(len(batch), c.levels, DenseStream.BRANCHES, rate, mask.device)
        keys, values = self.refine.cross.prepare(words, words)
        position = clip_positions(mask, c.width).to(tokens.dtype)
        scale, gate = self.pooled_scale.tanh(), self.level_gate.sigmoid()
        state = tokens.new_zeros(())
        for level in reversed(range(c.levels)):
            pooled = self.pool_tokens(tokens[level], words[level], batch.text_mask)
            clips = tokens[level, :, :, 0] + pooled * scale[level].to(pooled.dtype)
            if level < c.levels - 1:
                clips = torch.lerp(state, clips, gate[level].to(clips.dtype))
            masks = (mask, keys[level], values[level], batch.text_mask, keep[level])
            state = self.refine(clips, position, *masks)["ffn"].to(clips.dtype)
        return state

    def post_process(self, output: Output) -> Output:
        """See `Suppression`."""
        return self.config.suppress(output)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The task's losses and the alignment of clips and text over the videos and over the levels,
        weighted.
        """
        relevant = POSITIVE[self.config.positive](batch.saliency, batch.video_mask)
        positive, valid = choose_positive(relevant, batch.video_mask, self.training)
        terms = self.task.losses(output, batch, positive, valid)
        alignment = alignment_losses(output.extras["clips"], output.extras["text"], positive, valid)
        terms |= {name: term / 2 for name, term in alignment.items()}  # the public loss is a mean
        return {name: getattr(self.config, f"weight_{name}") * term for name, term in terms.items()}


ENTRY = ModelEntry(R2Tuning, Config, published_parameters=2.7)
