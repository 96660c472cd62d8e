"""How much do anchors differ between videos? Learned ones do not. (SA-DETR, Sec. 1)"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vtg_lib.diagnostics.decoder import Decoded, of_decoder
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, rounded, text

KINDS = ("center", "width")


@of_decoder
def measure(decoded: Decoded) -> Record:
    """Standard deviation over rows (pairs of video and sentence), mean over queries.

    Returns:
        `center`, `width`: `[S + 1]`, before any layer and after each, as shares of the video; `truth`: of the
        moments, the same two. Empty for methods without anchors.
    """
    if decoded.anchors is None or len(decoded.clips) < 2:
        return {}
    spread = decoded.anchors.std(1).mean(1)  # [S + 1, 2]
    truth = decoded.target[decoded.mask]
    return {kind: [rounded(x) for x in spread[:, i]] for i, kind in enumerate(KINDS)} | {
        "truth": {kind: _sd(truth[:, i]) for i, kind in enumerate(KINDS)}
    }


def _sd(values: Tensor) -> float | None:
    return rounded(values.std()) if len(values) > 1 else None


def _rows(record: Record) -> dict[str, dict[str, float | None]]:
    return {
        kind: {f"layer {i}": value for i, value in enumerate(np.array(record[kind], float))}
        | {"moments": record["truth"][kind]}
        for kind in KINDS
    }


VIEW = View(
    title="Anchors between videos",
    number=lambda record: record["center"][0],
    table=Table(by="of", rows=_rows, digits=3),
    figure=Lines(
        value=lambda record: record["center"],
        along=lambda record: range(len(record["center"])),
        ylabel="sd of centers between videos",
        told=lambda record: f"{', '.join(text(value, '.2f') for value in record['center'])} from layer 0 on",
        caption="Standard deviation over videos of each query's center, as a share of the video, before "
        "the first layer (0) and after each; bands: 95 % interval over seeds.",
    ),
)
