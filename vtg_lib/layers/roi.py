"""RoI pooling of spans over one temporal axis, and sampling in them."""

from __future__ import annotations

import torch
from torch import Tensor

from vtg_lib.layers.deformable import sample_clips

_MIN_BIN = 1e-2  # clips; keeps the average of an empty bin finite


@torch.no_grad()
def roi_matrix(start: Tensor, end: Tensor, length: Tensor, clips: int, bins: int) -> Tensor:
    """Weights `[..., B, Q, bins, T]` with which every bin averages the linearly interpolated clips.

    The average over a bin is exact (the integral of the interpolation, as in Precise RoI Pooling), so that no
    clip inside a long moment is skipped. Outside the video the signal is zero.

    Args:
        start, end: `[..., B, Q]`, normalised; length: `[B]` clips of each video; clips: T.
    """
    start, end = start.clamp(0, 1) * length[:, None], end.clamp(0, 1) * length[:, None]
    size = ((end - start) / bins).clamp(min=_MIN_BIN)
    edges = (start - 0.5)[..., None] + size[..., None] * torch.arange(bins + 1, device=start.device)
    reach = (edges[..., None] - torch.arange(clips, device=start.device)).clamp_(-1, 1)
    # The integral of the tent function up to u, times 2 and but for a constant: u (2 - |u|) on [-1, 1].
    integral = reach.abs().neg_().add_(2).mul_(reach)
    return (integral[..., 1:, :] - integral[..., :-1, :]).mul_((0.5 / size)[..., None, None])


def roi_pool(features: Tensor, spans: Tensor, length: Tensor, bins: int) -> Tensor:
    """`bins` averages inside every span; no gradient to the spans (as xlliu7/TadTR @ 983ae14).

    Args:
        features: `[S, B, T, D]`, zero on padding; spans: `[S, B, Q, 2]` (center, width), normalised.
        length: `[B]` clips.

    Returns:
        `[S, B, Q, bins * D]`.
    """
    center, half = spans[..., 0].detach().float(), spans[..., 1].detach().float() / 2
    matrix = roi_matrix(center - half, center + half, length, features.shape[-2], bins)
    pooled = matrix.flatten(-3, -2).to(features.dtype) @ features
    return pooled.view(*spans.shape[:-1], bins * features.shape[-1])


def sample_span(features: Tensor, spans: Tensor, length: Tensor, points: int) -> Tensor:
    """Features at the middles of `points` equal parts of every span, linearly interpolated between clips;
    beyond the video its first or last clip. The spans get a gradient.

    Args:
        features: `[B, T, D]`; spans: `[B, Q, 2]` (center, width), normalised; length: `[B]` clips.

    Returns:
        `[B, Q, points, D]`.
    """
    part = (torch.arange(points, device=spans.device) + 0.5) / points - 0.5
    return sample_clips(features, spans[..., :1] + part * spans[..., 1:], length)
