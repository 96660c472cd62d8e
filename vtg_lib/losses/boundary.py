"""BAM-DETR's matching and losses (Lee and Byun, ECCV 2024): moments by start and end, borders of clips,
quality.

Facts not in the paper are from Pilhyeon/BAM-DETR @ 914b3e7. Axes: S layers, B samples, Q queries, M moments,
T clips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.matching import MatchCost, Matches, hungarian
from vtg_lib.losses.set_prediction import best_overlap
from vtg_lib.spans import cw_to_se, generalised_iou

# Of a moment's length: how far its border reaches into the moment, and out of it.
REACH_IN, REACH_OUT = 0.1, 0.25
QUALITY_BINS = (0.3, 0.7)  # overlaps of low, middle and high quality


def inside_video(spans: Tensor) -> Tensor:
    """(center, width) `[..., 2]`, normalised, as (start, end) cut to the video."""
    return cw_to_se(spans.float()).clamp(0, 1)


@torch.no_grad()
def match_borders(
    spans: Tensor, scores: Tensor, target: Tensor, target_mask: Tensor, cost: MatchCost
) -> Matches:
    """As `vtg_lib.losses.matching.match`, but L1 and gIoU compare (start, end) cut to the video.

    Args:
        spans: `[S, B, Q, 2]` (center, width); scores: `[S, B, Q]`; target: `[B, M, 2]`; target_mask:
            `[B, M]`.

    Raises:
        FloatingPointError: predictions are not finite.
    """
    first, second = inside_video(spans).unsqueeze(-3), inside_video(target).unsqueeze(-2)
    total = cost.l1 * (first - second).abs().sum(-1) - cost.giou * generalised_iou(first, second)
    return hungarian(total - cost.score * scores.float().unsqueeze(-2), target_mask)


def quality_loss(quality: Tensor, spans: Tensor, target: Tensor, target_mask: Tensor) -> Tensor:
    """L1 between predicted and true quality, the highest IoU with any moment; low, middle and high count a
    third each.

    Args:
        quality: `[S, B, Q]` in 0..1; spans: `[S, B, Q, 2]` (center, width), without gradient; target:
            `[B, M, 2]`; target_mask: `[B, M]`.

    Returns:
        `[S]`; a bin without predictions counts 0.
    """
    overlap = best_overlap(inside_video(spans), inside_video(target), target_mask)
    error = (quality.float() - overlap).abs()
    low, high = QUALITY_BINS
    bins = (overlap <= low, (overlap > low) & (overlap <= high), overlap > high)
    return torch.stack([masked_mean(error, part, (-1, -2)) for part in bins]).mean(0)


def border_targets(target: Tensor, target_mask: Tensor, mask: Tensor) -> Tensor:
    """Which clips are at a start and which at an end: `[2, B, T]`, bool.

    A start reaches from a quarter of the moment's length before it to a tenth after it, an end likewise.

    Args:
        target: `[B, M, 2]` (center, width); target_mask: `[B, M]`; mask: `[B, T]`.
    """
    span = inside_video(target) * mask.sum(1)[:, None, None]
    start, end = span.unbind(-1)
    size = end - start
    low = torch.stack((start - REACH_OUT * size, end - REACH_IN * size))[..., None]  # [2, B, M, 1]
    high = torch.stack((start + REACH_IN * size, end + REACH_OUT * size))[..., None]
    clip = torch.arange(mask.shape[1], device=mask.device) + 0.5
    return ((clip >= low) & (clip <= high) & target_mask[..., None]).any(-2) & mask


def border_feature_loss(features: Tensor, target: Tensor, target_mask: Tensor, mask: Tensor) -> Tensor:
    """Border features tell clips at a border from others: binary cross-entropy, both kinds of clips weighing
    the same.

    Args:
        features: `[2, B, T, D]` of starts and ends, not negative; the mean of their tanh over channels is the
            score.
        target: `[B, M, 2]` (center, width); target_mask: `[B, M]`; mask: `[B, T]`.
    """
    wanted = border_targets(target, target_mask, mask)
    error = F.binary_cross_entropy(features.float().tanh().mean(-1), wanted.float(), reduction="none")
    inside, outside = (masked_mean(error, part, (-1,)) for part in (wanted, mask & ~wanted))
    return (inside + outside).mean() / 2
