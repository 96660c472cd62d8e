"""Does saliency put the clips of the moments above the others, before and after the video is seen whole?
(SG-DETR, WACV 2026, Sec. 3.2 and 3.4)
"""

from __future__ import annotations

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

    def pick(batch: Batch, output: Output) -> dict[str, Tensor]:
        found = {"global": output.saliency, "local": output.extras.get("local")}
        inside = (clips_inside(batch.spans, batch.video_mask) & batch.span_mask[..., None]).any(1)
        kinds = {"inside": inside, "outside": batch.video_mask & ~inside}
        return {name: _wide(x, data)[None] for name, x in (found | kinds).items() if x is not None}

    found = collect(model, data, first_rows(data, SAMPLES), pick)
    return {name: _mean(found, name) for name in ("local", "global")}


def _wide(values: Tensor, data: GroundingData) -> Tensor:
    lacking = int(data.video_length.max()) - values.shape[1]
    return torch.nn.functional.pad(values, (0, lacking))


def _mean(found: dict[str, Tensor], name: str) -> float | None:
    if name not in found:
        return None
    rows = zip(*(found[key][0].numpy() for key in (name, "inside", "outside")), strict=True)
    mean = known_mean([auc(values[inside], values[outside]) for values, inside, outside in rows])
    return None if mean is None else rounded(mean)


VIEW = View(
    title="Saliency of the moments' clips",
    number=lambda record: record["global"],
    table=Table(rows=lambda record: {"": {"local AUC": record["local"], "global AUC": record["global"]}}),
)
