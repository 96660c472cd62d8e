"""The evaluator from close by: one query worked through, and what its habits move in released predictions.

`vtg_lib.evaluation.protocol` keeps every habit of the field's reference evaluator. Here each is measured by
scoring the same predictions again with only that habit's subject changed: ties broken at random, saliency
lifted above zero, long predictions left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vtg_lib.evaluation.arrays import ANNOTATORS, LEVELS
from vtg_lib.evaluation.average_precision import Floats, detection_ap, greedy_matches
from vtg_lib.evaluation.per_query import KEPT, overlap
from vtg_lib.evaluation.protocol import LENGTH_RANGES, THRESHOLDS, GroundTruth, evaluate
from vtg_lib.evaluation.submission import SALIENCY, WINDOWS, Row

CLIP_LENGTH = 2.0  # seconds
MAP, HD_MAP, SHORT = "MR-full-mAP", "HL-min-VeryGood-mAP", "MR-short-mAP"
SHOWN = (0.5, 0.75)  # thresholds of which the worked example shows every step


# ------------------------------------------------------------------------------------------------------- a
# worked query


def worked(prediction: Row, truth: Row) -> dict[str, Any]:
    """Every step from one query's predictions to its numbers.

    Returns:
        `steps`: the ten predictions in the order that AP ranks them, {start, end, score, iou (best, with a
            true window), and
        for "0.5" and "0.75" the true window taken (from 0) or None}; `ap`: of these thresholds and the mean
        over all ten;
        `precision`: per such threshold, after each prediction; `r1`: IoU that R1 judges.
    """
    windows = np.array(truth["relevant_windows"], dtype=float)
    ranked = sorted(prediction[WINDOWS][:KEPT], key=lambda window: -window[2])
    spans = np.array([window[:2] for window in ranked], dtype=float)
    iou = np.nan_to_num(overlap(spans[:, None], windows[None]))  # [P, G]
    threshold, place = greedy_matches(iou, THRESHOLDS)
    order = np.lexsort((place, threshold))
    ap = detection_ap(threshold[order], place[order] + 1, np.full(len(THRESHOLDS), len(windows)))
    taken = {str(level): _taken(iou, level) for level in SHOWN}
    hits = {name: np.cumsum([window is not None for window in found]) for name, found in taken.items()}
    first = np.array(prediction[WINDOWS][0][:2], dtype=float)
    at_level = dict(zip(map(str, THRESHOLDS.tolist()), ap.tolist(), strict=True))
    return {
        "steps": [
            {"start": start, "end": end, "score": score, "iou": float(iou[p].max())}
            | {name: found[p] for name, found in taken.items()}
            for p, (start, end, score) in enumerate(window[:3] for window in ranked)
        ],
        "ap": {name: at_level[name] for name in taken} | {"mean": float(ap.mean())},
        "precision": {name: (found / np.arange(1, len(found) + 1)).tolist() for name, found in hits.items()},
        "r1": float(np.nan_to_num(overlap(first, windows)).max()),
    }


def _taken(iou: Floats, level: float) -> list[int | None]:
    """The true window that each prediction takes at one threshold: the free one of highest IoU."""
    free, found = set(range(iou.shape[1])), []
    for row in iou:
        reached = [g for g in np.argsort(row)[::-1].tolist() if g in free and row[g] >= level]
        found.append(reached[0] if reached else None)
        free -= set(reached[:1])
    return found


# -------------------------------------------------------------------------------------------------------------- habits


def habits(
    predictions: Sequence[Row], truth: Sequence[Row], seeds: Sequence[int] = range(5)
) -> dict[str, Any]:
    """How often a submission meets each habit of the evaluator, and what the habit moves in it.

    Returns:
        `queries`, and of these `tied_windows` and `tied_saliency` (equal scores among a query's windows or
        clips), `unsorted` (windows not in the order of their scores) and `one_short` (saliency shorter than
        the video); `no_length`: windows that end where they start; `windows_random`, `saliency_random`: how
            mAP and HD mAP move when ties are broken at
        random instead, a number a seed; `lifted`: HD mAP with all saliency above zero, less as it is;
            `short`, `short_kept`:
        mAP of short moments as it is, and with the predictions that are not short left out.
    """
    duration = {row["qid"]: row["duration"] for row in truth}
    moments = [{name: row[name] for name in ("qid", WINDOWS)} for row in predictions]
    clips = [{name: row[name] for name in ("qid", SALIENCY)} for row in predictions]
    scores = [[window[2] for window in row[WINDOWS][:KEPT]] for row in predictions]
    packed = GroundTruth.pack(truth)
    was = evaluate(predictions, packed)["brief"]
    ties, saliency_ties = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        ties.append(evaluate([_shuffled(row, rng) for row in moments], packed)["brief"][MAP] - was[MAP])
        saliency_ties.append(
            evaluate([_jittered(row, rng) for row in clips], packed)["brief"][HD_MAP] - was[HD_MAP]
        )
    lifted = evaluate(
        [{**row, SALIENCY: (_array(row) - _array(row).min() + 1).tolist()} for row in clips], packed
    )["brief"]
    low, high = LENGTH_RANGES["short"]
    kept = [
        {**row, WINDOWS: [w for w in row[WINDOWS][:KEPT] if low < w[1] - w[0] <= high]} for row in moments
    ]
    return {
        "queries": len(predictions),
        "tied_windows": sum(len(set(found)) < len(found) for found in scores),
        "unsorted": sum(found != sorted(found, reverse=True) for found in scores),
        "no_length": sum(window[1] <= window[0] for row in predictions for window in row[WINDOWS][:KEPT]),
        "tied_saliency": sum(len(set(row[SALIENCY])) < len(row[SALIENCY]) for row in predictions),
        "one_short": sum(len(row[SALIENCY]) < int(duration[row["qid"]] / CLIP_LENGTH) for row in predictions),
        "windows_random": ties,
        "saliency_random": saliency_ties,
        "lifted": lifted[HD_MAP] - was[HD_MAP],
        "short": was[SHORT],
        "short_kept": evaluate(kept, packed)["brief"][SHORT],
    }


def _array(row: Row) -> Floats:
    return np.asarray(row[SALIENCY], dtype=float)


def _shuffled(row: Row, rng: np.random.Generator) -> dict[str, Any]:
    """Windows by falling score, those of equal score in random order."""
    order = rng.permutation(len(row[WINDOWS][:KEPT]))
    return {**row, WINDOWS: sorted((row[WINDOWS][i] for i in order), key=lambda window: -window[2])}


def _jittered(row: Row, rng: np.random.Generator) -> dict[str, Any]:
    """Saliency with noise too small to exchange two different scores, or one of them with 0."""
    scores = _array(row)
    gaps = np.diff(np.unique(np.append(scores, 0.0)))
    gap = gaps.min() if gaps.size else 1.0
    return {**row, SALIENCY: (scores + rng.uniform(0, gap / 2, scores.shape)).tolist()}


def bounds(truth: Sequence[Row]) -> dict[str, float]:
    """What the annotations alone decide, whatever the model.

    Returns:
        `queries`, `windows`; `over_ten`: queries with more than ten windows; `at_10`, `at_30`, `at_150`:
            windows exactly as
        long as a border of the length ranges; `perfect_map`: mAP of the first ten true windows; `perfect_hd`,
            `perfect_hit`: HD
        mAP and HIT@1 of the sum of the three annotators' scores; `no_positive`: share of (query, annotator)
        pairs without a clip of the highest score, whose HD AP is 0 by definition.
    """
    moments, clips, lacking = [], [], 0
    for row in truth:
        moments.append(
            {"qid": row["qid"], WINDOWS: [[*window, 1.0] for window in row["relevant_windows"]][:KEPT]}
        )
        total = np.zeros(int(row["duration"] / CLIP_LENGTH))
        total[row["relevant_clip_ids"]] = np.sum(row["saliency_scores"], axis=1)
        clips.append({"qid": row["qid"], SALIENCY: total.tolist()})
        lacking += int((np.max(row["saliency_scores"], axis=0) < LEVELS["VeryGood"]).sum())
    lengths = np.array([end - start for row in truth for start, end in row["relevant_windows"]])
    highlights = evaluate(clips, truth)["brief"]
    return {
        "queries": len(truth),
        "windows": len(lengths),
        "over_ten": sum(len(row["relevant_windows"]) > KEPT for row in truth),
        **{f"at_{high:g}": int((lengths == high).sum()) for _, high in LENGTH_RANGES.values()},
        "perfect_map": evaluate(moments, truth)["brief"][MAP],
        "perfect_hd": highlights[HD_MAP],
        "perfect_hit": highlights["HL-min-VeryGood-Hit1"],
        "no_positive": lacking / (ANNOTATORS * len(truth)),
    }
