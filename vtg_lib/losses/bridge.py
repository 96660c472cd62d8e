"""Global-local bridging (Sim-DETR, ICCV 2025): a matched query looks like the clips of its moment, and like
no others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.matching import Matches
from vtg_lib.spans import cw_to_se


def clip_similarity(states: Tensor, memory: Tensor, scale: Tensor) -> Tensor:
    """z = sigmoid(tau cos(q_i, T)): states `[..., B, Q, D]`, memory `[B, T, D]`, tau a scalar ->
    `[..., B, Q, T]`.
    """
    states, memory = F.normalize(states.float(), dim=-1), F.normalize(memory.float(), dim=-1)
    return (scale * (states @ memory.transpose(-1, -2))).sigmoid()


def clips_inside(target: Tensor, mask: Tensor) -> Tensor:
    """Clips whose middle lies in a moment: target `[B, M, 2]` (center, width), mask `[B, T]` ->
    `[B, M, T]`.
    """
    middle = (torch.arange(mask.shape[1], device=mask.device) + 0.5) / mask.sum(1, keepdim=True)
    start, end = cw_to_se(target)[..., None].unbind(-2)
    return (middle[:, None] >= start) & (middle[:, None] <= end) & mask[:, None]


def clip_overlap(similarity: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """sum_j z_j I_j / (sum_j z_j (1 - I_j) + sum_j I_j), I_j: clip j is in the moment; the soft IoU of the
    clips that a query resembles and those of a moment.

    Args:
        similarity: `[S, B, Q, T]` of `clip_similarity`; target: `[B, M, 2]` (center, width); mask: `[B, T]`.

    Returns:
        `[S, B, M, Q]`, in 0..1.
    """
    inside = clips_inside(target, mask).float()  # [B, M, T]
    z = similarity * mask[:, None]
    hit = inside @ z.transpose(-1, -2)  # [S, B, M, Q]
    return hit / (z.sum(-1)[..., None, :] + inside.sum(-1)[..., None] - hit).clamp(min=1e-6)


def bridging_loss(overlap: Tensor, matches: Matches, target: Tensor, mask: Tensor) -> Tensor:
    """Minus `clip_overlap` of matched queries.

    Args:
        overlap: `[S, B, M, Q]`; matches: of S layers; target, mask: as in `clip_overlap`.

    Returns:
        `[S]`, in -1..0: the mean over matched pairs whose moment has a clip.
    """
    own = overlap.gather(-1, matches.query[..., None]).squeeze(-1)
    return -masked_mean(own, matches.valid & clips_inside(target, mask).any(-1), (-1, -2))
