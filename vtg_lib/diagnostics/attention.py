"""Where do matched queries look? (Sim-DETR, ICCV 2025, Sec. 3)"""

from __future__ import annotations

import numpy as np

from vtg_lib.diagnostics.decoder import Decoded, of_decoder
from vtg_lib.diagnostics.topic import Lines, Record, Table, View, rounded, shares, text


@of_decoder
def measure(decoded: Decoded) -> Record:
    """How much of its attention to the clips a matched query gives to its own moment.

    Returns:
        Per layer `[S]`: `own`: share on the clips of the matched moment; `others`: on those of the row's
        other moments. `length`: the share of the video's clips that the moments have: what even attention
        would give. Empty for methods whose trace has no `clip_attention`.
    """
    if decoded.attention is None:
        return {}
    attention = decoded.attention * decoded.clips[None, :, None]
    attention = attention / attention.sum(-1, keepdim=True).clamp(min=1e-9)
    given = decoded.matches.gather(attention)  # [S, N, M, T]
    inside = decoded.inside.float()
    own = (given * inside).sum(-1)
    every = (given * inside.amax(1)[None, :, None]).sum(-1)
    valid = decoded.matches.valid & (inside.sum(-1) > 0)
    length = inside.sum(-1) / decoded.clips.sum(1, keepdim=True)
    return {
        "own": shares((own * valid).sum((1, 2)), valid.sum((1, 2))),
        "others": shares(((every - own) * valid).sum((1, 2)), valid.sum((1, 2))),
        "length": rounded((length * valid[-1]).sum() / valid[-1].sum().clamp(min=1)),
    }


def _rows(record: Record) -> dict[str, dict[str, float]]:
    own, others, length = (100 * np.array(record[name], float) for name in ("own", "others", "length"))
    layers = {f"layer {i}": share for i, share in enumerate(own, 1)}
    return {"": {**layers, "other moments, last layer": others[-1], "length of moments": float(length)}}


VIEW = View(
    title="Attention inside the moment",
    number=lambda record: None if record["own"][-1] is None else 100 * record["own"][-1],
    head="attention inside\nthe moment (%)",
    table=Table(rows=_rows, digits=1),
    figure=Lines(
        value=lambda record: record["own"],
        ylabel="share on the own moment",
        told=lambda record: f"{', '.join(text(share, '.0%') for share in record['own'])} layer by layer",
        caption="Share of a matched query's attention to the clips that its own moment gets; bands: 95 % "
        "interval over seeds.",
    ),
)
