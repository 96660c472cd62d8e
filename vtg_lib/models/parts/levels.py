"""What methods share that read K levels of a frozen backbone, the shallowest first.

Axes: B, K, T, L as in `vtg_lib.data.batches`, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtg_lib.data.batches import Batch
from vtg_lib.layers.dense_stream import path_masks
from vtg_lib.losses.contrastive import info_nce

Paths = list[list[Tensor | None]]  # masks of `PostNorm`: of every block, its branches


def last_levels(batch: Batch, levels: int, stride: int = 1, fixes: str = "") -> tuple[Tensor, Tensor]:
    """The last levels, every `stride`-th of them: `[B, K, T, Dv]` and `[B, K, L, Dt]`.

    Features without levels have one; words without levels are the same at all of them.

    Raises:
        ValueError: the features have fewer levels; `fixes` are the method's own, beside fewer levels.
    """
    video = batch.video if batch.video.dim() == 4 else batch.video[:, None]
    text = batch.text if batch.text.dim() == 4 else batch.text[:, None].expand(-1, video.shape[1], -1, -1)
    needed = 1 + stride * (levels - 1)
    if min(video.shape[1], text.shape[1]) < needed:
        at = f", at stride {stride}," if stride > 1 else ""
        raise ValueError(
            f"{levels} levels need{at} features with at least {needed} levels, got "
            f"{video.shape[1]} of the video and {text.shape[1]} of the text; lower levels{fixes}, or use "
            "features with more levels"
        )
    return video[:, video.shape[1] - needed :: stride], text[:, text.shape[1] - needed :: stride]


def draw_paths(batch: int, blocks: int, branches: int, droppath: float, device: torch.device) -> Paths:
    """DropPath masks of every branch of every block for a batch of that many samples; none at rate 0."""
    if not droppath:
        return [[None] * branches for _ in range(blocks)]
    return [list(row.unbind(0)) for row in path_masks((blocks, branches, batch), droppath, device)]


def alignment_losses(clips: Tensor, text: Tensor, positive: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """InfoNCE of a relevant clip and the sentence over the batch (SDST, Eq. 21) and over the levels (Eq. 22).

    Args:
        clips: `[K, B, T, D]`; text: `[K, B, D]`, both in the shared space; positive, valid: of
            `choose_positive`.

    Returns:
        `video_align` and `layer_align`, scalars, both directions summed.
    """
    chosen = clips[:, torch.arange(len(positive), device=clips.device), positive]  # [K, B, D]
    every = valid[:, None].expand(-1, len(clips))
    return {
        "video_align": info_nce(chosen, text, valid),
        "layer_align": info_nce(chosen.transpose(0, 1), text.transpose(0, 1), every),
    }
