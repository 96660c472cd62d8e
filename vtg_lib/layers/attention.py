"""Standard attention and feed-forward blocks, batch first: `[B, N, D]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.dropout import Dropout
from vtg_lib.layers.dropout import dropout as drop


class Modulation(NamedTuple):
    """What is done to an attention, in all heads alike; all `[B, N, S]`.

    Attributes:
        factor: multiplies the logits; bias: is added to them; gain: multiplies the weights, which then no
            longer sum to 1.
        trace: what diagnostics read of it.
    """

    factor: Tensor | None = None
    bias: Tensor | None = None
    gain: Tensor | None = None
    trace: Mapping[str, Tensor] = {}


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor | None = None,
    dropout: float = 0.0,
    need_weights: bool = False,
    bias: Tensor | None = None,
    modulation: Modulation | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention per head.

    Args:
        query: `[B, H, N, D]`; key: `[B, H, S, D]`; value: `[B, H, S, Dv]`; key_mask: `[B, S]`, True on real
            keys.
        dropout: on the attention weights. bias: `[B, N, S]` or `[B, H, N, S]`, added to the logits of
            every head or of each; in place of a key_mask. modulation: with or without one.

    Returns:
        `[B, H, N, Dv]` and, if asked for, the weights `[B, H, N, S]` before dropout.
    """
    assert key_mask is None or bias is None
    if bias is not None and bias.dim() == 3:
        bias = bias[:, None]
    fused = not need_weights and modulation is None
    if fused and (dropout == 0 or query.device.type != "cpu"):
        mask = None if key_mask is None else key_mask[:, None, None, :]
        mask = mask if bias is None else bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout), None
    factor, added, gain, _ = modulation or Modulation()
    logits = (query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    logits = logits if factor is None else logits * factor[:, None]
    logits = logits if added is None else logits + added[:, None]
    if key_mask is not None:
        logits += key_bias(key_mask, logits.dtype)[:, None, None]
    if bias is not None:
        logits = logits + bias
    weights = logits.softmax(-1)
    weights = weights if gain is None else weights * gain[:, None]
    return drop(weights, dropout).to(value.dtype) @ value, weights


def key_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask `[B, S]` to `[B, S]`: 0 where True, else the lowest number. A row without any key reads all
    alike.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`[B, N, D]` to `[B, H, N, D / H]`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`[B, H, N, D / H]` to `[B, N, D]`."""
    return x.transpose(1, 2).flatten(-2)


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, Sec. 3.2.2).

    Args:
        width: D, divisible by `heads`.
        dropout: on attention weights, while training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention: expected a width divisible by {heads} heads, got {width}")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask: Tensor | None = None,
        need_weights: bool = False,
        bias: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """query `[B, N, D]`, key and value `[B, S, D]` -> `[B, N, D]` (and weights `[B, H, N, S]`); the rest
        as in `attend`.
        """
        mixed, weights = attend(
            split_heads(self.query(query), self.heads),
            split_heads(self.key(key), self.heads),
            split_heads(self.value(value), self.heads),
            key_mask,
            self.dropout if self.training else 0.0,
            need_weights,
            bias,
        )
        mixed = self.out(merge_heads(mixed))
        if not need_weights:
            return mixed
        assert weights is not None
        return mixed, weights


class FeedForward(nn.Module):
    """Linear, activation, dropout, linear."""

    def __init__(
        self, width: int, hidden: int, dropout: float = 0.0, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = activation()
        self.down = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(self.activation(self.up(x))))
