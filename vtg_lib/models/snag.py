"""SnAG (Mu, Mo and Li, CVPR 2024): late fusion of a video's feature pyramid with a sentence; every point
predicts a moment.

Facts not in the paper are from fmu2/snag_release @ 44dd90e, which counts as many parameters as we do; no
published count is known. Not here: its optimiser (no weight decay of biases and norms, a rate of its own for
the text, an average of the weights, which it evaluates), random crops, and positions stretched for videos
longer than in training. A sample is one query here; there, a video with several, whose loss is the same.

SnAG has no highlight head. Saliency is the class score at the clip's place, of the level where it is highest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, Output, last_level
from vtg_lib.layers.conv_transformer import LocalPyramid, zero_biases
from vtg_lib.layers.convolution import ConvHead
from vtg_lib.layers.deformable import sampling_matrix
from vtg_lib.layers.pyramid import Points
from vtg_lib.layers.suppression import best_spans, gaussian, greedy_nms, vote
from vtg_lib.layers.text_encoders import ModulationLayer, TextPool, TextTransformer
from vtg_lib.losses.points import REGRESSION, point_targets, smooth_focal_loss
from vtg_lib.models.config import ModelEntry, Published
from vtg_lib.spans import cw_to_se, se_to_cw

TEXT_ENCODERS = {"transformer": TextTransformer, "pool": TextPool}
FUSION_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "adaln": lambda width: nn.LayerNorm(width, elementwise_affine=False),
    "affine": lambda width: nn.Identity(),
}
HEAD_DEPTH = 3  # convolutions of kernel 3
NORM_MOMENTUM = 0.9  # of the running number of positive points
LEAST_SCORE, LEAST_LENGTH = 1e-3, 0.1  # of a prediction; the length in strides of the first level
# What differs from the defaults, by data set; features as in the authors' files: I3D for Charades-STA, EgoVLP
# for Ego4D.
_LONG: dict[str, Any] = {"pyramid_levels": 8, "window": 19}
_CHARADES: dict[str, Any] = {
    "text_dim": 300,
    "width": 256,
    "stem": 1,
    "pyramid_levels": 6,
    "fusion": "affine",
    "first_range": 8.0,
    "fixed_length": 256,
    "loss_norm": 400.0,
}
_POOLED: dict[str, Any] = {"text_encoder": "pool"}
PRESETS: dict[str, Mapping[str, Any]] = {
    "activitynet": {"video_dim": 500, "text_dim": 300, "fixed_length": 256, "weight_regression": 2.0},
    "charades_sta": {**_CHARADES, "video_dim": 2048},
    "charades_sta_c3d": {**_CHARADES, "video_dim": 4096},
    "ego4d": {
        **_LONG,
        **_POOLED,
        "video_dim": 256,
        "text_dim": 768,
        "width": 384,
        "text_width": 768,
        "regression": "iou",
        "loss_norm": 10.0,
    },
    "ego4d_slowfast": {
        **_LONG,
        "video_dim": 2304,
        "text_dim": 768,
        "width": 512,
        "text_layers": 1,
        "regression": "iou",
        "loss_norm": 10.0,
    },
    "mad": {
        **_POOLED,
        "video_dim": 512,
        "text_dim": 512,
        "width": 512,
        "text_width": 512,
        "stride": 2,
        "pyramid_levels": 9,
        "window": 17,
        "positions": False,
        "loss_norm": 250.0,
        "candidates": 200,
        "predictions": 50,
    },
    "tacos": {
        **_LONG,
        "video_dim": 4096,
        "text_dim": 300,
        "width": 256,
        "fusion": "affine",
        "loss_norm": 100.0,
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(Published):
    """Sizes and loss weights; the defaults are the public code's own, with features as for QVHighlights.

    Attributes:
        width: of the pyramid and the heads; text_width: of the text encoder; heads: of every attention.
        text_encoder: a key of `TEXT_ENCODERS`; text_layers: of the transformer.
        fixed_length: clips to which every video is resampled; 0 takes videos as they are.
        stride: clips per point of the first level; convolutions, stem, pyramid_levels: see `LocalPyramid`.
        window: clips that a clip of the pyramid attends to; positions: the pyramid has positions.
        fusion: what is done to the clips before words scale and shift them, a key of `FUSION_NORMS`;
            fusion_layers: of it.
        first_range: first level's longest distance to a border, in strides; doubles by level. overlap: of
            neighbouring levels' ranges, 1 for none. radius: of center sampling, in strides.
        regression: a key of `REGRESSION`; weight_regression: of that loss.
        loss_norm: what the losses are divided by at first; then the running mean of positive points in a
            batch.
        candidates: best points that take part in suppression; nms_sigma: of the Gaussian; vote_threshold: see
            `vote`.
        predictions: kept after that. The public code keeps 5 (MAD: 50), all its measures read; QVHighlights
            reads 10.
    """

    presets = {dataset: {"predictions": 5, **fields} for dataset, fields in PRESETS.items()}

    video_dim: int = 2816
    text_dim: int = 512
    width: int = 128
    text_width: int = 128
    heads: int = 4
    text_encoder: str = "transformer"
    text_layers: int = 5
    fixed_length: int = 0
    stride: int = 1
    convolutions: int = 2
    stem: int = 0
    pyramid_levels: int = 7
    window: int = 5
    positions: bool = True
    fusion: str = "adaln"
    fusion_layers: int = 2
    first_range: float = 4.0
    overlap: float = 0.5
    radius: float = 1.5
    regression: str = "diou"
    weight_regression: float = 1.0
    loss_norm: float = 160.0
    dropout: float = 0.1
    droppath: float = 0.1
    candidates: int = 2000
    nms_sigma: float = 0.9
    vote_threshold: float = 0.95
    predictions: int = 10

    def __post_init__(self) -> None:
        self.expect_choice(text_encoder=TEXT_ENCODERS, fusion=FUSION_NORMS, regression=REGRESSION)
        self.expect_positive("pyramid_levels")
        if not 0 < self.overlap <= 1:
            self.refuse("overlap", "a share in (0, 1]")


def resample(video: Tensor, length: Tensor, size: int) -> Tensor:
    """Every video at `size` clips: linear interpolation to a multiple of `size` that is no less than its
    length, then means.

    Args:
        video: `[B, T, D]`; length: `[B]` clips.

    Returns:
        `[B, size, D]`.
    """
    share = -(-length // size)[:, None, None]  # points that are averaged, by sample
    most = -(-video.shape[1] // size)
    step = torch.arange(most, device=video.device)
    point = torch.arange(size, device=video.device)[:, None] * share + step + 0.5  # [B, size, most]
    index = (
        (point * length[:, None, None] / (size * share) - 0.5).clamp(min=0).minimum(length[:, None, None] - 1)
    )
    weight = (step < share).to(torch.float32) / share
    return sampling_matrix(index, weight.expand_as(index), video.shape[1]).to(video.dtype) @ video


def level_ranges(levels: int, first: float, overlap: float) -> list[tuple[float, float]]:
    """Distances to the farther border that each level is responsible for, in strides of the first level."""
    ranges = [(0.0, first)]
    for _ in range(1, levels):
        last = ranges[-1][1]
        ranges.append((last * overlap, 2 * last))
    return ranges[:-1] + [(ranges[-1][0], float("inf"))] if levels > 1 else ranges


def scores_by_clip(scores: Tensor, masks: Sequence[Tensor], place: Tensor) -> Tensor:
    """The highest score over levels, each linear between its points and constant after the last one.

    Args:
        scores: `[B, Q]`, level by level, each with one more at its end; masks: `[B, T_l]` of the levels.
        place: `[B, T]` of the clips, in strides of the first level.

    Returns:
        `[B, T]`.
    """
    spread, first = [], 0
    for level, mask in enumerate(masks):
        last = mask.sum(1, keepdim=True) - 1
        at = (place / 2**level).clamp(min=0).minimum(last)
        low = at.floor().long()
        part = scores[:, first : first + mask.shape[1]]
        spread.append(torch.lerp(part.gather(1, low), part.gather(1, (low + 1).minimum(last)), at - low))
        first += mask.shape[1] + 1
    return torch.stack(spread).amax(0)


class SnAG(nn.Module):
    """A pyramid of the video alone, the sentence alone, then layers in which the words modulate all levels at
    once.
    """

    loss_norm: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        encoder: Any = TEXT_ENCODERS[c.text_encoder]
        self.text_net = encoder(c.text_dim, c.text_width, c.heads, c.text_layers, c.dropout, c.droppath)
        self.video_net = LocalPyramid(
            c.video_dim,
            c.width,
            c.heads,
            c.window,
            stride=c.stride,
            convolutions=c.convolutions,
            stem=c.stem,
            levels=c.pyramid_levels,
            positions=c.positions,
            dropout=c.dropout,
            droppath=c.droppath,
        )
        self.fusion = nn.ModuleList(
            ModulationLayer(
                c.width, c.text_width, c.heads, c.dropout, c.droppath, FUSION_NORMS[c.fusion](c.width)
            )
            for _ in range(c.fusion_layers)
        )
        self.norm = nn.LayerNorm(c.width)
        self.class_head = ConvHead(c.width, 1, HEAD_DEPTH, norm=True)
        self.distance_head = ConvHead(c.width, 2, HEAD_DEPTH, norm=True)
        self.scale = nn.Parameter(torch.ones(c.pyramid_levels))
        for head in (self.class_head, self.distance_head):
            zero_biases(head)
        self.register_buffer("loss_norm", torch.tensor(c.loss_norm))

    def forward(self, batch: Batch, trace: bool = False) -> Output:
        """See `Batch` and `Output`: Q = points of all levels and one empty place after each level; 0 scored
        on padding.

        layers: `spans [1, B, Q, 2]`, `logits [1, B, Q]`. extras: `distances [B, Q, 2]` in strides, `points`,
        and `length [B]`, what a normalised 1 is in the unit of the points.
        """
        c, mask = self.config, batch.video_mask
        video = last_level(batch.video)
        if c.fixed_length:
            video = resample(video, mask.sum(1), c.fixed_length)
            mask = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
        levels, masks = self.video_net(video, mask)
        text, text_mask = self.text_net(last_level(batch.text), batch.text_mask)
        # Levels one after the other, a zero between them, so that each convolution runs once and mixes no
        # levels.
        x = torch.cat([F.pad(level, (0, 0, 0, 1)) for level in levels], 1)
        points = self._points([F.pad(real, (0, 1)) for real in masks])
        for layer in self.fusion:
            x = layer(x, points.valid, text, text_mask)
        x = self.norm(x)
        logits = self.class_head(x, points.valid).squeeze(-1).float()
        scale = self.scale.repeat_interleave(
            torch.tensor([real.shape[1] + 1 for real in masks], device=x.device)
        )
        distances = F.relu(scale[:, None] * self.distance_head(x, points.valid).float())
        length = mask.sum(1)
        reach = distances * points.stride[:, None]
        # The middle of clip t is at t.
        borders = torch.stack((points.position - reach[..., 0], points.position + reach[..., 1]), -1) + 0.5
        spans = se_to_cw(borders / length[:, None, None]) * points.valid[..., None]
        long_enough = reach.sum(-1) > LEAST_LENGTH * c.stride
        scores = logits.sigmoid() * points.valid
        clip = torch.arange(batch.video.shape[-2], device=x.device) + 0.5
        place = clip * (length / batch.video_mask.sum(1))[:, None] - 0.5
        return Output(
            spans=spans,
            scores=scores * long_enough,
            saliency=scores_by_clip(scores, masks, place / c.stride),
            layers={"spans": spans[None], "logits": logits[None]},
            extras={"distances": distances, "points": points, "length": length},
        )

    def _points(self, masks: list[Tensor]) -> Points:
        """The points of levels with `masks` `[B, T_l]`, in clips."""
        c, device = self.config, masks[0].device
        sizes = torch.tensor([mask.shape[1] for mask in masks], device=device)
        ranges = (
            torch.tensor(level_ranges(c.pyramid_levels, c.first_range, c.overlap), device=device) * c.stride
        )
        strides = c.stride * 2.0 ** torch.arange(c.pyramid_levels, device=device)
        stride = strides.repeat_interleave(sizes)
        position = torch.cat([torch.arange(mask.shape[1], device=device) for mask in masks]) * stride
        low, high = ranges.repeat_interleave(sizes, 0).unbind(-1)
        return Points(position, stride, low, high, torch.cat(masks, 1))

    def post_process(self, output: Output) -> Output:
        """The best candidates, soft-NMS, voting; spans cut to the video."""
        c = self.config
        spans, scores = best_spans(output.spans, output.scores, c.candidates)
        scores = scores * (scores > LEAST_SCORE)
        chosen, kept = greedy_nms(spans, scores, c.predictions, gaussian(c.nms_sigma), LEAST_SCORE)
        chosen = vote(chosen, spans, scores, c.vote_threshold)
        return dataclasses.replace(output, spans=se_to_cw(cw_to_se(chosen).clamp(0, 1)), scores=kept)

    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Focal loss of all points and IoU loss of the positive ones, weighted, over the running number of
        positive points.
        """
        c, points = self.config, output.extras["points"]
        borders = cw_to_se(batch.spans) * output.extras["length"][:, None, None] - 0.5
        targets = point_targets(points, borders, batch.span_mask, c.radius, strict=True)
        focal = smooth_focal_loss(output.layers["logits"][0], targets.positive) * points.valid
        # A point that is not positive may have negative distances to its moment.
        distances = targets.distances.clamp(min=0)
        regression = (
            REGRESSION[c.regression](output.extras["distances"].float(), distances) * targets.positive
        )
        norm = self.loss_norm.clone()
        if self.training:
            self.loss_norm.lerp_(targets.positive.sum().clamp(min=1).to(norm.dtype), 1 - NORM_MOMENTUM)
        return {"class": focal.sum() / norm, "regression": c.weight_regression * regression.sum() / norm}


ENTRY = ModelEntry(SnAG, Config)
