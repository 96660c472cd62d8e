"""Annotations in the QVHighlights layout: checked; `vtg_lib.data.layouts` brings others to it.

One JSON object a line, `{qid, query, duration, vid, relevant_windows, relevant_clip_ids, saliency_scores}`;
times in seconds, clips counted from 0. Charades-STA and TACoS have windows only; TVSum and YouTube Highlights
have a `label` per clip and null windows; QVHighlights' test release has no labels.

What the published files contain, and what follows from it (every file was read; nothing in them is refused):

- *TVSum's `duration` counts clips of 2 seconds*, not seconds: it equals the number of rows of `label`.
  `datasets.Dataset.duration_unit` says so.
- QVHighlights' `vid` ends in a span of 150 s, but some videos are shorter; `duration` is right. Windows, clip
  ids and saliency agree in every row.
- One QVHighlights test query has saliency 0 from everybody on every clip of its moments: highlight AP is 0
  for it by definition.
- TACoS has the same sentence of the same video several times, most of them with the same window.
- TACoS has windows shorter than one 2-second clip: such a moment has no clip of its own.
- YouTube Highlights' files have 233 of the 247 training and 152 of the 172 test videos on UMT's lists (as
  showlab/UniVTG @ 32659ac repeats them), each on its list and in its domain, and none without a highlight.
- YouTube Highlights' clips (100 frames, every 50) reach up to 8 frames past `frames`.

Refused: anything that would train or score something else than meant (reversed or empty windows, windows past
the end, clip ids out of range, saliency of another shape, missing or duplicate ids, numbers that are not
finite, torn lines). Odd but usable things are notes; `read_annotations` warns only about notes that the
published files do not have themselves.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vtg_lib.data.datasets import DATASETS, LABELLED, SCORED, SLACK, Dataset, dataset_of
from vtg_lib.data.layouts import entries
from vtg_lib.files import UnreadableFile

_NUMBERS = (int, float)  # as JSON gives them; True and False are none
SHOWN = 10  # problems that one error lists


class AnnotationError(ValueError):
    """An annotation file or row that cannot be used; the message names file, line, field, expected, got and
    the fix.
    """


class AnnotationWarning(UserWarning):
    """Something odd that can be used all the same."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """An oddity that does not stop anything: what it is, how many rows have it, and the first of them."""

    kind: str
    count: int
    text: str


# Keys that some data set has besides qid, query, duration, vid.
_KNOWN_FIELDS = {
    "qid", "query", "duration", "vid", "relevant_windows", "relevant_clip_ids", "saliency_scores",
    "label", "domain", "frames", "fps", "clip", "match",
}  # fmt: skip


def read_annotations(
    path: str | Path, dataset: str | Dataset | None = None, durations: str | Path | None = None
) -> list[dict[str, Any]]:
    """Reads and checks a file of annotations, of any layout of `vtg_lib.data.layouts`.

    Args:
        path: the file.
        dataset: one of `DATASETS`, by name or itself; told from the path if not given.
        durations: see `layouts.entries`.

    Returns:
        One dict a query.

    Raises:
        AnnotationError: the file is missing, torn, not annotations at all, or has a row that
            `validate_annotations` refuses.
    """
    profile = dataset_of(path) if dataset is None else _dataset(dataset)
    try:
        found = entries(path, durations)
    except UnreadableFile as error:
        raise AnnotationError(shown(list(map(str, str(error).split("\n"))))) from None
    rows = [row for _, row in found]
    if profile is SCORED and any(isinstance(row, Mapping) and row.get("label") for row in rows):
        profile = LABELLED
    for note in validate_annotations(rows, profile, source=path, places=[place for place, _ in found]):
        if note.kind not in profile.known:
            warnings.warn(f"{path}: {note.text}", AnnotationWarning, stacklevel=2)
    return rows


def shown(problems: Sequence[str]) -> str:
    """The first problems, a line each, and how many more there are."""
    more = [f"… and {len(problems) - SHOWN} more problems."] if len(problems) > SHOWN else []
    return "\n".join([*problems[:SHOWN], *more])


def validate_annotations(
    rows: Sequence[Mapping[str, Any]],
    dataset: str | Dataset = "generic",
    *,
    source: str | Path = "annotations",
    places: Sequence[str] | None = None,
) -> list[Note]:
    """Checks rows and returns the notes on what is odd but usable.

    Args:
        rows: dicts in the QVHighlights layout.
        dataset: one of `DATASETS`.
        source: what errors call the rows' origin.
        places: where each row stands; lines of `source` from 1 on if not given.

    Raises:
        AnnotationError: rows that cannot be used; one problem a row, up to ten of them.
    """
    check = _Checker(_dataset(dataset), str(source))
    check.expect(bool(rows), "at least one row", "none", "fetch the file again: `vtg data fetch`")
    problems = []
    places = places or [f"{source}, line {number}" for number in range(1, len(rows) + 1)]
    for check.place, row in zip(places, rows, strict=True):
        try:
            check.row(row)
        except AnnotationError as error:
            problems.append(str(error))
    if problems:
        raise AnnotationError(shown(problems))
    return check.notes()


class _Checker:
    """Walks over rows in order and remembers what concerns several of them."""

    def __init__(self, profile: Dataset, source: str) -> None:
        self.profile, self.source, self.place = profile, source, source
        self.seen: dict[Any, str] = {}
        self.duration_of: dict[str, tuple[float, str]] = {}
        self.sentences: set[tuple[str, str]] = set()
        self.labelled: tuple[list[str], str] | None = None
        self.found: dict[str, tuple[int, str]] = {}

    def expect(self, fine: bool, expected: str, got: Any, fix: str, field: str | None = None) -> None:
        if fine:
            return
        if isinstance(got, Mapping) and field:  # a row: what it has there
            shown = json.dumps(got[field]) if field in got else f"no such field among {', '.join(got)}"
        else:
            shown = got if isinstance(got, str) else json.dumps(got)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        where = f"field '{field}': " if field else ""
        raise AnnotationError(f"{self.place}: {where}expected {expected}, got {shown}. Fix: {fix}.")

    @property
    def short(self) -> str:
        """The place within the source."""
        return self.place.removeprefix(f"{self.source}, ")

    def note(self, kind: str, text: str) -> None:
        count, first = self.found.get(kind, (0, f"{self.short}: {text}"))
        self.found[kind] = (count + 1, first)

    def notes(self) -> list[Note]:
        return [
            Note(kind=k, count=n, text=f"{k} in {n} row(s), first at {t}") for k, (n, t) in self.found.items()
        ]

    def row(self, row: Any) -> None:
        self.expect(isinstance(row, Mapping), "a JSON object", row, "write one object per line")
        swapped = "duration" not in row and any(name.startswith("pred_") for name in row)
        self.expect(not swapped, "annotations", "predictions", "give the file of the annotations")
        for name in self.profile.needed:
            value = row.get(name)
            number = name == "qid" and isinstance(value, int) and not isinstance(value, bool)
            self.expect(
                number or (isinstance(value, str) and bool(value.strip())),
                "an integer or a non-empty string" if name == "qid" else "a non-empty string",
                row,
                f"give every row a {name}",
                name,
            )
        duration, fix = row.get("duration"), "give the video's length in seconds"
        positive = _is_number(duration) and duration > 0
        self.expect(positive, "a positive number of seconds", row, fix, "duration")
        other = f"{row['qid']!r} (also on {self.seen.get(row['qid'])})"
        fresh, fix = row["qid"] not in self.seen, "drop or renumber one of the two rows"
        self.expect(fresh, "a qid used once", other, fix, "qid")
        self.seen[row["qid"]] = self.short
        if isinstance(row.get("vid"), str):
            self.video(row)
        if unknown := sorted(set(row) - _KNOWN_FIELDS):
            self.note("unknown field", ", ".join(unknown))
        self.labels(row)

    def video(self, row: Mapping[str, Any]) -> None:
        known, line = self.duration_of.setdefault(row["vid"], (row["duration"], self.short))
        wanted, fix = f"{known} as on {line} for the same video", "one video has one length"
        self.expect(known == row["duration"], wanted, row["duration"], fix, "duration")
        sentence = (row["vid"], str(row.get("query")))
        if sentence in self.sentences:
            self.note("repeated query", f"{sentence[0]!r} has this query already: {sentence[1]!r}")
        self.sentences.add(sentence)

    def labels(self, row: Mapping[str, Any]) -> None:
        names = list(self.profile.labels)
        present = [name for name in names if row.get(name) is not None]
        missing = sorted(set(names) - set(present))
        self.expect(
            self.profile.partial or not present or not missing,
            f"all of {names}",
            f"no {missing}",
            "complete the row or remove its labels",
            *missing[:1],
        )
        self.labelled = self.labelled or (present, self.short)
        first, line = self.labelled
        self.expect(
            first == present,
            f"{'labels' if first else 'no labels'} as on {line} {first or ''}".rstrip(),
            present,
            "split labelled and unlabelled rows into two files",
            names[0],
        )
        if row.get("relevant_windows") is not None:
            self.windows(row)
        if row.get("relevant_clip_ids") is not None or row.get("saliency_scores") is not None:
            self.clips(row)
        if row.get("label") is not None:
            self.clip_labels(row)
        if self.profile.name == "qvhighlights":
            self.video_span(row)

    def windows(self, row: Mapping[str, Any]) -> None:
        windows, field = row["relevant_windows"], "relevant_windows"
        end, shortest = row["duration"] * self.profile.duration_unit, self.profile.clip_length
        self.expect(
            isinstance(windows, list) and bool(windows),
            *("a list with at least one [start, end]", windows, "give each query at least one window", field),
        )
        for window in windows:
            self.expect(
                isinstance(window, list) and len(window) == 2 and all(map(_is_number, window)),
                *("[start, end] in seconds, finite numbers", window, "write two numbers per window", field),
            )
            start, stop = window
            self.expect(start < stop, "start < end", window, "swap the two, or drop the empty window", field)
            self.expect(
                start >= 0 and stop <= end + self.profile.slack,
                f"a window within 0 and {end:g} s",
                window,
                "clip it to the video (are these frames?), or correct `duration`",
                field,
            )
            if stop > end + SLACK:
                self.note("window past the end", f"{window} in a video of {end:g} s")
            if stop - start < shortest:
                self.note("short window", f"{window} is shorter than a clip of {shortest:g} s")
        ordered = sorted(windows)
        if any(later[0] < earlier[1] for earlier, later in pairwise(ordered)):
            self.note("overlapping windows", str(ordered))

    def clips(self, row: Mapping[str, Any]) -> None:
        ids: Any = row.get("relevant_clip_ids")
        scores, length = row.get("saliency_scores"), self.profile.clip_length
        count = math.ceil(row["duration"] * self.profile.duration_unit / length)
        field = "relevant_clip_ids"
        whole = isinstance(ids, list) and all(type(i) is int for i in ids)
        self.expect(whole, "a list of integers", row, "count clips from 0", field)
        self.expect(
            not (outside := [i for i in ids if not 0 <= i < count]),
            f"clip ids in 0..{count - 1} ({row['duration']:g} s in clips of {length:g} s)",
            outside,
            "count clips from 0, or correct `duration`",
            field,
        )
        fix = "drop the repeated clip ids and their scores"
        self.expect(len(set(ids)) == len(ids), "each clip once", ids, fix, field)
        if scores is not None:
            self.votes(ids, scores)
        windows = row.get("relevant_windows") or ()
        inside = {i for start, end in windows for i in range(int(start // length), math.ceil(end / length))}
        if scores is not None and windows and (differ := sorted(inside ^ set(ids))):
            self.note("clips and windows differ", f"clips {differ[:5]} are in one of the two only")

    def votes(self, ids: list[int], scores: Any) -> None:
        self.expect(
            isinstance(scores, list) and len(scores) == len(ids),
            f"one entry per clip id, {len(ids)}",
            f"{len(scores)} entries" if isinstance(scores, list) else scores,
            "give one list of scores per relevant clip",
            "saliency_scores",
        )
        for entry in scores:
            self.expect(
                isinstance(entry, list)
                and len(entry) == 3
                and not [vote for vote in entry if type(vote) not in _NUMBERS or not 0 <= vote <= 4],
                "three scores (annotators) in 0..4 per clip",
                entry,
                "write [a, b, c] per clip",
                "saliency_scores",
            )
        if ids and not any(map(any, scores)):
            self.note("no positive clip", "saliency is 0 on every clip")

    def clip_labels(self, row: Mapping[str, Any]) -> None:
        label = row["label"]
        lists = isinstance(label, list) and all(isinstance(entry, list) for entry in label)
        widths = {len(entry) for entry in label} if lists else {0}
        sizes = [len(entry) for entry in label] if lists else []
        usual = max(sizes, key=lambda size: (sizes.count(size), size), default=0)
        odd = next((entry for entry in label if len(entry) != usual), None) if lists else label
        self.expect(
            len(widths) == 1 and 0 not in widths,
            f"one list of {usual or 'some'} scores (annotators) for each clip",
            f"a list of {len(odd)}" if isinstance(odd, list) and odd is not label else odd,
            "give every clip one score per annotator",
            "label",
        )
        wrong = next((score for entry in label for score in entry if not _is_number(score)), None)
        finite = all(_is_number(score) for entry in label for score in entry)
        self.expect(finite, "finite numbers", repr(wrong), "replace missing scores", "label")
        p = self.profile
        if p.several is not None:
            wanted = "votes of several annotators for each clip" if p.several else "one label for each clip"
            fix = "give every label, or name the data set that it is"
            self.expect((max(widths) > 1) == p.several, wanted, f"{max(widths)}", fix, "label")
        if p.votes is not None:
            low, high = p.votes
            outside = [score for entry in label for score in entry if not low <= score <= high]
            fix = "bring the labels to this scale"
            self.expect(not outside, f"labels from {low:g} to {high:g}", outside[:5], fix, "label")
        if p.domains and row.get("domain") is not None:
            fix = "correct it, or leave `domain` out"
            self.expect(row["domain"] in p.domains, f"one of {', '.join(p.domains)}", row, fix, "domain")
        for name in ("clip", "match"):
            value = row.get(name)
            aligned = value is None or (isinstance(value, list) and len(value) == len(label))
            self.expect(
                aligned, f"one entry per clip, {len(label)}", value, f"align `{name}` with `label`", name
            )
        self.expect(
            self.profile.name != "tvsum" or len(label) == row["duration"],
            f"{row['duration']} clips (TVSum's duration counts clips)",
            *(f"{len(label)} clips", "correct `duration`", "label"),
        )
        last = max((end for _, end in row.get("clip") or ()), default=0)
        if row.get("frames") is not None and last > row["frames"]:
            self.note("clip past the end", f"{last:g} of {row['frames']:g} frames")

    def video_span(self, row: Mapping[str, Any]) -> None:
        try:
            start, end = map(float, row["vid"].rsplit("_", 2)[-2:])
        except ValueError:
            return
        if abs(end - start - row["duration"]) > SLACK:
            self.note(
                "vid span", f"{row['vid']} spans {end - start:g} s, duration says {row['duration']:g} s"
            )


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBERS and math.isfinite(value)


def _dataset(name: str | Dataset) -> Dataset:
    if isinstance(name, Dataset):
        return name
    if name not in DATASETS:
        raise AnnotationError(
            f"unknown data set: expected one of {', '.join(DATASETS)}, got {name!r}. Fix: use one of these."
        )
    return DATASETS[name]
