"""Hungarian matching of predictions to moments on padded batches (DETR, Sec. 3.1).

Axes: S decoder layers, B samples, Q queries, M moments (padded).
"""

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
        query: `[..., B, M]` int64, the query matched to each moment; 0 where `valid` is False.
        valid: `[..., B, M]` bool, True where the moment exists and got a query.
        positive: `[..., B, Q]` bool, True on matched queries.
    """

    query: Tensor
    valid: Tensor
    positive: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """Values `[..., B, Q, D]` of the matched queries: `[..., B, M, D]`, arbitrary where not `valid`."""
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
def hungarian(cost: Tensor, target_mask: Tensor) -> Matches:
    """The cheapest assignment of moments to queries, all layers and samples at once.

    Args:
        cost: `[..., B, M, Q]` of giving query q to moment m; target_mask: `[B, M]` real moments.

    Returns:
        See `Matches`. In every problem min(Q, number of moments) moments are matched, each to another query:
        `positive` has as many True as `valid`.

    Raises:
        FloatingPointError: costs are not finite, so that no assignment exists.
    """
    values = cost.flatten(0, -3).cpu().numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError(
            "matching: expected finite predictions, got NaN or infinite values; lower the learning rate or "
            "train in float32"
        )
    mask = target_mask.expand(cost.shape[:-1])
    chosen = torch.from_numpy(assign(values, mask.flatten(0, -2).cpu().numpy()))
    chosen = chosen.view(mask.shape).to(cost.device)
    valid, query = chosen >= 0, chosen.clamp(min=0)
    positive = torch.zeros((*cost.shape[:-2], cost.shape[-1]), dtype=torch.int8, device=cost.device)
    positive.scatter_reduce_(-1, query, valid.to(torch.int8), "amax")
    return Matches(query=query, valid=valid, positive=positive.bool())


@torch.no_grad()
def match(
    spans: Tensor,
    scores: Tensor,
    target: Tensor,
    target_mask: Tensor,
    cost: MatchCost,
    further: Tensor | None = None,
) -> Matches:
    """Matches predictions to moments, all layers and samples at once.

    The cost of query q for moment m is `l1 |b_q - b_m|_1 - giou gIoU(b_q, b_m) - score p_q` (DETR, Eq. 1, for
    spans).

    Args:
        spans: `[..., B, Q, 2]` predicted (center, width); leading axes are decoder layers.
        scores: `[..., B, Q]` foreground probability.
        target: `[B, M, 2]` (center, width); target_mask: `[B, M]` real moments.
        cost: the weights.
        further: `[..., B, M, Q]`, added to the cost.

    Returns:
        `Matches` with `query` and `valid` `[..., B, M]` and `positive [..., B, Q]`, each layer matched on its
        own: no query is given to two moments, and every moment gets one as long as there are queries left.

    Raises:
        FloatingPointError: predictions are not finite.
    """
    first, second = spans.float().unsqueeze(-3), target.unsqueeze(-2)
    total = cost.l1 * (first - second).abs().sum(-1) - cost.score * scores.float().unsqueeze(-2)
    total = total - cost.giou * generalised_iou(cw_to_se(first), cw_to_se(second))
    return hungarian(total if further is None else total + further, target_mask)
