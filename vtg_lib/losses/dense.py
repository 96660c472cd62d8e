"""Losses of dense prediction: every clip says whether it is inside a moment and how far its borders are.

For UniVTG (Lin et al., ICCV 2023); facts not in the paper are from showlab/UniVTG @ 32659ac.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses.contrastive import sampled_nce
from vtg_lib.losses.set_prediction import masked_mean
from vtg_lib.spans import cw_to_se, generalised_iou

_ROUNDING = 1e-5  # of the video; a point on the border of a moment is inside


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
    after = points[:, None] >= borders[..., :1] - _ROUNDING
    inside = (
        after & (points[:, None] <= borders[..., 1:] + _ROUNDING) & span_mask[..., None] & mask[:, None]
    )  # [B, M, T]
    length = mask.sum(1)
    start = ((borders[:, 0, 0] + _ROUNDING) * length).long().clamp(min=0).minimum(length - 1)
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


def border_losses(borders: Tensor, target: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth L1 of both borders and 1 - gIoU of the foreground clips, each averaged over those of the batch.

    Args:
        borders, target: `[B, T, 2]` (start, end), normalised; foreground: `[B, T]`.
    """
    l1 = F.smooth_l1_loss(borders.float(), target, reduction="none").sum(-1)
    overlap = 1 - generalised_iou(borders.float(), target)
    return masked_mean(l1, foreground, (0, 1)), masked_mean(overlap, foreground, (0, 1))


def intra_video_nce(
    similarity: Tensor, saliency: Tensor, mask: Tensor, positive: Tensor, valid: Tensor
) -> Tensor:
    """Intra-video contrastive saliency: a relevant clip against the less salient ones of its video.

    As `sampled_nce`, also contrasted with the clips at the same place in the other videos, but equally
    salient clips are no negatives.

    Args: see `sampled_nce`.
    """
    clip = torch.arange(saliency.shape[1], device=saliency.device)
    tied = (saliency == saliency.gather(1, positive[:, None])) & (clip != positive[:, None])
    return sampled_nce(similarity, saliency + tied, mask, positive, valid)
