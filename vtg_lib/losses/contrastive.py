"""Contrastive losses between clips and text (SDST, App. C.1 and C.3; facts from yeliudev/R2-Tuning)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses.set_prediction import masked_mean

TEMPERATURE = 0.07  # yeliudev/R2-Tuning, not learned


def choose_positive(saliency: Tensor, mask: Tensor, sample: bool) -> tuple[Tensor, Tensor]:
    """One relevant clip a video.

    Args:
        saliency: `[B, T]` targets; mask: `[B, T]` real clips.
        sample: draw it uniformly among the clips of positive saliency; else take the most salient one,
            without random numbers.

    Returns:
        Its index `[B]` (0 where there is none) and whether there is one `[B]`.
    """
    relevant = (saliency > 0) & mask
    rank = torch.rand(saliency.shape, device=saliency.device) if sample else saliency
    return torch.where(relevant, rank, -1.0).argmax(1), relevant.any(1)


def sampled_nce(
    similarity: Tensor,
    saliency: Tensor,
    mask: Tensor,
    positive: Tensor,
    valid: Tensor,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """SampledNCE of the saliency scores (Eq. 12): the chosen clip against clips that are not more salient.

    Contrasted twice: with the clips of its own video, and with the clips at the same place in the batch's
    other videos.

    Args:
        similarity: `[B, T]` cosine of clip and text; saliency: `[B, T]` targets; mask: `[B, T]` real clips.
        positive: `[B]` index of the chosen clip; valid: `[B]` False where a video has none.

    Returns:
        Scalar: mean over the valid videos, both directions summed.
    """
    limit = saliency.gather(1, positive[:, None])
    logits = (similarity.float() / temperature).masked_fill((saliency > limit) | ~mask, -torch.inf)
    row = logits.log_softmax(1).gather(1, positive[:, None]).squeeze(1)
    column = logits[:, positive].log_softmax(0).diagonal()  # [other video, chosen clip]
    return masked_mean(torch.where(valid, -(row + column), 0.0), valid, (0,))


def info_nce(
    first: Tensor, second: Tensor, valid: Tensor | None = None, temperature: float = TEMPERATURE
) -> Tensor:
    """InfoNCE between matching rows, in both directions (Eq. 21 over the batch, Eq. 22 over the levels).

    Args:
        first, second: `[..., N, D]`; row i of one belongs to row i of the other.
        valid: `[..., N]` rows that take part, as anchors and as negatives.

    Returns:
        Scalar: mean over the valid anchors, both directions summed.
    """
    logits = (
        F.normalize(first.float(), dim=-1)
        @ F.normalize(second.float(), dim=-1).transpose(-1, -2)
        / temperature
    )
    target = logits.diagonal(dim1=-2, dim2=-1)
    if valid is None:
        return (logits.logsumexp(-1) + logits.logsumexp(-2) - 2 * target).mean()
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    row = logits.masked_fill(~(valid[..., None, :] | own), -torch.inf).logsumexp(-1)
    column = logits.masked_fill(~(valid[..., None] | own), -torch.inf).logsumexp(-2)
    loss, valid = row + column - 2 * target, valid.expand(target.shape)
    return masked_mean(loss, valid, tuple(range(loss.dim())))
