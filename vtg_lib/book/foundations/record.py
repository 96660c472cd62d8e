"""What the book shows of real files: measured where they are, else taken from `results/recorded.json`, which
`vtg data record` writes.

The chapter's own numbers come in five parts; plain JSON values throughout, rounded, so that a measured part
and a recorded one are the same.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.book import habits
from vtg_lib.data.annotations import read_annotations
from vtg_lib.data.statistics import SETS, shapes, statistics
from vtg_lib.evaluation import per_query, released
from vtg_lib.evaluation.per_query import METHODS, Ranked
from vtg_lib.evaluation.protocol import evaluate
from vtg_lib.evaluation.reading import read_jsonl
from vtg_lib.evaluation.submission import SALIENCY, WINDOWS
from vtg_lib.files import ANNOTATIONS, sha256
from vtg_lib.papers import load_paper, paper_keys

DIGITS = 5
WORKED = "tr_detr"  # the method whose predictions the worked example follows
EXAMPLES, WINDOWS_SHOWN = 8, 3  # queries of the explorer, and windows of each method
REORDERED = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")
COUNTED = ("QVHighlights train", "QVHighlights val", "Charades-STA test", "TACoS test")  # of `SETS`
CURVES = ("MR-full-mAP", "HL-min-VeryGood-Hit1")  # of the authors' logs
Rows = list[dict[str, Any]]

# The files do not change while a page is built.
released_score = functools.cache(released.released_score)


def make(root: Path) -> dict[str, Any]:
    """The whole record, from the files under `root`.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    rows = [row for key in paper_keys() for table in load_paper(key).tables for row in table.rows]
    names = {(name, split) for row in rows for split, name in row.released.items()}
    return {
        "released": {
            name: {
                "sha256": sha256(root / released.PREDICTIONS.format(name)),
                "truth_sha256": sha256(root / ANNOTATIONS["qvhighlights"][split]),
                "brief": released.released_score(name, split, root),
            }
            for name, split in sorted(names)
        },
        "annotations": {
            label: {
                "sha256": sha256(root / file),
                "statistics": statistics(read_annotations(root / file), name),
            }
            for label, (name, (file, *_)) in SETS.items()
            if label in COUNTED
        },
        "logs": {
            name: {"sha256": sha256(file), "epoch": [epoch for epoch, _ in log]}
            | {curve: [brief[curve] for _, brief in log] for curve in CURVES}
            for name, file, log in (
                (n, root / f, released.read_log(root / f)) for n, f in released.LOGS.items()
            )
        },
        "foundations": {name: part(root) for name, part in PARTS.items()},
    }


def write(record: Mapping[str, Any], path: Path = released.RECORD) -> None:
    """Writes the record as sorted JSON."""
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def gather(root: Path | None) -> tuple[dict[str, Any], dict[str, bool]]:
    """Every part of the chapter, measured now or as recorded, and by part whether it was measured now. A part
    that is neither is empty.
    """
    found = dict.fromkeys(PARTS, {}) | released.load().get("foundations", {})
    now = dict.fromkeys(PARTS, False)
    for name, part in PARTS.items():
        if root is None:
            break
        try:
            found[name], now[name] = part(root), True
        except FileNotFoundError:
            continue
    return found, now


def annotation_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.data.statistics.shapes` of every data set, by label."""
    return _rounded({label: shapes(_read(root, *files), dataset) for label, (dataset, files) in SETS.items()})


def evaluator_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.book.habits`: `bounds` of val, `habits` of each method's val predictions, and the `worked`
    query.
    """
    truth, predictions, _ = _val(root)
    found = {name: habits.habits(rows, truth) for name, rows in predictions.items()}
    worked = worked_query(predictions[WORKED], truth)
    return _rounded({"bounds": habits.bounds(truth), "habits": found, "worked": worked})


def worked_query(predictions: Rows, truth: Rows) -> dict[str, Any]:
    """The first query with two moments whose first prediction is right and whose AP at IoU 0.5 lies between 0
    and 1.
    """
    rows = {row["qid"]: row for row in predictions}
    for annotation in (row for row in truth if len(row["relevant_windows"]) == 2):
        row = rows[annotation["qid"]]
        worked = habits.worked(row, annotation)
        if worked["steps"][0]["0.5"] is not None and 0 < worked["ap"]["0.5"] < 1:
            top = int(np.argmax(row[SALIENCY]))
            votes = dict(zip(annotation["relevant_clip_ids"], annotation["saliency_scores"], strict=True))
            return {
                "method": METHODS[WORKED],
                **{name: annotation[name] for name in ("qid", "query", "duration", "relevant_windows")},
                **worked,
                "top_clip": top,
                "votes": votes.get(top, [0, 0, 0]),
                "brief": evaluate([row], [annotation])["brief"],
            }
    raise ValueError("worked query: no query with two moments fits the rule")


def prediction_part(root: Path) -> dict[str, Any]:
    """`vtg_lib.evaluation.per_query` of each method on val, and of every pair: calibration, recall, perfect
    ranking, agreement.
    """
    truth, files, ranked = _val(root)
    perfect = {
        name: evaluate(per_query.reordered(rows, truth), truth)["brief"] for name, rows in files.items()
    }
    methods = {
        name: {
            "calibration": per_query.calibration(one),
            "length": per_query.recall_by_length(one),
            "count": per_query.recall_by_count(one),
            "reordered": {key: perfect[name][key] for key in REORDERED},
        }
        for name, one in ranked.items()
    }
    pairs = [{"of": [b, a], **per_query.agreement(ranked[b], ranked[a])} for a, b in combinations(METHODS, 2)]
    return _rounded({"methods": methods, "pairs": pairs, "solved": per_query.solved(list(ranked.values()))})


def log_part(root: Path) -> dict[str, Any]:
    """By method, the epoch of the authors' log whose numbers the released val predictions have, and the log's
    curve.
    """
    found = {}
    for name, file in released.LOGS.items():
        log, score = released.read_log(root / file), released_score(f"{name}_val", "val", root)
        found[name] = {
            "epoch": [epoch for epoch, _ in log],
            "mAP": [line["MR-full-mAP"] for _, line in log],
            "released": None if score is None else released.matching_epoch(log, score),
        }
    return _rounded(found)


def example_part(root: Path) -> dict[str, Any]:
    """Some val queries with every method's best windows and saliency, as the timeline figure shows them.

    Half have one moment, half several. Each half is spread evenly over such queries sorted by the methods'
    mean AP, from those that all miss to those that all find.
    """
    truth, files, ranked = _val(root)
    ap = np.mean([one.ap for one in ranked.values()], axis=0)
    several = np.array([len(row["relevant_windows"]) > 1 for row in truth])
    chosen: list[int] = []
    for half in (np.flatnonzero(~several), np.flatnonzero(several)):
        order = half[np.argsort(ap[half], kind="stable")]
        chosen += order[np.linspace(0, len(order) - 1, EXAMPLES // 2).round().astype(int)].tolist()
    shown = []
    for annotation in (truth[place] for place in sorted(chosen, key=lambda n: float(ap[n]))):
        rows = {
            name: next(row for row in rows if row["qid"] == annotation["qid"]) for name, rows in files.items()
        }
        votes = np.zeros(int(annotation["duration"] / 2))
        votes[annotation["relevant_clip_ids"]] = np.sum(annotation["saliency_scores"], axis=1) / 12
        shown.append(
            {name: annotation[name] for name in ("qid", "query", "duration", "relevant_windows")}
            | {
                "truth": votes.round(2).tolist(),
                "windows": {name: row[WINDOWS][:WINDOWS_SHOWN] for name, row in rows.items()},
                "saliency": {name: _unit(row[SALIENCY][: len(votes)]) for name, row in rows.items()},
            }
        )
    return _rounded({"queries": shown})


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "annotations": annotation_part,
    "evaluator": evaluator_part,
    "predictions": prediction_part,
    "logs": log_part,
    "examples": example_part,
}
_VAL = "qvhighlights released_predictions"
# What each part is called on the page, and the sets of `vtg data fetch` that have its files.
NEEDS = {
    "annotations": ("Statistics of annotations", "qvhighlights charades_sta tacos tvsum youtube_highlights"),
    "evaluator": ("What the evaluator's habits move", _VAL),
    "predictions": ("Calibration, recall and agreement", _VAL),
    "logs": ("Convergence curves", f"{_VAL} released_logs"),
    "examples": ("The explorer's queries", _VAL),
}


@functools.lru_cache(maxsize=1)
def _val(root: Path) -> tuple[Rows, dict[str, Rows], dict[str, Ranked]]:
    """Annotations of QVHighlights val, and the released predictions by method, as they are and ranked."""
    truth = _read(root, ANNOTATIONS["qvhighlights"]["val"])
    files = {name: _read(root, released.PREDICTIONS.format(f"{name}_val")) for name in METHODS}
    return truth, files, {name: Ranked.join(rows, truth) for name, rows in files.items()}


def _read(root: Path, *files: str) -> Rows:
    """The rows of one or several files, one after the other."""
    for file in files:
        if not (root / file).is_file():
            raise FileNotFoundError(root / file)
    return [row for file in files for row in read_jsonl(root / file)]


def _unit(scores: list[float]) -> list[float]:
    """Scores rescaled to 0..1, as the figure draws them."""
    array = np.asarray(scores, dtype=float) - np.min(scores)
    return (array / (array.max() or 1.0)).round(2).tolist()


def _rounded(value: Any) -> Any:
    """`value` with its numbers at `DIGITS` decimals, and None for what is not a number."""
    if isinstance(value, Mapping):
        return {str(name): _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
