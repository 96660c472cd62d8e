"""How much of the sentence do clips read that it does not speak of? (SG-DETR, WACV 2026, Sec. 3.3)"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.diagnostics.decoder import SAMPLES
from vtg_lib.diagnostics.topic import Record, Table, View, collect, first_rows, rounded
from vtg_lib.losses.bridge import clips_inside

NAMES = ("relevant", "irrelevant", "ratio")


def measure(model: nn.Module, data: GroundingData) -> Record:
    """Mean length of what the layers of the cross-attention to the words add to a clip.

    Returns:
        `relevant`, `irrelevant`: of clips inside the moments and of the others; `ratio` of the second to the
        first. Empty for methods without a `cross_encoder`.
    """
    with _updates(model) as updates:
        if updates is None:
            return {}

        def pick(batch: Batch, output: Output) -> dict[str, Tensor]:
            clips = batch.video_mask.shape[1]
            read = [update.float() for update in updates if update.shape[1] >= clips]  # not of single tokens
            size = torch.stack(read).norm(dim=-1)[..., :clips].mean(0)
            updates.clear()
            inside = (clips_inside(batch.spans, batch.video_mask) & batch.span_mask[..., None]).any(1)
            groups = (inside, batch.video_mask & ~inside)
            return {
                "sum": torch.stack([(size * group).sum(1) for group in groups], -1)[None],
                "count": torch.stack([group.sum(1) for group in groups], -1)[None],
            }

        found = collect(model, data, first_rows(data, SAMPLES), pick)
    relevant, irrelevant = (found["sum"].sum((0, 1)) / found["count"].sum((0, 1)).clamp(min=1)).tolist()
    ratio = rounded(irrelevant / relevant) if relevant else None
    return {"relevant": rounded(relevant), "irrelevant": rounded(irrelevant), "ratio": ratio}


@contextmanager
def _updates(model: nn.Module) -> Iterator[list[Tensor] | None]:
    """What the cross-attention layers gave since it was last cleared, `[B, T, D]` each; None without any."""
    encoder: Any = getattr(model, "cross_encoder", None)
    if encoder is None:
        yield None
        return
    found: list[Tensor] = []
    outs = [getattr(layer, "attention", layer).out for layer in getattr(encoder, "layers", encoder)]
    hooks = [out.register_forward_hook(lambda _, __, result: found.append(result)) for out in outs]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


VIEW = View(
    title="What clips read that the sentence does not speak of",
    number=lambda record: record["ratio"],
    table=Table(
        rows=lambda record: {"": {name: record[name] for name in ("relevant", "irrelevant", "ratio")}}
    ),
)
