"""Adaptive training sample selection (ATSS, Zhang et al., CVPR 2020) on one axis, and the losses of its head.

Facts are from chinagalaxy2002/SG_CGP @ 931cad1, which cuts moments to whole seconds before the assignment;
here they stay as they are. Axes: B samples, P points, M moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.layers.fine_pyramid import Anchors, PointOutput
from vtg_lib.losses import masked_mean
from vtg_lib.losses.set_prediction import focal_loss
from vtg_lib.spans import generalised_iou, iou

_ROUNDING = 1e-6  # of an IoU; equal overlaps meet their own mean


@dataclass(frozen=True)
class Assigned:
    """Which moment each point learns.

    Attributes:
        positive: `[B, P]` points that learn one; moment: `[B, P]` its number, 0 where there is none.
    """

    positive: Tensor
    moment: Tensor

    def targets(self, borders: Tensor) -> Tensor:
        """The points' moments `[B, P, 2]` of borders `[B, M, 2]`."""
        return borders.gather(1, self.moment[..., None].expand(-1, -1, 2))


@torch.no_grad()
def nearest(anchors: Anchors, middle: Tensor, most: int) -> Tensor:
    """`[B, P, M]`: the points of each level with anchors nearest to each moment's middle (`[B, M]`, clips).

    At most `most` a level; of equally near ones the earlier; never on padding.
    """
    distance = (anchors.center[:, None] - middle[:, None]).abs()
    distance = distance.masked_fill(~anchors.valid[..., None], torch.inf)
    chosen = []
    for level in anchors.levels(distance):
        order = level.argsort(dim=1, stable=True)[:, :most]
        chosen.append(torch.zeros_like(level, dtype=torch.bool).scatter(1, order, True))
    return torch.cat(chosen, 1) & anchors.valid[..., None]


@torch.no_grad()
def assign_points(anchors: Anchors, borders: Tensor, span_mask: Tensor, most: int) -> Assigned:
    """Gives moments to points: among each moment's candidates (`nearest`), to those whose anchor overlaps it
    by at least the candidates' mean plus standard deviation, and whose center lies in it.

    A point of several moments takes the one that it overlaps most; a moment may get no point.

    Args:
        borders: `[B, M, 2]` (start, end) in clips; span_mask: `[B, M]` real moments.
        most: candidates a level and moment.
    """
    candidate = nearest(anchors, borders.mean(-1), most)  # [B, P, M]
    overlap = iou(anchors.borders()[:, None], borders[:, None])
    count = candidate.sum(1, keepdim=True)
    mean = (overlap * candidate).sum(1, keepdim=True) / count.clamp(min=1)
    variance = ((overlap - mean).square() * candidate).sum(1, keepdim=True) / (count - 1).clamp(min=1)
    start, end = borders[:, None].unbind(-1)
    inside = torch.minimum(anchors.center[:, None] - start, end - anchors.center[:, None]) > 1e-7
    chosen = candidate & inside & (overlap >= mean + variance.sqrt() - _ROUNDING) & span_mask[:, None]
    best = torch.where(chosen, overlap, -1.0).max(-1)
    return Assigned(best.values >= 0, torch.where(best.values >= 0, best.indices, 0))


def centerness_targets(anchors: Anchors, target: Tensor) -> Tensor:
    """How much a point is in the middle of its moment `[B, P, 2]` (clips): nearer over farther border,
    `[B, P]`; 0 outside.
    """
    before, after = anchors.center - target[..., 0], target[..., 1] - anchors.center
    near, far = torch.minimum(before, after), torch.maximum(before, after)
    return near.clamp(min=0) / far.clamp(min=1e-6)


def point_losses(
    output: PointOutput, anchors: Anchors, assigned: Assigned, borders: Tensor
) -> dict[str, Tensor]:
    """The head's losses, not weighted (Eq. 13).

    Args:
        borders: `[B, M, 2]` moments (start, end) in clips.

    Returns:
        `class`: focal loss over the real points, by the number of positive ones; `span`: smooth L1 of the two
        borders in clips, and `giou`, both weighted by the centerness to be learned; `centerness`. The last
        three are 0 without a positive point.
    """
    positive, target = assigned.positive, assigned.targets(borders)
    focal = (focal_loss(output.logits, positive) * anchors.valid).sum() / positive.sum().clamp(min=1)
    center = centerness_targets(anchors, target) * positive
    predicted = output.borders.float()
    span = F.smooth_l1_loss(predicted, target, reduction="none").sum(-1)
    ordered = torch.stack((predicted[..., 0], torch.maximum(predicted[..., 0], predicted[..., 1])), -1)
    total = center.sum().clamp(min=1e-6)
    told = F.binary_cross_entropy_with_logits(output.centerness.float(), center, reduction="none")
    return {
        "class": focal,
        "span": (span * center).sum() / total,
        "giou": ((1 - generalised_iou(ordered, target)) * center).sum() / total,
        "centerness": masked_mean(told, positive, (0, 1)),
    }
