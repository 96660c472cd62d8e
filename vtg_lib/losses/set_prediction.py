"""Set prediction: L1, generalised IoU and class of predictions that are matched to moments; their quality.

Axes: S decoder layers, each matched on its own; B samples, Q queries, M moments (padded).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.data.batches import Batch
from vtg_lib.losses import masked_mean
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.spans import cw_to_se, generalised_iou, iou

WEIGHTS = {"l1": 10.0, "giou": 1.0, "label": 4.0}  # Moment-DETR's, which its descendants kept
BACKGROUND_WEIGHT = 0.1


def loss_l1(spans: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L1 between matched predictions and moments, averaged over the two numbers of a span and over moments.

    Args:
        spans, target: `[..., B, M, 2]`, both (center, width) or both (start, end); valid: `[..., B, M]`.

    Returns:
        `[...]`. The mean over two numbers is that of jayleicn/moment_detr @ b7e553a.
    """
    return masked_mean((spans - target).abs().mean(-1), valid, (-1, -2))


def loss_giou(spans: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - generalised IoU of matched predictions and moments (Moment-DETR, Eq. 4), averaged over moments.

    Args:
        spans, target: `[..., B, M, 2]` (start, end); valid: `[..., B, M]`.

    Returns:
        `[...]`.
    """
    return masked_mean(1 - generalised_iou(spans, target), valid, (-1, -2))


def loss_label(logits: Tensor, positive: Tensor) -> Tensor:
    """Two-class cross-entropy, class 0 = foreground, the background weighing less; mean over queries,
    samples.

    Args:
        logits: `[S, B, Q, 2]`; positive: `[S, B, Q]` matched queries.

    Returns:
        `[S]`. The mean is over all queries, not over the sum of weights (jayleicn/moment_detr @ b7e553a).
    """
    log_probability = F.log_softmax(logits.float(), -1)
    loss = torch.where(positive, -log_probability[..., 0], -BACKGROUND_WEIGHT * log_probability[..., 1])
    return loss.mean((-1, -2))


def focal_loss(logits: Tensor, positive: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss per element (Eq. 17; Lin et al. 2017, Eq. 5).

    Args:
        logits: any shape; positive: the same shape, bool.
    """
    logits = logits.float()
    sign = positive.to(logits.dtype) * 2 - 1
    miss = F.softplus(-sign * logits)  # -log of the probability of the right class
    weight = 0.5 + sign * (alpha - 0.5)
    return weight * (-sign * logits).sigmoid() ** gamma * miss


def best_overlap(spans: Tensor, target: Tensor, target_mask: Tensor) -> Tensor:
    """Highest IoU of every prediction with any moment of its video; 0 without moments. Without gradient.

    Args:
        spans: `[S, B, Q, 2]` (start, end); target: `[B, M, 2]` (start, end); target_mask: `[B, M]`.

    Returns:
        `[S, B, Q]`.
    """
    overlap = iou(spans.detach().unsqueeze(-2), target.unsqueeze(-3))
    return (overlap * target_mask.unsqueeze(-2)).amax(-1)


def set_losses(
    layers: Mapping[str, Tensor],
    batch: Batch,
    label: Callable[[Tensor, Tensor], Tensor] = loss_label,
    matches: Matches | None = None,
    weights: Mapping[str, float] = WEIGHTS,
    cost: MatchCost | None = None,
) -> dict[str, Tensor]:
    """DETR's set prediction losses, summed over decoder layers.

    Args:
        layers: `spans [S, B, Q, 2]` (center, width) and `logits [S, B, Q, 2]`, class 0 = foreground.
        label: of logits and matched queries `[S, B, Q]` -> `[S]`.
        matches: of the S layers; default by `cost`, which is `MatchCost()` by default.
        weights: of the three losses.

    Returns:
        `l1`, `giou` and `label`, scalars, weighted.
    """
    spans, logits = layers["spans"], layers["logits"]
    if matches is None:
        score = logits.float().softmax(-1)[..., 0]
        matches = match(spans, score, batch.spans, batch.span_mask, cost or MatchCost())
    predicted = matches.gather(spans.float())
    target = batch.spans.expand_as(predicted)
    losses = {
        "l1": loss_l1(predicted, target, matches.valid),
        "giou": loss_giou(cw_to_se(predicted), cw_to_se(target), matches.valid),
        "label": label(logits, matches.positive),
    }
    return {name: weights[name] * loss.sum() for name, loss in losses.items()}
