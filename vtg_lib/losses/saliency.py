"""Saliency losses, clip by clip, and the choices of clips that they compare.

Axes: B samples, T clips, P pairs of clips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean


def hinge_saliency(saliency: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Hinge loss on pairs of clips (Moment-DETR, Eq. 5): mean over samples of the mean over pairs, times 2.

    Args:
        saliency: `[B, T]`; positive, negative: `[B, P]` clip indices with the positive one more salient.
    """
    saliency = saliency.float()
    gap = margin + saliency.gather(1, negative) - saliency.gather(1, positive)
    return 2 * gap.clamp(min=0).mean()


def saliency_pairs(saliency: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Two (positive, negative) pairs of clips per sample: hard inside the moments, easy across their border.

    The hard pair is the highest and the lowest scored relevant clip; the easy one a random relevant and a
    random irrelevant clip (jayleicn/moment_detr @ b7e553a). Where there is no irrelevant clip the hard pair
    stands twice.

    Args:
        saliency: `[B, T]` targets; mask: `[B, T]` real clips.

    Returns:
        positive and negative clip indices, each `[B, 2]`.
    """
    relevant, irrelevant = (saliency > 0) & mask, (saliency <= 0) & mask
    # One draw for both choices; a relevant clip never competes with an irrelevant one.
    noise = torch.rand(saliency.shape, device=saliency.device)
    hard = torch.where(relevant, saliency, saliency.new_tensor(-1.0)).argmax(1)
    low = torch.where(relevant, saliency, saliency.new_tensor(1e4)).argmin(1)
    easy = torch.where(relevant, noise, -1.0).argmax(1)
    outside = torch.where(irrelevant, noise, -1.0).argmax(1)
    has_outside = irrelevant.any(1)
    positive = torch.stack([hard, torch.where(has_outside, easy, hard)], 1)
    negative = torch.stack([low, torch.where(has_outside, outside, low)], 1)
    return positive, negative


def rank_contrastive_saliency(
    saliency: Tensor, target: Tensor, mask: Tensor, temperature: float = 0.5
) -> Tensor:
    """Rank-contrastive saliency loss (QD-DETR, Eq. 5-6): for each rank r, clips scored >= r against all
    clips.

    Loop-free over the 11 ranks: the mean log-probability of the clips at or above each rank is a weighted sum
    over clips whose weights depend on the targets only.

    Args:
        saliency: `[B, T]` predicted, already with the negative pair's clips appended; target: `[B, T]`
            (0..12); mask: `[B, T]`.

    Returns:
        Scalar: the sum over ranks divided by 12, as in wjun0830/QD-DETR @ 56c63b2.
    """
    ranks = torch.arange(1, 12, device=target.device)[:, None, None]
    above = ((target >= ranks) & mask).float()
    weight = (above / (above.sum(-1, keepdim=True) + 1e-6)).sum(0)
    log_probability = F.log_softmax((saliency.float() / temperature).masked_fill(~mask, -1e3), -1)
    return -(weight * log_probability).sum(-1).mean() / 12


def negative_pair_saliency(saliency: Tensor, mask: Tensor) -> Tensor:
    """Saliency of a video with another video's text is pushed to zero (QD-DETR, Eq. 4): -log(1 - sigmoid(s)).

    Args:
        saliency: `[B, T]` scores of the mismatched pairs; mask: `[B, T]`.
    """
    return (F.softplus(saliency.float()) * mask).sum(1).mean()


def above_median(saliency: Tensor, mask: Tensor) -> Tensor:
    """Saliency of the clips above their video's median (the lower one of an even number), 0 elsewhere;
    `[B, T]`.

    Args:
        saliency: `[B, T]`, not negative; mask: `[B, T]` real clips.
    """
    order = saliency.masked_fill(~mask, torch.inf).sort(1).values
    median = order.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0) // 2)
    return saliency * ((saliency > median) & mask)


def relevant_clips(saliency: Tensor, mask: Tensor) -> Tensor:
    """Which clips of a labelled video count as relevant, `[B, T]` bool: those above its median; where the
    median is the best label itself (more than half of a video of YouTube Highlights), those above the lowest.

    Args:
        saliency: `[B, T]`, not negative; mask: `[B, T]` real clips.
    """
    above = above_median(saliency, mask) > 0
    lowest = saliency.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    return torch.where(above.any(1, keepdim=True), above, (saliency > lowest) & mask)


def extreme_pair(saliency: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The most and the least salient clip of every video, each `[B, 1]`.

    Args:
        saliency: `[B, T]`; mask: `[B, T]` real clips.
    """
    high = saliency.masked_fill(~mask, -torch.inf).argmax(1, keepdim=True)
    low = saliency.masked_fill(~mask, torch.inf).argmin(1, keepdim=True)
    return high, low


def clip_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy with soft targets, mean over the real clips of the batch; all `[B, T]`."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return masked_mean(loss, mask, (0, 1))


def rescaled_error(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of scores and saliency, each brought to 0..1 over the clips of the batch; all
    `[B, T]`.
    """
    first, second = (_unit_range(x.float(), mask) for x in (scores, target))
    return masked_mean((first - second).square(), mask, (0, 1))


def _unit_range(x: Tensor, mask: Tensor) -> Tensor:
    low, high = x.masked_fill(~mask, torch.inf).amin(), x.masked_fill(~mask, -torch.inf).amax()
    return (x - low) / (high - low).clamp(min=1e-6)
