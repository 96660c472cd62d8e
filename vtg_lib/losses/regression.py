"""Targets and losses of points that predict distances to the two borders, as in SnAG (Mu, Mo and Li, CVPR
2024).

Facts not in the paper are from fmu2/snag_release @ 44dd90e. Axes: B samples, P points, M moments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.layers.pyramid import Points
from vtg_lib.losses.points import PointTargets

_ROUNDING = 1e-4  # clips; borders between clips meet the bounds exactly, but for rounding


@torch.no_grad()
def open_targets(points: Points, borders: Tensor, span_mask: Tensor, radius: float) -> PointTargets:
    """The shortest of the moments that a point may predict, as `losses_points.point_targets`, with open
    bounds.

    It may if it lies inside the moment, less than `radius` strides from its middle, and if its distance to
    the farther border is at least `low` and less than `high`. The public code knows one moment a query.

    Args:
        borders: `[B, M, 2]` (start, end) in the unit of the points; span_mask: `[B, M]`; radius: in strides.
    """
    start, end = borders[:, None].unbind(-1)  # [B, 1, M]
    position, stride = points.position[:, None], points.stride[:, None]  # [P, 1]
    before, after = position - start, end - position  # [B, P, M]
    off_center = (position - (start + end) / 2).abs()
    inside = (torch.minimum(before, after) > _ROUNDING) & (off_center < radius * stride - _ROUNDING)
    reach = torch.maximum(before, after) + _ROUNDING
    in_range = (reach >= points.low[:, None]) & (reach < points.high[:, None])
    candidate = inside & in_range & span_mask[:, None] & points.valid[..., None]
    chosen = torch.where(candidate, end - start, torch.inf).argmin(-1, keepdim=True)
    distances = torch.cat((before.gather(-1, chosen), after.gather(-1, chosen)), -1) / stride
    return PointTargets(candidate.any(-1), distances)


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
