"""Alignment of clips and words before they meet: TR-DETR's local regulator (the global one is `info_nce`)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses.contrastive import TEMPERATURE
from vtg_lib.losses.set_prediction import masked_mean


def clip_sentence_alignment(
    clips: Tensor,
    mask: Tensor,
    words: Tensor,
    text_mask: Tensor,
    positive: Tensor,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Binary cross-entropy of the cosine similarity between a clip and the mean normalised word.

    The public code also averages over padded clips, as pairs of similarity 0 (mingyao1120/TR-DETR @ fca43a9).

    Args:
        clips: `[B, T, D]`; mask: `[B, T]` real clips; words: `[B, L, D]`; text_mask: `[B, L]`.
        positive: `[B, T]` relevant clips.

    Returns:
        Scalar: mean over the real clips of the batch.
    """
    sentence = masked_mean(F.normalize(words.float(), dim=-1), text_mask[..., None], (1,))
    similarity = (F.normalize(clips.float(), dim=-1) @ sentence[..., None]).squeeze(-1)
    loss = F.binary_cross_entropy_with_logits(similarity / temperature, positive.float(), reduction="none")
    return masked_mean(loss, mask, (0, 1))
