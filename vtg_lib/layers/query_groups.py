"""Extra queries of training, which neither see the others nor are seen: positive anchors of the ATSS head
(Co-DETR, Zong et al., ICCV 2023), and moments with noise (DINO, Zhang et al. 2022).

Facts are from chinagalaxy2002/SG_CGP @ 931cad1. Axes: B samples, P points, K queries of a group, M moments, G
noisy copies, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtg_lib.spans import cw_to_se, se_to_cw

NOISE = 0.5  # of half a moment's width, at most, of each border
FARTHER = 1.25  # by how much more a negative's borders are off, in the same unit


@dataclass(frozen=True)
class QueryGroup:
    """Queries with what they have to find.

    Attributes:
        content: `[B, K, D]`; reference: `[B, K, 2]` (center, width) in 0..1.
        target: `[B, K, 2]` (center, width); positive: `[B, K]` queries that have one; real: `[B, K]` queries
            that exist.
        block: `[K]`, queries read those of their own block only. borders: learned as start and end, else as
            center and width.
    """

    content: Tensor
    reference: Tensor
    target: Tensor
    positive: Tensor
    real: Tensor
    block: Tensor
    borders: bool


@torch.no_grad()
def isolating_bias(queries: int, groups: Sequence[QueryGroup]) -> Tensor | None:
    """`[B, N, N]` for the self-attention of `queries` main queries and the groups after them: nobody reads
    another group, another block or a query that does not exist, other than itself. None without groups.
    """
    if not groups:
        return None
    real, blocks, first = groups[0].real, [groups[0].block.new_zeros(queries)], 1
    for group in groups:
        blocks.append(group.block + first)
        first += int(group.block.max()) + 1
    block = torch.cat(blocks)
    exists = torch.cat([real.new_ones(len(real), queries), *(group.real for group in groups)], 1)
    own = torch.eye(len(block), dtype=torch.bool, device=block.device)
    allowed = ((block[:, None] == block) & exists[:, None]) | own
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(allowed.shape, device=block.device).masked_fill_(~allowed, lowest)


@torch.no_grad()
def choose_anchors(positive: Tensor, valid: Tensor, random: bool) -> tuple[Tensor, Tensor] | None:
    """The points that become queries: all positive ones, and random others where a video has fewer.

    Args:
        positive, valid: `[B, P]`; random: other points in place of the chosen ones, as many, drawn from all.

    Returns:
        The order of the points that the queries learn as, and where they start from, both `[B, K]`; K is the
        highest number of positive points. None if there are none.
    """
    most = int(positive.sum(1).max())
    if not most:
        return None
    noise = torch.rand(positive.shape, device=positive.device)
    learned = torch.where(valid, noise + positive, -1.0).topk(most, 1).indices
    if not random:
        return learned, learned
    noise = torch.rand(positive.shape, device=positive.device)
    return learned, torch.where(valid, noise, -1.0).topk(most, 1).indices


@torch.no_grad()
def noisy_moments(
    spans: Tensor, mask: Tensor, queries: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """Copies of the moments with noise on both borders, near ones to be found and farther ones to be refused.

    Args:
        spans: `[B, M, 2]` (center, width) in 0..1; mask: `[B, M]`.
        queries: of all copies, at most, but one copy is always made.

    Returns:
        Reference and target `[B, K, 2]`; positive and real `[B, K]`; block `[K]`, the number of the copy, in
        which each real moment stands once near and once farther. None if the batch has no moment.
    """
    most = int(mask.sum(1).max())
    if not most:
        return None
    # Real moments first, wherever they stand.
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    spans, mask = spans.gather(1, order[..., None].expand(-1, -1, 2)), mask.gather(1, order)
    copies = max(1, queries // (2 * most))
    shape = (len(spans), copies, 2, most, 2)
    far = torch.tensor([0.0, FARTHER], device=spans.device).view(1, 1, 2, 1, 1)
    sign = torch.randint(0, 2, shape, device=spans.device) * 2 - 1
    amount = (torch.rand(shape, device=spans.device) + far) * sign * NOISE
    clean = spans[:, None, None]  # [B, 1, 1, M, 2]
    borders = (cw_to_se(clean) + amount * clean[..., 1:] / 2).clamp(0, 1)
    real = mask[:, None, None].expand(shape[:-1])
    near = torch.tensor([True, False], device=spans.device).view(1, 1, 2, 1)
    block = torch.arange(copies, device=spans.device).repeat_interleave(2 * most)
    return (
        se_to_cw(borders.sort(-1).values).flatten(1, 3),
        clean.expand(shape).flatten(1, 3),
        (real & near).flatten(1),
        real.flatten(1),
        block,
    )
