"""Losses of CG-DETR (Moon et al. 2023): what clips give to words and to dummy tokens, and what that is
learned from.

Facts not in the paper are from wjun0830/CGDETR @ 212b2e4. Averages that run over padding there leave it out
here. Axes: B samples, T clips, N dummy tokens, L words, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.saliency import hinge_saliency, rank_contrastive_saliency


def same_video(video: Tensor, mask: Tensor) -> Tensor:
    """`[B]`: whether a sample has the same video as the next one (the last: as the first), told by its
    features `[B, T, D]`.

    The public code compares names. Another sentence about the same video may be true of it, so it is no
    negative pair.
    """
    equal = (video == video.roll(-1, 0)) | ~mask[..., None]
    return equal.flatten(1).all(1) & (mask == mask.roll(-1, 0)).all(1)


def guided_saliency(
    scores: tuple[Tensor, Tensor, Tensor],
    target: Tensor,
    mask: Tensor,
    pairs: tuple[Tensor, Tensor],
    real: Tensor,
    margin: float,
    weight_negative: float,
) -> Tensor:
    """Hinge, rank-contrastive and negative-pair loss (QD-DETR, Eq. 4-6) without the pairs that are none.

    The rank-contrastive loss is averaged over the batch; the public code averages the samples with and
    without a negative pair apart and adds both.

    Args:
        scores: three of `[B, T]`: with the own sentence, with another sample's, and -log(1 - probability) of
            the latter.
        target: `[B, T]`; mask: `[B, T]`; pairs: from `saliency_pairs`.
        real: `[B]`, False where the other sentence is about the same video.
        weight_negative: of the negative-pair loss (a sum over clips, averaged over the real pairs).
    """
    own, other, surprise = (score.float() for score in scores)
    both, masks = torch.cat((own, other), 1), torch.cat((mask, mask & real[:, None]), 1)
    contrast = rank_contrastive_saliency(both, F.pad(target, (0, other.shape[1])), masks)
    silence = masked_mean((surprise * mask).sum(1), real, (0,))
    return hinge_saliency(own, *pairs, margin) + contrast + weight_negative * silence


def relevance(attention: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of the attention that clips give to words `[B, T]` in 0..1 against relevance; mean
    over clips.
    """
    return masked_mean(F.binary_cross_entropy(attention, target.clamp(0, 1), reduction="none"), mask, (0, 1))


def distillation(attention: Tensor, clips: Tensor, words: Tensor, mask: Tensor, moment: Tensor) -> Tensor:
    """Clip-word correlation taught to the cross-attention: KL divergence on the clips of the moments.

    Args:
        attention: `[B, T, N + L]`, the student; clips: `[B, T, D]` and words: `[B, N + L, D]` of the joint
            space, whose similarity is the teacher, without gradient; mask: `[B, N + L]`; moment: `[B, T]`.

    Returns:
        Scalar: mean over the clips of all moments of the mean over tokens.
    """
    similarity = clips.detach().float() @ words.detach().float().transpose(1, 2)
    teacher = similarity.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
    divergence = torch.xlogy(teacher, teacher) - teacher * (attention.float() + 1e-6).log()
    return masked_mean(divergence.sum(-1) / mask.sum(1, keepdim=True), moment, (0, 1))


def moment_sentence_alignment(moment: Tensor, background: Tensor, sentence: Tensor, chosen: Tensor) -> Tensor:
    """Contrast of moments with the batch's sentences, each beside the similarity of the video's background
    with them.

    Args:
        moment, background, sentence: `[B, D]` tokens; chosen: `[B]` index of the sentence that is right for
            each moment.
    """
    first, second = F.normalize(moment.float(), dim=-1), F.normalize(background.float(), dim=-1)
    sentence = F.normalize(sentence.float(), dim=-1)
    return F.cross_entropy(torch.cat((first @ sentence.T, second @ sentence.T), 1), chosen)


def membership(token: Tensor, clips: Tensor, moment: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of "this clip belongs to the moment", read off the moment token `[B, D]`; mean
    over clips.
    """
    score = (clips.float() @ token.float()[..., None]).squeeze(-1).sigmoid()
    return masked_mean(F.binary_cross_entropy(score, moment.float(), reduction="none"), mask, (0, 1))


def orthogonality(tokens: Tensor) -> Tensor:
    """Mean absolute cosine between different tokens `[..., N, D]`, zeros of the diagonal included."""
    tokens = F.normalize(tokens.float(), dim=-1)
    similarity = tokens @ tokens.detach().transpose(-1, -2)
    return (similarity * (1 - torch.eye(tokens.shape[-2], device=tokens.device))).abs().mean()
