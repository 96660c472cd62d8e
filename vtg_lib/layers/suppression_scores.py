"""Suppression that lowers scores and keeps every span, as yeliudev/R2-Tuning @ 03fbcf6 and Zhuo-Cao/FlashVTG
@ 25b9591 do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vtg_lib.data.batches import Output
from vtg_lib.models.config import Published
from vtg_lib.spans import cw_to_se, iou, se_to_cw

Factor = Callable[[Tensor, float], Tensor]  # IoU with a better span, threshold -> factor of the score

_ROUNDING = 1e-5  # of an IoU; borders on a grid meet a threshold exactly, and normalised spans must too
# "hard": 0 from the threshold on; "linear": 1 - IoU, without a threshold.
FACTORS: dict[str, Factor] = {
    "hard": lambda overlap, threshold: (overlap < threshold - _ROUNDING).to(overlap.dtype),
    "linear": lambda overlap, threshold: 1 - overlap,
}


@torch.no_grad()
def lower_scores(spans: Tensor, scores: Tensor, kind: str, threshold: float) -> Tensor:
    """The best remaining span lowers the scores of the others; `vtg_lib.layers.suppression.soft_nms` with
    another rule.

    Args:
        spans: `[B, Q, 2]` (center, width); scores: `[B, Q]`, not negative; kind: a key of `FACTORS`.

    Returns:
        The lowered scores `[B, Q]`, in the order of the input.
    """
    corners = cw_to_se(spans.float())
    factors = FACTORS[kind](iou(corners[:, :, None], corners[:, None]), threshold)  # [B, Q, Q]
    scores = scores.float().clone()
    waiting = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(scores.shape[1] - 1):
        best = torch.where(waiting, scores, -1.0).argmax(1, keepdim=True)  # [B, 1]
        waiting.scatter_(1, best, False)
        factor = factors.gather(1, best[..., None].expand(-1, -1, factors.shape[-1])).squeeze(1)
        scores = torch.where(waiting, scores * factor, scores)
    return scores


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


@dataclass(frozen=True, kw_only=True)
class Suppression(Published):
    """The part of a method's config that says what is done to the spans of all points.

    Attributes:
        candidates: spans kept before suppression; nms: a key of `FACTORS`, with `nms_threshold`.
        grid: in clips; borders are rounded to its multiples; 0 does not round; open_ended: see `snap`.
    """

    open_ended: ClassVar[bool] = False

    candidates: int = 50
    nms: str = "hard"
    nms_threshold: float = 0.7
    grid: float = 1.0

    def __post_init__(self) -> None:
        if self.nms not in FACTORS:
            method = type(self).__module__.rpartition(".")[2]
            raise ValueError(f"{method}.nms: expected one of {', '.join(FACTORS)}; got {self.nms!r}")

    def suppress(self, output: Output) -> Output:
        """The best candidates, cut to the video and rounded, with lowered scores; extras need `length [B]` in
        clips.
        """
        spans, scores = best_spans(output.spans, output.scores, self.candidates)
        spans = snap(spans, output.extras["length"], self.grid, self.open_ended)
        return dataclasses.replace(
            output, spans=spans, scores=lower_scores(spans, scores, self.nms, self.nms_threshold)
        )
