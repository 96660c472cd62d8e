"""The QVHighlights protocol, exact and vectorised; R1@k and mIoU.

`evaluate` returns what `standalone_eval` of Moment-DETR (github.com/jayleicn/moment_detr, the evaluator that
the field reports with) returns, to the last digit. Its habits that show in the numbers are kept:

- AP ranks the first ten windows *of the file*; R1 judges the first window of the file, not the best scored.
- Thresholds compare with >=. Lengths are in (0, 10], (10, 30], (30, 150] seconds; "full" takes every window.
- R1 picks a query's ground-truth window by IoU, then divides by the hull of both.
- HIT@1 looks at the whole saliency list, AP cuts or zero-pads it to int(duration / 2) clips, so that a padded
  0 outranks negative scores. Tied scores are one threshold.
- The first line of a submission decides what is scored. A qid given twice has its windows pooled for AP, and
  its last line counts for everything else.

Where the reference stops with an exception, here: a query without windows counts as AP 0 and a miss at R1; a
length range without ground truth is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg_lib.evaluation.arrays import ANNOTATORS, LEVELS, GroundTruth, Row, Windows, pack, pack_scores, select
from vtg_lib.evaluation.average_precision import (
    Floats,
    Ints,
    detection_ap,
    greedy_matches,
    tied_ap,
)
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.submission import SALIENCY, WINDOWS

__all__ = ["GroundTruth", "evaluate", "recall_and_miou"]

Bools = NDArray[np.bool_]

THRESHOLDS = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
LENGTH_RANGES = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}  # seconds, (low, high]


def evaluate(
    predictions: Sequence[Row], ground_truth: Sequence[Row] | GroundTruth, *, match_number: bool = True
) -> dict[str, Any]:
    """Score a submission by the QVHighlights protocol.

    Args:
        predictions: rows of qid, `pred_relevant_windows` [[start s, end s, score], ...] and
            `pred_saliency_scores`, one number a clip. What the first row lacks is not scored.
        ground_truth: annotation rows (qid, duration s, relevant_windows, relevant_clip_ids, saliency_scores)
            or `GroundTruth.pack` of them. Highlights are scored only where it has saliency, moments where it
            has windows.
        match_number: require the same qids on both sides; otherwise score those that both have.

    Returns:
        Percentages, rounded to two decimals: `brief` (the numbers that papers print),
            `HL-min-Fair|Good|VeryGood`
        {HL-mAP, HL-Hit1} and `full`, `long`, `middle`, `short` {MR-mAP: {"0.5" … "0.95", "average"}, MR-R1:
        {…}}.

    Raises:
        SubmissionError (a ValueError): what is wrong with which rows, and how to fix it.
    """
    truth = ground_truth if isinstance(ground_truth, GroundTruth) else GroundTruth.pack(ground_truth)
    rows, query = select(predictions, truth, match_number)
    first = rows[0][0]
    nested: dict[str, Any] = {}
    brief: dict[str, float] = {}
    if WINDOWS in first and truth.windows is not None:
        moments = _moments(pack(Windows.pack, rows, predictions), truth, query)
        nested.update(moments)
        brief |= {
            "MR-full-R1@0.5": moments["full"]["MR-R1"]["0.5"],
            "MR-full-R1@0.7": moments["full"]["MR-R1"]["0.7"],
            "MR-full-mAP": moments["full"]["MR-mAP"]["average"],
            "MR-full-mAP@0.5": moments["full"]["MR-mAP"]["0.5"],
            "MR-full-mAP@0.75": moments["full"]["MR-mAP"]["0.75"],
            "MR-long-mAP": moments["long"]["MR-mAP"]["average"],
            "MR-middle-mAP": moments["middle"]["MR-mAP"]["average"],
            "MR-short-mAP": moments["short"]["MR-mAP"]["average"],
        }
    if SALIENCY in first and truth.level is not None:
        highlights = _highlights(pack(pack_scores, rows, predictions), truth, query)
        nested.update(highlights)
        for name, scores in highlights.items():
            brief |= {f"{name}-mAP": scores["HL-mAP"], f"{name}-Hit1": scores["HL-Hit1"]}
    if not nested:
        raise SubmissionError.single(
            expected=f"{WINDOWS} or {SALIENCY} in the first row, and labels for it in the ground truth",
            got=", ".join(map(str, first)),
            fix="write the predictions under these names",
        )
    return {"brief": brief, **dict(sorted(nested.items()))}


def recall_and_miou(
    predictions: Sequence[Row],
    ground_truth: Sequence[Row] | GroundTruth,
    *,
    thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    match_number: bool = True,
) -> dict[str, float]:
    """R1@threshold and mIoU of the first window of each query, in percent, as Charades-STA and TACoS are
    reported.

    The convention of the forks of `standalone_eval` that report these two (R2-Tuning's, for one): R1 as in
    `evaluate`, with 0.3 added, and mIoU the mean over queries of the IoU that R1 thresholds.

    Returns:
        {"R1@0.3": …, "R1@0.5": …, "R1@0.7": …, "mIoU": …}, rounded to two decimals.
    """
    truth = ground_truth if isinstance(ground_truth, GroundTruth) else GroundTruth.pack(ground_truth)
    if truth.windows is None:
        raise ValueError(
            "ground truth: expected relevant_windows in every line, got none. Fix: use annotations with"
            " moments."
        )
    rows, query = select(predictions, truth, match_number)
    pairs = _Pairs.join(pack(Windows.pack, rows, predictions), truth, query)
    iou = pairs.first_iou(np.ones(pairs.owner.size, bool))
    scores = {f"R1@{threshold}": _percent(np.mean(iou >= threshold)) for threshold in thresholds}
    return {**scores, "mIoU": _percent(np.mean(iou))}


def _percent(share: float | np.floating[Any]) -> float:
    return float(f"{100 * share:.2f}")


# --- Moment retrieval


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Every ground-truth window w of the scored queries against the predictions of its query.

    owner [W] query, sorted; spans [W, 2] seconds; iou [W, P], -1 beyond the predictions; iou_first [W] and
    first [N, 2], those of the file's first window.
    """

    owner: Ints
    spans: Floats
    iou: Floats
    iou_first: Floats
    first: Floats

    @classmethod
    def join(cls, predicted: Windows, truth: GroundTruth, query: Ints) -> _Pairs:
        assert truth.windows is not None
        count = truth.offsets[query + 1] - truth.offsets[query]
        owner = np.repeat(np.arange(query.size), count)
        start = np.cumsum(count) - count
        spans = truth.windows[np.arange(owner.size) + (truth.offsets[query] - start)[owner]]
        iou = _iou(predicted.spans[owner], spans[:, None])
        iou[np.arange(iou.shape[1]) >= predicted.count[owner, None]] = -1.0
        iou_first = _iou(predicted.first[owner], spans)
        return cls(owner=owner, spans=spans, iou=iou, iou_first=iou_first, first=predicted.first)

    def first_iou(self, keep: Bools) -> Floats:
        """IoU that R1 judges, for each query that has a window in `keep` [W]: the first prediction against
        the window of highest IoU (an undefined IoU, of two windows without length, is higher than any), over
        the hull of the two."""
        owner, kept = self.owner[keep], np.flatnonzero(keep)
        overlap = self.iou_first[keep]
        overlap = np.where(np.isnan(overlap), np.inf, overlap)
        start = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
        best = np.repeat(np.maximum.reduceat(overlap, start), np.diff(np.append(start, owner.size)))
        at_best = np.flatnonzero(overlap == best)
        chosen = at_best[np.unique(owner[at_best], return_index=True)[1]]
        first, window = self.first[owner[chosen]], self.spans[kept[chosen]]
        inter = np.maximum(0, np.minimum(first[:, 1], window[:, 1]) - np.maximum(first[:, 0], window[:, 0]))
        hull = np.maximum(first[:, 1], window[:, 1]) - np.minimum(first[:, 0], window[:, 0])
        iou = np.divide(inter, hull, out=np.zeros_like(inter), where=hull != 0)
        return np.where(np.isnan(iou), 0.0, iou)  # a query without windows


def _iou(first: Floats, second: Floats) -> Floats:
    """IoU of (start, end) spans that broadcast; NaN where both have no length, as in the reference."""
    inter = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    inter = np.clip(inter, 0, None)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - inter
    with np.errstate(divide="ignore", invalid="ignore"):
        return inter / union


def _moments(predicted: Windows, truth: GroundTruth, query: Ints) -> dict[str, Any]:
    pairs = _Pairs.join(predicted, truth, query)
    length = pairs.spans[:, 1] - pairs.spans[:, 0]
    keep = {name: (low < length) & (length <= high) for name, (low, high) in LENGTH_RANGES.items()}
    keep["full"] = np.ones(length.size, bool)

    # Level of a pair: how many thresholds its IoU reaches. Where no prediction reaches a threshold with two
    # windows of its query, greedy matching needs no search: a window goes, at each threshold, to the first
    # prediction to reach it.
    level = np.searchsorted(THRESHOLDS, pairs.iou, side="right")
    start = np.searchsorted(pairs.owner, np.arange(query.size))
    reached: Ints = np.add.reduceat(
        level > 0, start, axis=0, dtype=np.intp
    )  # windows by each prediction [N, P]
    contested: Bools = np.any(reached > 1, axis=1)
    before = np.zeros_like(level)
    before[:, 1:] = np.maximum.accumulate(level, axis=1)[:, :-1]
    window, rank = np.nonzero((level > before) & ~contested[pairs.owner, None])
    low = before[window, rank]
    gained = level[window, rank] - low
    window, rank, low = (np.repeat(each, gained) for each in (window, rank, low))
    threshold = np.arange(window.size) - np.repeat(np.cumsum(gained) - gained, gained) + low
    events = (window, threshold, rank)
    return {
        name: _range_scores(pairs, predicted.count, events, np.flatnonzero(contested), keep[name])
        for name in keep
    }


def _range_scores(
    pairs: _Pairs, predictions: Ints, events: tuple[Ints, Ints, Ints], contested: Ints, keep: Bools
) -> dict[str, dict[str, float]]:
    """MR-mAP and MR-R1 over the ground-truth windows in `keep` [W] and the queries that have one.

    Args:
        predictions: number of predictions of each query [N].
        events: ground-truth window, threshold index and rank of each true positive of the uncontested
            queries.
        contested: queries to match greedily.
    """
    names = [str(threshold) for threshold in THRESHOLDS.tolist()]
    if not keep.any():
        return {"MR-mAP": dict.fromkeys([*names, "average"], np.nan), "MR-R1": dict.fromkeys(names, np.nan)}
    targets = np.bincount(pairs.owner[keep], minlength=predictions.size)
    present = targets > 0
    place = np.cumsum(present) - 1
    window, threshold, rank = (each[keep[events[0]]] for each in events)
    found = [(place[pairs.owner[window]], threshold, rank)]
    for n in contested[present[contested]]:
        iou = pairs.iou[(pairs.owner == n) & keep, : predictions[n]]
        t, p = greedy_matches(np.ascontiguousarray(iou.T), THRESHOLDS)
        found.append((np.full(t.size, place[n]), t, p))
    queries, threshold, rank = (np.concatenate(each) for each in zip(*found, strict=True))
    ranks = pairs.iou.shape[1]
    key = np.sort((queries * THRESHOLDS.size + threshold) * ranks + rank)
    ap = detection_ap(key // ranks, key % ranks + 1, np.repeat(targets[present], THRESHOLDS.size))
    per_threshold = ap.reshape(-1, THRESHOLDS.size).mean(axis=0)
    iou = pairs.first_iou(keep)
    return {
        "MR-mAP": {
            **{name: _percent(value) for name, value in zip(names, per_threshold, strict=True)},
            "average": _percent(np.mean(per_threshold)),
        },
        "MR-R1": {
            name: _percent(np.mean(iou >= value)) for name, value in zip(names, THRESHOLDS, strict=True)
        },
    }


# --- Highlight detection


def _highlights(packed: tuple[Floats, Ints], truth: GroundTruth, query: Ints) -> dict[str, dict[str, float]]:
    raw, length = packed
    assert truth.clips is not None and truth.level is not None
    clips, level = truth.clips[query], truth.level[:, query]  # [N], [3, N, T]
    _, queries, time = level.shape
    clip = np.arange(time)
    inside = clip < clips[:, None]
    scores = np.where(inside, 0.0, -np.inf)
    shared = min(time, raw.shape[1])
    given = inside[:, :shared] & (clip[:shared] < length[:, None])
    np.copyto(scores[:, :shared], raw[:, :shared], where=given)

    order = (
        np.argsort(scores, axis=1) + time * np.arange(queries)[:, None]
    )  # ascending, in flat indices; ties: below
    ranked = scores.ravel()[order]
    tie_start = np.zeros(ranked.shape, np.int32)
    tie_start[:, 1:] = clip[1:] * (ranked[:, 1:] != ranked[:, :-1])
    depth = time - np.maximum.accumulate(tie_start, axis=1)  # clips with at least this score
    depth = np.tile(depth, (ANNOTATORS, 1))  # [3 * N, T]
    ranked_level = level.reshape(ANNOTATORS, -1).take(order, axis=1).reshape(-1, time)

    top = raw.argmax(axis=1)
    hit_level = level[:, np.arange(queries), np.minimum(top, time - 1)].max(axis=0) * (top < clips)

    results = {}
    for reached, name in enumerate(LEVELS, start=1):
        positive = ranked_level >= reached
        segment = np.repeat(np.arange(len(positive)), positive.sum(axis=1))
        ap = tied_ap(segment, depth[positive], len(positive)).reshape(ANNOTATORS, queries)
        results[f"HL-min-{name}"] = {
            "HL-mAP": _percent(np.mean(ap.T.copy())),  # the copy fixes the order of additions: query by query
            "HL-Hit1": _percent(np.mean(hit_level >= reached)),
        }
    return results
