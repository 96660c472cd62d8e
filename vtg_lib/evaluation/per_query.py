"""What released predictions say query by query: average precision, calibration, recall and agreement
(evidence `released`).

The published numbers are means over queries. Here the queries stay apart: `Ranked` lays one submission beside
the ground truth as the evaluator sees it (ten windows, by falling score), and everything else is counted from
that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vtg_lib.evaluation.average_precision import detection_ap, greedy_matches
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.protocol import LENGTH_RANGES, THRESHOLDS
from vtg_lib.evaluation.statistics import rank_correlation, t_interval
from vtg_lib.evaluation.submission import WINDOWS, Row

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Methods with released predictions on QVHighlights val, oldest first; the file is `<key>_<split>.jsonl`.
METHODS = {
    "moment_detr": "Moment-DETR",
    "qd_detr": "QD-DETR",
    "eatr": "EaTR",
    "tr_detr": "TR-DETR",
    "cg_detr": "CG-DETR",
}
RIGHT = 0.5  # IoU from which a prediction counts as right, where a page does not say otherwise
KEPT = 10  # predictions of a query that the evaluator looks at
LENGTH_EDGES = (0.0, 4.0, 10.0, 20.0, 30.0, 60.0, 150.0)  # seconds, (low, high]
COUNTS = (1, 2, 3, 4, 5)  # moments of a query; the last stands for more, too


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """A submission beside the ground truth, in the annotations' order: N queries, W true windows, P
    predictions.

    Attributes:
        spans: `[N, P, 2]` seconds, by falling score, ties in file order; NaN where a query has fewer than P.
        scores: `[N, P]`, NaN there.
        owner: `[W]` query of each true window, sorted; windows: `[W, 2]` seconds; count: `[N]` of them.
        iou: `[W, P]` of each true window with its query's predictions, 0 where there is none.
        ap: `[N]` in 0..1, the mean over the protocol's ten thresholds.
    """

    spans: Floats
    scores: Floats
    owner: Ints
    windows: Floats
    count: Ints
    iou: Floats
    ap: Floats

    @classmethod
    def join(cls, predictions: Sequence[Row], truth: Sequence[Row]) -> Ranked:
        """Lay predictions beside annotations.

        Raises:
            SubmissionError: the two do not have the same queries.
        """
        by_qid = {row["qid"]: row[WINDOWS][:KEPT] for row in predictions}
        if by_qid.keys() != {row["qid"] for row in truth}:
            raise SubmissionError.single(
                field="qid",
                expected=f"the {len(truth)} queries of the annotations",
                got=f"{len(by_qid)} queries, not the same ones",
                fix="pass the predictions and the annotations of one split",
            )
        table = np.full((len(truth), max(map(len, by_qid.values())), 3), np.nan)
        for n, row in enumerate(truth):
            ranked = sorted(by_qid[row["qid"]], key=lambda window: -window[2])  # stable, as the evaluator's
            table[n, : len(ranked)] = [window[:3] for window in ranked]
        count = np.array([len(row["relevant_windows"]) for row in truth])
        owner = np.repeat(np.arange(len(truth)), count)
        windows = np.array([window for row in truth for window in row["relevant_windows"]], dtype=float)
        iou = np.nan_to_num(overlap(table[owner, :, :2], windows[:, None]))
        return cls(
            spans=table[..., :2],
            scores=table[..., 2],
            owner=owner,
            windows=windows,
            count=count,
            iou=iou,
            ap=average_precisions(iou, count).mean(1),
        )

    @property
    def best(self) -> Floats:
        """`[N, P]` IoU of each prediction with the true window that it fits best."""
        return np.maximum.reduceat(self.iou, np.cumsum(self.count) - self.count, axis=0)

    @property
    def right(self) -> NDArray[np.bool_]:
        """`[N]` whether the first prediction reaches IoU `RIGHT`."""
        return self.best[:, 0] >= RIGHT


def overlap(first: Floats, second: Floats) -> Floats:
    """IoU of (start, end) spans `[..., 2]` that broadcast; NaN where both have no length."""
    inter = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    inter = np.clip(inter, 0, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou: Floats = inter / (np.ptp(first, axis=-1) + np.ptp(second, axis=-1) - inter)
    return iou


def average_precisions(iou: Floats, count: Ints) -> Floats:
    """AP of each query at each of the protocol's thresholds, `[N, 10]`; arguments as `Ranked` has them."""
    ap = np.zeros((len(count), len(THRESHOLDS)))
    for n, (end, windows) in enumerate(zip(np.cumsum(count), count, strict=True)):
        threshold, prediction = greedy_matches(np.ascontiguousarray(iou[end - windows : end].T), THRESHOLDS)
        order = np.lexsort((prediction, threshold))
        ap[n] = detection_ap(threshold[order], prediction[order] + 1, np.full(len(THRESHOLDS), windows))
    return ap


# --- calibration


def reliability(score: Floats, outcome: Floats, bins: int = 10) -> dict[str, Any]:
    """How well scores in 0..1 stand for an outcome in 0..1.

    Args:
        score, outcome: `[n]` each.
        bins: of equal width over 0..1.

    Returns:
        count, score and outcome (means, None where a bin is empty) per bin, and `ece`, the expected
        calibration error: the mean distance of the two weighted by count.
    """
    place = np.clip((np.asarray(score) * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (score, outcome)]
    means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
    return {
        "count": count.tolist(),
        "score": [None if np.isnan(value) else float(value) for value in means[0]],
        "outcome": [None if np.isnan(value) else float(value) for value in means[1]],
        "ece": float(np.nansum(np.abs(means[0] - means[1]) * count) / count.sum()),
    }


def calibration(ranked: Ranked) -> dict[str, Any]:
    """Scores against IoU: reliability of the first and of all predictions, and how well scores order windows.

    Returns:
        `first` and `all`: `reliability` with the IoU as outcome; `ece_right`: of the first, with "IoU >=
        `RIGHT`" as outcome; `rank_first`: Spearman between queries, the first prediction's score against its
        IoU; `rank_within`: the same between the predictions of a query, mean over the queries with one.
    """
    known = ~np.isnan(ranked.scores)
    best = ranked.best
    first = known[:, 0]
    top, top_iou = ranked.scores[first, 0], best[first, 0]
    return {
        "first": reliability(top, top_iou),
        "all": reliability(ranked.scores[known], best[known]),
        "ece_right": reliability(top, (top_iou >= RIGHT).astype(float))["ece"],
        "rank_first": rank_correlation(top, top_iou)[0],
        "rank_within": float(np.nanmean(_row_spearman(ranked.scores[known.all(1)], best[known.all(1)]))),
    }


def _row_spearman(a: Floats, b: Floats) -> Floats:
    """Spearman's rho of each row; NaN where one side is constant."""
    a, b = (rankdata(values, axis=1) for values in (a, b))
    a, b = (values - values.mean(1, keepdims=True) for values in (a, b))
    with np.errstate(invalid="ignore"):
        rho: Floats = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return rho


def reordered(predictions: Sequence[Row], truth: Sequence[Row]) -> list[dict[str, Any]]:
    """The same windows, ordered and scored by their true IoU: what a perfect ranking would make of them."""
    windows = {row["qid"]: np.array(row["relevant_windows"], dtype=float) for row in truth}
    rows = []
    for row in predictions:
        spans = np.array([window[:2] for window in row[WINDOWS][:KEPT]], dtype=float).reshape(-1, 2)
        best = np.nan_to_num(overlap(spans[:, None], windows[row["qid"]][None])).max(1)
        order = np.argsort(-best, kind="stable")
        rows.append({"qid": row["qid"], WINDOWS: [[*spans[i].tolist(), float(best[i])] for i in order]})
    return rows


# --- recall


def recall_by_length(ranked: Ranked, edges: Sequence[float] = LENGTH_EDGES) -> dict[str, list[float]]:
    """Share of the true windows of each length that the first prediction, and that any of ten, meets at IoU
    `RIGHT`.

    Returns:
        n (windows), `first` and `any`, per range (low, high] of seconds; NaN for a range without windows.
    """
    length = np.ptp(ranked.windows, axis=1)
    found = {"first": ranked.iou[:, 0] >= RIGHT, "any": ranked.iou.max(1) >= RIGHT}
    inside = [(low < length) & (length <= high) for low, high in pairwise(edges)]
    shares = {
        name: [float(hit[keep].mean()) if keep.any() else np.nan for keep in inside]
        for name, hit in found.items()
    }
    return {"n": [int(keep.sum()) for keep in inside], **shares}


def recall_by_count(ranked: Ranked, counts: Sequence[int] = COUNTS) -> dict[str, list[float]]:
    """What is found of queries with 1, 2, … moments; the last of `counts` stands for more, too.

    Returns:
        per count: n (queries), `ap` (mean), `found`: share of a query's k windows that its first k
            predictions meet at IoU
        `RIGHT`, `repeats`: share of those k predictions that meet a window which one before them met already.
    """
    met = ranked.iou >= RIGHT
    rank = np.arange(met.shape[1])
    among = rank < ranked.count[ranked.owner, None]  # the first k predictions
    start = np.cumsum(ranked.count) - ranked.count
    windows_met = np.add.reduceat((met & among).any(1).astype(int), start)
    hits = np.maximum.reduceat(met & among, start, axis=0).sum(1)
    out: dict[str, list[float]] = {"n": [], "ap": [], "found": [], "repeats": []}
    for k in counts:
        keep = ranked.count >= k if k == counts[-1] else ranked.count == k
        looked = np.minimum(ranked.count[keep], met.shape[1])
        out["n"].append(int(keep.sum()))
        out["ap"].append(float(ranked.ap[keep].mean()) if keep.any() else np.nan)
        out["found"].append(float((windows_met[keep] / ranked.count[keep]).mean()) if keep.any() else np.nan)
        out["repeats"].append(
            float(((hits - windows_met)[keep] / looked).clip(0).mean()) if keep.any() else np.nan
        )
    return out


# --- kinds


def kinds(truth: Sequence[Row]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Which of N queries are of which kind: property -> kind -> `[N]`. Kinds of one property exclude each
    other and leave no query out; those without a query are not listed.

    Properties are the number of moments; their mean length in seconds, in the protocol's ranges; where in the
    video their mean center lies; and the words of the sentence.
    """
    windows = [np.array(row["relevant_windows"], dtype=float) for row in truth]
    count = np.array([len(found) for found in windows])
    length = np.array([np.ptp(found, axis=1).mean() for found in windows])
    place = np.array([found.mean() / row["duration"] for found, row in zip(windows, truth, strict=True)])
    words = np.array([len(row["query"].split()) for row in truth])
    ends = [LENGTH_RANGES[name][1] for name in ("short", "middle")]
    found = {
        "moments": _ranges(count, [1, 2], ("1", "2", "3 or more")),
        "length": _ranges(length, ends, tuple(LENGTH_RANGES)),
        "place": _ranges(place, [1 / 3, 2 / 3], ("begin", "middle", "end")),
        "words": _ranges(words, [8, 12], ("to 8", "9 to 12", "more")),
    }
    return {name: {kind: keep for kind, keep in of.items() if keep.any()} for name, of in found.items()}


def _ranges(values: Any, ends: Sequence[float], names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which values lie in which range; each but the last holds its end."""
    place = np.searchsorted(ends, values)
    return {name: place == n for n, name in enumerate(names)}


# --- agreement


def agreement(first: Ranked, second: Ranked) -> dict[str, float]:
    """Two methods on the same queries.

    Returns:
        `iou`: mean IoU of the two first predictions; `both`, `first`, `second`, `none`: shares of queries
        whose first prediction is right; `rank`: Spearman of AP over queries; `gap`, `low`, `high`: mAP of the
        first less the second, in points, with its 95 % interval over queries (paired, Student's t).
    """
    a, b = first.right, second.right
    gap = t_interval(100 * (first.ap - second.ap))
    return {
        "iou": float(np.nan_to_num(overlap(first.spans[:, 0], second.spans[:, 0])).mean()),
        "both": float((a & b).mean()),
        "first": float((a & ~b).mean()),
        "second": float((~a & b).mean()),
        "none": float((~a & ~b).mean()),
        "rank": rank_correlation(first.ap, second.ap)[0],
        "gap": gap.mean,
        "low": gap.low,
        "high": gap.high,
    }


def solved(methods: Sequence[Ranked]) -> dict[str, list[float]]:
    """How many of M methods are right on a query: `share` of queries with 0, …, M of them, and what it were
    if each method's successes fell on queries by chance (`chance`)."""
    right = np.array([method.right for method in methods])
    share = np.bincount(right.sum(0), minlength=len(methods) + 1) / right.shape[1]
    chance = np.ones(1)
    for rate in right.mean(1):
        chance = np.convolve(chance, [1 - rate, rate])
    return {"share": share.tolist(), "chance": chance.tolist()}
