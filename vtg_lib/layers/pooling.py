"""Pooling of words into a sentence, and of the tokens of a clip (R2-Tuning)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def pool_words(weight: nn.Module, words: Tensor, mask: Tensor) -> Tensor:
    """Mean of the words with weights that softmax makes of `weight`: `[..., B, L, D]`, `[B, L]` ->
    `[..., B, D]`.
    """
    logits = weight(words)
    share = logits.masked_fill(~mask[..., None], torch.finfo(logits.dtype).min).softmax(-2)
    pooled: Tensor = (share.transpose(-1, -2) @ words).squeeze(-2)
    return pooled


class WordPool(nn.Module):
    """Mean of the words with learned weights (the `AdaPooling` of yeliudev/R2-Tuning @ 03fbcf6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1, bias=False)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """words `[..., B, L, D]`, mask `[B, L]` -> `[..., B, D]`."""
        return pool_words(self.weight, words, mask)


class TokenPooling(nn.Module):
    """Query-modulated spatial pooling: every word attends to the tokens of a clip; the maximum over the
    words.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)

    def forward(self, tokens: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """tokens `[B, T, N, D]`, words `[B, L, D]`, mask `[B, L]` -> `[B, T, D]`."""
        query = self.query(words)[:, None] / math.sqrt(words.shape[-1])
        weight = (query @ self.key(tokens).transpose(-1, -2)).softmax(-1)  # [B, T, L, N]
        read = weight.to(tokens.dtype) @ tokens + words[:, None]
        return read.masked_fill(~mask[:, None, :, None], -torch.inf).amax(2)


class ClipPooling(nn.Module):
    """`TokenPooling` for a single token, without the matrices whose attention it does not need."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """tokens `[B, T, 1, D]`, words `[B, L, D]`, mask `[B, L]` -> `[B, T, D]`."""
        return tokens.squeeze(2) + words.masked_fill(~mask[..., None], -torch.inf).amax(1, keepdim=True)


POOLING: dict[str, type[TokenPooling] | type[ClipPooling]] = {"tokens": TokenPooling, "clip": ClipPooling}
