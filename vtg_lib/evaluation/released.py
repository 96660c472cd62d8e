"""Predictions and logs that authors released, and what our code computed from them and other real files that
the project cannot ship. `vtg data record` writes `results/recorded.json`; readers without the files see that.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.evaluation.problems import SubmissionError, SubmissionWarning
from vtg_lib.evaluation.protocol import evaluate
from vtg_lib.evaluation.reading import read_jsonl
from vtg_lib.files import ANNOTATIONS, RESULTS

RECORD = RESULTS / "recorded.json"
PREDICTIONS = "released_predictions/{}.jsonl"  # below the data root, as are the logs
LOGS = {
    "qd_detr": "released_logs/qd_detr_eval.log.txt",
    "moment_detr": "released_logs/moment_detr_clip_only_eval.log.txt",
    "eatr": "released_logs/eatr_eval.log.txt",
    "tr_detr": "released_logs/tr_detr_eval.log.txt",
    "cg_detr": "released_logs/cg_detr_eval.log.txt",
}


def load(path: Path = RECORD) -> dict[str, Any]:
    """The record: `released`, `annotations` and `logs`, each by name with the sha256 of what it came from;
    and `foundations`, the parts of that chapter (`vtg_lib.book.foundations.record`)."""
    if not path.exists():
        return {"released": {}, "annotations": {}, "logs": {}}
    return dict(json.loads(path.read_text(encoding="utf-8")))


def released_score(name: str, split: str, root: Path) -> dict[str, float] | None:
    """The evaluator's "brief" numbers of a released prediction file on QVHighlights' val or test: computed
    where it is there, else as recorded.
    """
    predictions, truth = root / PREDICTIONS.format(name), root / ANNOTATIONS["qvhighlights"][split]
    if predictions.exists() and truth.exists():
        try:
            return dict(evaluate(read_jsonl(predictions), read_jsonl(truth))["brief"])
        except SubmissionError as error:  # one bad file stops no table
            text = f"{error}\n{predictions.name} is left out"
            warnings.warn(text, SubmissionWarning, stacklevel=2)
            return None
    recorded: dict[str, dict[str, float]] = load()["released"].get(name, {})
    return recorded.get("brief")


def read_log(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Epoch (from 1) and the evaluator's "brief" numbers of every evaluation in a log of Moment-DETR's
    format.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    records = (re.search(r"\[Epoch\] (\d+).*\[Metrics\](.*)", line) for line in lines)
    return [(int(record[1]) + 1, json.loads(record[2])["brief"]) for record in records if record]


def matching_epoch(
    log: Sequence[tuple[int, Mapping[str, float]]], brief: Mapping[str, float]
) -> dict[str, int]:
    """The epoch of a log that has most of a submission's numbers to the last digit: `epoch`, `equal`, and
    `of` how many.
    """
    shared = [
        sum(abs(value - line.get(name, np.inf)) < 0.005 for name, value in brief.items()) for _, line in log
    ]
    best = int(np.argmax(shared))
    return {"epoch": log[best][0], "equal": shared[best], "of": len(brief)}
