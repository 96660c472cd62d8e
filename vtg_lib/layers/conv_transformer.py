"""Transformer layers with depthwise convolutions and local attention, pre-norm, as in ActionFormer and SnAG.

Facts are from fmu2/snag_release @ 44dd90e. Axes: B samples, T clips, D channels, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.adaptive_attention import DropPath
from vtg_lib.layers.attention import FeedForward, MultiHeadAttention, attend, merge_heads, split_heads
from vtg_lib.layers.convolution import DepthwiseConv, TemporalConv, max_pool
from vtg_lib.layers.dropout import Dropout

BLOCK = 32  # queries that share a stretch of keys in local attention
LAYER_SCALE = 1e-4  # initial factor of every residual branch
EXPANSION = 4  # of the feed-forward networks


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Positions `[length, width]`: sines, then cosines, of wavelengths 2 pi to 20,000 pi clips, divided by
    sqrt(width).
    """
    half = width // 2
    angle = torch.arange(length, device=device)[:, None] / 10_000 ** (
        torch.arange(half, device=device) / half
    )
    return torch.cat((angle.sin(), angle.cos()), -1) / width**0.5


def zero_biases(module: nn.Module) -> None:
    """All linear maps of `module` start without bias."""
    for child in module.modules():
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)


def local_attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, window: int) -> Tensor:
    """Attention in which clip t reads the real clips among t - window // 2 .. t + window // 2.

    Blocks of queries share a stretch of keys, so memory grows with T, not with its square.

    Args:
        query, key, value: `[B, H, T, D]`; mask: `[B, T]` real clips; window: odd.

    Returns:
        `[B, H, T, D]`; what stands on padding is arbitrary.
    """
    batch, heads, clips, _ = query.shape
    reach, size = window // 2, min(clips, BLOCK)
    blocks = -(-clips // size)
    extra, stretch = blocks * size - clips, size + 2 * reach

    def stretches(x: Tensor) -> Tensor:  # [B, H, T, D] -> [B * blocks, H, stretch, D]
        cut = F.pad(x, (0, 0, reach, reach + extra)).unfold(2, stretch, size)  # [B, H, blocks, D, stretch]
        return cut.permute(0, 2, 1, 4, 3).flatten(0, 1)

    own = F.pad(query, (0, 0, 0, extra)).unflatten(2, (blocks, size)).transpose(1, 2).flatten(0, 1)
    real = F.pad(mask, (reach, reach + extra)).unfold(1, stretch, size).flatten(0, 1)  # [B * blocks, stretch]
    offset = (
        torch.arange(stretch, device=mask.device)
        - torch.arange(reach, reach + size, device=mask.device)[:, None]
    )
    # Padding reads itself, or its softmax would be over nothing.
    allowed = (real[:, None] & (offset.abs() <= reach)) | (offset == 0)
    mixed = F.scaled_dot_product_attention(own, stretches(key), stretches(value), allowed[:, None])
    return mixed.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :clips]


class LocalAttention(MultiHeadAttention):
    """Multi-head attention within a window; 0 reads every clip."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__(width, heads)
        if window < 0 or (window and window % 2 == 0):
            raise ValueError(f"local attention: expected an odd window, or 0 for none, got {window}")
        self.window = window

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """query, key, value `[B, T, D]`; mask `[B, T]` -> `[B, T, D]`."""
        query, key, value = (
            split_heads(linear(x), self.heads)
            for linear, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        mixed = (
            local_attend(query, key, value, mask, self.window)
            if self.window
            else attend(query, key, value, mask)[0]
        )
        return self.out(merge_heads(mixed))


class Residual(nn.Module):
    """What a branch adds: dropout, a learned factor for each channel that starts near zero, DropPath."""

    def __init__(self, width: int, dropout: float, droppath: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.dropout, self.path = Dropout(dropout), DropPath(droppath)

    def forward(self, branch: Tensor) -> Tensor:
        return self.path(self.scale.to(branch.dtype) * self.dropout(branch))


class ConvTransformerLayer(nn.Module):
    """Depthwise convolutions for query, key and value, local attention, feed-forward; may halve the clips.

    Args:
        convolve: with the convolutions; without, `stride` has to be 1.
        stride: one in so many clips is kept; the residual is the maximum of its window of 3.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        dropout: float,
        droppath: float,
        convolve: bool = True,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.convolve = DepthwiseConv(width, 3) if convolve else None
        self.conv_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if convolve else 0))
        self.attention = LocalAttention(width, heads, window)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, EXPANSION * width, dropout, nn.GELU)
        self.residual_attention = Residual(width, dropout, droppath)
        self.residual_feed_forward = Residual(width, dropout, droppath)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, T / stride, D]`, zero on padding, and its mask."""
        normed = self.norm_attention(x)
        if self.convolve is None:
            query = key = value = normed
        else:
            convolved = self.convolve(normed, mask, self.stride)
            query, key, value = (norm(part) for norm, part in zip(self.conv_norms, convolved, strict=True))
        if self.stride > 1:
            x, mask = max_pool(x, mask, self.stride), mask[:, :: self.stride]
        x = x + self.residual_attention(self.attention(query, key, value, mask))
        x = x + self.residual_feed_forward(self.feed_forward(self.norm_feed_forward(x)))
        return x * mask[..., None].to(x.dtype), mask


class LocalPyramid(nn.Module):
    """Embedding convolutions, stem layers, and one layer a level, each halving the clips of the one before.

    Args:
        inputs: channels of the features; stride: of the first level, a power of two that the convolutions
            reach.
        convolutions, stem, levels: how many of each; positions: add sinusoidal positions.

    Raises:
        ValueError: a stride that the convolutions cannot reach, each halving at most.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        heads: int,
        window: int,
        *,
        stride: int,
        convolutions: int,
        stem: int,
        levels: int,
        positions: bool,
        dropout: float,
        droppath: float,
    ) -> None:
        super().__init__()
        if stride & (stride - 1) or 2**convolutions < stride:
            raise ValueError(f"pyramid: expected a stride of 1, 2, ..., 2^{convolutions}, got {stride}")
        self.factor, self.positions = stride * 2 ** (levels - 1), positions
        self.embed = nn.Linear(inputs, width)
        shapes = [
            (5, 2) if stride > 2**number else (3, 1) for number in range(convolutions)
        ]  # kernel, stride
        self.convs = nn.ModuleList(TemporalConv(width, width, *shape, bias=False) for shape in shapes)
        self.conv_norms = nn.ModuleList(nn.LayerNorm(width) for _ in shapes)
        sizes = (width, heads, window, dropout, droppath)
        self.stem = nn.ModuleList(ConvTransformerLayer(*sizes) for _ in range(stem))
        self.branch = nn.ModuleList(
            ConvTransformerLayer(*sizes, stride=2 if level else 1) for level in range(levels)
        )
        zero_biases(self)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """`[B, T, Din]`, mask `[B, T]` -> levels `[B, T_l, D]`, zero on padding, and their masks.

        T is padded to a multiple of the last level's stride; T_l is half of T_(l-1).
        """
        extra = -x.shape[1] % self.factor
        x, mask = F.pad(x, (0, 0, 0, extra)), F.pad(mask, (0, extra))
        x = self.embed(x * mask[..., None].to(x.dtype))
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            x, mask = F.relu(norm(conv(x, mask))), mask[:, :: conv.stride]
        if self.positions:
            x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        x = x * mask[..., None].to(x.dtype)
        for layer in self.stem:
            x, mask = layer(x, mask)
        levels, masks = [], []
        for layer in self.branch:
            x, mask = layer(x, mask)
            levels.append(x)
            masks.append(mask)
        return levels, masks
