"""Encoders of the words that put a token for the background in front of them, and how clips read the result
(SnAG).

Facts are from fmu2/snag_release @ 44dd90e. Axes: B samples, L words, P points, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtg_lib.layers.attention import FeedForward, MultiHeadAttention
from vtg_lib.layers.conv_transformer import EXPANSION, ConvTransformerLayer, Residual, sinusoids, zero_biases
from vtg_lib.layers.convolution import DepthwiseConv
from vtg_lib.layers.dropout import Dropout


class TextTransformer(nn.Module):
    """Projection, positions, a learned background token, transformer layers. Leaves padding at zero."""

    def __init__(
        self, inputs: int, width: int, heads: int, layers: int, dropout: float, droppath: float
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.background = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.background, std=0.02)
        self.layers = nn.ModuleList(
            ConvTransformerLayer(width, heads, 0, dropout, droppath, convolve=False) for _ in range(layers)
        )
        zero_biases(self)

    def forward(self, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, L, Dt]`, mask `[B, L]` -> `[B, 1 + L, D]`, the background first, and its mask."""
        words = self.embed(text)
        words = words + sinusoids(words.shape[1], words.shape[2], words.device).to(words.dtype)
        words = words * mask[..., None].to(words.dtype)
        x = torch.cat((self.background.to(words.dtype).expand(len(words), 1, -1), words), 1)
        mask = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
        for layer in self.layers:
            x, mask = layer(x, mask)
        return x, mask


class TextPool(nn.Module):
    """Projection; the background token is the sentence: what the mean of the words reads in them by
    attention.

    For features that were trained with the video's; `layers`, `dropout` and `droppath` have no meaning here.
    """

    def __init__(
        self, inputs: int, width: int, heads: int, layers: int, dropout: float, droppath: float
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.attention = MultiHeadAttention(width, heads)
        zero_biases(self)

    def forward(self, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `TextTransformer.forward`."""
        weight = mask[..., None].to(text.dtype)
        words = self.embed(text * weight)
        mean = (words * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        mask = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
        tokens = torch.cat((mean, words), 1)
        sentence = self.attention(mean, tokens, tokens, mask)
        return torch.cat((sentence, words), 1), mask


class TextReading(MultiHeadAttention):
    """Cross-attention to words of another width that gives two vectors: a scale and a shift."""

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.key, self.value = nn.Linear(text_width, width), nn.Linear(text_width, width)
        self.out = nn.Linear(width, 2 * width)


class ModulationLayer(nn.Module):
    """The words scale and shift every clip, then feed-forward: cross-attention without residual.

    Args:
        norm: of the clips before they are scaled, a module without parameters.
    """

    def __init__(
        self, width: int, text_width: int, heads: int, dropout: float, droppath: float, norm: nn.Module
    ) -> None:
        super().__init__()
        self.norm, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(text_width)
        self.convolve, self.norm_query = DepthwiseConv(width, 1), nn.LayerNorm(width)
        self.attention, self.dropout = TextReading(width, text_width, heads), Dropout(dropout)
        self.norm_scaled = norm
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, EXPANSION * width, dropout, nn.GELU)
        self.residual = Residual(width, dropout, droppath)
        zero_biases(self)

    def forward(self, x: Tensor, mask: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """x `[B, P, D]`, mask `[B, P]`; text `[B, L, Dt]`, text_mask `[B, L]` -> `[B, P, D]`."""
        (query,) = self.convolve(self.norm(x), mask)
        words = self.norm_text(text)
        read = self.dropout(self.attention(self.norm_query(query), words, words, text_mask))
        scale, shift = read.chunk(2, -1)
        x = self.norm_scaled(x) * scale + shift
        return x + self.residual(self.feed_forward(self.norm_feed_forward(x)))
