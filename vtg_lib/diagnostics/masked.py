"""What does a model still find when the moment is hidden? (TD-DETR, ICCV 2025, Fig. 1)

Spurious evaluation: the moment's clips are replaced and the answer is scored against the true windows all the
same. What stands in for them can itself be seen, so every number has bounds beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from vtg_lib.data import views
from vtg_lib.data.batches import GroundingData, last_level
from vtg_lib.diagnostics.topic import Record, Table, View, auc, rounded
from vtg_lib.models.inference import predict, score
from vtg_lib.spans import iou

MARGIN = 3.0  # seconds hidden on both sides, as in xyangzhou/TD-DETR @ a0ce6d3
JUDGED: views.Fill = "mean"  # of the four it shows itself least (`probe`); the authors use noise
STAYS = 0.5  # IoU with the answer to the whole video
EDGE = 2.0  # seconds between the answer and the mask within which it is at the mask's edge
KEPT = 10  # windows that the prior answers with
ROWS = 512  # that are looked at, eight times
Rows = list[dict[str, Any]]


def measure(model: nn.Module, data: GroundingData) -> Record:
    """Spurious evaluation with four fills, and its bounds, on the first `ROWS` rows.

    Returns:
        `standard`: {map, r1} in percent (mAP, R1@0.5). `masks`: fill -> {map, r1, ratio (to the standard
        mAP), score_drop (of the best answer), stays, moves_to_edge, moves_away (shares of rows: the best
        answer is the one it gives to the whole video, lies at the mask, or elsewhere), probe (AUC with which
        a linear probe tells hidden clips from shown ones)}. `bounds`: mAP on `decoy` (as much hidden, but not
        the moment), `swapped_text`, `swapped_video`, and of a `prior` that answers with the same windows
        whatever it is asked, fitted to the other half of the rows.
    """
    data = data.first(ROWS)
    whole = predict(model, data)
    standard = _scores(whole, data)
    hidden = views.moment_clips(data, MARGIN)
    masks: dict[str, dict[str, float | None]] = {}
    for fill in views.FILLS:
        view = views.masked(data, fill, MARGIN)
        answers = predict(model, view)
        found = _scores(answers, view)
        masks[fill] = {
            **found,
            "ratio": rounded(found["map"] / standard["map"]) if standard["map"] else 0.0,
            "score_drop": rounded(_best(whole)[:, 2].mean() - _best(answers)[:, 2].mean()),
            **_moves(_best(whole), _best(answers), data),
            "probe": _probe(view, hidden.numpy()),
        }
    bounds = {
        "decoy": views.decoy(data, JUDGED, MARGIN),
        "swapped_text": views.swapped_text(data),
        "swapped_video": views.swapped_video(data),
    }
    return {
        "standard": standard,
        "masks": masks,
        "bounds": {name: _scores(predict(model, view), view)["map"] for name, view in bounds.items()}
        | {"prior": _scores(prior(data), data)["map"]},
    }


def prior(data: GroundingData) -> Rows:
    """Answers from windows alone: each half of the rows gets the ten windows, as shares of the video, that
    best cover those of the other half, the most useful one first.
    """
    windows = [np.array(row["relevant_windows"], float) / row["duration"] for row in data.annotations]
    answers: Rows = []
    chosen = [_cover(np.concatenate(windows[1 - half :: 2])) for half in (0, 1)]
    for number, row in enumerate(data.annotations):
        spans = chosen[number % 2] * row["duration"]
        ranked = [[*span, 1 - place / KEPT] for place, span in enumerate(spans.tolist())]
        saliency = [0.0] * int(data.video_length[data.video_index[number]])
        answers.append(
            {name: row[name] for name in ("qid", "query", "vid")}
            | {"pred_relevant_windows": ranked, "pred_saliency_scores": saliency}
        )
    return answers


def _cover(windows: np.ndarray) -> np.ndarray:
    """`[KEPT, 2]` of windows `[W, 2]`, chosen greedily by how much nearer (IoU) all of them come to one."""
    overlap = _iou(windows[:, None], windows[None])
    covered, chosen = np.zeros(len(windows)), []
    for _ in range(min(KEPT, len(windows))):
        gain = np.maximum(overlap - covered[None], 0).mean(1)
        chosen.append(int(gain.argmax()))
        covered = np.maximum(covered, overlap[chosen[-1]])
    return windows[chosen]


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    found: np.ndarray = iou(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    return found


def _scores(answers: Rows, data: GroundingData) -> dict[str, float]:
    brief = score(answers, data)["brief"]
    return {"map": brief["MR-full-mAP"], "r1": brief["MR-full-R1@0.5"]}


def _best(answers: Rows) -> np.ndarray:
    """`[N, 3]`, start and end in seconds and score of the best answer to every row."""
    return np.array([row["pred_relevant_windows"][0] for row in answers])


def _moves(before: np.ndarray, after: np.ndarray, data: GroundingData) -> dict[str, float]:
    stays = _iou(before[:, :2], after[:, :2]) >= STAYS
    edge = np.array(
        [
            any(
                start < last + MARGIN + EDGE and end > first - MARGIN - EDGE
                for first, last in row["relevant_windows"]
            )
            for row, (start, end) in zip(data.annotations, after[:, :2], strict=True)
        ]
    )
    shares = {"stays": stays, "moves_to_edge": ~stays & edge, "moves_away": ~stays & ~edge}
    return {name: rounded(where.mean()) for name, where in shares.items()}


def _probe(view: GroundingData, hidden: np.ndarray) -> float | None:
    """AUC over clips of the second half of the rows of a ridge regression on those of the first half."""
    features = last_level(view.video)[view.video_index].float().numpy()
    real = np.arange(features.shape[1]) < view.video_length[view.video_index].numpy()[:, None]
    half = len(features) // 2
    fit, held = (features[part][real[part]] for part in (slice(None, half), slice(half, None)))
    target, truth = (hidden[part][real[part]] for part in (slice(None, half), slice(half, None)))
    center = fit.mean(0)
    gram = (fit - center).T @ (fit - center) + np.eye(fit.shape[1])
    value = (held - center) @ np.linalg.solve(gram, (fit - center).T @ (target - target.mean()))
    return auc(value[truth], value[~truth])


_COLUMNS = {
    "spurious mAP": "map",
    "ratio to standard": "ratio",
    "spurious R1@0.5": "r1",
    "score drop": "score_drop",
    "stays": "stays",
    "moves to edge": "moves_to_edge",
    "moves away": "moves_away",
    "mask found by a probe (AUC)": "probe",
}


def _rows(record: Record) -> Mapping[str, Mapping[str, Any]]:
    standard = {"standard mAP": record["standard"]["map"]}
    return {
        fill: standard | {column: found[name] for column, name in _COLUMNS.items()}
        for fill, found in record["masks"].items()
    } | {
        f"bound: {name.replace('_', ' ')}": {"spurious mAP": value}
        for name, value in record["bounds"].items()
    }


VIEW = View(
    title="Found without the moment",
    number=lambda record: record["masks"][JUDGED]["map"],
    head="mAP with the\nmoment hidden",
    table=Table(by="mask", rows=_rows, digits=2),
)
