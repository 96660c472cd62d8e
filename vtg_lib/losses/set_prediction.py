"""Losses that several methods share, on padded targets: span regression, classification, saliency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.data.batches import Batch
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.spans import cw_to_se, generalised_iou


def masked_mean(values: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean of `values` over `axes` where `mask` holds; 0 where nothing does."""
    weight = mask.to(values.dtype)
    return (values * weight).sum(axes) / weight.sum(axes).clamp(min=1)


def span_losses(spans: Tensor, target: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
    """L1 and 1 - gIoU between matched predictions and moments (Moment-DETR, Eq. 4), each averaged over
    moments.

    Args:
        spans: `[S, B, Q, 2]` predicted (center, width) of S layers; target: `[B, M, 2]`; matches: of all S
            layers.

    Returns:
        Two tensors `[S]`. L1 is averaged over the two coordinates, as in jayleicn/moment_detr @ b7e553a.
    """
    predicted = matches.gather(spans.float())
    target = target.expand_as(predicted)
    l1 = (predicted - target).abs().mean(-1)
    giou = 1 - generalised_iou(cw_to_se(predicted), cw_to_se(target))
    return masked_mean(l1, matches.valid, (-1, -2)), masked_mean(giou, matches.valid, (-1, -2))


def foreground_cross_entropy(logits: Tensor, positive: Tensor, background_weight: float) -> Tensor:
    """Two-class cross-entropy, class 0 = foreground, background terms down-weighted; mean over queries and
    samples.

    Args:
        logits: `[S, B, Q, 2]`; positive: `[S, B, Q]` matched queries.

    Returns:
        `[S]`. The mean is over all queries, not over the sum of weights (jayleicn/moment_detr @ b7e553a).
    """
    log_probability = F.log_softmax(logits.float(), -1)
    loss = torch.where(positive, -log_probability[..., 0], -background_weight * log_probability[..., 1])
    return loss.mean((-1, -2))


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


@dataclass(frozen=True, kw_only=True)
class SetLossWeights:
    """Weights of the set prediction losses (Moment-DETR's and QD-DETR's defaults)."""

    l1: float = 10.0
    giou: float = 1.0
    label: float = 4.0
    background: float = 0.1


def set_losses(
    spans: Tensor, logits: Tensor, batch: Batch, cost: MatchCost, weights: SetLossWeights
) -> dict[str, Tensor]:
    """DETR's set prediction losses, summed over decoder layers, each layer matched on its own; one matching
    call.

    Args:
        spans: `[S, B, Q, 2]`; logits: `[S, B, Q, 2]`, class 0 = foreground.

    Returns:
        Weighted `l1`, `giou` and `label`.
    """
    matches = match(spans, logits.float().softmax(-1)[..., 0], batch.spans, batch.span_mask, cost)
    l1, giou = span_losses(spans, batch.spans, matches)
    label = foreground_cross_entropy(logits, matches.positive, weights.background)
    return {
        "l1": weights.l1 * l1.sum(),
        "giou": weights.giou * giou.sum(),
        "label": weights.label * label.sum(),
    }
