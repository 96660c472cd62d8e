"""Weighted fusion of spans (weighted boxes fusion, Solovyev et al. 2021, one axis), a whole batch at once.

The results are those of `ensemble_boxes_wbf_1d` in the package ensemble-boxes 1.0.9 with its default
confidence ("avg", no overflow), which takes one video at a time. Axes: B samples, Q spans of one set, N spans
of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vtg_lib.spans import cw_to_se, iou, se_to_cw


@torch.no_grad()
def weighted_fusion(
    sets: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float], threshold: float, least: float
) -> tuple[Tensor, Tensor]:
    """Fuses spans of several sets that overlap.

    From the best weighted score down, a span joins the group whose fused span it overlaps most, if by more
    than `threshold`, else founds one. A fused span has the mean borders of its group, weighted by the
    weighted scores, and their sum as score, at most that of as many spans as there are sets, divided by the
    sum of the weights.

    Args:
        sets: each of spans `[B, Q, 2]` (center, width), normalised, cut to 0..1 here, and scores `[B, Q]`;
            sets may differ in Q, and one may have none.
        weights: of the sets; threshold: an IoU; least: spans with a lower score of their own are skipped, and
            so are empty spans.

    Returns:
        spans `[B, N, 2]` and scores `[B, N]`, falling; empty spans of score 0 where there are fewer groups.

    Raises:
        ValueError: not one weight a set, weights that are not positive, or a set of another batch.
    """
    _check(sets, weights)
    borders = torch.cat([cw_to_se(spans.double()).clamp(0, 1) for spans, _ in sets], 1)
    own = torch.cat([scores.double() for _, scores in sets], 1)
    used = (own >= least) & (borders[..., 1] > borders[..., 0])
    score = torch.cat([scores.double() * w for (_, scores), w in zip(sets, weights, strict=True)], 1) * used
    score, order = torch.where(used, score, -1.0).sort(dim=1, descending=True, stable=True)
    borders = borders.gather(1, order[..., None].expand_as(borders))
    used = used.gather(1, order)
    count, total = score.shape
    mass, members = score.new_zeros(count, total), score.new_zeros(count, total)
    fused, groups = torch.zeros_like(borders), order.new_zeros(count, 1)
    for step in range(total):
        one, weight, real = borders[:, step : step + 1], score[:, step : step + 1], used[:, step : step + 1]
        overlap = iou(one, fused).masked_fill(members == 0, -1.0)
        best, index = overlap.max(1, keepdim=True)
        joins = best > threshold
        place = torch.where(joins, index, groups).clamp(max=total - 1)
        gain = torch.zeros_like(mass).scatter(1, place, weight * real)
        new = mass + gain
        share = (gain / new.clamp(min=1e-12))[..., None]
        fused = fused + share * (one - fused)
        members = members.scatter_add(1, place, real.to(members.dtype))
        mass, groups = new, groups + (real & ~joins)
    value = mass / members.clamp(min=1) * members.clamp(max=len(sets)) / sum(weights)
    value, order = value.sort(dim=1, descending=True, stable=True)
    spans = se_to_cw(fused).gather(1, order[..., None].expand_as(fused))
    kind = sets[0][0].dtype
    return spans.to(kind), value.to(kind)


def _check(sets: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]) -> None:
    if len(sets) != len(weights) or not sets:
        raise ValueError(f"fusion: expected one weight a set of spans, got {len(weights)} for {len(sets)}")
    if not all(weight > 0 for weight in weights):
        raise ValueError(f"fusion: expected positive weights, got {list(weights)}; leave a set out instead")
    for number, (spans, scores) in enumerate(sets):
        if spans.shape != (*scores.shape, 2) or len(spans) != len(sets[0][0]):
            raise ValueError(
                f"fusion: expected spans [B, Q, 2] and scores [B, Q] of one batch, got {list(spans.shape)} "
                f"and {list(scores.shape)} in set {number}"
            )
