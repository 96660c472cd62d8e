"""Non-maximum suppression of spans, hard or soft, for a whole batch at once.

Axes: B samples, Q spans, K spans that are kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vtg_lib.spans import cw_to_se, iou, se_to_cw

Decay = Callable[[Tensor], Tensor]  # IoU with a better span -> factor of the score

_ROUNDING = 1e-5  # of an IoU; borders on a grid meet a threshold exactly, and normalised spans must too


def hard(threshold: float) -> Decay:
    """Spans whose IoU with a better one is above `threshold` are dropped."""
    return lambda overlap: (overlap <= threshold).to(overlap.dtype)


def linear(overlap: Tensor) -> Tensor:
    """Linear soft-NMS without a threshold (Bodla et al. 2017, Eq. 2): scores fall by 1 - IoU."""
    return 1 - overlap


def gaussian(sigma: float, threshold: float = 0.0) -> Decay:
    """Gaussian soft-NMS (Bodla et al. 2017, Eq. 3): scores fall by exp(-IoU^2 / sigma) above `threshold`.

    Raises:
        ValueError: `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"soft-NMS: expected sigma > 0, got {sigma}")
    return lambda overlap: torch.where(overlap > threshold, (overlap.square() / -sigma).exp(), 1.0)


# As yeliudev/R2-Tuning @ 03fbcf6 names them, by threshold; its hard one also drops what meets the threshold.
DECAYS: dict[str, Callable[[float], Decay]] = {
    "hard": lambda threshold: hard(threshold - _ROUNDING),
    "linear": lambda threshold: linear,
}


def _suppress(spans: Tensor, scores: Tensor, decay: Decay, steps: int) -> tuple[Tensor, Tensor]:
    """In each of `steps` the best span that was not yet chosen lowers the scores of the others.

    Returns:
        The lowered scores `[B, Q]`, in the order of the input, and what was chosen `[B, steps]`.
    """
    corners, scores = cw_to_se(spans.float()), scores.float()
    waiting = torch.ones_like(scores, dtype=torch.bool)
    chosen = []
    for _ in range(steps):
        best = torch.where(waiting, scores, -1.0).argmax(1, keepdim=True)  # [B, 1]
        waiting = waiting.scatter(1, best, False)
        overlap = iou(corners.gather(1, best[..., None].expand(-1, -1, 2)), corners)  # [B, Q]
        scores = torch.where(waiting, scores * decay(overlap), scores)
        chosen.append(best)
    return scores, torch.cat(chosen, 1) if chosen else waiting.new_zeros(len(scores), 0, dtype=torch.long)


@torch.no_grad()
def lower_scores(spans: Tensor, scores: Tensor, decay: Decay) -> Tensor:
    """The best remaining span lowers the scores of the others.

    Args:
        spans: `[B, Q, 2]` (center, width); scores: `[B, Q]`, not negative; decay: see `hard`, `linear` and
            `gaussian`.

    Returns:
        The lowered scores `[B, Q]`, in the order of the input.
    """
    return _suppress(spans, scores, decay, scores.shape[1] - 1)[0]


@torch.no_grad()
def greedy_nms(
    spans: Tensor, scores: Tensor, keep: int, decay: Decay, least: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The `keep` best spans of every video, each lowering the scores of those not yet chosen.

    Args:
        spans: `[B, Q, 2]` (center, width); scores: `[B, Q]`, not negative; 0 is never chosen.
        keep: K spans at most; decay: see `hard`, `linear` and `gaussian`.
        least: scores at or below it are not chosen.

    Returns:
        spans `[B, K, 2]` and scores `[B, K]`, falling; empty spans of score 0 where a video has no more.
    """
    scores, chosen = _suppress(spans, scores, decay, min(keep, scores.shape[1]))
    scores = scores.gather(1, chosen)
    found = scores > least
    return spans.gather(1, chosen[..., None].expand(-1, -1, 2)) * found[..., None], scores * found


@torch.no_grad()
def vote(chosen: Tensor, spans: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Every chosen span becomes the mean of the predictions that it nearly equals, weighted by their scores.

    Args:
        chosen: `[B, K, 2]` (center, width) of `greedy_nms`; spans: `[B, Q, 2]`; scores: `[B, Q]` before
            suppression.
        threshold: least IoU of the predictions that have a vote.

    Returns:
        `[B, K, 2]`; empty spans stay.
    """
    overlap = iou(cw_to_se(chosen.float())[:, :, None], cw_to_se(spans.float())[:, None])  # [B, K, Q]
    weight = (overlap >= threshold) * scores.float()[:, None]
    total = weight.sum(-1, keepdim=True)
    return torch.where(total > 0, weight @ spans.float() / total.clamp(min=1e-12), chosen.float())


@torch.no_grad()
def best_spans(spans: Tensor, scores: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The `keep` best of spans `[B, Q, 2]` and scores `[B, Q]`, falling; all of them if there are fewer."""
    scores, best = scores.topk(min(keep, scores.shape[1]), 1)
    return spans.gather(1, best[..., None].expand(-1, -1, 2)), scores


@torch.no_grad()
def snap(spans: Tensor, length: Tensor, grid: float, open_ended: bool) -> Tensor:
    """Cuts spans to the video and rounds their borders to multiples of `grid`.

    Args:
        spans: `[B, Q, 2]` (center, width), normalised; length: `[B]` clips.
        grid: in clips; 0 does not round. open_ended: also round spans that reached or passed the end of the
            video.
    """
    length = length[:, None, None].to(spans.dtype)
    borders = cw_to_se(spans) * length
    cut = borders.clamp(min=0).minimum(length)
    if grid > 0:
        rounded = (cut / grid).round() * grid
        cut = rounded if open_ended else torch.where(borders[..., 1:] < length, rounded, cut)
    return se_to_cw(cut / length)
