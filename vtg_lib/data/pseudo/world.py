"""Pseudo-labels where the truth is known: rendered videos whose captions name one of several moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import stats

from vtg_lib.data import views
from vtg_lib.data.batches import GroundingData, fingerprint, last_level, targets
from vtg_lib.data.generate import CLIP_LENGTH
from vtg_lib.data.pseudo.labels import (
    GRADES,
    VOTERS,
    Bools,
    Floats,
    LabelConfig,
    Labels,
    PseudoLabels,
    captioned_clips,
    grades_of,
    label,
    moments_of,
    plain,
    similarity,
)

FOUND = 0.5  # IoU from which on a moment counts as found
Interval: TypeAlias = tuple[float, float]  # seconds


def intervals(data: GroundingData, seed: int) -> list[Interval]:
    """For each row the one of its moments that its caption names, drawn by `seed`.

    Raises:
        ValueError: rows without moments, or clips of another length than the 2 seconds of the layout.
    """
    if data.clip_length != CLIP_LENGTH:
        raise ValueError(
            f"captions: expected clips of {CLIP_LENGTH:g} s, got {data.clip_length:g} s. Fix: a world of "
            "QVHighlights, or labels: true."
        )
    draws = np.random.default_rng([seed, 24, 2]).random(len(data))
    found = []
    for row, draw in zip(data.annotations, draws, strict=True):
        windows = row.get("relevant_windows")
        if not windows:
            raise ValueError(f"captions: expected moments in every row, got none in that of qid {row['qid']}")
        start, end = windows[int(draw * len(windows))]
        found.append((float(start), float(end)))
    return found


def captions(data: GroundingData, seed: int) -> list[dict[str, Any]]:
    """The rows of a split as captions, in the layout that `vtg pseudo-label` reads."""
    return [
        {
            "qid": row["qid"],
            "vid": row["vid"],
            "caption": row["query"],
            "interval": [plain(start), plain(end)],
            "duration": row["duration"],
        }
        for row, (start, end) in zip(data.annotations, intervals(data, seed), strict=True)
    ]


def scores_of(data: GroundingData, row: int) -> Floats:
    """`[T]`, Eq. 16 of one row: the last level, or the channels that text shares, with the whole sentence.

    Raises:
        ValueError: features of two spaces.
    """
    video = last_level(data.video[data.video_index[row]][None])[0]
    length = int(data.video_length[data.video_index[row]])
    text = data.text[row, int(data.text_length[row]) - 1]
    return similarity(video[:length, -text.shape[-1] :].numpy(), text.numpy())


def pseudo_labels(data: GroundingData, settings: PseudoLabels, named: Sequence[Interval]) -> list[Labels]:
    """What captions of the intervals `named` give, row by row; videos are not trimmed."""
    found = []
    for row, interval in enumerate(named):
        scores = scores_of(data, row)
        found.append(label(scores, captioned_clips(interval, len(scores)), settings))
    return found


def interval_labels(data: GroundingData, settings: PseudoLabels, named: Sequence[Interval]) -> list[Labels]:
    """The intervals `named` alone, row by row, their clips graded."""
    found = []
    for row, interval in enumerate(named):
        scores = scores_of(data, row)
        clips = captioned_clips(interval, len(scores))
        grades = grades_of(scores, clips, settings.grades)
        found.append(Labels(float(scores[clips].min()), clips, moments_of(clips), grades))
    return found


def relabelled(data: GroundingData, config: LabelConfig, seed: int) -> GroundingData:
    """A split with the labels that `config` names, features as they are.

    Args:
        seed: draws which moment a caption names.

    Raises:
        ValueError: see `intervals`.
    """
    if config.labels == "true":
        return data
    make = interval_labels if config.labels == "interval" else pseudo_labels
    labels = make(data, config.settings, intervals(data, seed))
    rows = [row | made.fields(row["duration"]) for row, made in zip(data.annotations, labels, strict=True)]
    length = data.video_length[data.video_index].numpy()
    spans, count, saliency = targets(rows, length, data.clip_length, data.saliency.shape[1])
    made = dataclasses.replace(
        data,
        annotations=rows,
        spans=torch.from_numpy(spans),
        span_count=torch.from_numpy(count),
        saliency=torch.from_numpy(saliency),
        fingerprint=fingerprint(data.fingerprint, dataclasses.asdict(config), seed, spans, saliency),
    )
    return views.swapped_text(made) if config.labels == "permuted" else made


def quality(data: GroundingData, labels: Sequence[Labels], named: Sequence[Interval]) -> dict[str, Any]:
    """How right the labels of a split are, over all rows together.

    Args:
        data: with its true labels and votes; named: the intervals of the captions.

    Returns:
        `clips`, `moments`: {precision, recall}, of clips, and of moments at IoU 0.5; `unnamed`: recall of the
        moments that the captions do not name, None if there is none; `moments_per_query`; of the clips that
        are rightly in a moment `grade_rank`, Spearman's correlation of grade and votes within a row (grades
        are of one video), mean over the rows where both vary, None if there is none; and `salience`, by grade
        the mean vote (0 to 4).
    """
    right = chosen = true = 0
    found = [0, 0, 0, 0]  # labelled moments that are true, all; true moments that are labelled, all
    unnamed = [0, 0]
    grades, votes, ranks = list[Any](), list[Any](), list[float]()
    for row, (annotation, made, interval) in enumerate(zip(data.annotations, labels, named, strict=True)):
        windows = np.array(annotation["relevant_windows"], float)
        truth = _inside(windows, len(made.clips))
        right, chosen = right + int((truth & made.clips).sum()), chosen + int(made.clips.sum())
        true += int(truth.sum())
        hit = np.asarray(_iou(made.moments * CLIP_LENGTH, windows) >= FOUND)
        known = np.asarray(hit.any(0))
        for place, value in enumerate((hit.any(1).sum(), len(made.moments), known.sum(), len(windows))):
            found[place] += int(value)
        other = (windows != np.array(interval)).any(1)
        unnamed[0], unnamed[1] = unnamed[0] + int(known[other].sum()), unnamed[1] + int(other.sum())
        if annotation.get("saliency_scores"):
            both = truth & made.clips
            own = made.grades[both], data.saliency[row, : len(both)].numpy()[both] / VOTERS
            grades.append(own[0])
            votes.append(own[1])
            if len(own[0]) > 1 and all(np.ptp(part) > 0 for part in own):
                ranks.append(float(stats.spearmanr(*own).statistic))
    grade, vote = (np.concatenate(part) if part else np.zeros(0) for part in (grades, votes))
    return {
        "clips": {"precision": _share(right, chosen), "recall": _share(right, true)},
        "moments": {"precision": _share(*found[:2]), "recall": _share(*found[2:])},
        "unnamed": _share(*unnamed),
        "moments_per_query": _share(found[1], len(data)),
        "grade_rank": float(np.mean(ranks)) if ranks else None,
        "salience": {
            str(one): float(vote[grade == one].mean()) if (grade == one).any() else None for one in GRADES
        },
    }


def _inside(windows: Floats, clips: int) -> Bools:
    """`[clips]`, True on those whose centre is in a window."""
    centres = (np.arange(clips) + 0.5) * CLIP_LENGTH
    return np.asarray(((centres >= windows[:, :1]) & (centres < windows[:, 1:])).any(0))


def _iou(first: Any, second: Any) -> Floats:
    """`[A, B]` of spans `[A, 2]` and `[B, 2]`."""
    low = np.maximum(first[:, None, 0], second[None, :, 0])
    high = np.minimum(first[:, None, 1], second[None, :, 1])
    both = np.clip(high - low, 0, None)
    sizes = np.ptp(first, axis=1)[:, None] + np.ptp(second, axis=1)[None]
    found: Floats = both / (sizes - both)
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
