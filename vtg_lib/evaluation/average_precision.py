"""Average precision of many ranked lists at once, to the last bit of computing them one by one.

An *event* is a rank at which a list finds something: `found` of its targets within its best `depth` entries,
so precision there is found / depth. Events of all lists lie in one flat array, sorted by list (`segment`).
Lists with equally many events are computed together, as the rows of a matrix: NumPy then adds each row up in
the order in which it adds a single list, which shows where a mean lies on half of the last printed digit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]


def detection_ap(segment: Ints, depth: Ints, targets: Ints) -> Floats:
    """Area under the interpolated precision-recall curve of each list [S], with 0 and 1 as sentinels.

    Args:
        segment: list of each true positive [E], sorted.
        depth: its rank in that list, from 1 [E], increasing within a list.
        targets: windows to find in each list [S].
    """
    ap = np.zeros(targets.size)
    for lists, events in _by_length(np.bincount(segment, minlength=targets.size)):
        found = np.arange(1, events.shape[1] + 1)
        precision = np.maximum.accumulate((found / depth[events])[:, ::-1], axis=1)[:, ::-1]
        wanted = targets[lists, None]
        area = (found / wanted - (found - 1) / wanted) * precision
        # The sentinel at recall 1 adds 0, but as one more summand it can change the order of additions.
        with_sentinel = np.pad(area, ((0, 0), (0, 1))).sum(axis=1)
        ap[lists] = np.where(wanted[:, 0] == found.size, area.sum(axis=1), with_sentinel)
    return ap


def tied_ap(segment: Ints, depth: Ints, segments: int) -> Floats:
    """Mean interpolated precision over the thresholds that gain positives, for each list [S]; 0 without
    positives.

    Args:
        segment: list of each positive [E], sorted.
        depth: entries with at least this positive's score [E], decreasing within a list; equal depths are a
            tie, which is one threshold.
    """
    count = np.bincount(segment, minlength=segments)
    # Ranks run from the lowest score up. In a tie the first positive met counts them all.
    found = np.cumsum(count)[segment] - np.arange(segment.size)
    first = np.ones(segment.size, bool)
    first[1:] = (segment[1:] != segment[:-1]) | (depth[1:] != depth[:-1])
    precision = found[first] / depth[first]
    ap = np.zeros(segments)
    for lists, events in _by_length(np.bincount(segment[first], minlength=segments)):
        ap[lists] = np.maximum.accumulate(precision[events], axis=1).mean(axis=1)
    return ap


def trapezoid_ap(positive: NDArray[np.bool_]) -> Floats:
    """AP by trapezoids of ranked labels [ranks, annotators], from precision 1 at recall 0."""
    hits = positive.cumsum(axis=0)
    precision = hits / np.arange(1, len(positive) + 1)[:, None]
    before = np.vstack((np.ones((1, positive.shape[1])), precision[:-1]))
    area = (positive * (precision + before) / 2).sum(axis=0)
    total = positive.sum(axis=0)
    return np.divide(area, total, out=np.zeros(total.shape), where=total > 0)


def _by_length(count: Ints) -> Iterator[tuple[Ints, Ints]]:
    """For each length but 0 among `count` [S]: the lists [R] of that length and the indices [R, length] of
    their events.
    """
    start = np.cumsum(count) - count
    lists = np.argsort(count, kind="stable")
    ends = np.flatnonzero(np.diff(count[lists], append=-1)) + 1
    for same in np.split(lists, ends[:-1]):
        length = count[same[0]]
        if length:
            yield same, start[same, None] + np.arange(length)


def greedy_matches(iou: Floats, thresholds: Floats) -> tuple[Ints, Ints]:
    """(threshold index [E], prediction index [E]) of the true positives of one query, for IoU [P, G] by
    falling score.

    Each prediction takes the free window of highest IoU. Equal IoUs go by `argsort()[::-1]`, as in the
    reference; an undefined IoU (two windows without length) counts as the highest.
    """
    order = iou.argsort(axis=1)[:, ::-1].tolist()
    overlap = np.where(np.isnan(iou), np.inf, iou).tolist()
    taken: list[set[int]] = [set() for _ in thresholds]
    matches = []
    for p, windows in enumerate(order):
        for t, threshold in enumerate(thresholds.tolist()):
            for g in windows:
                if overlap[p][g] < threshold:
                    break
                if g not in taken[t]:
                    taken[t].add(g)
                    matches.append((t, p))
                    break
    pairs = np.array(matches, dtype=np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
