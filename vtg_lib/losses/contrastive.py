"""Contrastive losses between clips and text, and their alignment before they meet.

Equations are those of SDST (App. C.1 and C.3); facts from yeliudev/R2-Tuning. Axes: B samples, T clips, L
words, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.saliency import clip_cross_entropy

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
    across: bool = True,
) -> Tensor:
    """SampledNCE of the saliency scores (Eq. 12): the chosen clip against clips that are not more salient.

    Contrasted twice: with the clips of its own video, and with the clips at the same place in the batch's
    other videos.

    Args:
        similarity: `[B, T]` cosine of clip and text; saliency: `[B, T]` targets; mask: `[B, T]` real clips.
        positive: `[B]` index of the chosen clip; valid: `[B]` False where a video has none.
        across: contrast with the other videos, too.

    Returns:
        Scalar: mean over the valid videos, both directions summed.
    """
    limit = saliency.gather(1, positive[:, None])
    logits = (similarity.float() / TEMPERATURE).masked_fill((saliency > limit) | ~mask, -torch.inf)
    loss = -logits.log_softmax(1).gather(1, positive[:, None]).squeeze(1)
    if across:
        loss = loss - logits[:, positive].log_softmax(0).diagonal()  # [other video, chosen clip]
    return masked_mean(torch.where(valid, loss, 0.0), valid, (0,))


def intra_video_nce(
    similarity: Tensor, saliency: Tensor, mask: Tensor, positive: Tensor, valid: Tensor
) -> Tensor:
    """Intra-video contrastive saliency: a relevant clip against the less salient ones of its video.

    As `sampled_nce`, also contrasted with the clips at the same place in the other videos, but equally
    salient clips are no negatives.

    Args: see `sampled_nce`.
    """
    clip = torch.arange(saliency.shape[1], device=saliency.device)
    tied = (saliency == saliency.gather(1, positive[:, None])) & (clip != positive[:, None])
    return sampled_nce(similarity, saliency + tied, mask, positive, valid)


def info_nce(first: Tensor, second: Tensor, valid: Tensor | None = None) -> Tensor:
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
        / TEMPERATURE
    )
    target = logits.diagonal(dim1=-2, dim2=-1)
    if valid is None:
        return (logits.logsumexp(-1) + logits.logsumexp(-2) - 2 * target).mean()
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    row = logits.masked_fill(~(valid[..., None, :] | own), -torch.inf).logsumexp(-1)
    column = logits.masked_fill(~(valid[..., None] | own), -torch.inf).logsumexp(-2)
    loss, valid = row + column - 2 * target, valid.expand(target.shape)
    return masked_mean(loss, valid, tuple(range(loss.dim())))


def clip_sentence_alignment(
    clips: Tensor,
    mask: Tensor,
    words: Tensor,
    text_mask: Tensor,
    positive: Tensor,
) -> Tensor:
    """TR-DETR's local regulator: cross-entropy of the cosine between a clip and the mean normalised word.

    The public code also averages over padded clips, as pairs of similarity 0 (mingyao1120/TR-DETR @ fca43a9).

    Args:
        clips: `[B, T, D]`; mask: `[B, T]` real clips; words: `[B, L, D]`; text_mask: `[B, L]`.
        positive: `[B, T]` relevant clips.

    Returns:
        Scalar: mean over the real clips of the batch.
    """
    sentence = masked_mean(F.normalize(words.float(), dim=-1), text_mask[..., None], (1,))
    similarity = (F.normalize(clips.float(), dim=-1) @ sentence[..., None]).squeeze(-1)
    return clip_cross_entropy(similarity / TEMPERATURE, positive.float(), mask)


def clip_text_matching(
    clips: Tensor, mask: Tensor, sentence: Tensor, saliency: Tensor, sample: bool
) -> Tensor:
    """L_ctm = L_local + L_intra + L_inter (SA-DETR, Sec. 3.2), of the cosine of clips and sentence.

    L_local is TR-DETR's cross-entropy of relevant and other clips, L_intra UniVTG's contrast of a relevant
    clip with others of its video, L_inter that of it with other sentences: 0 for a batch of one.

    Args:
        clips: `[B, T, D]`; mask: `[B, T]` real clips; sentence: `[B, D]`; saliency: `[B, T]` targets;
            sample: draw the relevant clip, see `choose_positive`.

    Returns:
        Scalar; videos without a relevant clip count in L_local alone.
    """
    similarity = F.cosine_similarity(clips.float(), sentence.float()[:, None], dim=-1)
    positive, valid = choose_positive(saliency, mask, sample)
    local = clip_cross_entropy(similarity / TEMPERATURE, ((saliency > 0) & mask).float(), mask)
    some = mask | ~mask.any(1, keepdim=True)  # a video of padding alone is not valid, but must stay finite
    intra = intra_video_nce(similarity, saliency, some, positive, valid)
    chosen = clips[torch.arange(len(clips), device=clips.device), positive]
    return local + intra + info_nce(chosen, sentence, valid)
