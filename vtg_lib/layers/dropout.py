"""Dropout with cheap masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BITS = 16


class Dropout(nn.Module):
    """Drops elements with probability `p` and scales the rest by 1 / (1 - p).

    PyTorch's CPU kernel draws one Bernoulli variable per element; here each element takes 16 random bits, four from every
    64-bit draw. The probability is rounded to a multiple of 2^-16. On other devices PyTorch's kernel is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * keep_mask(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def keep_mask(x: Tensor, p: float) -> Tensor:
    """Mask of x's shape and type: 0 with probability `p`, else 1 / (1 - p)."""
    count = x.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    threshold = round(p * 2**_BITS) - 2 ** (_BITS - 1)
    return (bits >= threshold).to(x.dtype).mul_(1 / (1 - p)).view(x.shape)
