"""BAM-DETR's dual-pathway decoder (Lee and Byun, ECCV 2024): anchors look at the whole video, borders around
themselves.

A moment is an anchor point anywhere inside it and the distances to its start and to its end, all as shares of
the video. Facts not in the paper are from Pilhyeon/BAM-DETR @ 914b3e7. Axes: S layers, B samples, Q queries,
T clips, D channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.anchors import AnchorDecoderLayer
from vtg_lib.layers.attention import FeedForward, merge_heads, split_heads
from vtg_lib.layers.convolution import TemporalConv
from vtg_lib.layers.deformable import sampling_matrix
from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.positions import reference_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import Decoded, Relate, Related, decoder_trace
from vtg_lib.spans import inverse_sigmoid

POINTS = 4  # clips that a border reads, per head


def borders(references: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end `[..., Q]` of (anchor, distance to start, distance to end) `[..., Q, 3]`; may lie outside
    the video.
    """
    anchor, left, right = references.unbind(-1)
    return anchor - left, anchor + right


class BorderFeatures(nn.Module):
    """What the clips say about one kind of border: two convolutions of kernel 3 and one of kernel 1, each
    with a ReLU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [TemporalConv(width, width, kernel) for kernel in (3, 3, 1)]
        for conv in convs:  # Xavier's bound of a convolution counts its taps on both sides
            nn.init.xavier_uniform_(conv.taps.weight, gain=math.sqrt((conv.kernel + 1) / (2 * conv.kernel)))
        self.convs = nn.ModuleList(convs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, T, D]`, not negative; no clip reads padding."""
        for conv in self.convs:
            x = F.relu(conv(x, mask))
        return x


class BorderAttention(nn.Module):
    """Deformable attention from a border point: every head reads `POINTS` places, offset from it by a number
    of clips.

    The public code measures places in the padded batch, so that its result depends on the padding; here in
    the video itself.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offsets = nn.Linear(width, heads * POINTS)
        self.weights = nn.Linear(width, heads * POINTS)
        self.value = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)
        for linear in (self.offsets, self.weights, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.weights.bias)
        with torch.no_grad():  # places 1, 2, ... clips to the right
            self.offsets.bias.copy_(torch.arange(1.0, POINTS + 1).repeat(heads))

    def forward(self, x: Tensor, values: Tensor, point: Tensor, length: Tensor) -> Tensor:
        """x `[B, Q, D]`, values `[B, H, T, D / H]`, point `[B, Q]` in 0..1, length `[B]` clips ->
        `[B, Q, D]`.
        """
        length = length.view(-1, 1, 1, 1)
        offset = self.offsets(x).float().unflatten(-1, (self.heads, POINTS)) / length
        index = (point[..., None, None] + offset).clamp(0, 1) * (length - 1)
        weight = self.weights(x).float().unflatten(-1, (self.heads, POINTS)).softmax(-1)
        matrix = sampling_matrix(index, weight, values.shape[-2]).transpose(1, 2)  # [B, H, Q, T]
        return self.out(merge_heads(matrix.to(values.dtype) @ values))


class BorderLayer(nn.Module):
    """`BorderAttention` and feed-forward, each with residual and post-norm."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = BorderAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden, dropout, PReLU)
        for linear in (self.feed_forward.up, self.feed_forward.down):
            nn.init.xavier_uniform_(linear.weight)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, features: Tensor, point: Tensor, length: Tensor) -> Tensor:
        """x `[B, Q, D]`, features `[B, T, 2 D]`, point `[B, Q]` in 0..1, length `[B]` clips ->
        `[B, Q, D]`.
        """
        values = split_heads(self.attention.value(features), self.attention.heads)
        x = self.norms[0](x + self.dropout(self.attention(x, values, point, length)))
        return self.norms[1](x + self.dropout(self.feed_forward(x)))


class BoundaryDecoder(nn.Module):
    """Layers that move the anchors by attention to all clips, then the borders by attention around them.

    Attributes:
        relate: see `Relate`; it gets the state `[B, Q, 3 D]` of anchor, start and end, and what the layer
            refined the reference `[B, Q, 3]` to.
    """

    relate: Relate | None

    def __init__(
        self, queries: int, layers: int, width: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = (width, heads, hidden, dropout)
        self.layers = nn.ModuleList(AnchorDecoderLayer(*sizes, first=index == 0) for index in range(layers))
        self.position_scale = MLP(width, width, width, 2)
        self.position_head = MLP(2 * width, 2 * width, width, 2)
        self.width_head = MLP(width, width, 1, 2)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("attention.out.bias"):
                nn.init.zeros_(parameter)
        self.start_features, self.end_features = BorderFeatures(width), BorderFeatures(width)
        self.start_layers = nn.ModuleList(BorderLayer(*sizes) for _ in range(layers))
        self.end_layers = nn.ModuleList(BorderLayer(*sizes) for _ in range(layers))
        self.refine_anchor, self.refine_start, self.refine_end = (
            _refinements(layers, width) for _ in range(3)
        )
        self.anchors = nn.Parameter(torch.randn(queries, 3))  # logits of anchor and distances
        self.states = nn.Parameter(torch.randn(queries, 3 * width))
        self.relate = None

    def first_references(self) -> Tensor:
        """`[Q, 3]`: the learned anchors, whose moments stay inside the video.

        Distances that reach beyond it are cut, while training in the parameter itself, and without a gradient
        of the cut.
        """
        anchor, left, right = self.anchors.detach().unbind(-1)
        room = inverse_sigmoid(1 - anchor.sigmoid())
        limited = torch.stack((anchor, torch.minimum(anchor, left), torch.minimum(room, right)), -1)
        if self.training:
            self.anchors.data.copy_(limited)
        return (self.anchors + (limited - self.anchors).detach()).sigmoid()

    def forward(
        self, memory: Tensor, local: Tensor, position: Tensor, mask: Tensor, trace: bool = False
    ) -> tuple[Decoded, Tensor]:
        """memory, position `[B, T, D]`; local `[B, T, D]`, the clips before they exchanged information; mask
        `[B, T]`.

        Returns:
            States `[S, B, Q, 3 D]` of anchor, start and end, and the references `[S, B, Q, 3]` that each
            layer refined (those that it started from are in the trace); features `[2, B, T, D]` of starts and
            ends.
        """
        count, width = memory.shape[0], memory.shape[-1]
        features = torch.stack((self.start_features(local, mask), self.end_features(local, mask)))
        to_start, to_end = (torch.cat((memory, feature), -1) for feature in features)
        length = mask.sum(1).float()
        references = self.first_references().float().expand(count, -1, -1)
        states = self.states.to(memory.dtype).expand(count, -1, -1)
        anchor_state, start_state, end_state = states.chunk(3, -1)
        found: list[Tensor] = []
        related: list[Related] = []
        refined, used, attention = [], [], []
        layers = zip(self.layers, self.start_layers, self.end_layers, strict=True)
        moves = zip(self.refine_anchor, self.refine_start, self.refine_end, strict=True)
        for (anchor_layer, start_layer, end_layer), (move_anchor, move_start, move_end) in zip(
            layers, moves, strict=True
        ):
            start, end = _inside(references)
            sine = reference_positions(torch.stack(((start + end) / 2, end - start), -1), 2 * width)
            query_position, sine = self.position_head(sine), sine[..., :width]
            if found:
                sine = sine * self.position_scale(anchor_state)
            sine = sine * (self.width_head(anchor_state).sigmoid() / (end - start)[..., None])
            bias = related[-1].bias if related else None
            anchor_state, weights = anchor_layer(
                anchor_state, query_position, sine, memory, position, mask, bias, trace
            )
            old = inverse_sigmoid(references)
            anchor = (move_anchor(anchor_state).float() + old[..., :1]).sigmoid()
            # The borders start where the new anchor and the old distances put them, which learn nothing from
            # them.
            old = torch.cat((inverse_sigmoid(anchor), old[..., 1:]), -1).detach()
            start, end = _inside(torch.cat((anchor, old[..., 1:].sigmoid()), -1).detach())
            start_state = start_layer(start_state, to_start, start, length)
            end_state = end_layer(end_state, to_end, end, length)
            steps = torch.cat((move_start(start_state), move_end(end_state)), -1).float()
            distances = (steps + inverse_sigmoid(old[..., 1:].sigmoid())).sigmoid()
            used.append(references)
            attention.append(weights)
            found.append(torch.cat((anchor_state, start_state, end_state), -1))
            refined.append(torch.cat((anchor, distances), -1))
            references = torch.cat((old[..., :1].sigmoid(), distances), -1).detach()
            if self.relate is not None and len(found) < len(self.layers):
                related.append(self.relate(len(found) - 1, found[-1], refined[-1]))
        traced = {"references": torch.stack(used)} | decoder_trace(attention, related) if trace else {}
        return Decoded(torch.stack(found), torch.stack(refined), traced), features


def _refinements(layers: int, width: int) -> nn.ModuleList:
    """A head of each layer that starts at no refinement."""
    heads = [MLP(width, width, 1, 3) for _ in range(layers)]
    for head in heads:
        for parameter in head.layers[-1].parameters():
            nn.init.zeros_(parameter)
    return nn.ModuleList(heads)


def _inside(references: Tensor) -> tuple[Tensor, Tensor]:
    """`borders`, cut to the video."""
    start, end = borders(references)
    return start.clamp(min=0), end.clamp(max=1)
