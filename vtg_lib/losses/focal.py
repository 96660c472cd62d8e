"""Set prediction losses with a focal class loss and a quality score (SDST, App. C.2).

Facts that the paper leaves to its reference [24] are from xlliu7/TadTR @ 983ae14. Leading axis S: decoder
levels, each matched on its own; the sums run over them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses.matching import Matches
from vtg_lib.spans import cw_to_se, iou


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


def boundary_losses(spans: Tensor, target: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
    """L1 (Eq. 18, both coordinates summed) and 1 - IoU (Eq. 19) of matched queries, summed over all moments
    and levels.

    Args:
        spans: `[S, B, Q, 2]` (center, width); target: `[B, M, 2]`; matches: of all S levels.
    """
    predicted = matches.gather(spans.float())
    target = target.expand_as(predicted)
    l1 = (predicted - target).abs().sum(-1)
    overlap = iou(cw_to_se(predicted), cw_to_se(target))
    return (l1 * matches.valid).sum(), ((1 - overlap) * matches.valid).sum()


def best_overlap(spans: Tensor, target: Tensor, target_mask: Tensor) -> Tensor:
    """Highest IoU of every prediction with any moment of its video; 0 without moments. Without gradient.

    Args:
        spans: `[S, B, Q, 2]` (center, width); target: `[B, M, 2]`; target_mask: `[B, M]`.

    Returns:
        `[S, B, Q]`.
    """
    overlap = iou(cw_to_se(spans.detach().float()).unsqueeze(-2), cw_to_se(target).unsqueeze(-3))
    return (overlap * target_mask.unsqueeze(-2)).amax(-1)
