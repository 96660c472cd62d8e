"""Greedy selection of the best spans of dense predictions, hard or soft, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vtg_lib.spans import cw_to_se, iou

Decay = Callable[[Tensor], Tensor]  # IoU with a chosen span -> factor of the score


def hard(threshold: float) -> Decay:
    """Spans whose IoU with a chosen one is above `threshold` are dropped."""
    return lambda overlap: (overlap <= threshold).to(overlap.dtype)


def gaussian(sigma: float) -> Decay:
    """Gaussian soft-NMS (Bodla et al. 2017, Eq. 3): scores fall by exp(-IoU^2 / sigma)."""
    return lambda overlap: (overlap.square() / -sigma).exp()


@torch.no_grad()
def greedy_nms(
    spans: Tensor, scores: Tensor, keep: int, decay: Decay, least: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The `keep` best spans of every video, each lowering the scores of those not yet chosen.

    Unlike `vtg_lib.layers.suppression.soft_nms` it never holds all pairs, and takes as many steps as spans
    are kept.

    Args:
        spans: `[B, Q, 2]` (center, width); scores: `[B, Q]`, not negative; 0 is never chosen.
        keep: K spans at most; decay: see `hard` and `gaussian`.
        least: scores at or below it are not chosen.

    Returns:
        spans `[B, K, 2]` and scores `[B, K]`, falling; empty spans of score 0 where a video has no more.
    """
    corners, scores = cw_to_se(spans.float()), scores.float()
    keep = min(keep, scores.shape[1])
    waiting = scores
    chosen, values = [], []
    for _ in range(keep):
        value, best = waiting.max(1, keepdim=True)  # [B, 1]
        index = best[..., None].expand(-1, -1, 2)
        overlap = iou(corners.gather(1, index), corners)  # [B, Q]
        found = value > least
        chosen.append(spans.gather(1, index) * found[..., None])
        values.append(value * found)
        waiting = (waiting * decay(overlap)).scatter(1, best, 0.0)
    return torch.cat(chosen, 1), torch.cat(values, 1)


@torch.no_grad()
def vote(chosen: Tensor, spans: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Every chosen span becomes the mean of the predictions that it nearly equals, weighted by their scores.

    Args:
        chosen: `[B, K, 2]` (center, width) of `greedy_nms`; spans: `[B, Q, 2]`; scores: `[B, Q]` before
            suppression.
        threshold: least IoU of the predictions that have a vote.

    Returns:
        `[B, K, 2]`; empty spans stay.
    """
    overlap = iou(cw_to_se(chosen.float())[:, :, None], cw_to_se(spans.float())[:, None])  # [B, K, Q]
    weight = (overlap >= threshold) * scores.float()[:, None]
    total = weight.sum(-1, keepdim=True)
    return torch.where(total > 0, weight @ spans.float() / total.clamp(min=1e-12), chosen.float())
