"""Soft non-maximum suppression of spans, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from vtg_lib.spans import cw_to_se, iou


@torch.no_grad()
def soft_nms(spans: Tensor, scores: Tensor, sigma: float = 0.5) -> Tensor:
    """Gaussian soft-NMS (Bodla et al. 2017, Eq. 3): the best remaining span lowers the others by exp(-IoU^2 /
    sigma).

    Args:
        spans: `[B, Q, 2]` (center, width); scores: `[B, Q]`, not negative.
        sigma: smaller suppresses more.

    Returns:
        The lowered scores `[B, Q]`, in the order of the input.

    Raises:
        ValueError: `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"soft_nms: expected sigma > 0, got {sigma}")
    corners = cw_to_se(spans.float())
    decay = iou(corners[:, :, None], corners[:, None]).square().div_(-sigma).exp_()  # [B, Q, Q]
    scores = scores.float().clone()
    waiting = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(scores.shape[1] - 1):
        best = torch.where(waiting, scores, -1.0).argmax(1, keepdim=True)  # [B, 1]
        waiting.scatter_(1, best, False)
        factor = decay.gather(1, best[..., None].expand(-1, -1, decay.shape[-1])).squeeze(1)
        scores = torch.where(waiting, scores * factor, scores)
    return scores
