"""Losses of points on the time axis that predict a class and distances to the two borders of a moment.

Points of a feature pyramid as in yeliudev/R2-Tuning @ 03fbcf6, which Zhuo-Cao/FlashVTG @ 25b9591 shares, and
in SnAG (Mu, Mo and Li, CVPR 2024; facts from fmu2/snag_release @ 44dd90e); the clips themselves in UniVTG
(Lin et al., ICCV 2023; facts from showlab/UniVTG @ 32659ac). Axes: B samples, P points, M moments, T clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.layers.pyramid import Points
from vtg_lib.losses import masked_mean
from vtg_lib.losses.set_prediction import focal_loss
from vtg_lib.spans import cw_to_se

# Borders meet the bounds exactly, but for rounding:
_CLIPS_ROUNDING = 1e-4  # in clips
_VIDEO_ROUNDING = 1e-5  # in shares of the video


@dataclass(frozen=True)
class PointTargets:
    """What the points have to predict.

    Attributes:
        positive: `[B, P]` points that predict a moment; distances: `[B, P, 2]` to its start and end, in
            strides.
    """

    positive: Tensor
    distances: Tensor


def clip_borders(spans: Tensor, length: Tensor) -> Tensor:
    """Moments `[B, M, 2]` (center, width), normalised -> (start, end) in clips of videos of `length`
    `[B]`.
    """
    return cw_to_se(spans) * length[:, None, None]


def at_least_one_clip(borders: Tensor, length: Tensor) -> Tensor:
    """Moments shorter than a clip become one clip long around their middle, inside the video (R2-Tuning's
    loader).

    Args:
        borders: `[B, M, 2]` (start, end) in clips; length: `[B]` clips.
    """
    middle = borders.mean(-1).clamp(min=0.5).minimum(length[:, None] - 0.5)
    short = (borders[..., 1] - borders[..., 0] < 1)[..., None]
    return torch.where(short, torch.stack((middle - 0.5, middle + 0.5), -1), borders)


@torch.no_grad()
def point_targets(
    points: Points, borders: Tensor, span_mask: Tensor, radius: float, strict: bool = False
) -> PointTargets:
    """Gives every point the shortest of the moments it may predict.

    It may if it lies in the moment, at most `radius` strides from its middle, and if the farther end of the
    moment is as far away as the level's range says.

    Args:
        borders: `[B, M, 2]` (start, end) in the unit of the points; span_mask: `[B, M]`; radius: in strides;
            0 takes the whole moment.
        strict: without the moment's own borders, the rim of the radius and the upper bound of the range
            (SnAG, whose public code knows one moment a query).
    """
    start, end = borders[:, None].unbind(-1)  # [B, 1, M]
    position, stride = points.position[:, None], points.stride[:, None]  # [P, 1]
    before, after = position - start, end - position  # [B, P, M]
    depth = torch.minimum(before, after)  # to the nearer border
    if radius > 0:
        depth = torch.minimum(depth, radius * stride - (position - (start + end) / 2).abs())
    reach = torch.maximum(before, after)
    low, high = points.low[:, None], points.high[:, None]
    if strict:
        reach = reach + _CLIPS_ROUNDING
        fits = (depth > _CLIPS_ROUNDING) & (reach < high)
    else:
        fits = (depth >= 0) & (reach <= high)
    candidate = fits & (reach >= low) & span_mask[:, None] & points.valid[..., None]
    chosen = torch.where(candidate, end - start, torch.inf).argmin(-1, keepdim=True)
    distances = torch.cat((before.gather(-1, chosen), after.gather(-1, chosen)), -1) / stride
    return PointTargets(candidate.any(-1), distances)


def point_class_loss(logits: Tensor, targets: PointTargets, points: Points) -> Tensor:
    """Focal loss with gamma 2 and no class weights, mean over the valid points of the batch.

    Args:
        logits: `[B, P]`.
    """
    loss = 2 * focal_loss(logits, targets.positive, alpha=0.5)  # alpha weighs both classes by a half
    return masked_mean(loss, points.valid, (0, 1))


def point_distance_loss(distances: Tensor, targets: PointTargets) -> Tensor:
    """L1 of the positive points, mean over them and the two distances; 0 where there is none.

    Args:
        distances: `[B, P, 2]` in strides.
    """
    error = (distances.float() - targets.distances).abs().mean(-1)
    return masked_mean(error, targets.positive, (0, 1))


def smooth_focal_loss(
    logits: Tensor,
    positive: Tensor,
    smoothing: float = 0.2,
    alpha: float = 0.5,
    gamma: float = 2.0,
) -> Tensor:
    """Sigmoid focal loss per element whose targets are smoothing / 2 and 1 - smoothing / 2.

    Args:
        logits, positive: any shape.
    """
    target = positive.to(torch.float32) * (1 - smoothing) + smoothing / 2
    logits = logits.float()
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    weight = torch.where(positive, alpha, 1 - alpha)
    return (
        weight * (1 - right) ** gamma * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    )


def iou_loss(distances: Tensor, target: Tensor) -> Tensor:
    """1 - IoU of two spans around the same point.

    Args:
        distances, target: `[..., 2]` to start and end, not negative.
    """
    overlap = torch.minimum(distances, target).sum(-1)
    union = distances.sum(-1) + target.sum(-1) - overlap
    return 1 - overlap / union.clamp(min=1e-8)


def diou_loss(distances: Tensor, target: Tensor) -> Tensor:
    """`iou_loss` and the squared distance of the middles as a share of the hull (Zheng et al. 2020, Eq. 7,
    one axis).
    """
    hull = torch.maximum(distances, target).sum(-1)
    middles = ((distances - target) * distances.new_tensor([-0.5, 0.5])).sum(-1)
    return iou_loss(distances, target) + (middles / hull.clamp(min=1e-8)).square()


REGRESSION = {"iou": iou_loss, "diou": diou_loss}


def clip_points(mask: Tensor, offset: float) -> Tensor:
    """Where each clip's prediction starts from, `[B, T]`, as a fraction of the video.

    Args:
        mask: `[B, T]` real clips; offset: in clips, from the start of the clip.
    """
    length = mask.sum(1, keepdim=True).clamp(min=1)
    return (torch.arange(mask.shape[1], device=mask.device) + offset) / length


def assign_moments(points: Tensor, mask: Tensor, spans: Tensor, span_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The moment that each clip belongs to, if any (the foreground indicator and the boundaries).

    Of several moments the last annotated one counts. Where no clip is inside any moment, the clip in which
    the first moment starts belongs to it.

    Args:
        points: `[B, T]` of `clip_points`; mask: `[B, T]` real clips; spans: `[B, M, 2]` (center, width);
            span_mask: `[B, M]`.

    Returns:
        target (start, end) `[B, T, 2]`, normalised, and foreground `[B, T]`.
    """
    borders = cw_to_se(spans)  # [B, M, 2]
    after = points[:, None] >= borders[..., :1] - _VIDEO_ROUNDING
    inside = (
        after & (points[:, None] <= borders[..., 1:] + _VIDEO_ROUNDING) & span_mask[..., None] & mask[:, None]
    )  # [B, M, T]
    length = mask.sum(1)
    start = ((borders[:, 0, 0] + _VIDEO_ROUNDING) * length).long().clamp(min=0).minimum(length - 1)
    empty = ~inside.any(1).any(1) & span_mask[:, 0]
    fallback = empty[:, None] & (torch.arange(mask.shape[1], device=mask.device) == start[:, None])
    rank = torch.arange(1, spans.shape[1] + 1, device=mask.device)[:, None]
    moment = (inside * rank).argmax(1)  # [B, T]; 0 where there is none
    target = borders.gather(1, moment[..., None].expand(-1, -1, 2))
    return target, inside.any(1) | fallback


def foreground_loss(logits: Tensor, foreground: Tensor, mask: Tensor, background_weight: float) -> Tensor:
    """Binary cross-entropy of the foreground indicator, background terms down-weighted; mean over all real
    clips.

    Args:
        logits, foreground, mask: `[B, T]`.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), foreground.float(), reduction="none")
    return masked_mean(torch.where(foreground, loss, background_weight * loss), mask, (0, 1))
