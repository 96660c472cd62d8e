"""Convolutions over one temporal axis, channels last, that never read padding.

Written as shifted slices and matrix products: on a CPU that is several times faster than `torch.nn.Conv1d` at small widths.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.dropout import Dropout


def shifted(x: Tensor, kernel: int, stride: int = 1) -> list[Tensor]:
    """The `kernel` slices `[B, ceil(T / stride), D]` that a centred convolution weighs; zeros beyond the ends of `[B, T, D]`."""
    reach, clips = kernel // 2, x.shape[1]
    x = F.pad(x, (0, 0, reach, reach))
    return [x[:, tap : tap + clips : stride] for tap in range(kernel)]


class TemporalConv(nn.Module):
    """Centred convolution of odd `kernel`; output i is about input i * stride. Starts as `torch.nn.Conv1d` does."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.taps = nn.Linear(kernel * inputs, outputs, bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, T, Din]`, mask `[B, T]` of what is read -> `[B, ceil(T / stride), Dout]`."""
        return self.taps(torch.cat(shifted(x * mask[..., None].to(x.dtype), self.kernel, self.stride), -1))


class DepthwiseConv(nn.Module):
    """Several depthwise convolutions of kernel 3 without bias, of the same input, in one pass."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.empty(3, outputs, width))
        nn.init.uniform_(self.taps, -1 / math.sqrt(3), 1 / math.sqrt(3))

    def forward(self, x: Tensor, mask: Tensor, stride: int = 1) -> tuple[Tensor, ...]:
        """x `[B, T, D]`, mask `[B, T]` of what is read -> `outputs` tensors `[B, ceil(T / stride), D]`."""
        before, here, after = shifted(x * mask[..., None].to(x.dtype), 3, stride)
        first, middle, last = (tap.to(x.dtype).unbind(0) for tap in self.taps)
        return tuple(before * a + here * b + after * c for a, b, c in zip(first, middle, last, strict=True))


class ConvHead(nn.Module):
    """`depth` convolutions of one kernel with ReLU between them, with or without LayerNorm before each ReLU."""

    def __init__(self, width: int, outputs: int, depth: int, kernel: int = 3, norm: bool = False) -> None:
        super().__init__()
        hidden = [TemporalConv(width, width, kernel, bias=not norm) for _ in range(depth - 1)]
        self.convs = nn.ModuleList([*hidden, TemporalConv(width, outputs, kernel)])
        self.norms = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth - 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x `[B, T, D]`, mask `[B, T]` -> `[B, T, outputs]`."""
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.relu(norm(conv(x, mask)))
        return self.convs[-1](x, mask)


class GeluFeedForward(nn.Module):
    """Linear, GELU, dropout, linear, dropout."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.dropout(F.gelu(self.up(x)))))
