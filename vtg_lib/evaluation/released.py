"""What our code computed from real files that the project cannot ship: scores of released predictions,
statistics of annotations, curves of the authors' logs, and the parts of the chapter on the foundations.
`vtg data record` writes `results/recorded.json`; readers without the files see these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtg_lib.files import RESULTS, sha256

RECORD = RESULTS / "recorded.json"
PREDICTIONS = "released_predictions/{}.jsonl"
GROUND_TRUTH = {
    "val": "qvhighlights/highlight_val_release.jsonl",
    "test": "qvhighlights/highlight_test_with_gt.jsonl",
}
ANNOTATIONS = {
    "QVHighlights train": ("qvhighlights", "qvhighlights/highlight_train_release.jsonl"),
    "QVHighlights val": ("qvhighlights", "qvhighlights/highlight_val_release.jsonl"),
    "Charades-STA test": ("charades_sta", "charades_sta/charades_test_release.jsonl"),
    "TACoS test": ("tacos", "tacos/tacos_test_release.jsonl"),
}
LOGS = {
    "qd_detr": "released_logs/qd_detr_eval.log.txt",
    "moment_detr": "released_logs/moment_detr_clip_only_eval.log.txt",
    "eatr": "released_logs/eatr_eval.log.txt",
    "tr_detr": "released_logs/tr_detr_eval.log.txt",
    "cg_detr": "released_logs/cg_detr_eval.log.txt",
}


def load(path: Path = RECORD) -> dict[str, Any]:
    """The record: `released`, `annotations` and `logs`, each by name with the sha256 of what it came from;
    and `foundations`, the parts of that chapter (`vtg_lib.book.foundations.measure`)."""
    return json.loads(path.read_text()) if path.exists() else {"released": {}, "annotations": {}, "logs": {}}


def released_score(name: str, split: str, root: Path) -> dict[str, float] | None:
    """The evaluator's "brief" numbers of a released prediction file: computed where it is there, else as
    recorded.
    """
    predictions, truth = root / PREDICTIONS.format(name), root / GROUND_TRUTH[split]
    if predictions.exists() and truth.exists():
        return _score(predictions, truth)
    entry = load()["released"].get(name)
    return entry and entry["brief"]


def _score(predictions: Path, truth: Path) -> dict[str, float]:
    from vtg_lib.evaluation.protocol import evaluate
    from vtg_lib.evaluation.submission import read_jsonl

    return dict(evaluate(read_jsonl(predictions), read_jsonl(truth))["brief"])


def log_curve(path: Path) -> dict[str, list[float]]:
    """Epoch (from 1), mAP and HIT@1 of every evaluation in a log of Moment-DETR's format (one JSON object a
    line).
    """
    curve: dict[str, list[float]] = {"epoch": [], "MR-full-mAP": [], "HL-min-VeryGood-Hit1": []}
    for line in path.read_text().splitlines():
        epoch = re.search(r"\[Epoch\] (\d+)", line)
        if epoch is None or "[Metrics]" not in line:
            continue
        brief = json.loads(line[line.index("[Metrics]") + 9 :])["brief"]
        curve["epoch"].append(int(epoch[1]) + 1)
        for name in ("MR-full-mAP", "HL-min-VeryGood-Hit1"):
            curve[name].append(brief[name])
    return curve


def make(root: Path) -> dict[str, Any]:
    """Computes the whole record from the files under `root`.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    from vtg_lib.book import foundations
    from vtg_lib.data.annotations import read_annotations, statistics
    from vtg_lib.papers import load_paper, paper_keys

    names = {
        (name, split)
        for key in paper_keys()
        for t in load_paper(key).tables
        for r in t.rows
        for split, name in r.released.items()
    }
    released = {}
    for name, split in sorted(names):
        predictions, truth = root / PREDICTIONS.format(name), root / GROUND_TRUTH[split]
        released[name] = {
            "sha256": sha256(predictions),
            "truth_sha256": sha256(truth),
            "brief": _score(predictions, truth),
        }
    annotations = {
        label: {
            "sha256": sha256(root / file),
            "statistics": statistics(read_annotations(root / file), dataset),
        }
        for label, (dataset, file) in ANNOTATIONS.items()
    }
    logs = {name: {"sha256": sha256(root / file), **log_curve(root / file)} for name, file in LOGS.items()}
    return {
        "released": released,
        "annotations": annotations,
        "logs": logs,
        "foundations": foundations.measure(root),
    }


def write(record: Mapping[str, Any], path: Path = RECORD) -> None:
    """Writes the record as sorted JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
