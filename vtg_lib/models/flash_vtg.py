"""Flash-VTG (Cao et al., WACV 2025): a pyramid of clips that have read the text, scored within a level and
across levels.

Facts not in the paper are from Zhuo-Cao/FlashVTG @ 25b9591. Axes: B, T, L, D as in `vtg_lib.data.batches`; N
dummy tokens, P points of the pyramid.

The published 10.9 M belong to QVHighlights with InternVideo2 features: the public code has 11,408,409
parameters there, 10.88 in units of 2^20. Ours are those without 26,112 that embed positions of words and are
never used: 11,382,297, and 10,458,648 with SlowFast + CLIP. For highlights without moments the distance head
of the public code is idle and absent here.

Where a batch has videos of several lengths the public code lets padding in (means, convolutions, minima and
maxima). Here it changes nothing, as in the public evaluation, which takes one sample at a time. The public
code also makes no negative pair of two parts of one source video; here only equal videos are told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output, last_level
from vtg_lib.layers.adaptive_attention import AdaptiveCrossLayer, PathLayer
from vtg_lib.layers.pooling import WordPool
from vtg_lib.layers.positions import clip_positions
from vtg_lib.layers.precision import full_precision
from vtg_lib.layers.pyramid import ConvPyramid, DistanceHead, Points
from vtg_lib.layers.pyramid_scores import AdaptiveScore
from vtg_lib.losses import masked_mean
from vtg_lib.losses.contrastive import choose_positive, sampled_nce
from vtg_lib.losses.correlation import guided_saliency, relevance, same_video
from vtg_lib.losses.points import clip_borders, point_class_loss, point_distance_loss, point_targets
from vtg_lib.losses.saliency import clip_cross_entropy, extreme_pair, rescaled_error, saliency_pairs
from vtg_lib.models.config import FeatureConfig, ModelEntry, Suppression
from vtg_lib.models.parts.detr import Projected, with_mismatched

Choice = tuple[Tensor, Tensor]  # of `choose_positive`
_INTERNVIDEO2 = {"video_dim": 768, "text_dim": 4096}
_CHARADES = {"weight_nce": 0.01, "weight_label": 0.1}
_HIGHLIGHTS = {"task": "highlights", "strides": (1,), "cross_layers": 2, "score_depth": 3}
_YOUTUBE = {
    "weight_class": 0.6,
    "weight_nce": 0.5,
    "weight_saliency": 0.7,
    "weight_label": 5.0,
    "weight_negative": 0.0,
}
# What the training scripts set for each data set; "+" names other features of the same.
PRESETS: dict[str, dict[str, Any]] = {
    "qvhighlights": {},
    "qvhighlights+internvideo2": {**_INTERNVIDEO2, "strides": (1, 2, 4, 8, 16), "weight_label": 0.0},
    "charades_sta": _CHARADES,
    "charades_sta+vgg": {**_CHARADES, "video_dim": 4096, "text_dim": 300, "kernel": 3, "convolutions": 2},
    "charades_sta+internvideo2": {
        **_CHARADES,
        **_INTERNVIDEO2,
        "kernel": 7,
        "convolutions": 2,
        "score_depth": 3,
    },
    "tacos": {
        "cross_layers": 8,
        "dummy_layers": 3,
        "dummies": 35,
        "convolutions": 2,
        "weight_nce": 0.05,
        "dropout": 0.0,
    },
    # The script for TVSum sets other sizes of the heads, but does not hand them on.
    "tvsum": {**_HIGHLIGHTS, "dummies": 3, "kernel": 3, "convolutions": 3},
    "youtube_highlights": {**_HIGHLIGHTS, **_YOUTUBE, "dummies": 1, "convolutions": 2},
}


@dataclass(frozen=True, kw_only=True)
class Config(Suppression, FeatureConfig):
    """`FeatureConfig`, `Suppression`, and what is Flash-VTG's own; the defaults are published for
    QVHighlights.

    Attributes:
        dummies: N; dummy_layers: of the encoder that makes them; cross_layers: of adaptive cross-attention.
        task: a key of `TASKS`, "highlights" for data sets without moments; strides: of the pyramid.
        radius: of the positive points around a moment's middle, in strides.
        kernel, convolutions: of a score head, before its MLP of `score_depth` layers.
        saliency_scale: brings a batch's saliency to the loaders' 0..12.
        weight_attention: of the attention's saliency losses, beside `weight_saliency`; weight_negative: of
            mismatched pairs.
        dropout: also the drop-path rate; dummy_dropout: the same in the dummies' encoder.
    """

    presets = PRESETS
    open_ended = True

    dummies: int = 40
    dummy_layers: int = 2
    cross_layers: int = 6
    encoder_layers: int = 3
    task: str = "moments"
    strides: tuple[int, ...] = (1, 2, 4, 8)
    radius: float = 1.5
    kernel: int = 5
    convolutions: int = 1
    score_depth: int = 5
    saliency_scale: float = 1.0
    saliency_margin: float = 0.2
    weight_class: float = 5.0
    weight_distance: float = 1.0
    weight_nce: float = 0.1
    weight_label: float = 4.0
    weight_saliency: float = 0.8
    weight_attention: float = 1.0
    weight_negative: float = 1.0
    dummy_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_choice(task=TASKS)
        self.expect_positive("dummies", "dummy_layers", "cross_layers")


class MomentTask(nn.Module):
    """Points predict class and distances."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.radius = c.radius
        self.distance_head = DistanceHead(c.width, len(c.strides))

    def forward(
        self, levels: list[Tensor], masks: list[Tensor], points: Points
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Spans `[B, P, 2]`, and what `losses` reads."""
        distances = self.distance_head(levels, masks)
        return points.spans(distances, masks[0].sum(1)), {"distances": distances}

    def losses(
        self, extras: dict[str, Any], batch: Batch, saliency: Tensor, chosen: Choice
    ) -> dict[str, Tensor]:
        """Not yet weighted; saliency: `[B, T]`."""
        points, borders = extras["points"], clip_borders(batch.spans, batch.video_mask.sum(1))
        targets = point_targets(points, borders, batch.span_mask, self.radius)
        return {
            "class": point_class_loss(extras["logits"], targets, points),
            "distance": point_distance_loss(extras["distances"], targets),
            "nce": sampled_nce(extras["similarity"], saliency, batch.video_mask, *chosen),
        }

    pairs = staticmethod(saliency_pairs)


class HighlightTask(nn.Module):
    """Clips predict their saliency; no spans."""

    def __init__(self, c: Config) -> None:
        super().__init__()

    def forward(
        self, levels: list[Tensor], masks: list[Tensor], points: Points
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `MomentTask`; the spans are none."""
        return levels[0].new_zeros(len(levels[0]), 0, 2), {}

    def losses(
        self, extras: dict[str, Any], batch: Batch, saliency: Tensor, chosen: Choice
    ) -> dict[str, Tensor]:
        """As `MomentTask`. The class targets are not scaled to 0..1, as in the public code."""
        mask = batch.video_mask
        return {
            "class": clip_cross_entropy(extras["logits"][:, : mask.shape[1]], saliency, mask),
            "nce": sampled_nce(extras["similarity"], saliency, mask, *chosen, across=False),
        }

    pairs = staticmethod(extreme_pair)


TASKS: dict[str, type[MomentTask] | type[HighlightTask]] = {
    "moments": MomentTask,
    "highlights": HighlightTask,
}


class FlashVTG(Projected):
    """Adaptive cross-attention to words and dummies, encoder, pyramid (temporal feature layering), adaptive
    scores.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = c = config
        self.modality = nn.Parameter(torch.empty(2, c.width))  # words, clips
        self.dummies = nn.Parameter(torch.randn(c.dummies, c.width))
        self.dummy_position = nn.Parameter(torch.randn(c.dummies, c.width))
        sizes = (c.width, c.heads, c.hidden)
        self.dummy_encoder = nn.ModuleList(PathLayer(*sizes, c.dummy_dropout) for _ in range(c.dummy_layers))
        self.cross_encoder = nn.ModuleList(
            AdaptiveCrossLayer(*sizes, c.dropout) for _ in range(c.cross_layers)
        )
        self.encoder = nn.ModuleList(PathLayer(*sizes, c.dropout) for _ in range(c.encoder_layers))
        self.saliency_clip = nn.Linear(c.width, c.width)
        self.saliency_global = nn.Linear(c.width, c.width)
        self.pyramid = ConvPyramid(c.width, c.strides)
        self.pool_words = WordPool(c.width)
        self.score = AdaptiveScore(c.width, c.kernel, c.convolutions, c.score_depth)
        self.task: MomentTask | HighlightTask = TASKS[c.task](c)
        nn.init.normal_(self.modality, std=0.02)
        for parameter in [*self.cross_encoder.parameters(), *self.encoder.parameters()]:
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: Q = P points, without a score on padding; no spans for the task
        "highlights".

        extras: `logits [B, P]`, `distances [B, P, 2]` in strides, `points`, `similarity [B, T]` of clips and
        text, `attention [B, T]` that a clip gives to the words; while training with more than one sample also
        `negative_saliency` and `negative_attention` with another sample's text, and `real_negative [B]`.
        """
        c, count, mask = self.config, len(batch), batch.video_mask
        video, words = self.project(batch)
        video, words = video + self.modality[1], words + self.modality[0]
        inputs = [video, mask], [self._encode_dummies(words, batch.text_mask), words, batch.text_mask]
        memory, attention, saliency = self._fuse(
            *(with_mismatched(*inputs) if self.training and count > 1 else [*inputs[0], *inputs[1]])
        )
        extras: dict[str, Any] = {"attention": attention[:count], "length": mask.sum(1)}
        if len(memory) > count:
            real = ~same_video(last_level(batch.video), mask)
            extras |= {
                "negative_saliency": saliency[count:],
                "negative_attention": attention[count:],
                "real_negative": real,
            }
        levels, masks = self.pyramid(memory[:count], mask)
        with full_precision(mask):
            levels = [level.float() for level in levels]
            sentence = self.pool_words(words.float(), batch.text_mask)
            extras["similarity"] = F.cosine_similarity(levels[0], sentence[:, None], dim=-1)
            extras["points"] = points = Points.of(c.strides, masks)
            extras["logits"] = logits = self.score(levels, masks)
            spans, found = self.task(levels, masks, points)
        scores = (logits.sigmoid() * points.valid)[:, : spans.shape[1]]
        return Output(spans=spans, scores=scores, saliency=saliency[:count], extras=extras | found)

    def _encode_dummies(self, words: Tensor, mask: Tensor) -> Tensor:
        """Dummy tokens that have read the sentence: words `[B, L, D]`, mask `[B, L]` -> `[B, N, D]`."""
        count, own = len(words), len(self.dummies)
        x = torch.cat((self.dummies.to(words.dtype).expand(count, -1, -1), words), 1)
        position = F.pad(self.dummy_position.to(words.dtype), (0, 0, 0, words.shape[1])).expand_as(x)
        every = F.pad(mask, (own, 0), value=True)
        for layer in self.dummy_encoder:
            x = layer(x, position, every)
        return x[:, :own]

    def _fuse(
        self, video: Tensor, mask: Tensor, dummies: Tensor, words: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clips that have read the words: memory `[B, T, D]`, attention to the words `[B, T]`, saliency
        `[B, T]`.
        """
        c = self.config
        position = clip_positions(mask, c.width).to(video.dtype)
        keys, values = AdaptiveCrossLayer.prepare(
            dummies, self.dummy_position.to(dummies.dtype), words, c.heads
        )
        context_mask, given = F.pad(text_mask, (c.dummies, 0), value=True), []
        for layer in self.cross_encoder:
            video, weights = layer(video, position, keys, values, context_mask)
            given.append(weights[..., c.dummies :].float().sum(-1))
        for layer in self.encoder:
            video = layer(video, position, mask)
        whole = masked_mean(video, mask[..., None], (1,))[:, None]
        saliency = (self.saliency_clip(video) * self.saliency_global(whole)).sum(-1) / math.sqrt(c.width)
        return video, torch.stack(given).mean(0).clamp(0, 1), saliency

    def post_process(self, output: Output) -> Output:
        """See `Suppression`."""
        return self.config.suppress(output)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Class, distance, contrastive (`nce`), score against saliency (`label`) and saliency losses,
        weighted.
        """
        c, mask = self.config, batch.video_mask
        saliency = batch.saliency * c.saliency_scale
        chosen = choose_positive(saliency, mask, sample=False)
        terms = self.task.losses(output.extras, batch, saliency, chosen)
        terms["label"] = rescaled_error(output.extras["logits"][:, : mask.shape[1]], saliency, mask)
        terms["saliency"] = self._saliency(output, saliency, mask)
        return {
            name: weight * term for name, term in terms.items() if (weight := getattr(c, f"weight_{name}"))
        }

    def _saliency(self, output: Output, target: Tensor, mask: Tensor) -> Tensor:
        """CG-DETR's saliency losses: of the saliency, and of the attention that clips give to the words."""
        c, extras, share = self.config, output.extras, output.extras["attention"]
        none = torch.zeros_like(share)  # outside of training there is no other text
        other, other_share = extras.get("negative_saliency", none), extras.get("negative_attention", none)
        real, pairs = extras.get("real_negative", mask.new_zeros(len(mask))), self.task.pairs(target, mask)
        common = (target, mask, pairs, real, c.saliency_margin, c.weight_negative)
        attended = guided_saliency(
            (share, other_share, -torch.log1p(-other_share.clamp(max=1 - 1e-6))), *common
        )
        attended = attended + relevance(share, target, mask)
        return (
            guided_saliency((output.saliency, other, F.softplus(other)), *common)
            + c.weight_attention * attended
        )


ENTRY = ModelEntry(FlashVTG, Config, variants=(("InternVideo2", PRESETS["qvhighlights+internvideo2"], 10.9),))
