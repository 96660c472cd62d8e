"""Rows of submissions and annotations as arrays, packed fast: what `vtg_lib.evaluation.protocol` computes
on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from vtg_lib.evaluation.average_precision import Floats, Ints
from vtg_lib.evaluation.submission import SALIENCY, WINDOWS, check, check_qids

Row = Mapping[str, Any]
Packed = TypeVar("Packed")

LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}  # least annotator score of a positive clip
ANNOTATORS = 3
MAX_WINDOWS = 10  # of a query, in file order


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """Annotations packed for repeated evaluation.

    row: index of each qid, N of them. windows [W, 2] seconds, those of query n at offsets[n]:offsets[n + 1];
    None without `relevant_windows`. clips [N]; level [3, N, T] the number of `LEVELS` that each annotator's
    score of a clip reaches; both None without `saliency_scores`.
    """

    row: dict[Any, int]
    windows: Floats | None
    offsets: Ints
    clips: Ints | None
    level: np.ndarray[Any, np.dtype[np.int8]] | None

    @classmethod
    def pack(cls, rows: Sequence[Row], *, clip_length: float = 2.0) -> GroundTruth:
        """Pack annotations in the QVHighlights layout; `clip_length` in seconds.

        Raises:
            ValueError: no row, a qid twice, a query without windows, labels outside the video, or no labels
                at all.
        """
        index = {row["qid"]: n for n, row in enumerate(rows)}
        if len(index) != len(rows) or not rows:
            raise ValueError(
                f"ground truth: expected one line for each qid, got {len(rows)} lines of {len(index)} qids. "
                "Fix: pass the annotation file of one split, once."
            )
        windows, offsets = _pack_windows(rows)
        clips, level = _pack_saliency(rows, clip_length)
        if windows is None and level is None:
            raise ValueError(
                f"ground truth, qid {rows[0]['qid']!r}: expected relevant_windows or saliency_scores in every"
                " line, got neither. Fix: use annotations with labels (highlight_test_with_gt.jsonl has"
                " those of the test split)."
            )
        return cls(row=index, windows=windows, offsets=offsets, clips=clips, level=level)


def _floats(values: Any) -> Floats:
    """A flat list as float64; `array` is fast and, unlike NumPy, refuses strings."""
    return np.frombuffer(array("d", values), dtype=np.float64)


def _counts(lists: Sequence[Any]) -> Ints:
    return np.fromiter(map(len, lists), np.intp, len(lists))


def _pack_windows(rows: Sequence[Row]) -> tuple[Floats | None, Ints]:
    lists: list[Any] = [row.get("relevant_windows") for row in rows]
    if any(windows is None for windows in lists):
        return None, np.zeros(len(rows) + 1, np.intp)
    count = _counts(lists)
    if not count.all():
        raise ValueError(
            f"ground truth, qid {rows[int(count.argmin())]['qid']!r}, relevant_windows: expected one window"
            " or more, got none. Fix: drop queries without a moment; the protocol has no value for them."
        )
    flat = list(chain.from_iterable(lists))
    if set(map(len, flat)) != {2}:
        raise ValueError(
            "ground truth, relevant_windows: expected [start, end] pairs. Fix: give every window two numbers."
        )
    return _floats(list(chain.from_iterable(flat))).reshape(-1, 2), np.concatenate(([0], np.cumsum(count)))


def _pack_saliency(rows: Sequence[Row], clip_length: float) -> tuple[Ints | None, Any]:
    lists: list[Any] = [row.get("saliency_scores") for row in rows]
    if any(scores is None for scores in lists):
        return None, None
    count = _counts(lists)
    clips = np.array([int(row["duration"] / clip_length) for row in rows])
    owner = np.repeat(np.arange(len(rows)), count)
    ids = np.array(list(chain.from_iterable(row["relevant_clip_ids"] for row in rows)), dtype=np.intp)
    flat = list(chain.from_iterable(lists))
    if ids.size != owner.size or (flat and set(map(len, flat)) != {ANNOTATORS}):
        raise ValueError(
            f"ground truth, saliency_scores: expected {ANNOTATORS} scores for each of relevant_clip_ids, got"
            " other lengths. Fix: one list of three annotators' scores for each relevant clip."
        )
    outside = np.flatnonzero((ids < 0) | (ids >= clips[owner]))
    if outside.size:
        n = owner[outside[0]]
        raise ValueError(
            f"ground truth, qid {rows[n]['qid']!r}, relevant_clip_ids: expected 0 to {clips[n] - 1} for"
            f" {clips[n]} clips of {clip_length:g} s, got {ids[outside[0]]}. Fix: check the duration and the"
            " clip length."
        )
    scores = _floats(list(chain.from_iterable(flat))).reshape(-1, ANNOTATORS)
    level = np.zeros((ANNOTATORS, len(rows), max(int(clips.max()), 1)), np.int8)
    level[:, owner, ids] = sum((least <= scores.T).astype(np.int8) for least in LEVELS.values())
    return clips, level


def select(
    predictions: Sequence[Row], truth: GroundTruth, match_number: bool
) -> tuple[list[list[Row]], Ints]:
    """The rows of each scored qid, in submission order, and its row of the ground truth."""
    if len(predictions) == 0:
        check(predictions)
    grouped: dict[Any, list[Row]] = {}
    try:
        for row in predictions:
            grouped.setdefault(row["qid"], []).append(row)
    except (KeyError, TypeError):
        check(predictions)
        raise
    if match_number and grouped.keys() != truth.row.keys():
        check_qids(predictions, truth.row)
    shared = [qid for qid in grouped if qid in truth.row]
    if not shared:
        check_qids(predictions, truth.row)
    return [grouped[qid] for qid in shared], np.array([truth.row[qid] for qid in shared])


def pack(
    packer: Callable[[list[list[Row]]], Packed], rows: list[list[Row]], predictions: Sequence[Row]
) -> Packed:
    """Pack fast; if that fails, look for the reason row by row."""
    try:
        return packer(rows)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        check(predictions)
        raise


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """spans [N, P, 2] seconds by falling score, count [N] of them, first [N, 2] of the file."""

    spans: Floats
    count: Ints
    first: Floats

    @classmethod
    def pack(cls, rows: list[list[Row]]) -> Windows:
        if all(len(group) == 1 for group in rows):
            lists = [group[0][WINDOWS][:MAX_WINDOWS] for group in rows]
            heads = None
        else:
            lists = [list(chain.from_iterable(row[WINDOWS][:MAX_WINDOWS] for row in group)) for group in rows]
            heads = [list(group[-1][WINDOWS][:1]) for group in rows]
        count = _counts(lists)
        flat = _flatten(lists)
        if not np.isfinite(flat).all():
            raise ValueError(f"{WINDOWS}: expected finite numbers, got NaN or infinity")
        place = np.arange(len(flat)) - np.repeat(np.cumsum(count) - count, count)
        owner = np.repeat(np.arange(len(rows)), count)
        table = np.zeros((len(rows), max(int(count.max()), 1), 3))
        table[:, :, 2] = -np.inf
        table[owner, place] = flat
        first = table[:, 0, :2].copy()
        first[count == 0] = np.nan
        if heads is not None:
            first = np.array([head[0][:2] if head else (np.nan, np.nan) for head in heads], dtype=float)
        order = np.argsort(-table[:, :, 2], axis=1, kind="stable")
        return cls(
            spans=np.take_along_axis(table[:, :, :2], order[..., None], axis=1), count=count, first=first
        )


def _flatten(lists: list[Any]) -> Floats:
    """Windows of all queries [E, 3]; what follows the score in a window is ignored."""
    flat = list(chain.from_iterable(lists))
    if flat and set(map(len, flat)) != {3}:
        if min(map(len, flat)) < 3:
            raise ValueError(f"{WINDOWS}: expected [start, end, score]")
        flat = [window[:3] for window in flat]
    return _floats(list(chain.from_iterable(flat))).reshape(-1, 3)


def pack_scores(rows: list[list[Row]]) -> tuple[Floats, Ints]:
    """Saliency as given [N, longest list], padded with -inf, and the lengths [N]."""
    lists = [group[-1][SALIENCY] for group in rows]
    length = _counts(lists)
    flat = _floats(list(chain.from_iterable(lists)))
    if not length.all() or not np.isfinite(flat).all():
        raise ValueError(f"{SALIENCY}: expected one finite number or more")
    scores = np.full((len(rows), int(length.max())), -np.inf)
    scores[np.arange(scores.shape[1]) < length[:, None]] = flat
    return scores, length
