"""Which head's moment wins where two are fused? (SG-DETR, WACV 2026, Sec. 3.5)"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.decoder import SAMPLES
from vtg_lib.diagnostics.topic import Record, Table, View, known_mean, rounded
from vtg_lib.evaluation.per_query import overlap
from vtg_lib.evaluation.protocol import LENGTH_RANGES
from vtg_lib.models.inference import predict

CLOSER = 1e-3  # IoU by which a head has to be nearer to the fused answer


def measure(model: nn.Module, data: GroundingData) -> Record:
    """Whose best-fitting answer is nearer to the first fused one, by the length of the latter.

    Returns:
        `count`: length -> rows; head -> {length: share of rows, None without rows}, and `both`, where they
        are equally near. Empty for methods with one head.
    """
    readings: dict[str, nn.Module] = getattr(model, "readings", {})
    names = [name for name in readings if name != "fused"]
    if "fused" not in readings or len(names) != 2:
        return {}
    data = data.first(SAMPLES)
    fused = _windows(readings["fused"], data)[:, :1]
    near = np.stack(
        [np.nan_to_num(overlap(_windows(readings[name], data), fused)).max(1) for name in names], 1
    )
    apart = near[:, 0] - near[:, 1]
    wins = {names[0]: apart > CLOSER, names[1]: apart < -CLOSER, "both": np.abs(apart) <= CLOSER}
    length = np.ptp(fused[:, 0], axis=-1)
    groups = {name: (low < length) & (length <= high) for name, (low, high) in LENGTH_RANGES.items()}
    groups["all"] = np.ones(len(length), bool)
    found: Record = {"count": {name: int(group.sum()) for name, group in groups.items()}}
    for who, won in wins.items():
        found[who] = {
            name: rounded(won[group].mean()) if group.any() else None for name, group in groups.items()
        }
    return found


def _windows(model: nn.Module, data: GroundingData) -> np.ndarray:
    """`[N, P, 2]` seconds, best first; NaN where there are fewer than P."""
    rows = [row["pred_relevant_windows"] for row in predict(model, data)]
    table = np.full((len(rows), max(map(len, rows)), 2), np.nan)
    for n, windows in enumerate(rows):
        table[n, : len(windows)] = [window[:2] for window in windows]
    return table


def _rows(record: Record) -> dict[str, dict[str, Any]]:
    return {
        who: {name: None if share is None else 100 * share for name, share in record[who].items()}
        for who in record
        if who != "count"
    }


def _first(record: Record) -> float | None:
    """Percent of rows that the first head decides."""
    heads = [name for name in record if name not in ("count", "both")]
    share = known_mean([record[heads[0]]["all"]])
    return None if share is None else 100 * share


VIEW = View(
    title="Whose moment wins the fusion",
    number=_first,
    table=Table(by="nearer to the fused answer", rows=_rows, digits=1),
)
