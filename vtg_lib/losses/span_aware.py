"""SA-DETR's losses of moments and their quality (Xiong et al., Eq. 7 to 9).

Axes: S decoder layers, B samples, Q queries, G noise groups, K kinds in a group, M moments.
"""

from __future__ import annotations

from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.boundary import inside_video
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.losses.set_prediction import best_overlap, loss_giou, loss_l1
from vtg_lib.spans import cw_to_se


def moment_loss(spans: Tensor, target: Tensor, valid: Tensor, l1: float, giou: float) -> Tensor:
    """Eq. 7 for predictions that have their moments, `[..., B, M, 2]` (center, width) both; valid `[..., B,
    M]` -> `[...]`, the mean over moments; 0 without any.
    """
    target = target.expand_as(spans)
    overlap = loss_giou(cw_to_se(spans), cw_to_se(target), valid)
    return l1 * loss_l1(spans, target, valid) + giou * overlap


def initial_loss(anchors: Tensor, target: Tensor, target_mask: Tensor, l1: float, giou: float) -> Tensor:
    """L_init: Eq. 7 of anchors `[B, Q, 2]`, matched by place alone, to the moments `[B, M, 2]`."""
    cost = MatchCost(score=0.0, l1=l1, giou=giou)
    matches = match(anchors, anchors[..., 0], target, target_mask, cost)
    return moment_loss(matches.gather(anchors), target, matches.valid, l1, giou)


def by_moment(values: Tensor, groups: int, kinds: int) -> Tensor:
    """Of the queries of noise groups, `[S, B, G * K * M, ...]` -> `[K, S, G, B, M, ...]`."""
    return values.unflatten(2, (groups, kinds, -1)).transpose(1, 2).movedim(3, 0)


def quality_loss(
    quality: Tensor, spans: Tensor, matches: Matches, target: Tensor, target_mask: Tensor, matched: float
) -> Tensor:
    """Eq. 8: sum over queries of c |q - highest IoU with any moment|, c = `matched` for matched queries,
    else 1.

    Args:
        quality: `[S, B, Q]` in 0..1; spans: `[S, B, Q, 2]` (center, width), without gradient; target:
            `[B, M, 2]`.

    Returns:
        `[S]`, the mean over samples.
    """
    overlap = best_overlap(inside_video(spans), inside_video(target), target_mask)
    weight = 1 + (matched - 1) * matches.positive.float()
    return (weight * (quality.float() - overlap).abs()).sum(-1).mean(-1)


def quality_margin(positive: Tensor, negative: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Eq. 9: max(q_n - q_p + margin, 0), both `[S, G, B, M]`, over all pairs of the batch; valid `[B, M]` ->
    `[S]`.
    """
    gap = (negative.float() - positive.float() + margin).clamp(min=0)
    return masked_mean(gap, valid.expand_as(gap), (-1, -2, -3))
