"""Distributions of annotations: real data sets, and what the generator makes of them at `sim`.

A distribution is a list of shares that sum to 1, on bins that are the same for all data sets, so that two of
them can be drawn together and compared (`distance`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vtg_lib.data.annotations import validate_annotations
from vtg_lib.data.datasets import DATASETS
from vtg_lib.data.generate import generate
from vtg_lib.data.knobs import configs, resolve
from vtg_lib.data.timeline import Vocabulary
from vtg_lib.files import ANNOTATIONS

# Label -> data set and its files below the data root. TVSum and YouTube Highlights are small: all splits
# together.
TITLES = {"qvhighlights": "QVHighlights", "charades_sta": "Charades-STA", "tacos": "TACoS"}
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    f"{title} {split}": (name, (file,))
    for name, title in TITLES.items()
    for split, file in ANNOTATIONS[name].items()
} | {
    "TVSum": ("tvsum", tuple(ANNOTATIONS["tvsum"].values())),
    "YouTube Highlights": ("youtube_highlights", tuple(ANNOTATIONS["youtube_highlights"].values())),
}
GENERATED = "generated (sim)"
SECONDS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 150.0, np.inf)  # (low, high]
RELATIVE = 20  # bins of a window's share of its video
POSITIONS = 50  # points of the video
WORDS = 25  # the last bin holds longer queries, too
MOMENTS = 6  # the last bin holds more
VOTES = 5  # one annotator's score of a relevant clip, 0 to 4


def statistics(rows: Sequence[Mapping[str, Any]], dataset: str = "generic") -> dict[str, Any]:
    """Counts that pages print and the renderer is compared with.

    Args:
        rows: checked annotations.
        dataset: one of `vtg_lib.data.datasets.DATASETS`; gives the unit of `duration`.

    Returns:
        `queries`, `videos`; `queries_per_video`, `words_per_query`, `duration` (s), and where rows have
        windows `windows_per_query`, `window_length` (s): each a dict of mean, median, min, max;
        `window_count_share` (windows -> share of queries, "6+" for more), `length_share` (short <= 10 s <
        middle <= 30 s < long, share of windows), `coverage` (mean share of the video inside windows); where
        there is saliency `saliency` (mean over clips of the annotators' sum, 0..12).
    """
    unit = DATASETS[dataset].duration_unit
    videos = {row["vid"]: row["duration"] * unit for row in rows}
    out: dict[str, Any] = {
        "queries": len(rows),
        "videos": len(videos),
        "queries_per_video": _summary(list(Counter(row["vid"] for row in rows).values())),
        "words_per_query": _summary([len(row["query"].split()) for row in rows]),
        "duration": _summary(list(videos.values())),
    }
    if labelled := [row for row in rows if row.get("relevant_windows")]:
        counts = np.array([len(row["relevant_windows"]) for row in labelled])
        lengths = np.array([end - start for row in labelled for start, end in row["relevant_windows"]])
        out |= {
            "windows_per_query": _summary(counts),
            "window_length": _summary(lengths),
            "window_count_share": {str(n): float((counts == n).mean()) for n in range(1, 6)}
            | {"6+": float((counts >= 6).mean())},
            "length_share": {
                "short": float((lengths <= 10).mean()),
                "middle": float(((lengths > 10) & (lengths <= 30)).mean()),
                "long": float((lengths > 30).mean()),
            },
            "coverage": float(
                np.mean([_union(row["relevant_windows"]) / (row["duration"] * unit) for row in labelled])
            ),
        }
    if scores := [sum(entry) for row in rows for entry in row.get("saliency_scores") or ()]:
        out["saliency"] = _summary(scores)
    return out


def _summary(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    array = np.asarray(values, float)
    return {
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "min": float(array.min()),
        "max": float(array.max()),
    }


def _union(windows: Sequence[list[float]]) -> float:
    """Seconds inside at least one window."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(windows):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def shapes(rows: Sequence[Mapping[str, Any]], dataset: str) -> dict[str, Any]:
    """Counts and distributions of one set of annotations.

    Args:
        rows: checked annotations; dataset: one of `vtg_lib.data.datasets.DATASETS`.

    Returns:
        `statistics` (as `statistics`), `notes` (kind of oddity -> rows), `words`;
        where rows have windows `moments` (per query), `seconds` and `relative` (length of a window),
        `position` (share of the windows that cover each point of the video), `ends` (shares of windows that
        begin with the video, end with it, and do both); with saliency `votes`; with clip labels `labels`
        (annotators, clips of a video, scores in use, domains).
    """
    found: dict[str, Any] = {
        "statistics": statistics(rows, dataset),
        "notes": {note.kind: note.count for note in validate_annotations(rows, dataset)},
        "words": _shares(np.minimum([len(row["query"].split()) for row in rows], WORDS), WORDS),
    }
    windows = [(window, row["duration"]) for row in rows for window in row.get("relevant_windows") or ()]
    if windows:
        span = np.array([window for window, _ in windows], dtype=float)
        duration = np.array([length for _, length in windows], dtype=float) * DATASETS[dataset].duration_unit
        length = np.ptp(span, axis=1)
        points = (np.arange(POSITIONS) + 0.5) / POSITIONS * duration[:, None]
        begins, ends = span[:, 0] <= 0, span[:, 1] >= duration - 1e-3
        found |= {
            "moments": _shares(np.minimum([len(row["relevant_windows"]) for row in rows], MOMENTS), MOMENTS),
            "seconds": _shares(np.searchsorted(SECONDS, length, side="left"), len(SECONDS) - 1),
            "relative": _shares(np.ceil(np.clip(length / duration, 1e-9, 1) * RELATIVE), RELATIVE),
            "position": ((points >= span[:, :1]) & (points < span[:, 1:])).mean(0).tolist(),
            "ends": [float(begins.mean()), float(ends.mean()), float((begins & ends).mean())],
        }
    votes = [vote for row in rows for clip in row.get("saliency_scores") or () for vote in clip]
    if votes:
        found["votes"] = _shares(np.array(votes) + 1, VOTES)
    if rows[0].get("label") is not None:
        label = [np.array(row["label"]) for row in rows]
        found["labels"] = {
            "clips": float(np.mean([len(clips) for clips in label])),
            "annotators": int(label[0].shape[1]),
            "scores": sorted({float(score) for clips in label for score in np.unique(clips)}),
            "domains": len({row.get("domain") for row in rows}),
        }
    return found


def _shares(place: Any, bins: int) -> list[float]:
    """Share of each place from 1 to `bins`."""
    count = np.bincount(np.asarray(place, dtype=int), minlength=bins + 1)[1:]
    return (count / count.sum()).tolist()


def generated(spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`shapes` of the training annotations that the generator makes, by default those of kind `sim` with no
    knob turned.
    """
    knobs = resolve({"kind": "sim", **(spec or {})})
    world, timeline, *_ = configs(knobs)
    rows, _, _ = generate(world, timeline, Vocabulary(), "train", knobs["seed"])
    return shapes(rows, "qvhighlights")


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Total variation of two distributions on the same bins: the share of one that would have to move to give
    the other.
    """
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def profile(position: Sequence[float]) -> list[float]:
    """Coverage by position as a distribution: where in the video a moment's clips lie."""
    return (np.asarray(position) / np.sum(position)).tolist()
