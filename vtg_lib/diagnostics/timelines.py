"""From trained models and a split to what the timeline figures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vtg_lib.book.figures import Timeline
from vtg_lib.models.inference import decode, evaluation_mode
from vtg_lib.spans import cw_to_se

if TYPE_CHECKING:
    from torch import nn

    from vtg_lib.data.batches import Batch, GroundingData, Output

ANNOTATORS = 3  # QVHighlights: each clip's saliency is the sum of three scores
TOP_SCORE = 4  # of one annotator


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
    shown: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        annotation = data.annotations[row]
        scores = batch.saliency[place][batch.video_mask[place]] / (ANNOTATORS * TOP_SCORE)
        shown.append(
            {
                "name": str(annotation["qid"]),
                "query": annotation["query"],
                "duration": float(annotation["duration"]),
                "windows": annotation["relevant_windows"],
                "saliency_truth": scores.clamp(0, 1).tolist(),
                "predictions": {},
                "saliency": {},
                "references": {},
                "offsets": {},
            }
        )
    for name, model in models.items():
        output, submission = _traced(model, batch, data)
        references, offsets = _levels(output, seconds)
        for place, (entry, predicted) in enumerate(zip(shown, submission, strict=True)):
            entry["predictions"][name] = predicted["pred_relevant_windows"][:kept]
            entry["saliency"][name] = predicted["pred_saliency_scores"]
            if references:
                entry["references"][name] = references[place]
            if offsets:
                entry["offsets"][name] = offsets[place]
    return [Timeline(**entry) for entry in shown]


def _traced(model: nn.Module, batch: Batch, data: GroundingData) -> tuple[Output, list[dict[str, Any]]]:
    """The model's output with its trace, and its predictions."""
    device = next(model.parameters()).device
    with evaluation_mode(model, device):
        on_device = batch.to(device)
        output = model(on_device, trace=True)
        post_process = getattr(model, "post_process", None)
        final = output if post_process is None else post_process(output)
        return output, decode(final, on_device, data)


def best_query(output: Output) -> torch.Tensor:
    """Index of each sample's highest-scoring query, `[B]`."""
    return output.scores.argmax(1)


def _levels(
    output: Output, seconds: Sequence[float]
) -> tuple[list[list[list[float]]], list[list[list[list[float]]]]]:
    """References [start, end] and looked-at [position, weight], in seconds: per sample, per level, of the
    best query.
    """
    if "references" not in output.trace:
        return [], []
    samples = torch.arange(len(seconds), device=output.scores.device)
    best = best_query(output)
    spans = output.trace["references"][:, samples, best].float()  # [K + 1, B, 2]
    spans = spans[:-1]  # the last is the prediction itself
    length = torch.as_tensor(seconds, device=spans.device)
    edges = (cw_to_se(spans) * length[:, None]).permute(1, 0, 2).tolist()
    if "offsets" not in output.trace:
        return edges, []
    offset = output.trace["offsets"][:, samples, best].float().flatten(2)  # [K, B, H P]
    weight = output.trace["attention"][:, samples, best].float().flatten(2)
    position = (spans[..., :1] + offset * spans[..., 1:] / 2) * length[:, None]
    looks = torch.stack((position, weight), -1).permute(1, 0, 2, 3).tolist()
    return edges, looks
