"""Does saliency put the clips of the moments above the others, before and after the video is seen whole?
(SG-DETR, WACV 2026, Sec. 3.2 and 3.4)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.diagnostics.decoder import SAMPLES
from vtg_lib.diagnostics.topic import Record, Table, View, auc, collect, first_rows, known_mean, rounded
from vtg_lib.losses.bridge import clips_inside


def measure(model: nn.Module, data: GroundingData) -> Record:
    """The chance that a clip of a moment is above another clip of its video, mean over rows.

    Returns:
        `global`: of the saliency that is scored; `local`: of what a clip and the sentence tell alone, None
        for methods without it. Both None where no row has clips of both kinds.
    """

    ranks = by_row(model, data)
    means = {name: known_mean(ranks.get(name, [])) for name in ("local", "global")}
    return {name: None if mean is None else rounded(mean) for name, mean in means.items()}


def by_row(model: nn.Module, data: GroundingData) -> dict[str, list[float | None]]:
    """The chance, for each of the first `SAMPLES` rows, that a relevant clip is above another of its video.

    Relevant are the clips of the moments, and in rows without moments those whose saliency is above the
    median of the row's, as the votes of highlight data sets are read.

    Returns:
        `global`, and `local` where a method has it: a number for each row, None where it has clips of one
        kind only.
    """

    def pick(batch: Batch, output: Output) -> dict[str, Tensor]:
        found = {"global": output.saliency, "local": output.extras.get("local")}
        inside = (clips_inside(batch.spans, batch.video_mask) & batch.span_mask[..., None]).any(1)
        votes = batch.saliency.masked_fill(~batch.video_mask, math.nan)
        above = votes > votes.nanmedian(1, keepdim=True).values
        inside = torch.where(batch.span_mask.any(1, keepdim=True), inside, above)
        kinds = {"inside": inside, "outside": batch.video_mask & ~inside}
        return {name: _wide(x, data)[None] for name, x in (found | kinds).items() if x is not None}

    found = collect(model, data, first_rows(data, SAMPLES), pick)
    kinds = [found.pop(kind)[0].numpy() for kind in ("inside", "outside")]
    return {
        name: [
            auc(row[inside], row[outside]) for row, inside, outside in zip(x[0].numpy(), *kinds, strict=True)
        ]
        for name, x in found.items()
    }


def _wide(values: Tensor, data: GroundingData) -> Tensor:
    lacking = int(data.video_length.max()) - values.shape[1]
    return torch.nn.functional.pad(values, (0, lacking))


VIEW = View(
    title="Saliency of the moments' clips",
    number=lambda record: record["global"],
    head="saliency AUC",
    table=Table(rows=lambda record: {"": {"local AUC": record["local"], "global AUC": record["global"]}}),
)
