"""SG-DETR's query selector and its decoder, which starts from what was selected (DINO, Zhang et al. 2022).

Facts are from chinagalaxy2002/SG_CGP @ 931cad1. Other than in `AnchorDecoder`, positions of the keys of the
self-attention are projected twice, the state scales the position in the first layer, too, and an IoU head
reads every layer's state before the last norm. Axes: B samples, P points of the pyramid, Q queries, N queries
with those of all groups, T clips, S layers, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.adaptive_attention import DropPath
from vtg_lib.layers.anchors import AnchorDecoderLayer
from vtg_lib.layers.positions import reference_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import xavier_
from vtg_lib.spans import inverse_sigmoid

WIDTHS = (0.05, 0.2, 0.4, 0.85)  # of the proposals of each level, shares of the video
RIM = 0.0125  # proposals whose center or width is nearer to 0 or 1 are not used
FIRST_STD = 0.01
NOWHERE = 30.0  # logit of the place where a query starts that found no proposal: its sigmoid is 1


class Selected(NamedTuple):
    """The queries that the selector chose, the best first.

    Attributes:
        content: `[B, Q, D]`, without a gradient; reference: `[B, Q, 2]` (center, width) in 0..1, without one.
        spans: the same with its gradient; logits: `[B, Q]` of the class; iou: `[B, Q]` logits of the IoU, or
            None. points: `[B, Q]`, which were chosen.
    """

    content: Tensor
    reference: Tensor
    spans: Tensor
    logits: Tensor
    iou: Tensor | None
    points: Tensor


def prior_logit(prior: float) -> float:
    """The bias with which a head starts at probability `prior`."""
    return math.log(prior / (1 - prior))


def zero_last(head: MLP) -> None:
    """The head starts with output 0."""
    last = head.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


class QuerySelector(nn.Module):
    """Every point proposes a span; the best by √(class · IoU) (Eq. 10) become queries.

    Args:
        iou_head: predict an IoU, too; rank: by it, too.
    """

    def __init__(self, width: int, queries: int, prior: float, iou_head: bool, rank: bool) -> None:
        super().__init__()
        self.queries, self.rank = queries, rank
        self.project = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.span_head = MLP(width, width, 2, 3)
        self.class_head = nn.Linear(width, 1)
        self.iou_head = nn.Linear(width, 1) if iou_head else None
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.class_head.weight, std=FIRST_STD)
        nn.init.constant_(self.class_head.bias, prior_logit(prior))
        if self.iou_head is not None:
            nn.init.normal_(self.iou_head.weight, std=FIRST_STD)
            nn.init.constant_(self.iou_head.bias, 2 * prior_logit(prior))
        zero_last(self.span_head)

    def forward(self, levels: Sequence[Tensor], masks: Sequence[Tensor]) -> Selected:
        """levels `[B, P_s, D]`, masks `[B, P_s]` of the pyramid.

        A query for which a short video has no proposal starts at (1, 1), with the content of zeros.
        """
        place = torch.cat([_proposals(mask, width) for mask, width in zip(masks, WIDTHS, strict=True)], 1)
        valid = torch.cat(list(masks), 1) & ((place > RIM) & (place < 1 - RIM)).all(-1)
        features = torch.cat(list(levels), 1)
        if (lacking := self.queries - valid.shape[1]) > 0:
            place, features = F.pad(place, (0, 0, 0, lacking)), F.pad(features, (0, 0, 0, lacking))
            valid = F.pad(valid, (0, lacking))
        found = self.norm(self.project(features * valid[..., None].to(features.dtype)))
        logits = self.class_head(found).squeeze(-1).float()
        iou = None if self.iou_head is None else self.iou_head(found).squeeze(-1).float()
        score = logits.sigmoid() * (iou.sigmoid() if iou is not None and self.rank else 1)
        index = score.masked_fill(~valid, -1.0).topk(self.queries, 1).indices
        start = torch.where(valid[..., None], inverse_sigmoid(place), NOWHERE)
        spans = (start + self.span_head(found).float()).sigmoid()

        def chosen(values: Tensor) -> Tensor:
            return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

        picked = chosen(spans)
        return Selected(
            chosen(found).detach(),
            picked.detach(),
            picked,
            logits.gather(1, index),
            None if iou is None else iou.gather(1, index),
            index,
        )


def _proposals(mask: Tensor, width: float) -> Tensor:
    """(center, width) `[B, P_s, 2]` of a level's points `[B, P_s]`, shares of the video."""
    center = (torch.arange(mask.shape[1], device=mask.device) + 0.5) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.stack((center, torch.full_like(center, width)), -1)


class LearnedQueries(nn.Module):
    """Learned anchors and contents in place of the selector (the released config for YouTube Highlights)."""

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.anchors = nn.Parameter(torch.randn(queries, 2))
        self.content = nn.Parameter(torch.empty(queries, width))
        nn.init.normal_(self.content, std=FIRST_STD)

    def forward(self, batch: int) -> tuple[Tensor, Tensor]:
        """Contents `[B, Q, D]` and references `[B, Q, 2]`."""
        content, anchors = self.content, self.anchors.sigmoid()
        return content.expand(batch, -1, -1), anchors.expand(batch, -1, -1)


class SelectedDecoderLayer(AnchorDecoderLayer):
    """`AnchorDecoderLayer` whose self-attention projects the keys' positions twice; with `DropPath`."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, droppath: float) -> None:
        super().__init__(width, heads, hidden, dropout, first=False)
        self.dropout = DropPath(droppath)  # type: ignore[assignment]
        xavier_(self.self_attention)
        xavier_(self.cross_attention)

    def key_position(self, position: Tensor) -> Tensor:
        """Projected as a query's before it is projected as a key's."""
        projected: Tensor = self.self_attention.query_position(position)
        return projected


class DecodedQueries(NamedTuple):
    """What the decoder made of the queries, all layers.

    Attributes:
        states: `[S, B, N, D]`, normalised; references: `[S, B, N, 2]` that each layer started from.
        iou: `[S, B, N]` logits of the IoU of what each layer's state refines its reference to, or None.
        attention: `[S, B, N, T]` to the clips, mean over heads, if asked for.
    """

    states: Tensor
    references: Tensor
    iou: Tensor | None
    attention: Tensor | None


class SelectedDecoder(nn.Module):
    """Decoder layers that refine given (center, width) references."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        droppath: float,
        iou_head: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SelectedDecoderLayer(width, heads, hidden, dropout, droppath) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.position_scale = MLP(width, width, width, 2)
        self.position_head = MLP(width, width, width, 2)
        self.width_head = MLP(width, width, 1, 2)
        self.refine = MLP(width, width, 2, 3)
        self.iou_head = MLP(2 * width, width, 1, 3) if iou_head else None
        zero_last(self.refine)

    def forward(
        self,
        content: Tensor,
        reference: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        bias: Tensor | None = None,
        trace: bool = False,
    ) -> DecodedQueries:
        """Decode.

        Args:
            content: `[B, N, D]`; reference: `[B, N, 2]` in 0..1; memory, memory_position: `[B, T, D]`; mask:
                `[B, T]`.
            bias: `[B, N, N]` of the self-attention, see `QueryGroup`.
        """
        x, width = content, memory.shape[-1]
        states, references, quality, attention = [], [], [], []
        for index, layer in enumerate(self.layers):
            references.append(reference)
            reference = reference.detach() if index else reference
            sine = reference_positions(reference, width)
            position = self.position_head(sine)
            sine = sine * self.position_scale(x) * (self.width_head(x).sigmoid() / reference[..., 1:])
            x, weights = layer(x, position, sine, memory, memory_position, mask, bias, trace)
            states.append(x)
            attention.append(weights)
            reference = (self.refine(x).float() + inverse_sigmoid(reference)).sigmoid()
            if self.iou_head is not None:
                seen = torch.cat((x, reference_positions(reference, width).detach().to(x.dtype)), -1)
                quality.append(self.iou_head(seen).squeeze(-1).float())
        return DecodedQueries(
            self.norm(torch.stack(states)),
            torch.stack(references),
            torch.stack(quality) if quality else None,
            torch.stack(attention).mean(2) if trace else None,
        )
