"""Pseudo-labels of one caption: what InterVid-MR was made with (SG-DETR, Sec. 4.3.2, Eqs. 16 to 18).

A caption belongs to an interval of its video, but other clips may show the same. Every clip is scored against
the caption, the scores inside the interval set a threshold, and what passes it, anywhere in the video, is a
moment; the scores also grade the moments' clips. Everything here is arithmetic on the scores of one video.

The printed text has lost its formulas and no code that makes the data set is public, so each reading is a
setting (`PseudoLabels`). What the text leaves open besides:

- It asks both for "the minimum score required" and for scores "higher than" the threshold. Equal is enough
  here: else an interval of one clip, whose spread is 0, would lose the clip that was captioned. The best clip
  of the interval therefore always passes, and no caption ends without a moment.
- The mean and the spread of Eq. 18 are those of the moments' clips, not of the captioned interval.
- Spread is the population's (divided by n). Equal scores have spread 0: all of them pass, all are graded 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vtg_lib.data.generate import CLIP_LENGTH

Threshold = Literal["mean_minus_sd", "mean", "min"]
Extend = Literal["video", "near"]
Grades = Literal["edges", "linear"]
Place = Literal["centre", "drawn"]
Repeated = Literal["video", "file"]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
LABELS = ("true", "pseudo", "interval", "permuted")  # what a training split may be labelled with
GRADES = (1, 2, 3, 4)  # the annotators' scale of QVHighlights without its 0
VOTERS = 3  # of QVHighlights' layout; a grade is what all of them say


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """How captions become annotations.

    Attributes:
        threshold: Eq. 17, of the scores inside the captioned interval: `mean_minus_sd`, `mean` or `min`.
        extend: where moments may lie: anywhere in the `video`, or `near` the captioned interval.
        near: seconds to both sides of the interval that `near` means.
        join: seconds of a gap between two moments that is filled; 0 is the text, where a clip that fails
            parts a moment in two.
        grades: Eq. 18, of the scores of the moments' clips: `edges` at mean - sd, mean and (mean + maximum) /
            2, or `linear` from the lowest score (1) to the highest (4).
        window: seconds of video kept around the interval, at most.
        place: where in its window the interval lies if the video is longer: in the `centre`, or `drawn` by
            the caption, so that its place tells nothing.
        min_words: content words that a caption needs.
        repeated: what makes a caption a repetition: the same words for the same `video`, or anywhere in the
            `file`. The first stays.
    """

    threshold: Threshold = "mean_minus_sd"
    extend: Extend = "video"
    near: float = 10.0
    join: float = 0.0
    grades: Grades = "edges"
    window: float = 150.0
    place: Place = "centre"
    min_words: int = 3
    repeated: Repeated = "video"

    def __post_init__(self) -> None:
        for name, kind in (
            ("threshold", Threshold),
            ("extend", Extend),
            ("grades", Grades),
            ("place", Place),
            ("repeated", Repeated),
        ):
            if (value := getattr(self, name)) not in get_args(kind):
                raise ValueError(f"{name}: expected one of {', '.join(get_args(kind))}; got {value!r}")
        if not CLIP_LENGTH <= self.window < math.inf:
            raise ValueError(f"window: expected seconds, {CLIP_LENGTH:g} or more, got {self.window}")
        for name in ("near", "join"):
            if not 0 <= (seconds := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}: expected seconds, 0 or more, got {seconds}")
        if self.min_words < 0:
            raise ValueError(f"min_words: expected 0 or more words, got {self.min_words}")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Knobs of what the training split of a rendered world is labelled with; validation and test stay true.

    A caption is a query of which one moment is named, drawn by the world's seed.

    Attributes:
        labels: `true`: what is shown; `pseudo`: what the caption's interval and the features give;
            `interval`: the named moment alone, its clips graded as Eq. 18 has it; `permuted`: those of
            `pseudo`, every video with the sentence of another one.
        label_threshold, label_extend, label_join, label_grades: see `PseudoLabels`.
    """

    labels: str = "true"
    label_threshold: str = "mean_minus_sd"
    label_extend: str = "video"
    label_join: float = 0.0
    label_grades: str = "edges"

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise ValueError(f"labels: expected one of {', '.join(LABELS)}; got {self.labels!r}")
        _ = self.settings

    @property
    def settings(self) -> PseudoLabels:
        """As `label` reads them."""
        chosen: dict[str, Any] = {
            "threshold": self.label_threshold,
            "extend": self.label_extend,
            "join": self.label_join,
            "grades": self.label_grades,
        }
        return PseudoLabels(**chosen)


@dataclass(frozen=True)
class Labels:
    """What one caption says of its video.

    Attributes:
        threshold: the score from which on a clip belongs to a moment.
        clips: `[T]`, True on clips of moments.
        moments: `[M, 2]`, first clip and the one after the last, in order.
        grades: `[T]`, 1 to 4 on clips of moments, else 0.
    """

    threshold: float
    clips: Bools
    moments: Ints
    grades: Ints

    def fields(self, duration: float) -> dict[str, Any]:
        """`relevant_windows` (seconds, cut at the video's `duration`), `relevant_clip_ids` and
        `saliency_scores` of a row in the QVHighlights layout.
        """
        ids = np.flatnonzero(self.clips)
        windows = np.minimum(self.moments * CLIP_LENGTH, duration)
        return {
            "relevant_windows": [[plain(start), plain(end)] for start, end in windows],
            "relevant_clip_ids": ids.tolist(),
            "saliency_scores": [[grade] * VOTERS for grade in self.grades[ids].tolist()],
        }


def plain(seconds: float) -> int | float:
    """Seconds as QVHighlights writes them: to the millisecond, and whole ones without a point."""
    rounded = round(float(seconds), 3)
    return int(rounded) if rounded.is_integer() else rounded


def similarity(video: NDArray[Any], text: NDArray[Any]) -> Floats:
    """Eq. 16: the cosine of every clip `[T, D]` with a caption `[D]`: `[T]` in -1..1, 0 for a zero vector.

    Raises:
        ValueError: other shapes, or features of two spaces.
    """
    if video.ndim != 2 or text.ndim != 1 or video.shape[1] != len(text):
        raise ValueError(
            f"expected clips [T, D] and a caption [D] of one space, got {list(video.shape)} and "
            f"{list(text.shape)}"
        )
    clips, caption = video.astype(np.float64), text.astype(np.float64)
    norms = np.linalg.norm(clips, axis=1) * np.linalg.norm(caption)
    return np.divide(clips @ caption, norms, out=np.zeros(len(clips)), where=norms > 0)


def captioned_clips(interval: tuple[float, float], clips: int) -> Bools:
    """`[clips]`, True on clips whose centre lies in `interval` (seconds); where it holds no centre, as an
    interval shorter than a clip may, on the clip that its own middle lies in.
    """
    start, end = interval
    centres = (np.arange(clips) + 0.5) * CLIP_LENGTH
    inside = (centres >= start) & (centres < end)
    if not inside.any():
        inside[min(clips - 1, max(0, int((start + end) / 2 / CLIP_LENGTH)))] = True
    return inside


def threshold_of(scores: Floats, captioned: Bools, rule: Threshold) -> float:
    """Eq. 17: the score that a clip needs, from `scores` `[T]` on the `captioned` clips `[T]`."""
    inside = scores[captioned]
    found = {
        "mean_minus_sd": lambda: inside.mean() - inside.std(),
        "mean": lambda: inside.mean(),
        "min": lambda: inside.min(),
    }[rule]()
    return float(min(found, inside.max()))  # a mean of equal numbers may round to above them


def moments_of(clips: Bools) -> Ints:
    """`[M, 2]` runs of True in `[T]`: the first clip, and the one after the last."""
    edges = np.diff(np.concatenate([[False], clips, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], 1)


def joined(clips: Bools, gap: float) -> Bools:
    """`[T]` with every gap between two runs of True filled that is at most `gap` seconds long."""
    filled = clips.copy()
    for start, end in moments_of(~clips):
        if start > 0 and end < len(clips) and (end - start) * CLIP_LENGTH <= gap:
            filled[start:end] = True
    return filled


def grades_of(scores: Floats, clips: Bools, rule: Grades) -> Ints:
    """Eq. 18: `[T]` grades 1 to 4 of `scores` `[T]` on the moments' `clips` `[T]`, 0 elsewhere."""
    found, inside = np.zeros(len(scores), np.int64), scores[clips]
    if not len(inside):
        return found
    lowest, highest = inside.min(), inside.max()
    if highest == lowest:
        found[clips] = GRADES[-1]
        return found
    if rule == "edges":
        mean = inside.mean()
        edges = np.array([mean - inside.std(), mean, (mean + highest) / 2])
        found[clips] = GRADES[0] + (inside[:, None] >= edges).sum(1)
    else:
        share = (inside - lowest) / (highest - lowest)
        found[clips] = np.floor(GRADES[0] + share * (GRADES[-1] - GRADES[0]) + 0.5)
    return found


def label(scores: Floats, captioned: Bools, settings: PseudoLabels, threshold: float | None = None) -> Labels:
    """Moments and grades of one caption, Eqs. 17 and 18.

    Args:
        scores: `[T]`, Eq. 16; captioned: `[T]`, True inside the captioned interval.
        threshold: in the place of Eq. 17's, as a slider sets it; above all scores, no clip passes.

    Raises:
        ValueError: no scores, other shapes, a score that is not finite, or no captioned clip.
    """
    if scores.ndim != 1 or scores.shape != captioned.shape or not np.isfinite(scores).all():
        raise ValueError(
            f"expected finite scores [T] and captioned clips [T], got shapes {list(scores.shape)} and "
            f"{list(captioned.shape)}, {int((~np.isfinite(scores)).sum())} scores not finite"
        )
    if not captioned.any():
        raise ValueError(f"expected a captioned interval with at least one of {len(scores)} clips, got none")
    if threshold is None:
        threshold = threshold_of(scores, captioned, settings.threshold)
    clips = scores >= threshold
    if settings.extend == "near":
        first, last = np.flatnonzero(captioned)[[0, -1]]
        reach = settings.near / CLIP_LENGTH
        place = np.arange(len(scores))
        clips &= (place >= first - reach) & (place <= last + reach)
    if settings.join:
        clips = joined(clips, settings.join)
    return Labels(threshold, clips, moments_of(clips), grades_of(scores, clips, settings.grades))


def window_of(
    interval: tuple[float, float], clips: int, settings: PseudoLabels, draw: float = 0.5
) -> tuple[int, int] | None:
    """Which clips of a video to keep around a captioned interval, the whole of it among them.

    Args:
        interval: seconds; clips: of the video; draw: in 0..1, where the interval goes if `place` is `drawn`.

    Returns:
        The first clip and the one after the last; None if the interval is longer than a window.
    """
    most = int(settings.window / CLIP_LENGTH + 1e-9)
    first = min(clips - 1, int(interval[0] / CLIP_LENGTH + 1e-9))
    last = min(clips, max(first + 1, math.ceil(interval[1] / CLIP_LENGTH - 1e-9)))
    if last - first > most:
        return None
    spare = most - (last - first)
    before = spare // 2 if settings.place == "centre" else round(draw * spare)
    start = max(0, min(first - before, clips - most))
    return start, min(clips, start + most)
