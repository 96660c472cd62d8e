"""Losses of the points of a feature pyramid: which moment a point predicts, its class and its distances.

Facts are from yeliudev/R2-Tuning @ 03fbcf6; Zhuo-Cao/FlashVTG @ 25b9591 has the same. Axes: B samples, P
points, M moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtg_lib.layers.pyramid import Points
from vtg_lib.losses.focal import focal_loss
from vtg_lib.losses.set_prediction import masked_mean
from vtg_lib.spans import cw_to_se


@dataclass(frozen=True)
class PointTargets:
    """What the points have to predict.

    Attributes:
        positive: `[B, P]` points that predict a moment; distances: `[B, P, 2]` to its start and end, in
            strides.
    """

    positive: Tensor
    distances: Tensor


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
        borders: `[B, M, 2]` (start, end) in clips; span_mask: `[B, M]`; radius: in strides; 0 takes the whole
            moment.
        strict: without the moment's own borders, the rim of the radius and the upper bound of the range.
    """
    start, end = borders[:, None].unbind(-1)  # [B, 1, M]
    position, stride = points.position[:, None], points.stride[:, None]  # [P, 1]
    before, after = position - start, end - position  # [B, P, M]
    depth = torch.minimum(before, after)  # to the nearer border
    if radius > 0:
        depth = torch.minimum(depth, radius * stride - (position - (start + end) / 2).abs())
    reach = torch.maximum(before, after)
    low, high = points.low[:, None], points.high[:, None]
    fits = (depth > 0) & (reach < high) if strict else (depth >= 0) & (reach <= high)
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


def clip_borders(spans: Tensor, length: Tensor) -> Tensor:
    """Moments `[B, M, 2]` (center, width), normalised -> (start, end) in clips of videos of `length` `[B]`."""
    return cw_to_se(spans) * length[:, None, None]
