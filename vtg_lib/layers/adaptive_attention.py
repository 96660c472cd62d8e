"""CG-DETR's adaptive cross-attention (Moon et al. 2023) and layers that drop whole residual branches.

Facts not in the paper are from wjun0830/CGDETR @ 212b2e4. Axes: B samples, T clips, N dummy tokens, L words,
H heads, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtg_lib.layers.activation import PReLU
from vtg_lib.layers.attention import FeedForward, attend, merge_heads, split_heads
from vtg_lib.layers.dense_stream import path_masks
from vtg_lib.layers.transformer import AttentionLayer


class DropPath(nn.Module):
    """Drops a residual branch of whole samples with probability `p` while training, and scales the others by
    1 / (1 - p).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"drop path: expected a probability in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x `[B, N, D]`, the output of the branch; added to `residual` if there is one."""
        if self.training and self.p > 0:
            x = x * path_masks((len(x),), self.p, x.device).to(x.dtype)
        return x if residual is None else residual + x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class PathLayer(AttentionLayer):
    """`AttentionLayer` with `DropPath` on both residual branches, by default at the rate of the dropout.

    It starts as PyTorch's attention does.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        droppath: float | None = None,
        activation: type[nn.Module] = PReLU,
    ) -> None:
        super().__init__(width, heads, hidden, dropout, activation)
        self.dropout = DropPath(dropout if droppath is None else droppath)  # type: ignore[assignment]
        for linear in (self.attention.query, self.attention.key, self.attention.value):
            nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))  # the bound of one matrix of 3 D rows
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.attention.out.bias)


class GroupLayer(PathLayer):
    """`PathLayer` in which tokens attend to those of their own group only, all groups in one pass."""

    def forward(  # type: ignore[override]
        self, x: Tensor, position: Tensor, mask: Tensor, group: Tensor
    ) -> Tensor:
        """x, position `[B, N, D]`; mask `[B, N]`; group `[B, N]`, each with an unmasked token ->
        `[B, N, D]`.
        """
        attention, query = self.attention, x + position
        q, k, v = (
            split_heads(t, attention.heads)
            for t in (attention.query(query), attention.key(query), attention.value(x))
        )
        allowed = (group[:, :, None] == group[:, None]) & mask[:, None]
        bias = torch.zeros_like(allowed, dtype=q.dtype).masked_fill_(~allowed, torch.finfo(q.dtype).min)
        mixed, _ = attend(q, k, v, dropout=attention.dropout if self.training else 0.0, bias=bias)
        x = self.norm_attention(x + self.dropout(attention.out(merge_heads(mixed))))
        return self.norm_feed_forward(x + self.dropout(self.feed_forward(x)))


class AdaptiveCrossLayer(nn.Module):
    """Cross-attention in which clips spread their attention over words and dummy tokens, but read the words
    only.

    What a clip gives to the dummy tokens it does not get back: a clip unrelated to the sentence stays as it
    is. Queries, keys and values are not projected, only the output is. The residual is normalised at the end,
    as in `CrossLayer`.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention: expected a width divisible by {heads} heads, got {width}")
        self.heads, self.attention_dropout = heads, dropout
        self.out = nn.Linear(width, width)
        self.feed_forward = FeedForward(width, hidden, dropout, PReLU)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.dropout = DropPath(dropout)
        nn.init.zeros_(self.out.bias)

    @staticmethod
    def prepare(dummies: Tensor, dummy_position: Tensor, words: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """Keys and values by head, `[B, H, N + L, D / H]`, the same for every layer; the values of dummies
        are zero.

        Args:
            dummies: `[B, N, D]`; dummy_position: `[N, D]`; words: `[B, L, D]`, which carry no position.
        """
        keys = torch.cat((dummies + dummy_position, words), 1)
        values = torch.cat((torch.zeros_like(dummies), words), 1)
        return split_heads(keys, heads), split_heads(values, heads)

    def forward(
        self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            x, position: `[B, T, D]`; keys, values: from `prepare`; mask: `[B, N + L]`, True on dummies and
                real words.

        Returns:
            `[B, T, D]` and the attention `[B, T, N + L]`, averaged over heads.
        """
        query = split_heads(x + position, self.heads)
        mixed, weights = attend(
            query, keys, values, mask, self.attention_dropout if self.training else 0.0, need_weights=True
        )
        assert weights is not None
        return self.advance(x, merge_heads(mixed)), weights.mean(1)

    def advance(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The rest of the layer for tokens `x` that read `mixed` (zero: nothing), both `[B, N, D]`."""
        x = x + self.dropout(self.out(mixed))
        return self.norm_feed_forward(x + self.dropout(self.feed_forward(self.norm_attention(x))))
