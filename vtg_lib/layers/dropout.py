"""Dropout with cheap masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 256  # a random byte decides for an element


class Dropout(nn.Module):
    """Drops elements with probability `p` and scales the rest to keep the expectation; see `dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x with elements dropped while training, added to `residual` of the same shape if there is one."""
        if self.training:
            return dropout(x, self.p, residual)
        return x if residual is None else residual + x

    def extra_repr(self) -> str:
        return f"p={self.p}"


def dropout(x: Tensor, p: float, residual: Tensor | None = None) -> Tensor:
    """x with elements dropped with probability `p`, the rest divided by the share that is kept on average;
    added to `residual` in the same pass if there is one.

    PyTorch's CPU kernel draws one Bernoulli variable per element; here an element takes a random byte, eight
    from every 64-bit draw, and the bytes are all that the backward pass keeps. The probability is rounded to
    a multiple of 1/256. On other devices PyTorch's kernel is used, and in compiled code, which fuses it with
    its neighbours.
    """
    if p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        dropped = dropped_levels(p)
        if residual is not None and residual.shape == x.shape and residual.dtype == x.dtype:
            return _ResidualDropout.apply(x, residual, dropped)  # type: ignore[no-untyped-call]
        x = _Dropout.apply(x, dropped)  # type: ignore[no-untyped-call]
    elif p > 0:
        x = nn.functional.dropout(x, p)
    return x if residual is None else residual + x


def dropped_levels(p: float) -> int:
    """How many of the 256 values of a byte drop an element."""
    return min(round(p * LEVELS), LEVELS - 1)


def random_bytes(shape: torch.Size) -> Tensor:
    """Independent int8 values, uniform over -128..127."""
    count = shape.numel()
    return (
        torch.empty((count + 7) // 8, dtype=torch.int64)
        .random_(-(2**63), None)
        .view(torch.int8)[:count]
        .view(shape)
    )


class _Dropout(torch.autograd.Function):
    """`dropped` of 256 bytes drop an element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        noise = random_bytes(x.shape)
        ctx.save_for_backward(noise)
        ctx.dropped = dropped
        return masked(x, noise, dropped)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (noise,) = ctx.saved_tensors
        return masked(gradient, noise, ctx.dropped), None


class _ResidualDropout(torch.autograd.Function):
    """`_Dropout` of x, added to the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, dropped: int) -> Tensor:
        noise = random_bytes(x.shape)
        ctx.save_for_backward(noise)
        ctx.dropped = dropped
        return masked(x, noise, dropped, residual)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (noise,) = ctx.saved_tensors
        return masked(gradient, noise, ctx.dropped), gradient, None


def masked(x: Tensor, noise: Tensor, dropped: int, base: Tensor | None = None) -> Tensor:
    """base (zero) + x where the bytes `noise` of the same shape are not among the `dropped`, scaled.

    Two passes over the memory: the mask is written as numbers of x's type, and the product over it.
    """
    mask = torch.ge(noise, dropped - LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
    base = x.new_zeros(()) if base is None else base
    return torch.addcmul(base, x, mask, value=LEVELS / (LEVELS - dropped), out=mask)
