"""What the queries start with: anchors made from the instance, and groups around the truth (SA-DETR, Sec.
3.3).

Axes: B samples, Q queries, G noise groups, K kinds of noise in a group, M moments, D channels. Reading
numbers as in `vtg_lib.layers.span_aware`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch
from vtg_lib.layers.anchors import Groups
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.span_aware import RunningMean
from vtg_lib.spans import cw_to_se, se_to_cw

LEAST_WIDTH = 1e-3  # share of the video, of a noisy anchor
MOST_QUERIES = 256  # extra queries a sample


def perturb(spans: Tensor, sigma: Tensor, draw: Tensor) -> Tensor:
    """Noisy spans: |dc| < sigma w / 2 (printed with c in place of w; reading 2) and |dw| <= sigma w, cut to
    the video.

    Args:
        spans: `[..., 2]` (center, width), normalised; sigma: `[...]`; draw: `[..., 2]` in -1..1.
    """
    center, width = spans.float().unbind(-1)
    move, stretch = draw.unbind(-1)
    noisy = torch.stack((center + move * sigma * width / 2, width * (1 + stretch * sigma)), -1)
    return se_to_cw(cw_to_se(noisy).clamp(0, 1)).clamp(min=LEAST_WIDTH)


class Start(NamedTuple):
    """Anchors `[B, Q, 2]` that the decoder starts from, and those that L_init supervises."""

    anchors: Tensor
    supervised: Tensor


class InstanceAnchors(nn.Module):
    """S_d = MLP(M_g): anchors from the fusion token. They start out spread as learned ones do."""

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.head = MLP(width, width, 2 * queries, 3)
        nn.init.normal_(self.head.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, token: Tensor) -> Start:
        """token `[B, D]`."""
        anchors = self.head(token).float().unflatten(-1, (-1, 2)).sigmoid()
        return Start(anchors, anchors)


class ShuffledAnchors(InstanceAnchors):
    """Control: from the token of another sample of the batch, while targets stay. A batch of one has no
    other, and keeps its own.
    """

    def forward(self, token: Tensor) -> Start:
        return super().forward(token.roll(len(token) // 2, 0))


class MeanAnchors(InstanceAnchors):
    """Control: the training set's mean of each query's anchor, for every video; L_init supervises the
    instance's.
    """

    def __init__(self, width: int, queries: int) -> None:
        super().__init__(width, queries)
        self.mean = RunningMean(queries, 2)

    def forward(self, token: Tensor) -> Start:
        own, _ = super().forward(token)
        if self.training:
            self.mean.show(own.detach().mean(0))
        return Start(self.mean.value.clone().expand_as(own), own)


def _learned(width: int, queries: int) -> None:
    """The decoder's own."""
    return


ANCHORS = {"instance": InstanceAnchors, "learned": _learned, "shuffled": ShuffledAnchors, "mean": MeanAnchors}


class NoiseGroups(nn.Module):
    """Queries around the moments, which learn to find back (contrastive denoising).

    All start with one learned content, ones. Groups are isolated from each other and from the matching
    queries, in both directions; a group's positive and negative queries of all moments see each other
    (DINO; reading 7).

    Args:
        sigmas: of the K kinds of a group, the positive one first.
        decay: training steps over which the further sigmas fall to the first; 0: never.
    """

    steps: Tensor

    def __init__(self, width: int, groups: int, sigmas: tuple[float, ...], decay: int = 0) -> None:
        super().__init__()
        self.groups, self.sigmas, self.decay = groups, sigmas, decay
        self.content = nn.Parameter(torch.ones(width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def scales(self) -> Tensor:
        """sigma `[K]` of the next step."""
        sigma = torch.tensor(self.sigmas, device=self.steps.device)
        left = 1 - (self.steps / self.decay).clamp(max=1) if self.decay else 1.0
        return sigma[0] + (sigma - sigma[0]) * left

    def forward(self, batch: Batch, queries: int) -> Groups | None:
        """E = G K M queries, in this order, beside the decoder's `queries`; M is the largest number of
        moments in the batch. None if it has no moment.

        Raises:
            ValueError: E would be more than `MOST_QUERIES`.
        """
        count, kinds = int(batch.span_mask.sum(1).max()), len(self.sigmas)
        if not count:
            return None
        if (extra := self.groups * kinds * count) > MOST_QUERIES:
            raise ValueError(
                f"groups: expected at most {MOST_QUERIES // (kinds * count)}, as {count} moments x {kinds} "
                f"make {kinds * count} extra queries a group and {MOST_QUERIES} are the limit; got "
                f"{self.groups}, {extra} queries"
            )
        sigma = self.scales()[:, None]
        self.steps += 1
        draw = 2 * torch.rand(len(batch), self.groups, kinds, count, 2, device=sigma.device) - 1
        noisy = perturb(batch.spans[:, None, None, :count], sigma, draw).flatten(1, 3)
        group = torch.arange(self.groups, device=sigma.device).repeat_interleave(kinds * count)
        group = torch.cat((group.new_full((queries,), -1), group))
        real = batch.span_mask[:, :count].repeat(1, self.groups * kinds)
        real = torch.cat((real.new_ones(len(batch), queries), real), 1)  # queries of no moment are not read
        return Groups(noisy, self.content, (group[:, None] != group) | ~real[:, None])
