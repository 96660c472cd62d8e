"""Geometry of temporal spans, for tensors of any leading shape. `cw` is (center, width), `se` is (start,
end).
"""

from __future__ import annotations

import torch
from torch import Tensor


def cw_to_se(spans: Tensor) -> Tensor:
    """`[..., 2]` (center, width) to (start, end), in the same unit."""
    center, half = spans[..., 0], spans[..., 1] / 2
    return torch.stack((center - half, center + half), -1)


def se_to_cw(spans: Tensor) -> Tensor:
    """`[..., 2]` (start, end) to (center, width), in the same unit."""
    start, end = spans[..., 0], spans[..., 1]
    return torch.stack(((start + end) / 2, end - start), -1)


def iou_and_hull(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Elementwise IoU, union and hull length of (start, end) spans `[..., 2]` that broadcast against each
    other.
    """
    low_max = torch.maximum(first[..., 0], second[..., 0])
    high_min = torch.minimum(first[..., 1], second[..., 1])
    intersection = (high_min - low_max).clamp(min=0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - intersection
    hull = torch.maximum(first[..., 1], second[..., 1]) - torch.minimum(first[..., 0], second[..., 0])
    return intersection / union.clamp(min=1e-6), union, hull


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise intersection over union of (start, end) spans `[..., 2]`; 0 for empty spans."""
    return iou_and_hull(first, second)[0]


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise generalised IoU: IoU - (hull - union) / hull, in (-1, 1]."""
    overlap, union, hull = iou_and_hull(first, second)
    return overlap - (hull - union) / hull.clamp(min=1e-6)


def inverse_sigmoid(value: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of `value` clamped to `[eps, 1 - eps]` (1e-3 as in wjun0830/QD-DETR @ 56c63b2)."""
    return value.clamp(eps, 1 - eps).logit()
