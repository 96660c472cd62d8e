"""From trained models and a split to what the timeline figures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vtg_lib.models.inference import decode, evaluation_mode
from vtg_lib.spans import cw_to_se

if TYPE_CHECKING:
    from torch import nn

    from vtg_lib.data.batches import Batch, GroundingData, Output

ANNOTATORS = 3  # QVHighlights: each clip's saliency is the sum of three scores
TOP_SCORE = 4  # of one annotator


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One query on one video, as the timeline figure and the explorer show it. Times in seconds.

    Attributes:
        name: short label, such as the query's id.
        query: the sentence.
        duration: length of the video.
        windows: ground truth, [start, end] each.
        predictions: per method, [start, end, score] each, best first.
        saliency_truth: mean annotator score per clip in 0..1, or empty.
        saliency: per method, one score per clip (any scale; drawn rescaled to 0..1).
        references: per method, the best query's [start, end] at each refinement level, first level first.
        offsets: per method and level, the positions (seconds) that the best query's attention looks at, with
            weights: [position, weight] each.
    """

    name: str
    query: str
    duration: float
    windows: Sequence[Sequence[float]]
    predictions: dict[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    saliency_truth: Sequence[float] = ()
    saliency: dict[str, Sequence[float]] = field(default_factory=dict)
    references: dict[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    offsets: dict[str, Sequence[Sequence[Sequence[float]]]] = field(default_factory=dict)


def choose_rows(data: GroundingData, number: int) -> list[int]:
    """Rows to show: as many short, middle and long moments as can be had, in a fixed order.

    The rows are spread evenly over the split sorted by the length of the longest window, so nobody picks
    favourites.
    """
    lengths = [
        max((end - start for start, end in row["relevant_windows"]), default=0.0) for row in data.annotations
    ]
    order = np.argsort(lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def timelines(
    models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int], *, kept: int = 5
) -> list[Timeline]:
    """Ground truth and what every model does, for some rows of a split.

    Args:
        models: trained models by the name shown.
        data: the split.
        rows: which of its rows.
        kept: predictions kept per model.

    Returns:
        One timeline a row. `references` and `offsets` are those that each level starts from and looks at, of
        the query that scores best at the end; models that leave no such trace have neither.
    """
    batch = data.batch(torch.as_tensor(list(rows)))
    seconds = (batch.video_mask.sum(1) * data.clip_length).tolist()
    truth = (batch.saliency / (ANNOTATORS * TOP_SCORE)).clamp(0, 1)
    lines = [
        Timeline(
            name=str(data.annotations[row]["qid"]),
            query=data.annotations[row]["query"],
            duration=float(data.annotations[row]["duration"]),
            windows=data.annotations[row]["relevant_windows"],
            saliency_truth=truth[place][batch.video_mask[place]].tolist(),
        )
        for place, row in enumerate(rows)
    ]
    for name, model in models.items():
        output, submission = _traced(model, batch, data)
        levels = _levels(output, seconds)
        for place, (line, predicted) in enumerate(zip(lines, submission, strict=True)):
            line.predictions[name] = predicted["pred_relevant_windows"][:kept]
            line.saliency[name] = predicted["pred_saliency_scores"]
            for kind, samples in levels.items():
                getattr(line, kind)[name] = samples[place]
    return lines


def _traced(model: nn.Module, batch: Batch, data: GroundingData) -> tuple[Output, list[dict[str, Any]]]:
    """The model's output with its trace, and its predictions."""
    device = next(model.parameters()).device
    with evaluation_mode(model, device):
        on_device = batch.to(device)
        output = model(on_device, trace=True)
        post_process = getattr(model, "post_process", None)
        final = output if post_process is None else post_process(output)
        return output, decode(final, on_device, data)


def _levels(output: Output, seconds: Sequence[float]) -> dict[str, Any]:
    """`references` [start, end] and looked-at `offsets` [position, weight], in seconds: per sample and
    level, of the best query; without what the trace lacks.
    """
    if "references" not in output.trace:
        return {}
    samples = torch.arange(len(seconds), device=output.scores.device)
    best = output.scores.argmax(1)
    spans = output.trace["references"][:, samples, best].float()  # [K + 1, B, 2]
    spans = spans[:-1]  # the last is the prediction itself
    length = torch.as_tensor(seconds, device=spans.device)
    edges = (cw_to_se(spans) * length[:, None]).permute(1, 0, 2).tolist()
    if "offsets" not in output.trace:
        return {"references": edges}
    offset = output.trace["offsets"][:, samples, best].float().flatten(2)  # [K, B, H P]
    weight = output.trace["attention"][:, samples, best].float().flatten(2)
    position = (spans[..., :1] + offset * spans[..., 1:] / 2) * length[:, None]
    looks = torch.stack((position, weight), -1).permute(1, 0, 2, 3).tolist()
    return {"references": edges, "offsets": looks}
