"""SG-DETR's losses of decoder queries, of the selected proposals and of groups (Eq. 12), and of saliency
(Eq. 11) and alignment (Eq. 14).

Facts are from chinagalaxy2002/SG_CGP @ 931cad1. Means run over the batch. Axes: S layers, B samples, Q
queries, M moments, T clips, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vtg_lib.losses import masked_mean
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.losses.saliency import clip_cross_entropy, hinge_saliency, rank_contrastive_saliency
from vtg_lib.losses.set_prediction import BACKGROUND_WEIGHT, focal_loss, loss_giou, loss_l1
from vtg_lib.spans import cw_to_se, iou

_LAST = (-1, -2)


def class_loss(
    logits: Tensor, positive: Tensor, real: Tensor | None = None, background: float = 1.0
) -> Tensor:
    """Binary cross-entropy of the class, the background weighing `background`; mean over the real queries.

    Args:
        logits, positive, real: `[…, B, Q]`.

    Returns:
        `[…]`.
    """
    error = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    error = torch.where(positive, error, background * error)
    return error.mean(_LAST) if real is None else masked_mean(error, real.expand_as(error), _LAST)


def smooth_l1(spans: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Smooth L1 between (center, width) spans `[…, B, M, 2]`, mean over both numbers and the valid ones
    `[…, B, M]` -> `[…]`.
    """
    return masked_mean(F.smooth_l1_loss(spans, target, reduction="none").mean(-1), valid, _LAST)


def match_queries(
    spans: Tensor,
    logits: Tensor,
    quality: Tensor | None,
    target: Tensor,
    mask: Tensor,
    cost: MatchCost,
    weight_iou: float,
) -> Matches:
    """Hungarian matching whose cost also counts the predicted IoU (Sec. 3.6), weighing `weight_iou`.

    Args:
        spans: `[S, B, Q, 2]` (center, width); logits, quality: `[S, B, Q]`; target: `[B, M, 2]`; mask:
            `[B, M]`.
    """
    further = None
    if quality is not None and weight_iou:
        further = (-weight_iou * quality.detach().sigmoid()).unsqueeze(-2).expand(-1, -1, target.shape[1], -1)
    return match(spans.detach(), logits.detach().sigmoid(), target, mask, cost, further)


def query_losses(
    spans: Tensor, logits: Tensor, quality: Tensor | None, target: Tensor, matches: Matches
) -> dict[str, Tensor]:
    """Losses of one set of queries, summed over its S layers, not weighted.

    Args:
        spans: `[S, B, Q, 2]` (center, width); logits: `[S, B, Q]` of the class; quality: `[S, B, Q]` logits
            of the IoU, learned on matched queries only; target: `[B, M, 2]`.

    Returns:
        `span`, `giou`, `class` and, with quality, `iou`.
    """
    found = matches.gather(spans)
    wanted = target.expand_as(found)
    losses = {
        "span": smooth_l1(found, wanted, matches.valid),
        "giou": loss_giou(cw_to_se(found), cw_to_se(wanted), matches.valid),
        "class": class_loss(logits, matches.positive, background=BACKGROUND_WEIGHT),
    }
    if quality is not None:
        overlap = iou(cw_to_se(found.detach()), cw_to_se(wanted))
        told = matches.gather(quality[..., None]).squeeze(-1)
        error = F.binary_cross_entropy_with_logits(told, overlap, reduction="none")
        losses["iou"] = masked_mean(error, matches.valid, _LAST)
    return {name: loss.sum() for name, loss in losses.items()}


def group_losses(
    spans: Tensor, logits: Tensor, target: Tensor, positive: Tensor, real: Tensor, borders: bool
) -> dict[str, Tensor]:
    """Losses of queries that know what they have to find, summed over layers, not weighted.

    Args:
        spans: `[S, B, K, 2]`; logits: `[S, B, K]`; target: `[B, K, 2]`, positive, real: `[B, K]`, see
            `QueryGroup`.
        borders: L1 of start and end (positive anchors), else smooth L1 of center and width (noisy moments).
    """
    wanted, valid = target.expand_as(spans), positive.expand(spans.shape[:-1])
    first, second = cw_to_se(spans), cw_to_se(wanted)
    losses = {
        "span": loss_l1(first, second, valid) if borders else smooth_l1(spans, wanted, valid),
        "giou": loss_giou(first, second, valid),
        "class": class_loss(logits, valid, real),
    }
    return {name: loss.sum() for name, loss in losses.items()}


def saliency_loss(
    own: Tensor,
    other: Tensor | None,
    target: Tensor,
    mask: Tensor,
    pairs: tuple[Tensor, Tensor],
    real: Tensor,
    margin: float,
) -> Tensor:
    """Cross-entropy, margin ranking of probabilities, rank contrast, and silence under another sentence
    (Eq. 11).

    Args:
        own, other: `[B, T]` logits with the own and another sample's sentence; target: `[B, T]`; mask:
            `[B, T]`.
        pairs: of `saliency_pairs`; real: `[B]`, False where the other sentence is about the same video.
    """
    own = own.float()
    loss = clip_cross_entropy(own, target.clamp(0, 1), mask)
    loss = loss + hinge_saliency(own.sigmoid(), *pairs, margin)
    if other is None:
        return loss + rank_contrastive_saliency(own, target, mask)
    other, heard = other.float(), mask & real[:, None]
    both, masks = torch.cat((own, other), 1), torch.cat((mask, heard), 1)
    contrast = rank_contrastive_saliency(both, F.pad(target, (0, other.shape[1])), masks)
    return loss + contrast + masked_mean(F.softplus(other), heard, (0, 1))


def paired_alignment(moment: Tensor, sentence: Tensor) -> Tensor:
    """Sigmoid focal loss of the cosines between all moments and sentences `[B, D]` of the batch, those of one
    sample belonging together; sum over sentences, mean over moments.
    """
    cosine = F.normalize(moment.float(), dim=-1) @ F.normalize(sentence.float(), dim=-1).T
    own = torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    return focal_loss(cosine, own, alpha=0.5).sum(1).mean()
