"""What does the decoder make of anchors that are a little wrong, or very? (SA-DETR, Sec. 2.2 and 3.3)"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.diagnostics.decoder import SAMPLES
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, collect, first_rows, rounded, text
from vtg_lib.layers.anchors import AnchorDecoder
from vtg_lib.layers.span_queries import perturb
from vtg_lib.spans import cw_to_se, iou

SCALES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the noise, in widths of the moment


def measure(model: nn.Module, data: GroundingData) -> Record:
    """IoU of noisy moments before and after the decoder, which gets them as anchors of all its queries.

    Query q starts from moment q mod M of its row, M moments there are; the noise is that of denoising, the
    same for every model.

    Returns:
        `scales`; and for each `before`, `after`: mean IoU with the moment. Empty for methods without an
        `AnchorDecoder`, and for data without moments.
    """
    if not isinstance(getattr(model, "decoder", None), AnchorDecoder):
        return {}
    rows = first_rows(data, SAMPLES)
    rows = rows[data.span_count.cpu()[rows] > 0]
    if not len(rows):
        return {}
    found = [_at(model, data, rows, scale) for scale in SCALES]
    return {
        "scales": list(SCALES),
        "before": [rounded(before) for before, _ in found],
        "after": [rounded(after) for _, after in found],
    }


@contextlib.contextmanager
def noisy_anchors(model: nn.Module, scale: float) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Within, the decoder of `model` starts from noisy moments.

    Gives, for every batch so far, each query's moment `[B, Q, 2]` and the anchor that it was given.

    Raises:
        ValueError: a method without an `AnchorDecoder`.
    """
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, AnchorDecoder):
        raise ValueError(
            f"noisy anchors: expected a method whose decoder starts from anchors, got {type(model).__name__}"
        )
    generator = torch.Generator().manual_seed(0)
    given: list[tuple[Tensor, Tensor]] = []

    def replace(_: nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, options | {"anchors": given[-1][1]}

    def before(_: nn.Module, args: tuple[Batch, ...], options: dict[str, Any]) -> None:
        batch, queries = args[0], cast(Any, model).config.queries
        number = torch.arange(queries, device=batch.spans.device) % batch.span_mask.sum(1, keepdim=True)
        truth = batch.spans.gather(1, number[..., None].expand(-1, -1, 2))
        draw = (2 * torch.rand(truth.shape, generator=generator) - 1).to(truth.device)
        given.append((truth, perturb(truth, torch.tensor(scale), draw)))

    hooks = (
        model.register_forward_pre_hook(before, with_kwargs=True),
        decoder.register_forward_pre_hook(replace, with_kwargs=True),
    )
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def _at(model: nn.Module, data: GroundingData, rows: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    with noisy_anchors(model, scale) as given:

        def pick(_: Batch, output: Output) -> dict[str, Tensor]:
            truth, anchors = given[-1]
            spans = (anchors, output.layers["spans"][-1].float())
            return {"iou": torch.stack([iou(cw_to_se(span).clamp(0, 1), cw_to_se(truth)) for span in spans])}

        overlap = collect(model, data, rows, pick)["iou"].mean((1, 2))
    return overlap[0], overlap[1]


def _rows(record: Record) -> dict[str, dict[str, float]]:
    return {
        name: {f"{scale:g}": value for scale, value in zip(record["scales"], record[name], strict=True)}
        for name in ("before", "after")
    }


VIEW = View(
    title="Recovery from noise",
    number=lambda record: record["after"][SCALES.index(0.6)],
    table=Table(by="refinement", rows=_rows),
    figure=Lines(
        value=lambda record: record["after"],
        along=lambda record: record["scales"],
        xlabel="scale of the noise, widths of the moment",
        ylabel="IoU after refinement",
        told=lambda record: (
            f"{text(record['after'][0], '.2f')} without noise, {text(record['after'][-1], '.2f')} at scale 1"
        ),
        caption="Mean IoU with its moment of what the decoder makes of a noisy moment given as anchor; "
        "bands: 95 % interval over seeds.",
    ),
)
