"""How near to the truth are the anchors, layer by layer? (SA-DETR, Sec. 1 and 3.3)"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vtg_lib.diagnostics.decoder import Decoded, of_decoder
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, shares, text


@of_decoder
def measure(decoded: Decoded) -> Record:
    """IoU of anchors with the moments, before any layer and after each.

    Returns:
        `[S + 1]`, layer 0 first: `best`: of a moment's nearest anchor; `matched`: of the query that the
        last layer gives the moment to, wherever it is by then; means over moments. Empty for methods
        without anchors.
    """
    if decoded.anchors is None:
        return {}
    overlap = decoded.overlap_of(decoded.anchors)  # [S + 1, N, M, Q]
    valid, query = decoded.matches.valid[-1], decoded.matches.query[-1]
    matched = overlap.gather(-1, query.expand(overlap.shape[:-1])[..., None]).squeeze(-1)
    return {"best": _mean(overlap.amax(-1), valid), "matched": _mean(matched, valid)}


def _mean(values: Tensor, valid: Tensor) -> list[float | None]:
    return shares((values * valid).sum((1, 2)), valid.sum().expand(len(values)))


def _rows(record: Record) -> dict[str, dict[str, float]]:
    return {
        name: {f"layer {i}": value for i, value in enumerate(np.array(record[name], float))}
        for name in ("best", "matched")
    }


VIEW = View(
    title="Anchors and the truth",
    number=lambda record: record["matched"][0],
    table=Table(by="anchor", rows=_rows),
    figure=Lines(
        value=lambda record: record["matched"],
        along=lambda record: range(len(record["matched"])),
        ylabel="IoU of the matched anchor",
        told=lambda record: f"{', '.join(text(value, '.2f') for value in record['matched'])} from layer 0 on",
        caption="IoU with its moment of the anchor that the last layer matches to it, before the first "
        "layer (0) and after each; bands: 95 % interval over seeds.",
    ),
)
