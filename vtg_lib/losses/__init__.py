"""Losses on padded batches: tensor code without a loop over samples, layers or clips."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean of `values` over `axes` where `mask` holds; 0 where nothing does."""
    weight = mask.to(values.dtype)
    return (values * weight).sum(axes) / weight.sum(axes).clamp(min=1)
