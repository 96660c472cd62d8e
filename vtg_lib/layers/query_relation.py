"""Query grouping and ranking (Sim-DETR, ICCV 2025): who a query listens to depends on how near and how good
the others are.

Choices that the text leaves open are numbered in `vtg_lib/papers/simdetr.yaml`. Axes: B samples, Q
queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.projections import MLP
from vtg_lib.spans import cw_to_se, iou

HIDDEN = 64  # of the network that turns distance and rank into attention

# Distance of two moments given as (start, end); broadcasts.
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "border_l2": lambda first, second: (first - second).square().sum(-1).sqrt(),
    "border_l1": lambda first, second: (first - second).abs().sum(-1),
    "center": lambda first, second: (first - second).sum(-1).abs() / 2,
    "iou": lambda first, second: 1 - iou(first, second),
}
# What ranks a query, from its class score and its predicted IoU.
RANKINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "class_iou": lambda score, quality: score * quality,
    "class": lambda score, quality: score,
    "iou": lambda score, quality: quality,
}


def class_score(layers: Mapping[str, Tensor]) -> Tensor:
    """`[..., Q]` in 0..1: the foreground probability, or what a method without classes ranks its moments
    by.
    """
    return layers["logits"].softmax(-1)[..., 0] if "logits" in layers else layers["quality"]


class QueryRelation(nn.Module):
    """S_attn = sigmoid(MLP(S_intra o R_rank)), which multiplies the weights of the next self-attention.

    S_intra is the distance of two predicted moments, R_rank is +1 where the reading query ranks at least as
    high as the one that it reads and -1 elsewhere. At the start S_attn is the same for all pairs, which
    changes nothing.
    """

    def __init__(self, distance: str) -> None:
        super().__init__()
        self.distance = DISTANCES[distance]
        self.network = MLP(1, HIDDEN, 1, 2)
        for parameter in self.network.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, spans: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
        """Relate every query to every other.

        Args:
            spans: `[B, Q, 2]` predicted (center, width), normalised; rank: `[B, Q]`, higher is better.
                Neither gets a gradient.

        Returns:
            log S_attn and S_intra o R_rank, both `[B, Q, Q]`: query i reads query j.
        """
        borders, rank = cw_to_se(spans.detach().float()), rank.detach()
        sign = torch.where(rank[:, :, None] >= rank[:, None], 1.0, -1.0)
        relation = self.distance(borders[:, :, None], borders[:, None]) * sign
        return F.logsigmoid(self.network(relation[..., None]).squeeze(-1).float()), relation
