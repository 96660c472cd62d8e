"""Losses clip by clip, and choices of clips, of methods for highlight data sets without moments (TVSum,
YouTube Highlights).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses.contrastive import TEMPERATURE
from vtg_lib.losses.set_prediction import masked_mean


def above_median(saliency: Tensor, mask: Tensor) -> Tensor:
    """Saliency of the clips above their video's median (the lower one of an even number), 0 elsewhere;
    `[B, T]`.

    Args:
        saliency: `[B, T]`, not negative; mask: `[B, T]` real clips.
    """
    order = saliency.masked_fill(~mask, torch.inf).sort(1).values
    median = order.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0) // 2)
    return saliency * ((saliency > median) & mask)


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


def own_video_nce(
    similarity: Tensor,
    saliency: Tensor,
    mask: Tensor,
    positive: Tensor,
    valid: Tensor,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The first half of `sampled_nce`: the chosen clip against the clips of its own video that are not more
    salient.

    Args: see `sampled_nce`.
    """
    limit = saliency.gather(1, positive[:, None])
    logits = (similarity.float() / temperature).masked_fill((saliency > limit) | ~mask, -torch.inf)
    loss = -logits.log_softmax(1).gather(1, positive[:, None]).squeeze(1)
    return masked_mean(torch.where(valid, loss, 0.0), valid, (0,))


def rescaled_error(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of scores and saliency, each brought to 0..1 over the clips of the batch; all
    `[B, T]`.
    """
    first, second = (_unit_range(x.float(), mask) for x in (scores, target))
    return masked_mean((first - second).square(), mask, (0, 1))


def _unit_range(x: Tensor, mask: Tensor) -> Tensor:
    low, high = x.masked_fill(~mask, torch.inf).amin(), x.masked_fill(~mask, -torch.inf).amax()
    return (x - low) / (high - low).clamp(min=1e-6)
