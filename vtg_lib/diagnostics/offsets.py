"""Where does deformable attention look? (SDST, ICCV 2025, Sec. 6.2, Fig. 4)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from vtg_lib.data.batches import GroundingData
from vtg_lib.diagnostics.topic import Histograms, Panel, Record, Table, View, collect, first_rows
from vtg_lib.layers.deformable import initial_offsets

OFFSET_BINS = np.linspace(-2, 2, 41)  # half widths; what lies outside counts in the first or last bin
SAMPLES = 256  # rows that are looked at
TRACED = ("weighted_offsets", "offsets", "attention")


def measure(model: nn.Module, data: GroundingData) -> Record:
    """The weighted offset sum_p A_p o_p of every head and level.

    Offsets are in half widths of the current reference: beyond -1 or +1 is outside of the estimated moment.

    Returns:
        `initial [H]`; and, per level and head, `mean`, `sd`, `moved` (mean distance from the initial value),
        `beyond` (share of queries whose weighted offset leaves the borders) `[K][H]` and `histogram
        [K][H][40]` (counts over `OFFSET_BINS`); `beyond_points`: share of single sampling points, weighted by
        attention, that lie outside. Empty for models without deformable attention.
    """
    traced = collect(
        model,
        data,
        first_rows(data, SAMPLES),
        lambda _, output: {name: output.trace[name] for name in TRACED if name in output.trace},
    )
    if not traced:
        return {}
    weighted = traced["weighted_offsets"].flatten(1, 2).permute(0, 2, 1)  # [K, H, N * Q]
    outside = (traced["attention"] * (traced["offsets"].abs() > 1)).sum(-1)  # [K, N, Q, H]
    initial = initial_offsets(*traced["offsets"].shape[-2:]).mean(-1)  # uniform attention
    counts = [
        [np.histogram(head.clamp(-2, 2).numpy(), OFFSET_BINS)[0].tolist() for head in level]
        for level in weighted
    ]
    return {
        "initial": _rounded(initial),
        "mean": _rounded(weighted.mean(-1)),
        "sd": _rounded(weighted.std(-1)),
        "moved": _rounded((weighted - initial[:, None]).abs().mean(-1)),
        "beyond": _rounded((weighted.abs() > 1).float().mean(-1)),
        "beyond_points": _rounded(outside.mean((1, 2))),
        "histogram": counts,
    }


def _rounded(values: Tensor) -> Any:
    return np.round(values.numpy().astype(float), 4).tolist()


def _rows(record: Record) -> dict[str, dict[str, float]]:
    """Means over heads, level by level."""
    columns = {
        "distance from initial": "moved",
        "sd": "sd",
        "weighted offset beyond borders": "beyond",
        "attention beyond borders": "beyond_points",
    }
    return {
        str(level + 1): {column: float(np.mean(record[name][level])) for column, name in columns.items()}
        for level in range(len(record["moved"]))
    }


def _told(record: Record) -> str:
    first, last = np.mean(record["moved"][0]), np.mean(record["moved"][-1])
    return (
        f"mean distance from the initial offset {first:.2f} at level 1 and {last:.2f} at the last; "
        f"{np.mean(record['beyond']):.0%} lie beyond the borders"
    )


def _panels(records: Mapping[str, Record]) -> list[list[Panel]]:
    """A row for each refinement level, a column for each head; models may have fewer than others."""
    levels, heads = (max(np.shape(r["histogram"])[axis] for r in records.values()) for axis in (0, 1))

    def panel(level: int, head: int) -> Panel:
        having = {
            label: record
            for label, record in records.items()
            if level < len(record["histogram"]) and head < len(record["initial"])
        }
        return Panel(
            counts={label: record["histogram"][level][head] for label, record in having.items()},
            marks={label: record["initial"][head] for label, record in having.items()},
            title="" if level else f"head {head + 1}",
            side="" if head else f"level {level + 1}",
        )

    return [[panel(level, head) for head in range(heads)] for level in range(levels)]


VIEW = View(
    title="Weighted offsets by level and head",
    number=lambda record: float(np.mean(record["moved"])),
    head="offsets moved\nfrom the start",
    table=Table(by="level", rows=_rows, digits=3),
    figure=Histograms(
        panels=_panels,
        edges=OFFSET_BINS.tolist(),
        inside=(-1, 1),
        xlabel="weighted offset (−1, +1: the reference's borders)",
        size=(1.0, 0.8),
        told=_told,
        caption="Weighted offsets of the queries by refinement level (rows) and head (columns). Dashed: "
        "before training. Grey: inside the reference's borders.",
    ),
)
