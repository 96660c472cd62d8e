"""The evaluator from close by: one query worked through, and what its habits move in released predictions.

`vtg_lib.evaluation.protocol` keeps every habit of the field's reference evaluator. Here each is measured by
scoring the same predictions again with only that habit's subject changed: ties broken at random, saliency
lifted above zero, long predictions left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vtg_lib.evaluation.arrays import LEVELS
from vtg_lib.evaluation.average_precision import Floats
from vtg_lib.evaluation.per_query import KEPT, average_precisions, overlap
from vtg_lib.evaluation.protocol import LENGTH_RANGES, THRESHOLDS, GroundTruth, evaluate
from vtg_lib.evaluation.submission import SALIENCY, WINDOWS, Row

CLIP_LENGTH = 2.0  # seconds
MAP, HD_MAP, SHORT = "MR-full-mAP", "HL-min-VeryGood-mAP", "MR-short-mAP"
SHOWN = (0.5, 0.75)  # thresholds of which the worked example shows every step


# --- a worked query


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
    iou = np.nan_to_num(overlap(np.array(ranked, dtype=float)[:, None, :2], windows))  # [P, G]
    ap = average_precisions(iou.T, np.array([len(windows)]))[0]
    taken = {str(level): _taken(iou, level) for level in SHOWN}
    hits = {name: np.cumsum([window is not None for window in found]) for name, found in taken.items()}
    at_level = dict(zip(map(str, THRESHOLDS.tolist()), ap.tolist(), strict=True))
    first = np.array(prediction[WINDOWS][0], dtype=float)[:2]
    return {
        "steps": [
            {"start": start, "end": end, "score": score, "iou": float(iou[p].max())}
            | {name: found[p] for name, found in taken.items()}
            for p, (start, end, score) in enumerate(ranked)
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


# --- habits


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
    windows = [row[WINDOWS][:KEPT] for row in predictions]
    saliency = [np.asarray(row[SALIENCY], dtype=float) for row in predictions]
    scores = [[window[2] for window in found] for found in windows]
    packed = GroundTruth.pack(truth)

    def score(field: str, values: Iterable[Any], metric: str) -> float:
        rows = [{"qid": row["qid"], field: value} for row, value in zip(predictions, values, strict=True)]
        return float(evaluate(rows, packed)["brief"][metric])

    map_, hd = score(WINDOWS, windows, MAP), score(SALIENCY, saliency, HD_MAP)
    ties: list[float] = []
    saliency_ties: list[float] = []
    for rng in map(np.random.default_rng, seeds):
        ties.append(score(WINDOWS, [_shuffled(found, rng) for found in windows], MAP) - map_)
        saliency_ties.append(score(SALIENCY, [_jittered(found, rng) for found in saliency], HD_MAP) - hd)
    low, high = LENGTH_RANGES["short"]
    short = [[w for w in found if low < w[1] - w[0] <= high] for found in windows]
    return {
        "queries": len(predictions),
        "tied_windows": sum(len(set(found)) < len(found) for found in scores),
        "unsorted": sum(found != sorted(found, reverse=True) for found in scores),
        "no_length": sum(window[1] <= window[0] for found in windows for window in found),
        "tied_saliency": sum(len(np.unique(found)) < len(found) for found in saliency),
        "one_short": sum(len(row[SALIENCY]) < int(duration[row["qid"]] / CLIP_LENGTH) for row in predictions),
        "windows_random": ties,
        "saliency_random": saliency_ties,
        "lifted": score(SALIENCY, [found - found.min() + 1 for found in saliency], HD_MAP) - hd,
        "short": score(WINDOWS, windows, SHORT),
        "short_kept": score(WINDOWS, short, SHORT),
    }


def _shuffled(windows: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """Windows by falling score, those of equal score in random order."""
    return sorted((windows[i] for i in rng.permutation(len(windows))), key=lambda window: -window[2])


def _jittered(scores: Floats, rng: np.random.Generator) -> list[float]:
    """Saliency with noise too small to exchange two different scores, or one of them with 0."""
    gaps = np.diff(np.unique(np.append(scores, 0.0)))
    return (scores + rng.uniform(0, (gaps.min() if gaps.size else 1.0) / 2, scores.shape)).tolist()


def bounds(truth: Sequence[Row]) -> dict[str, float]:
    """What the annotations alone decide, whatever the model.

    Returns:
        `queries`, `windows`; `over_ten`: queries with more than ten windows; `at_10`, `at_30`, `at_150`:
        windows exactly as long as a border of the length ranges; `perfect_map`: mAP of the first ten true
        windows; `perfect_hd`, `perfect_hit`: HD mAP and HIT@1 of the sum of the three annotators' scores;
        `no_positive`: share of (query, annotator) pairs without a clip of the highest score, whose HD AP is 0
        by definition.
    """
    lengths = np.array([end - start for row in truth for start, end in row["relevant_windows"]])
    best = np.array([np.max(row["saliency_scores"], axis=0) for row in truth])  # [N, annotators]
    moments = [[[*window, 1.0] for window in row["relevant_windows"]][:KEPT] for row in truth]
    clips = [np.zeros(int(row["duration"] / CLIP_LENGTH)) for row in truth]
    for row, total in zip(truth, clips, strict=True):
        total[row["relevant_clip_ids"]] = np.sum(row["saliency_scores"], axis=1)
    perfect = [
        {"qid": row["qid"], WINDOWS: windows, SALIENCY: total.tolist()}
        for row, windows, total in zip(truth, moments, clips, strict=True)
    ]
    reached = evaluate(perfect, truth)["brief"]
    return {
        "queries": len(truth),
        "windows": len(lengths),
        "over_ten": sum(len(row["relevant_windows"]) > KEPT for row in truth),
        **{f"at_{high:g}": int((lengths == high).sum()) for _, high in LENGTH_RANGES.values()},
        "perfect_map": reached[MAP],
        "perfect_hd": reached[HD_MAP],
        "perfect_hit": reached["HL-min-VeryGood-Hit1"],
        "no_positive": float((best < LEVELS["VeryGood"]).mean()),
    }
