"""Convolutions over one temporal axis, channels last, that never read padding.

Written as shifted slices and matrix products, which take and give the layout of the other layers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def shifted(x: Tensor, kernel: int, stride: int = 1, fill: float = 0.0) -> list[Tensor]:
    """The `kernel` slices `[B, ceil(T / stride), D]` that a centred window reads; `fill` beyond the ends of
    `[B, T, D]`.
    """
    reach, clips = kernel // 2, x.shape[1]
    x = F.pad(x, (0, 0, reach, reach), value=fill)
    return [x[:, tap : tap + clips : stride] for tap in range(kernel)]


class TemporalConv(nn.Module):
    """Centred convolution of odd `kernel`; output i is about input i * stride. Starts as `torch.nn.Conv1d`
    does.
    """

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


def max_pool(x: Tensor, mask: Tensor, stride: int) -> Tensor:
    """Maximum over the real clips in windows of 3: `[B, T, D]`, `[B, T]` -> `[B, ceil(T / stride), D]`, 0
    around padding.
    """
    pooled = torch.stack(shifted(x.masked_fill(~mask[..., None], -torch.inf), 3, stride, -torch.inf)).amax(0)
    return pooled.masked_fill(~mask[:, ::stride, None], 0.0)


class ConvHead(nn.Module):
    """`depth` convolutions of one kernel with ReLU between them, with or without LayerNorm before each
    ReLU.
    """

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
