"""Tokens of moments and sentences that only training needs (CG-DETR's, which SG-DETR takes over).

Axes: B samples, T clips, L words, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.adaptive_attention import GroupLayer, PathLayer


class Tokens(NamedTuple):
    """Attributes:
    moment, sentence: `[B, D]`; clips: `[B, T, D]`, each in the company of its moment or of the background.
    """

    moment: Tensor
    sentence: Tensor
    clips: Tensor


class MomentSentence(nn.Module):
    """An encoder of words and one of clips, each led by a token of its own."""

    def __init__(
        self, layers: int, width: int, heads: int, hidden: int, dropout: float, droppath: float
    ) -> None:
        super().__init__()
        sizes = (width, heads, hidden, dropout, droppath)
        self.sentence = nn.Parameter(torch.randn(2, width))  # token, its position
        self.sentence_encoder = nn.ModuleList(PathLayer(*sizes) for _ in range(layers))
        self.moment = nn.Parameter(torch.randn(2, width))  # token, its position
        self.moment_encoder = nn.ModuleList(GroupLayer(*sizes) for _ in range(layers))

    def read(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """x, position `[B, N, D]`; mask `[B, N]` -> `[B, 1 + N, D]`, the sentence token first."""
        token, place = self.sentence.to(x.dtype).expand(len(x), -1, -1).split(1, 1)
        x, position = torch.cat((token, x), 1), torch.cat((place, position), 1)
        for layer in self.sentence_encoder:
            x = layer(x, position, F.pad(mask, (1, 0), value=True))
        return x

    def forward(
        self,
        clips: Tensor,
        position: Tensor,
        mask: Tensor,
        inside: Tensor,
        words: Tensor,
        word_mask: Tensor,
    ) -> Tokens:
        """clips, position `[B, T, D]`; mask, inside (clips of moments) `[B, T]`; words `[B, L, D]`, word_mask
        `[B, L]`.
        """
        sentence = self.read(words, torch.zeros_like(words), word_mask)[:, 0]
        token, place = self.moment.to(clips.dtype).expand(len(clips), -1, -1).split(1, 1)
        x = torch.cat((token, token, clips), 1)  # of the moment, of the background
        places = torch.cat((place, place, position), 1)
        group = F.pad((~inside).long(), (1, 0), value=1)
        for layer in self.moment_encoder:
            x = layer(x, places, F.pad(mask, (2, 0), value=True), F.pad(group, (1, 0)))
        return Tokens(x[:, 0], sentence, x[:, 2:])
