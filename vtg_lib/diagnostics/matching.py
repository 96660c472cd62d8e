"""Does a moment keep its query from one decoder layer to the next? (Sim-DETR, ICCV 2025, Sec. 3)"""

from __future__ import annotations

import numpy as np

from vtg_lib.diagnostics.decoder import Decoded, of_decoder
from vtg_lib.diagnostics.topic import Flow, Lines, Record, Table, View, known_mean, shares, text

GROUPS = {"1": (1, 1), "2": (2, 2), "3+": (3, 99)}  # rows by their number of moments
PARTS = {"kept": "same query", "swapped": "query of another moment", "moved": "query without a moment"}


@of_decoder
def measure(decoded: Decoded) -> Record:
    """How often a moment keeps its query.

    Returns:
        `moments`: group -> moments counted; `kept`, `swapped`, `moved`: group -> share `[S - 1]` of moments
        whose query is the same in both layers, served another moment of the row before, or served none.
        Groups are all rows ("all") and those with 1, 2 and 3 or more moments. Empty for methods without
        decoder layers.
    """
    query, valid = decoded.matches.query, decoded.matches.valid
    before, after, both = query[:-1], query[1:], valid[:-1] & valid[1:]  # [S - 1, N, M]
    same = before == after
    others = (after[..., None] == before[..., None, :]) & valid[:-1].unsqueeze(-2)  # [S - 1, N, M, M]
    swapped = others.any(-1) & ~same
    number = decoded.mask.sum(1)
    result: Record = {"moments": {}, "kept": {}, "swapped": {}, "moved": {}}
    for group, (low, high) in {"all": (1, 99), **GROUPS}.items():
        chosen = both & ((number >= low) & (number <= high))[None, :, None]
        count = chosen.sum((1, 2))
        result["moments"][group] = int(count[0])
        for name, what in (("kept", same), ("swapped", swapped), ("moved", ~same & ~swapped)):
            result[name][group] = shares((what & chosen).sum((1, 2)), count)
    return result


def _rows(record: Record) -> dict[str, dict[str, float]]:
    """Of the groups that have moments."""
    groups = {group: 100 * np.array(kept, float) for group, kept in record["kept"].items()}
    return {
        group: {f"{i} → {i + 1}": share for i, share in enumerate(kept, 1)} | {"all pairs": np.nanmean(kept)}
        for group, kept in groups.items()
        if not np.isnan(kept).all()
    }


def _kept(record: Record) -> float | None:
    """Percent of moments that keep their query, mean over pairs of layers."""
    share = known_mean(record["kept"]["all"])
    return None if share is None else 100 * share


VIEW = View(
    title="Matching from layer to layer",
    number=_kept,
    head="queries kept from\nlayer to layer (%)",
    table=Table(by="moments", rows=_rows, spread={"all pairs": "sd"}, digits=1),
    figure=Flow(
        shares=lambda record: {label: record[part]["all"] for part, label in PARTS.items()},
        told=lambda record: f"{', '.join(text(share, '.0%') for share in record['kept']['all'])} kept",
        caption="Share of moments whose query in the next decoder layer is the same, was another moment's, "
        "or had none.",
    ),
    by_epoch=Lines(
        value=lambda record: known_mean(record["kept"]["all"]),
        ylabel="share kept",
        told=lambda record: f"ends at {text(known_mean(record['kept']['all']), '.0%')}",
        caption="Mean over pairs of layers; bands: 95 % interval over seeds.",
    ),
)
