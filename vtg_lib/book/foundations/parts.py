"""The chapter's numbers, from the files or from the record.

Each part is measured where its real files are there, else taken from `results/recorded.json`, which holds
what `measure` gave. Plain JSON values throughout, rounded, so that the two are the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.evaluation import released as recorded
from vtg_lib.evaluation.per_query import METHODS, Ranked

DIGITS = 5
WORKED = "tr_detr"  # the method whose predictions the worked example follows
EXAMPLES, WINDOWS_SHOWN = 8, 3  # queries of the explorer, and windows of each method
REORDERED = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")
QVHIGHLIGHTS, PREDICTIONS, LOGS = (
    "qvhighlights",
    "released_predictions",
    "released_logs",
)  # names for `vtg data fetch`


# -----------------------------------------------------------------------------------------------------------
# measuring


def measure(root: Path) -> dict[str, Any]:
    """Every part, from the files under `root`.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    return {name: part(root) for name, part in PARTS.items()}


def gather(root: Path | None) -> tuple[dict[str, Any], dict[str, bool]]:
    """Every part, measured now or as recorded, and by part whether it was measured now. A part that is
    neither is empty.
    """
    kept = recorded.load().get("foundations", {})
    found, now = {}, {}
    for name, part in PARTS.items():
        try:
            if root is None:
                raise FileNotFoundError("no folder of real data")
            found[name], now[name] = part(root), True
        except FileNotFoundError:
            found[name], now[name] = kept.get(name, {}), False
    return found, now


def annotation_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.data.statistics.shapes` of every data set, by label."""
    from vtg_lib.data.statistics import SETS, shapes
    from vtg_lib.evaluation.submission import read_jsonl

    found = {}
    for label, (dataset, files) in SETS.items():
        _require(*(root / file for file in files))
        found[label] = shapes([row for file in files for row in read_jsonl(root / file)], dataset)
    return _rounded(found)


def evaluator_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.book.habits`: `bounds` of val, `habits` of each method's val predictions, and the `worked`
    query.
    """
    from vtg_lib.book.habits import bounds, habits

    truth, predictions = _val(root)
    found = {
        "bounds": bounds(truth),
        "habits": {name: habits(rows, truth) for name, rows in predictions.items()},
    }
    return _rounded(found | {"worked": worked_query(predictions[WORKED], truth)})


def worked_query(predictions: list[dict[str, Any]], truth: list[dict[str, Any]]) -> dict[str, Any]:
    """The first query with two moments whose first prediction is right and whose AP at IoU 0.5 lies between 0
    and 1.
    """
    from vtg_lib.book.habits import worked
    from vtg_lib.evaluation.protocol import evaluate

    rows = {row["qid"]: row for row in predictions}
    for annotation in truth:
        if len(annotation["relevant_windows"]) != 2:
            continue
        row = rows[annotation["qid"]]
        steps = worked(row, annotation)
        if steps["steps"][0]["0.5"] is not None and 0 < steps["ap"]["0.5"] < 1:
            top = int(np.argmax(row["pred_saliency_scores"]))
            votes = dict(zip(annotation["relevant_clip_ids"], annotation["saliency_scores"], strict=True))
            return {
                "method": METHODS[WORKED],
                **{name: annotation[name] for name in ("qid", "query", "duration", "relevant_windows")},
                **steps,
                "top_clip": top,
                "votes": votes.get(top, [0, 0, 0]),
                "brief": evaluate([row], [annotation])["brief"],
            }
    raise ValueError("worked query: no query with two moments fits the rule")


def prediction_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.evaluation.per_query` of each method on val, and of every pair: calibration, recall, perfect
    ranking, agreement.
    """
    from vtg_lib.evaluation import per_query as released
    from vtg_lib.evaluation.protocol import evaluate

    truth, files = _val(root)
    ranked = _ranked(root)
    methods = {
        name: {
            "calibration": released.calibration(one),
            "length": released.recall_by_length(one),
            "count": released.recall_by_count(one),
            "reordered": {
                key: evaluate(released.reordered(files[name], truth), truth)["brief"][key]
                for key in REORDERED
            },
        }
        for name, one in ranked.items()
    }
    pairs = [{"of": [b, a], **released.agreement(ranked[b], ranked[a])} for a, b in combinations(METHODS, 2)]
    return _rounded({"methods": methods, "pairs": pairs, "solved": released.solved(list(ranked.values()))})


def log_part(root: Path) -> dict[str, Any]:
    """By method, the epoch of the authors' log whose numbers the released val predictions have, and the log's
    curve.
    """
    from vtg_lib.evaluation.per_query import matching_epoch, read_log

    found = {}
    for name, file in recorded.LOGS.items():
        _require(root / file)
        score = released_score(f"{name}_val", "val", root)
        log = read_log(root / file)
        found[name] = {
            "epoch": [epoch for epoch, _ in log],
            "mAP": [line["MR-full-mAP"] for _, line in log],
            "released": None if score is None else matching_epoch(log, score),
        }
    return _rounded(found)


def example_part(root: Path) -> dict[str, Any]:
    """Some val queries with every method's best windows and saliency, as the timeline figure shows them.

    Half have one moment, half several. Each half is spread evenly over such queries sorted by the methods'
    mean AP, from those that all miss to those that all find.
    """
    truth, files = _val(root)
    ap = np.mean([one.ap for one in _ranked(root).values()], axis=0)
    several = np.array([len(row["relevant_windows"]) > 1 for row in truth])
    chosen: list[int] = []
    for half in (np.flatnonzero(~several), np.flatnonzero(several)):
        order = half[np.argsort(ap[half], kind="stable")]
        chosen += order[np.linspace(0, len(order) - 1, EXAMPLES // 2).round().astype(int)].tolist()
    by_qid = {name: {row["qid"]: row for row in rows} for name, rows in files.items()}
    shown = []
    for place in sorted(chosen, key=lambda n: float(ap[n])):
        annotation = truth[place]
        qid, clips = annotation["qid"], int(annotation["duration"] / 2)
        votes = np.zeros(clips)
        votes[annotation["relevant_clip_ids"]] = np.sum(annotation["saliency_scores"], axis=1) / 12
        shown.append(
            {
                "qid": qid,
                **{name: annotation[name] for name in ("query", "duration", "relevant_windows")},
                "truth": votes.round(2).tolist(),
                "windows": {
                    name: rows[qid]["pred_relevant_windows"][:WINDOWS_SHOWN] for name, rows in by_qid.items()
                },
                "saliency": {
                    name: _unit(rows[qid]["pred_saliency_scores"][:clips]) for name, rows in by_qid.items()
                },
            }
        )
    return {"queries": _rounded(shown)}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "annotations": annotation_part,
    "evaluator": evaluator_part,
    "predictions": prediction_part,
    "logs": log_part,
    "examples": example_part,
}
# what each part is called on the page, and what gets its files
NEEDS = {
    "annotations": ("Statistics of annotations", "qvhighlights charades_sta tacos tvsum youtube_highlights"),
    "evaluator": ("What the evaluator's habits move", f"{QVHIGHLIGHTS} {PREDICTIONS}"),
    "predictions": ("Calibration, recall and agreement", f"{QVHIGHLIGHTS} {PREDICTIONS}"),
    "logs": ("Convergence curves", f"{QVHIGHLIGHTS} {PREDICTIONS} {LOGS}"),
    "examples": ("The explorer's queries", f"{QVHIGHLIGHTS} {PREDICTIONS}"),
}


released_score = functools.cache(recorded.released_score)  # the files do not change while a page is built


@functools.lru_cache(maxsize=1)
def _val(root: Path) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Annotations of QVHighlights val, and the released predictions by method."""
    from vtg_lib.evaluation.submission import read_jsonl

    truth = root / recorded.GROUND_TRUTH["val"]
    files = {name: root / recorded.PREDICTIONS.format(f"{name}_val") for name in METHODS}
    _require(truth, *files.values())
    return read_jsonl(truth), {name: read_jsonl(file) for name, file in files.items()}


@functools.lru_cache(maxsize=1)
def _ranked(root: Path) -> dict[str, Ranked]:
    truth, files = _val(root)
    return {name: Ranked.join(rows, truth) for name, rows in files.items()}


def _require(*files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(file)


def _unit(scores: list[float]) -> list[float]:
    """Scores rescaled to 0..1, as the figure draws them."""
    array = np.asarray(scores, dtype=float)
    spread = np.ptp(array)
    return ((array - array.min()) / spread if spread else np.zeros_like(array)).round(2).tolist()


def _rounded(value: Any) -> Any:
    """`value` with its numbers at `DIGITS` decimals, and None for what is not a number."""
    if isinstance(value, Mapping):
        return {str(name): _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
