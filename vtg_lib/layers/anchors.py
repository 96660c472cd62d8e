"""Decoder with (center, width) anchors as queries: DAB-DETR (Liu et al. 2022) for one temporal axis.

Structure as in wjun0830/QD-DETR @ 56c63b2, which TR-DETR and CG-DETR share. One interface for all methods:

    decoder = AnchorDecoder(queries, layers, width, heads, hidden, dropout)
    decoder.relate = relate  # relations between the queries, from layer to layer (Sim-DETR)
    decoder(memory, position, mask)  # learned anchors
    decoder(memory, position, mask, anchors=spans)  # anchors of the instance, or selected: `[B, Q, 2]`
    decoder(..., groups=Groups(...))  # further queries in training, isolated: `extras["group_states"]`
    decoder(..., modulate=mask_of, update=enhance)  # see `Modulate` and `Update`

A `Detr` overrides `decode` to hand these over; see `vtg_lib.models.parts.span_aware`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.attention import FeedForward, Modulation, attend, merge_heads, split_heads
from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.positions import reference_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import Decoded, Relate, Related, decoder_trace
from vtg_lib.spans import inverse_sigmoid

UNREAD = -1e4  # logit of a query that another one is isolated from; finite in half precision
# From the references `[B, Q', 2]` that a layer starts from: what is done to its attention `[B, Q', T]`.
Modulate = Callable[[Tensor], Modulation]
# From the number of a layer, its references and the state `[B, Q', D]` after the self-attention: the state
# that reads the clips.
Update = Callable[[int, Tensor, Tensor], Tensor]


class Groups(NamedTuple):
    """E further queries that learn beside the decoder's own Q; Q' = Q + E, own first.

    Attributes:
        anchors: `[B, E, 2]`, normalised (center, width); content: broadcasts to `[B, E, D]`, what they start
            with.
        isolated: bool, broadcasts to `[B, Q', Q']`: True where a query (row) must not read another (column).
    """

    anchors: Tensor
    content: Tensor
    isolated: Tensor


class ConditionalAttention(nn.Module):
    """Attention whose content and position projections are separate (Conditional DETR, Meng et al. 2021).

    With `split=False` content and position are added per head; with `split=True` they are concatenated, so
    that the logit is the sum of a content and a position similarity.
    """

    def __init__(self, width: int, heads: int, dropout: float, split: bool) -> None:
        super().__init__()
        self.heads, self.split, self.dropout = heads, split, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.key_position = nn.Linear(width, width)
        self.query_position = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor | None = None,
        start: Tensor | None = None,
        bias: Tensor | None = None,
        need_weights: bool = False,
        modulation: Modulation | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One attention.

        Args:
            x, position: `[B, Q, D]`; memory, memory_position: `[B, S, D]`; mask: `[B, S]`, True where it may
                be read.
            start: `[B, Q, D]`, added to the content query of the first decoder layer, with the memory's
                positions to the content key (split attention only).
            bias: `[B, Q, S]` or `[B, H, Q, S]`, added to the logits of every head or of each; in place of a
                mask. modulation: `[B, Q, S]`, beside the mask.

        Returns:
            `[B, Q, D]` and, if asked for, the weights `[B, H, Q, S]`.
        """
        query, key = self.query(x), self.key(memory)
        query_position, key_position = self.query_position(position), self.key_position(memory_position)
        if self.split:
            if start is not None:
                query, key = query + start, key + key_position
            query = torch.cat((split_heads(query, self.heads), split_heads(query_position, self.heads)), -1)
            key = torch.cat((split_heads(key, self.heads), split_heads(key_position, self.heads)), -1)
        else:
            query = split_heads(query + query_position, self.heads)
            key = split_heads(key + key_position, self.heads)
        value = split_heads(self.value(memory), self.heads)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(query, key, value, mask, dropout, need_weights, bias, modulation)
        return self.out(merge_heads(mixed)), weights


class AnchorDecoderLayer(nn.Module):
    """Self-attention among the anchors, split cross-attention to the memory, feed-forward (PReLU);
    post-norm.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.self_attention = ConditionalAttention(width, heads, dropout, split=False)
        self.cross_attention = ConditionalAttention(width, heads, dropout, split=True)
        self.start = nn.Linear(width, width) if first else None
        self.feed_forward = FeedForward(width, hidden, dropout, PReLU)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        sine: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        bias: Tensor | None = None,
        need_weights: bool = False,
        modulation: Modulation | None = None,
        update: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x, position, sine: `[B, Q, D]`; memory, memory_position: `[B, T, D]`; mask: `[B, T]`.
            bias: `[B, Q, Q]` or `[B, H, Q, Q]`, of the self-attention's logits; modulation: of the
                cross-attention, `[B, Q, T]`; update: of the state between the two.

        Returns:
            `[B, Q, D]` and, if asked for, the attention to the clips `[B, H, Q, T]`.
        """
        mixed, _ = self.self_attention(x, position, x, self.key_position(position), bias=bias)
        x = self.norms[0](self.dropout(mixed, x))
        x = x if update is None else update(x)
        start = None if self.start is None else self.start(position)
        mixed, weights = self.cross_attention(
            x, sine, memory, memory_position, mask, start, None, need_weights, modulation
        )
        x = self.norms[1](self.dropout(mixed, x))
        return self.norms[2](self.dropout(self.feed_forward(x), x)), weights

    def key_position(self, position: Tensor) -> Tensor:
        """What the keys of the self-attention take for their position, `[B, Q, D]`."""
        return position


class AnchorDecoder(nn.Module):
    """Decoder layers that refine (center, width) anchors.

    Args:
        queries: Q learned anchors, 0 if they are always given; layers, width, heads, hidden, dropout: as
            usual.
        scaled: the position that reads the clips is scaled by the state and the anchor's width (Conditional
            DETR, DAB-DETR Eq. 6); else it is that of the self-attention (SA-DETR, Eq. 4).

    Attributes:
        relate: see `Relate`; it gets the state before the last norm, and the refined reference `[B, Q, 2]`.
    """

    relate: Relate | None

    def __init__(
        self,
        queries: int,
        layers: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        scaled: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AnchorDecoderLayer(width, heads, hidden, dropout, first=scaled and index == 0)
            for index in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.position_scale = MLP(width, width, width, 2) if scaled else None
        self.position_head = MLP(width, width, width, 2)
        self.width_head = MLP(width, width, 1, 2) if scaled else None
        self.refine = MLP(width, width, 2, 3)
        self.anchors = nn.Parameter(torch.empty(queries, 2)) if queries else None
        self.relate = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform matrices, anchors from a normal distribution; no bias in outputs of attention and
        refinement.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and name != "anchors":
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("attention.out.bias"):
                nn.init.zeros_(parameter)
        last = self.refine.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        if self.anchors is not None:
            nn.init.normal_(self.anchors)

    def positions(self, index: int, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Of the queries x `[B, Q, D]` at references `[B, Q, 2]`: in the self- and in the cross-attention of
        layer `index`, both `[B, Q, D]`.
        """
        sine = reference_positions(reference, x.shape[-1])
        position = self.position_head(sine)
        if self.position_scale is None or self.width_head is None:
            return position, position
        if index:
            sine = sine * self.position_scale(x)
        # Width-modulated positional attention (DAB-DETR, Eq. 6, one axis).
        return position, sine * (self.width_head(x).sigmoid() / reference[..., 1:])

    def forward(
        self,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        trace: bool = False,
        content: Tensor | None = None,
        anchors: Tensor | None = None,
        groups: Groups | None = None,
        modulate: Modulate | None = None,
        update: Update | None = None,
    ) -> Decoded:
        """Decode.

        Args:
            memory, memory_position: `[B, T, D]`; mask: `[B, T]`.
            content: broadcasts to `[B, Q, D]`, what the queries start with, zero if None.
            anchors: `[B, Q, 2]` in 0..1, with a gradient, in place of the learned ones; groups: see `Groups`.
            modulate, update: see `Modulate` and `Update`; they get the references of all Q' queries.

        Returns:
            Normalised states, and the references `[S, B, Q, 2]` that each layer started from, which are in
            the trace, too; those of the groups are in the extras.
        """
        reference = self._learned(len(memory)) if anchors is None else anchors
        own = reference.shape[1]
        x = memory.new_zeros(*reference.shape[:2], memory.shape[-1])
        x = x if content is None else x + content
        if groups is not None:
            reference = torch.cat((reference, groups.anchors), 1)
            x = torch.cat((x, groups.content.expand(*groups.anchors.shape[:2], -1).to(x.dtype)), 1)
        related: list[Related] = []
        modulated: list[Modulation] = []
        states, references, attention = [], [], []
        for index, layer in enumerate(self.layers):
            references.append(reference)
            reference = reference.detach() if index else reference
            position, sine = self.positions(index, x, reference)
            bias = _isolate(related[-1].bias if related else None, groups)
            if modulate is not None:
                modulated.append(modulate(reference))
            x, weights = layer(
                *(x, position, sine, memory, memory_position, mask, bias, trace),
                modulation=modulated[-1] if modulated else None,
                update=None if update is None else partial(update, index, reference),
            )
            states.append(x)
            attention.append(weights)
            if index < len(self.layers) - 1:
                reference = (self.refine(x) + inverse_sigmoid(reference)).sigmoid()
                if self.relate is not None:
                    related.append(self.relate(index, x, reference.detach()))
        used, found = torch.stack(references), self.norm(torch.stack(states))
        traced = {"references": used} | decoder_trace(attention, related, modulated) if trace else {}
        if groups is None:
            return Decoded(found, used, traced)
        extras = {"group_states": found[:, :, own:], "group_references": used[:, :, own:]}
        traced = {name: value[:, :, :own] for name, value in traced.items()}
        return Decoded(found[:, :, :own], used[:, :, :own], traced, extras)

    def _learned(self, batch: int) -> Tensor:
        if self.anchors is None:
            raise ValueError("decoder: expected anchors [B, Q, 2], as it has learned none; got None")
        return self.anchors.sigmoid().expand(batch, -1, -1)


def _isolate(bias: Tensor | None, groups: Groups | None) -> Tensor | None:
    """The self-attention's bias `[B, Q', Q']` or `[B, H, Q', Q']`, with which nobody reads the isolated."""
    if groups is None:
        return bias
    isolated = groups.isolated
    if bias is None:
        bias = groups.anchors.new_zeros(len(groups.anchors), *isolated.shape[-2:])
    return bias.masked_fill(isolated if bias.dim() == 3 else isolated.unsqueeze(-3), UNREAD)
