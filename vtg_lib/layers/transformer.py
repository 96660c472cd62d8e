"""Post-norm transformer layers, and the encoder and decoder that the DETR-style methods share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtg_lib.layers.attention import FeedForward, Modulation, MultiHeadAttention
from vtg_lib.layers.dropout import Dropout


class Related(NamedTuple):
    """How the queries of a decoder are related between two layers.

    Attributes:
        bias: `[B, Q, Q]`, or `[B, H, Q, Q]` by head, of the next layer's self-attention; trace: what
            diagnostics read of it.
    """

    bias: Tensor
    trace: Mapping[str, Tensor] = {}


# From the number of a layer, the state `[B, Q, D]` after it and what it refined the reference to, if any.
Relate = Callable[[int, Tensor, Tensor | None], Related]


class Decoded(NamedTuple):
    """What a decoder returns.

    Attributes:
        states: `[S, B, Q, D]` after each layer; references: `[S, B, Q, ...]` that the states are read from,
            if there are any.
        trace: see `decoder_trace`; filled on request.
        extras: what only losses read, such as the `group_states [S, B, E, D]` and `group_references` of
            `Groups`.
    """

    states: Tensor
    references: Tensor | None
    trace: dict[str, Tensor]
    extras: dict[str, Tensor] = {}


def decoder_trace(
    attention: Sequence[Tensor], *parts: Sequence[Related] | Sequence[Modulation]
) -> dict[str, Tensor]:
    """Of all layers: `clip_attention [S, B, Q, T]`, averaged over heads, and what the parts left.

    Args:
        attention: S of `[B, H, Q, T]`; parts: each S - 1 (relations), S (modulations), or none.
    """
    return {"clip_attention": torch.stack(list(attention)).mean(2)} | {
        name: torch.stack([one.trace[name] for one in part])
        for part in parts
        if part
        for name in part[0].trace
    }


def xavier_(module: nn.Module) -> None:
    """DETR's initialisation: Xavier-uniform matrices, zero biases of attention projections.

    PyTorch's attention keeps the projections of queries, keys and values in one matrix of 3 D rows, whose
    bound is smaller than that of three matrices of D rows by the square root of two.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for child in module.modules():
        if isinstance(child, MultiHeadAttention):
            for linear in (child.query, child.key, child.value):
                nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))
            for linear in (child.query, child.key, child.value, child.out):
                nn.init.zeros_(linear.bias)


class AttentionLayer(nn.Module):
    """Attention, add and norm; then feed-forward, add and norm (Vaswani et al. 2017, post-norm).

    Self-attention when `context` is not given. Positions are added to queries and keys, not to values.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout, activation)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        key_mask: Tensor,
        context: Tensor | None = None,
        context_position: Tensor | None = None,
    ) -> Tensor:
        """x, position `[B, N, D]`; key_mask `[B, N]`, or `[B, S]` with context `[B, S, D]` -> `[B, N, D]`."""
        query = x + position
        if context is None:
            key, value = query, x
        else:
            key, value = context if context_position is None else context + context_position, context
        x = self.norm_attention(self.dropout(self.attention(query, key, value, key_mask), x))
        return self.norm_feed_forward(self.dropout(self.feed_forward(x), x))


class CrossLayer(AttentionLayer):
    """Text-to-video cross-attention of QD-DETR and its descendants: the clips read the words.

    Other than in `AttentionLayer`, the first norm is on the feed-forward's branch only; the residual is not
    normalised before the end (wjun0830/QD-DETR @ 56c63b2).
    """

    def forward(  # type: ignore[override]
        self, x: Tensor, position: Tensor, key_mask: Tensor, context: Tensor
    ) -> Tensor:
        """x, position `[B, T, D]`; context `[B, L, D]`; key_mask `[B, L]` -> `[B, T, D]`."""
        x = self.dropout(self.attention(x + position, context, context, key_mask), x)
        return self.norm_feed_forward(self.dropout(self.feed_forward(self.norm_attention(x)), x))


class DecoderLayer(nn.Module):
    """DETR's decoder layer: self-attention among the queries, cross-attention to the memory, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(width, heads, dropout)
        self.cross = AttentionLayer(width, heads, hidden, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        query_position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        bias: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x, query_position: `[B, Q, D]`; memory, memory_position: `[B, T, D]`; mask: `[B, T]`.
            bias: `[B, Q, Q]` or `[B, H, Q, Q]`, of the self-attention's logits.

        Returns:
            `[B, Q, D]` and, if asked for, the attention to the memory `[B, H, Q, T]`.
        """
        query, weights = x + query_position, None
        x = self.norm(self.dropout(self.self_attention(query, query, x, bias=bias), x))
        if need_weights:
            _, weights = self.cross.attention(
                x + query_position, memory + memory_position, memory, mask, need_weights=True
            )
        return self.cross(x, query_position, mask, memory, memory_position), weights


class Decoder(nn.Module):
    """A stack of `DecoderLayer`.

    Attributes:
        relate: see `Relate`; it gets the state before the last norm, and no reference.
    """

    relate: Relate | None

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.relate = None

    def forward(
        self,
        query_position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        trace: bool = False,
    ) -> Decoded:
        """query_position `[B, Q, D]` (content starts at zero); the rest as in `DecoderLayer`. States are
        normalised, and there are no references.
        """
        related: list[Related] = []
        x = torch.zeros_like(query_position)
        states, attention = [], []
        for index, layer in enumerate(self.layers):
            bias = related[-1].bias if related else None
            x, weights = layer(x, query_position, memory, memory_position, mask, bias, trace)
            states.append(x)
            attention.append(weights)
            if self.relate is not None and index < len(self.layers) - 1:
                related.append(self.relate(index, x, None))
        return Decoded(
            self.norm(torch.stack(states)), None, decoder_trace(attention, related) if trace else {}
        )
