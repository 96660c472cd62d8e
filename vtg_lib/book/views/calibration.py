"""How well the renderer's defaults fit: runs on real annotations with rendered features beside the authors'
training logs, and the spread of generated worlds over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import frame_html
from vtg_lib.evaluation import released as recorded
from vtg_lib.files import RESULTS

if TYPE_CHECKING:
    from IPython.display import HTML


CALIBRATION = RESULTS / "calibration.jsonl"
CLOSE = 6.0  # points of mAP that ours may be away from a log
LEAST_EPOCHS = 15  # of a log that are drawn
METRICS = {
    "R1@0.5": "MR-full-R1@0.5",
    "R1@0.7": "MR-full-R1@0.7",
    "mAP": "MR-full-mAP",
    "HD mAP": "HL-min-VeryGood-mAP",
}


def runs() -> list[dict[str, Any]]:
    """The stored runs on real annotations that the renderer's defaults rest on."""
    from vtg_lib.experiments.store import Store

    return list(Store(CALIBRATION)) if CALIBRATION.exists() else []


def figure() -> HTML:
    """Validation mAP by epoch of our runs on rendered features, and of the authors' logs (dashed)."""
    found = {record["spec"]["model"]: record for record in runs()}
    x = sorted({epoch for record in found.values() for epoch in record["curves"]["epoch"]})
    series = {f"{name}, ours": np.array([_at(record, e) for e in x]) for name, record in found.items()}
    last = max([*x, LEAST_EPOCHS])
    kept: dict[str, Any] = {}
    for name, log in recorded.load()["logs"].items():
        if name in found or not found:
            pairs = zip(log["epoch"], log["MR-full-mAP"], strict=True)
            kept[f"{name}, authors' log"] = tuple(
                zip(*(pair for pair in pairs if pair[0] <= last), strict=True)
            )
    drawn = plots.curves(x, series, xlabel="epoch", ylabel="mAP on val (points)", reference=kept)
    ends = ", ".join(
        f"{name} ends at {record['metrics']['last']['MR-full-mAP']:.1f}" for name, record in found.items()
    )
    alt = f"Validation mAP by epoch on rendered features and in the authors' logs; {ends or 'not run'}."
    return plots.show(drawn, alt)


def table(command: str) -> HTML:
    """mAP at the epochs that the authors' logs have, ours beside theirs, and whether it is within 6 points.

    Args:
        command: what makes the runs, told where there are none.
    """
    logs, rows = recorded.load()["logs"], []
    for record in runs():
        name = record["spec"]["model"]
        log = logs.get(name, {"epoch": [], "MR-full-mAP": []})
        for epoch, theirs in zip(log["epoch"], log["MR-full-mAP"], strict=True):
            ours = _at(record, epoch)
            if np.isnan(ours):
                continue
            gap = ours - theirs
            close = f"within {CLOSE:g}" if abs(gap) <= CLOSE else "above" if gap > 0 else "below"
            row = {"model": name, "epoch": epoch, "log": theirs, "ours": ours, "gap": gap, "verdict": close}
            rows.append(row | {"code": _code(record)})
    return _shown(rows, command, "The curves in numbers, epoch by epoch")


def run_table(command: str) -> HTML:
    """The runs on real annotations with rendered features: size, length and result.

    Args:
        command: what makes the runs, told where there are none.
    """
    rows = []
    for record in runs():
        spec, origin = record["spec"], record["provenance"]
        rows.append(
            {
                "model": spec["model"],
                "width": spec["config"]["width"],
                "feature channels": spec["config"]["video_dim"],
                "parameters (M)": origin["parameters"] / 1e6,
                "epochs": spec["train"]["epochs"],
                "best epoch": origin["best_epoch"],
                **{name: record["metrics"]["val"][key] for name, key in METRICS.items()},
                "hours": origin["wall_s"] / 3600,
                "device": origin["device"],
                "code": _code(record),
            }
        )
    return _shown(rows, command, "Runs on real annotations: size, length and result")


def _shown(rows: Sequence[Mapping[str, Any]], command: str, told: str) -> HTML:
    if not rows:
        return frame_html(pd.DataFrame([{"runs on real annotations": f"not run: {command}"}]))
    return frame_html(pd.DataFrame(rows), fold=told)


def _code(record: Mapping[str, Any]) -> str:
    """Whether a run's code is today's, for the model's modules and all that training goes through."""
    from vtg_lib.experiments.provenance import same_code, source_digest
    from vtg_lib.models import entry

    code = same_code()
    same = code.of(record["provenance"]["source_digest"]) == code.of(
        source_digest(entry(record["spec"]["model"]).module)
    )
    return "today's" if same else f"earlier ({record['provenance']['code_version']})"


def _at(record: Mapping[str, Any], epoch: int) -> float:
    curves = record["curves"]
    values = dict(zip(curves["epoch"], curves["MR-full-mAP"], strict=True))
    return float("nan") if values.get(epoch) is None else float(values[epoch])
