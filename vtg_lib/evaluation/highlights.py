"""Highlight mAP on labelled clips, as TVSum and YouTube Highlights are reported since UMT.

Facts are from TencentARC/UMT @ 7a9a71c (`datasets/tvsum.py`, `youtube.py`); chinagalaxy2002/SG_CGP @ 931cad1
(`src/metrics/highlights/metrics.py`) has the same of TVSum. Axes: T clips, A annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vtg_lib.evaluation.arrays import Row
from vtg_lib.evaluation.average_precision import Floats, Ints, trapezoid_ap
from vtg_lib.evaluation.problems import SubmissionError
from vtg_lib.evaluation.submission import SALIENCY, check

Ties = Literal["in time", "won", "lost"]
GRID = 2.0  # seconds of a labelled clip that says nothing of its own time


def highlight_map(
    predictions: Sequence[Row],
    ground_truth: Sequence[Row],
    *,
    top_k: int | None = 5,
    ties: Ties = "in time",
    clip_length: float | None = None,
) -> dict[str, float | dict[str, float]]:
    """Highlight mAP as TVSum (`top_k=5`) and YouTube Highlights (`top_k=None`) are reported.

    A clip of TVSum is positive for an annotator who scores it above the median of the video (the lower one
    for an even number of clips); with one annotator, as in YouTube Highlights, positive means above 0. AP
    joins precision and recall by trapezoids, among the best `top_k` clips, whose positives are all there is
    to recall: sum over ranks k of (R_k - R_{k-1}) (P_k + P_{k-1}) / 2 with P_0 = 1; 0 without positives. It
    is averaged over annotators and videos.

    Args:
        predictions: rows of qid and `pred_saliency_scores`; scores beyond the labelled clips are dropped.
        ground_truth: rows of qid, `label` [clips][annotators] and, optionally, `domain`.
        ties: equal scores keep their order "in time" (the public code leaves it open), or all are "won"
            (positives first) or "lost": the bounds of what any order gives.
        clip_length: seconds of a score's clip. The n-th score is then read at the n-th such clip, and a
            labelled clip takes the score at its middle. By default, as in the public code, the n-th score
            counts for the n-th labelled clip, whatever time it has.

    Returns:
        Percentages, rounded to two decimals: {"mAP": over videos, "domains": {name: mAP}}. Papers print the
        domains and, as average, the mean of the domains.

    Raises:
        ValueError: scores that are missing, too few, or no finite numbers; labels that are not one list of
            numbers, all of one length, a clip; a video given twice.
    """
    check([{"qid": row.get("qid"), SALIENCY: row.get(SALIENCY)} for row in predictions])
    scores_of = {row["qid"]: row[SALIENCY] for row in predictions}
    wanted = [row["qid"] for row in ground_truth]
    if len(set(wanted)) != len(wanted) or not wanted:
        raise ValueError(
            f"ground truth: expected each qid once, got {len(wanted)} rows of {len(set(wanted))}"
        )
    missing = [qid for qid in wanted if qid not in scores_of]
    if missing:
        raise SubmissionError.single(
            field="qid",
            expected=f"scores for all {len(wanted)} videos",
            got=f"none for {missing[:5]}",
            fix="predict every video of the split",
        )
    per_video = []
    for row in ground_truth:
        labels = read_labels(row)
        scores = np.asarray(scores_of[row["qid"]], dtype=float)
        if clip_length is None:
            place = np.arange(len(labels))
        else:
            place = (label_times(row, len(labels)) // clip_length).astype(np.intp)
        if place.max() >= len(scores):
            grid = "one a labelled clip" if clip_length is None else f"clips of {clip_length:g} s"
            raise SubmissionError.single(
                place=f"qid {row['qid']!r}",
                field=SALIENCY,
                expected=f"{place.max() + 1} scores, {grid}",
                got=str(len(scores)),
                fix="score every clip of the video",
            )
        positive = positives(labels)
        ranked = np.take_along_axis(positive, _order(scores[place], positive, ties), axis=0)
        per_video.append(trapezoid_ap(ranked[:top_k]).mean())
    domains = [row.get("domain") for row in ground_truth]
    per_domain = {
        str(name): _percent(
            np.mean([ap for ap, domain in zip(per_video, domains, strict=True) if domain == name])
        )
        for name in dict.fromkeys(domains)
        if name is not None
    }
    return {"mAP": _percent(np.mean(per_video)), "domains": per_domain}


def positives(labels: Floats) -> np.ndarray:
    """`[T, A]` bool: the clips that each annotator of labels `[T, A]` calls relevant."""
    if labels.shape[1] == 1:
        return np.asarray(labels > 0)
    return np.asarray(labels > np.sort(labels, axis=0)[(len(labels) - 1) // 2])


def _order(scores: Floats, positive: np.ndarray, ties: Ties) -> Ints:
    """`[T, A]`: clips by falling score, for each annotator of `positive` `[T, A]`."""
    if ties == "in time":
        return np.repeat(np.argsort(-scores, kind="stable")[:, None], positive.shape[1], axis=1)
    first = ~positive if ties == "won" else positive  # False comes first
    return np.stack([np.lexsort((column, -scores)) for column in first.T], axis=1)


def label_times(row: Row, clips: int) -> Floats:
    """`[T]`, seconds of the middles of a video's labelled clips: YouTube Highlights says which frames they
    are, others are `GRID` long.
    """
    if row.get("clip") and row.get("fps"):
        first, last = np.asarray(row["clip"], dtype=float).T
        return np.asarray((first + last) / 2 / float(row["fps"]))
    return np.asarray((np.arange(clips) + 0.5) * GRID, dtype=np.float64)


def read_labels(row: Row) -> Floats:
    """`[T, A]` of a row.

    Raises:
        ValueError: not one list of numbers, all of one length, for each clip.
    """
    try:
        labels = np.array(row["label"], dtype=float)
    except (KeyError, TypeError, ValueError):
        labels = np.empty(0)
    if labels.ndim != 2 or not labels.size or not np.isfinite(labels).all():
        raise ValueError(
            f"ground truth, qid {row.get('qid')!r}, label: expected one list of finite scores, all of one "
            "length, for each clip. Fix: give every clip one score per annotator."
        )
    return labels


def _percent(share: float | np.floating[Any]) -> float:
    return float(f"{100 * share:.2f}")
