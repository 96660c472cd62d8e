"""Hungarian matching of predictions to moments on padded batches (DETR, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vtg_lib.spans import cw_to_se, generalised_iou


@dataclass(frozen=True, kw_only=True)
class MatchCost:
    """Weights of the matching cost: class probability, L1 between (center, width), generalised IoU."""

    score: float = 4.0
    l1: float = 10.0
    giou: float = 1.0


@dataclass
class Matches:
    """Which query each moment was given, and the reverse.

    Attributes:
        query: `[..., B, M]` index of the query matched to each moment; 0 where `valid` is False.
        valid: `[..., B, M]` True where the moment exists and got a query.
        positive: `[..., B, Q]` True on matched queries.
    """

    query: Tensor
    valid: Tensor
    positive: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """Values `[..., B, Q, D]` of the matched queries: `[..., B, M, D]`; rows where `valid` is False are
        arbitrary.
        """
        index = self.query.unsqueeze(-1).expand(*self.query.shape, values.shape[-1])
        return values.gather(-2, index)


def assign(cost: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Exact minimum-cost assignment of many independent small problems.

    Args:
        cost: `[P, M, Q]` finite costs.
        valid: `[P, M]` rows that take part.

    Returns:
        `[P, M]` int64 column of each row, -1 for rows that take no part or, where a problem has more rows
        than columns, for the rows left over in the cheapest assignment.
    """
    result = np.full(valid.shape, -1, np.int64)
    if not valid.any():
        return result
    cost = cost.astype(np.float64)
    # Rows that take no part cost the same wherever they go, and so much that they are left over first.
    padded = np.where(valid[..., None], cost, cost.max() + np.ptp(cost) * cost.shape[2] + 1)
    row, column = np.array([linear_sum_assignment(problem) for problem in padded]).swapaxes(0, 1)
    np.put_along_axis(result, row, column, 1)
    result[~valid] = -1
    return result


@torch.no_grad()
def match(spans: Tensor, scores: Tensor, target: Tensor, target_mask: Tensor, cost: MatchCost) -> Matches:
    """Matches predictions to moments, all layers and samples at once.

    The cost of query q for moment m is `l1 |b_q - b_m|_1 - giou gIoU(b_q, b_m) - score p_q` (DETR, Eq. 1, for
    spans).

    Args:
        spans: `[..., B, Q, 2]` predicted (center, width); leading axes are decoder layers.
        scores: `[..., B, Q]` foreground probability.
        target: `[B, M, 2]` (center, width); target_mask: `[B, M]`.
        cost: the weights.

    Raises:
        FloatingPointError: predictions are not finite, so that no assignment exists.
    """
    queries, moments = spans.shape[-2], target.shape[-2]
    spans, scores = spans.float(), scores.float()
    first, second = spans.unsqueeze(-3), target.unsqueeze(-2)
    total = cost.l1 * (first - second).abs().sum(-1) - cost.score * scores.unsqueeze(-2)
    total = total - cost.giou * generalised_iou(cw_to_se(first), cw_to_se(second))
    values = total.reshape(-1, moments, queries).cpu().numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError(
            "matching: expected finite predictions, got NaN or infinite values; lower the learning rate or train in float32"
        )
    mask = target_mask.expand(*total.shape[:-1])
    chosen = torch.from_numpy(assign(values, mask.reshape(-1, moments).cpu().numpy()))
    chosen = chosen.reshape(mask.shape).to(spans.device)
    valid = chosen >= 0
    query = chosen.clamp(min=0)
    positive = torch.zeros(scores.shape, dtype=torch.int8, device=spans.device)
    positive.scatter_reduce_(-1, query, valid.to(torch.int8), "amax")
    return Matches(query=query, valid=valid, positive=positive.bool())
