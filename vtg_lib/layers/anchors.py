"""Decoder with (center, width) anchors as queries: DAB-DETR (Liu et al. 2022) for one temporal axis.

Structure as in wjun0830/QD-DETR @ 56c63b2, which TR-DETR and CG-DETR share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.attention import FeedForward, attend, merge_heads, split_heads
from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.positions import reference_positions
from vtg_lib.layers.projections import MLP
from vtg_lib.layers.transformer import Decoded, Relate, Related, decoder_trace
from vtg_lib.spans import inverse_sigmoid


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
    ) -> tuple[Tensor, Tensor | None]:
        """One attention.

        Args:
            x, position: `[B, Q, D]`; memory, memory_position: `[B, S, D]`; mask: `[B, S]`, True where it may
                be read.
            start: `[B, Q, D]`, added to the content query of the first decoder layer, with the memory's
                positions to the content key (split attention only).
            bias: `[B, Q, S]` or `[B, H, Q, S]`, added to the logits of every head or of each; in place of a
                mask.

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
        mixed, weights = attend(query, key, value, mask, dropout, need_weights, bias)
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
    ) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x, position, sine: `[B, Q, D]`; memory, memory_position: `[B, T, D]`; mask: `[B, T]`.
            bias: `[B, Q, Q]` or `[B, H, Q, Q]`, of the self-attention's logits.

        Returns:
            `[B, Q, D]` and, if asked for, the attention to the clips `[B, H, Q, T]`.
        """
        mixed, _ = self.self_attention(x, position, x, position, bias=bias)
        x = self.norms[0](self.dropout(mixed, x))
        start = None if self.start is None else self.start(position)
        mixed, weights = self.cross_attention(
            x, sine, memory, memory_position, mask, start, need_weights=need_weights
        )
        x = self.norms[1](self.dropout(mixed, x))
        return self.norms[2](self.dropout(self.feed_forward(x), x)), weights


class AnchorDecoder(nn.Module):
    """Decoder layers that refine learned (center, width) anchors.

    Args:
        queries: Q anchors; layers, width, heads, hidden, dropout: as usual.

    Attributes:
        relate: see `Relate`; it gets the state before the last norm, and the refined reference `[B, Q, 2]`.
    """

    relate: Relate | None

    def __init__(
        self, queries: int, layers: int, width: int, heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AnchorDecoderLayer(width, heads, hidden, dropout, first=index == 0) for index in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.position_scale = MLP(width, width, width, 2)
        self.position_head = MLP(width, width, width, 2)
        self.width_head = MLP(width, width, 1, 2)
        self.refine = MLP(width, width, 2, 3)
        self.anchors = nn.Parameter(torch.empty(queries, 2))
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
        nn.init.normal_(self.anchors)

    def forward(
        self,
        memory: Tensor,
        memory_position: Tensor,
        mask: Tensor,
        trace: bool = False,
        content: Tensor | None = None,
    ) -> Decoded:
        """memory, memory_position `[B, T, D]`; mask `[B, T]`; content `[B, D]`, what every query starts with,
        zero if None.

        Returns:
            Normalised states, and the references `[S, B, Q, 2]` that each layer started from, which are in
            the trace, too.
        """
        batch, _, width = memory.shape
        reference = self.anchors.sigmoid().expand(batch, -1, -1)
        x = memory.new_zeros(batch, len(self.anchors), width)
        x = x if content is None else x + content[:, None]
        related: list[Related] = []
        states, references, attention = [], [], []
        for index, layer in enumerate(self.layers):
            references.append(reference)
            reference = reference.detach() if index else reference
            sine = reference_positions(reference, width)
            position = self.position_head(sine)
            if index:
                sine = sine * self.position_scale(x)
            # Width-modulated positional attention (DAB-DETR, Eq. 6, one axis).
            sine = sine * (self.width_head(x).sigmoid() / reference[..., 1:])
            bias = related[-1].bias if related else None
            x, weights = layer(x, position, sine, memory, memory_position, mask, bias, trace)
            states.append(x)
            attention.append(weights)
            if index < len(self.layers) - 1:
                reference = (self.refine(x) + inverse_sigmoid(reference)).sigmoid()
                if self.relate is not None:
                    related.append(self.relate(index, x, reference.detach()))
        used = torch.stack(references)
        traced = {"references": used} | decoder_trace(attention, related) if trace else {}
        return Decoded(self.norm(torch.stack(states)), used, traced)
