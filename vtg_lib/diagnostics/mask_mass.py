"""Is the mask where the truth is, and does the attention follow? (SA-DETR, Eq. 5 and 6)"""

from __future__ import annotations

import numpy as np

from vtg_lib.diagnostics.decoder import Decoded, of_decoder
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, text


@of_decoder
def measure(decoded: Decoded) -> Record:
    """What matched queries give to the clips of their own moment.

    Returns:
        Per layer `[S]`: `mask`: share of the mask's mass inside the moment, None for methods without a mask;
        `attention`: share of the attention. Empty for methods whose trace has no `clip_attention`.
    """
    if decoded.attention is None:
        return {}
    attention = decoded.share_inside(decoded.attention)
    masked = decoded.clip_mask
    return {
        "mask": [None] * len(attention) if masked is None else decoded.share_inside(masked),
        "attention": attention,
    }


def _rows(record: Record) -> dict[str, dict[str, float]]:
    return {
        name: {f"layer {i}": 100 * value for i, value in enumerate(np.array(record[name], float), 1)}
        for name in ("mask", "attention")
    }


def _number(record: Record) -> float | None:
    last = record["attention"][-1]
    return None if last is None else 100 * last


VIEW = View(
    title="Mask and attention inside the moment",
    number=_number,
    table=Table(by="of", rows=_rows, digits=1),
    figure=Lines(
        value=lambda record: record["mask"],
        ylabel="share of the mask in the own moment",
        told=lambda record: f"{', '.join(text(value, '.0%') for value in record['mask'])} layer by layer",
        caption="Share of a matched query's mask that lies on its own moment; bands: 95 % interval over "
        "seeds.",
    ),
)
