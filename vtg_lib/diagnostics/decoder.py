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
from vtg_lib.diagnostics.topic import Record, collect, first_rows
from vtg_lib.layers.query_relation import class_score
from vtg_lib.losses.bridge import clips_inside
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.spans import cw_to_se, iou

SAMPLES = 512  # rows that a stored diagnostic looks at
SERVES = 0.5  # IoU from which on a query serves a moment


@dataclass(kw_only=True)
class Decoded:
    """What the decoder made of some rows of a split, on the CPU, float32.

    Attributes:
        spans: `[S, N, Q, 2]` (center, width); scores: `[S, N, Q]`; quality: `[S, N, Q]` predicted IoU.
        states: `[S, N, Q, D]`; attention: `[S, N, Q, T]` to the clips; factor: `[S - 1, N, Q, Q]`, what the
            next layer's self-attention is multiplied by. These three and quality are None where a method has
            none.
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

    @property
    def overlap(self) -> Tensor:
        """IoU of every prediction with every moment, `[S, N, M, Q]`; 0 for moments that do not exist."""
        predicted = cw_to_se(self.spans).clamp(0, 1).unsqueeze(-3)
        return iou(predicted, cw_to_se(self.target).unsqueeze(-2)) * self.mask[..., None]

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
            "target": batch.spans[None],
            "mask": batch.span_mask[None],
            "inside": F.pad(clips_inside(batch.spans, batch.video_mask), padding)[None],
            "clips": F.pad(batch.video_mask, padding)[None],
        }
        if found["attention"] is not None:
            found["attention"] = F.pad(found["attention"], padding)
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
