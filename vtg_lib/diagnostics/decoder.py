"""What the decoder layers of a DETR-style method predict, and which query each moment is matched to.

For every method that gives `layers["spans"]` and a score of two or more decoder layers. Axes: S decoder
layers, N rows, M moments, Q queries, T clips, D channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.diagnostics.topic import Record, collect, first_rows, shares
from vtg_lib.layers.boundary_decoder import borders
from vtg_lib.layers.query_relation import class_score
from vtg_lib.losses.bridge import clips_inside
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.spans import cw_to_se, iou, se_to_cw

SAMPLES = 512  # rows that a stored diagnostic looks at
SERVES = 0.5  # IoU from which on a query serves a moment


@dataclass(kw_only=True)
class Decoded:
    """What the decoder made of some rows of a split, on the CPU, float32.

    Attributes:
        spans: `[S, N, Q, 2]` (center, width); scores: `[S, N, Q]`; quality: `[S, N, Q]` predicted IoU.
        states: `[S, N, Q, D]`; attention: `[S, N, Q, T]` to the clips; factor: `[S - 1, N, Q, Q]`, what the
            next layer's self-attention is multiplied by; anchors: `[S + 1, N, Q, 2]` (center, width), what
            the first layer starts from, and after each layer; clip_mask: `[S, N, Q, T]`, what multiplies the
            attention's logits. These five and quality are None where a method has none.
        target: `[N, M, 2]`; mask: `[N, M]`; inside: `[N, M, T]` clips in each moment; clips: `[N, T]` real
            ones.
        matches: of all layers, by DETR's cost.
        annotations: of the rows; seconds: `[N]` length of the videos.
    """

    spans: Tensor
    scores: Tensor
    target: Tensor
    mask: Tensor
    inside: Tensor
    clips: Tensor
    matches: Matches
    annotations: list[dict[str, Any]]
    seconds: Tensor
    quality: Tensor | None = None
    states: Tensor | None = None
    attention: Tensor | None = None
    factor: Tensor | None = None
    anchors: Tensor | None = None
    clip_mask: Tensor | None = None

    @property
    def overlap(self) -> Tensor:
        """IoU of every prediction with every moment, `[S, N, M, Q]`; 0 for moments that do not exist."""
        return self.overlap_of(self.spans)

    def overlap_of(self, spans: Tensor) -> Tensor:
        """The same of other spans `[..., N, Q, 2]`: `[..., N, M, Q]`."""
        borders = cw_to_se(spans).clamp(0, 1).unsqueeze(-3)
        return iou(borders, cw_to_se(self.target).unsqueeze(-2)) * self.mask[..., None]

    def share_inside(self, values: Tensor) -> list[float | None]:
        """How much of what matched queries give to the clips, `[S, N, Q, T]`, is on their own moment,
        `[S]`.
        """
        values = values * self.clips[None, :, None]
        values = values / values.sum(-1, keepdim=True).clamp(min=1e-9)
        valid = self.matches.valid & (self.inside.sum(-1) > 0)
        own = (self.matches.gather(values) * self.inside).sum(-1)  # [S, N, M]
        return shares((own * valid).sum((1, 2)), valid.sum((1, 2)))

    @property
    def rank(self) -> Tensor:
        """What orders the queries, `[S, N, Q]`."""
        return self.scores if self.quality is None else self.scores * self.quality

    @property
    def served(self) -> Tensor:
        """The moment that each query is matched to, `[S, N, Q]`; -1 for none."""
        served = torch.full(self.scores.shape, -1)
        layer, row, moment = self.matches.valid.nonzero(as_tuple=True)
        served[layer, row, self.matches.query[layer, row, moment]] = moment
        return served


def decode(model: nn.Module, data: GroundingData, rows: Sequence[int] | None = None) -> Decoded | None:
    """Run `rows`, or the first `SAMPLES`; None for methods without decoder layers."""
    length = int(data.video_length.max())

    def pick(batch: Batch, output: Output) -> dict[str, Tensor]:
        layers = output.layers
        if "spans" not in layers or not {"logits", "quality"} & set(layers) or len(layers["spans"]) < 2:
            return {}
        padding = (0, length - batch.video_mask.shape[1])
        found = {
            "spans": layers["spans"],
            "scores": _score(layers),
            "quality": layers.get("iou"),
            "states": output.extras.get("states"),
            "attention": output.trace.get("clip_attention"),
            "factor": output.trace.get("attention_factor"),
            "anchors": _anchors(output),
            "clip_mask": output.trace.get("clip_mask"),
            "target": batch.spans[None],
            "mask": batch.span_mask[None],
            "inside": F.pad(clips_inside(batch.spans, batch.video_mask), padding)[None],
            "clips": F.pad(batch.video_mask, padding)[None],
        }
        for name in ("attention", "clip_mask"):
            if (shown := found[name]) is not None:
                found[name] = F.pad(shown, padding)
        return {name: value for name, value in found.items() if value is not None}

    index = first_rows(data, SAMPLES) if rows is None else torch.as_tensor(list(rows))
    found = collect(model, data, index, pick)
    if not found:
        return None
    found |= {name: found[name][0] for name in ("target", "mask", "inside", "clips")}
    matches = match(found["spans"], found["scores"], found["target"], found["mask"], MatchCost())
    return Decoded(
        **found,
        matches=matches,
        annotations=[data.annotations[row] for row in index.tolist()],
        seconds=found["clips"].sum(1) * data.clip_length,
    )


def _anchors(output: Output) -> Tensor | None:
    """What each layer starts from, and the last one's predictions; of anchors with two distances as well."""
    references, spans = output.trace.get("references"), output.layers["spans"]
    if references is None or len(references) != len(spans):
        return None
    if references.shape[-1] == 3:
        references = se_to_cw(torch.stack(borders(references), -1))
    return torch.cat((references.float(), spans[-1:].float()))


def _score(layers: dict[str, Tensor]) -> Tensor:
    """`[S, B, Q]` in 0..1; one logit a query is a foreground logit."""
    logits = layers.get("logits")
    return class_score(layers) if logits is None or logits.ndim == 4 else logits.sigmoid()


def of_decoder(measure: Callable[[Decoded], Record]) -> Callable[[nn.Module, GroundingData], Record]:
    """A topic's `measure(model, data)`, from what it measures of decoder layers; {} for methods without."""

    @functools.wraps(measure)
    def wrapped(model: nn.Module, data: GroundingData) -> Record:
        decoded = decode(model, data)
        return {} if decoded is None else measure(decoded)

    return wrapped
