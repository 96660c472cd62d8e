"""Query grouping and ranking (Sim-DETR, ICCV 2025): who a query listens to depends on how near and how good
the others are.

Facts are from echopedro0127/Sim-DETR @ e0276a1; where its text says something else, or where the place in the
attention is open, `vtg_lib/papers/simdetr.yaml` numbers what was chosen. Axes: B samples, Q queries, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.projections import MLP
from vtg_lib.spans import cw_to_se, iou

HIDDEN = 16  # of the networks that turn distance and rank into attention

# How near two moments given as (start, end) are; broadcasts. The first is the public code's similarity; the
# two with a norm in their name are distances, as the text has it; the last two are the ablation's.
GROUPINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "border": lambda first, second: 1 - (first - second).square().mean(-1),
    "border_l2": lambda first, second: ((first - second).square().sum(-1) + 1e-12).sqrt(),
    "border_l1": lambda first, second: (first - second).abs().sum(-1),
    "center": lambda first, second: 1 - ((first - second).sum(-1) / 2).square(),
    "iou": iou,
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


def _own(bias: Tensor, heads: int) -> Tensor:
    return bias


def _another(bias: Tensor, heads: int) -> Tensor:
    return bias.roll(1, 0)


def _released(bias: Tensor, heads: int) -> Tensor:
    count = len(bias)
    flat = torch.arange(count * heads, device=bias.device) % count
    return bias[flat].unflatten(0, (count, heads))


# Whose relations adjust a sample's attention, `[B, Q, Q]` -> `[B, Q, Q]` or `[B, H, Q, Q]`: its own; the next
# sample's, in which there is nothing to know; or those that the public code gives each head if its attention,
# whose file is not there, counts heads as TR-DETR's does: it repeats the factor as (head, sample).
WHOSE: dict[str, Callable[[Tensor, int], Tensor]] = {"own": _own, "another": _another, "released": _released}


class QueryRelation(nn.Module):
    """S_attn = sigmoid(MLP(S_intra o R_rank)), which multiplies the weights of the next self-attention; a
    network a decoder layer.

    S_intra tells how near two predicted moments are, R_rank is +1 where the reading query ranks at least as
    high as the one that it reads and -1 elsewhere.
    """

    def __init__(self, grouping: str, layers: int) -> None:
        super().__init__()
        self.grouping = GROUPINGS[grouping]
        self.networks = nn.ModuleList(MLP(1, HIDDEN, 1, 2) for _ in range(layers))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, layer: int, spans: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
        """Relate every query to every other.

        Args:
            layer: number of the network; spans: `[B, Q, 2]` predicted (center, width), normalised, with a
                gradient; rank: `[B, Q]`, higher is better, without one.

        Returns:
            log S_attn and S_intra o R_rank, both `[B, Q, Q]`: query i reads query j.
        """
        borders, rank = cw_to_se(spans.float()), rank.detach()
        sign = torch.where(rank[:, :, None] >= rank[:, None], 1.0, -1.0)
        relation = self.grouping(borders[:, :, None], borders[:, None]) * sign
        return F.logsigmoid(self.networks[layer](relation[..., None]).squeeze(-1).float()), relation
