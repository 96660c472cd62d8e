"""Annotations in the QVHighlights layout: read and check.

One JSON object a line, `{qid, query, duration, vid, relevant_windows, relevant_clip_ids, saliency_scores}`;
times in seconds, clips counted from 0. Charades-STA and TACoS have windows only; TVSum and YouTube Highlights
have a `label` per clip and null windows; QVHighlights' test release has no labels.

What the published files contain, and what follows from it (every file was read; nothing in them is refused):

- *TVSum's `duration` counts clips of 2 seconds*, not seconds: it equals the number of rows of `label`.
  `Dataset.duration_unit` says so.
- QVHighlights' `vid` ends in a span of 150 s, but some videos are shorter; `duration` is right. Windows, clip
ids and
  saliency agree in every row.
- One QVHighlights test query has saliency 0 from everybody on every clip of its moments: highlight AP is 0
for it by
  definition.
- TACoS has the same sentence of the same video several times, most of them with the same window.
- TACoS has windows shorter than one 2-second clip: such a moment has no clip of its own.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLACK = 1e-3  # seconds that rounding may add to a window's end


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


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What the rows of a data set hold.

    Attributes:
        labels: fields that are all there, or all missing in an unlabelled split.
        clip_length: seconds per clip, as clip ids and labels count them.
        duration_unit: seconds that one unit of `duration` stands for.
        regular: whether clips have one length in seconds; YouTube Highlights' have 100 frames at each video's
            own rate.
        known: kinds of notes that the published files have.
    """

    name: str
    labels: tuple[str, ...]
    clip_length: float = 2.0
    duration_unit: float = 1.0
    regular: bool = True
    known: frozenset[str] = frozenset()


DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        Dataset(
            name="qvhighlights",
            labels=("relevant_windows", "relevant_clip_ids", "saliency_scores"),
            known=frozenset({"vid span", "no positive clip"}),
        ),
        Dataset(name="charades_sta", labels=("relevant_windows",), clip_length=1.0),
        Dataset(
            name="tacos", labels=("relevant_windows",), known=frozenset({"repeated query", "short window"})
        ),
        Dataset(name="tvsum", labels=("label",), duration_unit=2.0),
        Dataset(
            name="youtube_highlights",
            labels=("label",),
            regular=False,
            known=frozenset({"clip past the end"}),
        ),
        Dataset(name="generic", labels=("relevant_windows",)),
    )
}
_FOLDERS = {
    "charades": "charades_sta",
    "youtube": "youtube_highlights",
    "qvh": "qvhighlights",
    "highlight_": "qvhighlights",
}
# Keys that some data set has besides qid, query, duration, vid.
_KNOWN_FIELDS = {
    "qid", "query", "duration", "vid", "relevant_windows", "relevant_clip_ids", "saliency_scores",
    "label", "domain", "frames", "fps", "clip", "match",
}  # fmt: skip


def dataset_of(path: str | Path) -> Dataset:
    """The data set that a file belongs to, from its folder and name; `generic` if neither tells."""
    path = Path(path)
    text = f"{path.parent.name}/{path.name}".lower()
    for name in DATASETS:
        if name in text:
            return DATASETS[name]
    return DATASETS[next((name for part, name in _FOLDERS.items() if part in text), "generic")]


def read_annotations(path: str | Path, dataset: str | None = None) -> list[dict[str, Any]]:
    """Reads and checks one `.jsonl` file.

    Args:
        path: the file.
        dataset: one of `DATASETS`; told from the path if not given.

    Returns:
        One dict per line, as in the file.

    Raises:
        AnnotationError: the file is missing, torn, not annotations at all, or has a row that
            `validate_annotations` refuses.
    """
    path = Path(path)
    profile = dataset_of(path) if dataset is None else _dataset(dataset)
    lines, rows = [], []
    for number, row in _parse(path):
        lines.append(number)
        rows.append(row)
    for note in validate_annotations(rows, profile.name, source=path, lines=lines):
        if note.kind not in profile.known:
            warnings.warn(f"{path}: {note.text}", AnnotationWarning, stacklevel=2)
    return rows


def validate_annotations(
    rows: Sequence[Mapping[str, Any]],
    dataset: str = "generic",
    *,
    source: str | Path = "annotations",
    lines: Sequence[int] | None = None,
) -> list[Note]:
    """Checks rows and returns the notes on what is odd but usable.

    Args:
        rows: dicts in the QVHighlights layout.
        dataset: one of `DATASETS`.
        source: what errors call the rows' origin.
        lines: line number of each row in `source`; counted from 1 if not given.

    Raises:
        AnnotationError: at the first row that cannot be used.
    """
    profile = _dataset(dataset)
    check = _Checker(profile, str(source))
    if not rows:
        check.refuse("at least one row", "none", "fetch the file again: `vtg data fetch`")
    for position, row in enumerate(rows):
        check.line = lines[position] if lines is not None else position + 1
        check.row(row)
    return check.notes()


class _Checker:
    """Walks over rows in order and remembers what concerns several of them."""

    def __init__(self, profile: Dataset, source: str) -> None:
        self.profile, self.source, self.line = profile, source, 0
        self.seen: dict[Any, int] = {}
        self.duration_of: dict[str, tuple[float, int]] = {}
        self.sentences: set[tuple[str, str]] = set()
        self.labelled: tuple[bool, int] | None = None
        self.found: dict[str, tuple[int, str]] = {}

    def refuse(self, expected: str, got: Any, fix: str, field: str | None = None) -> None:
        place = f"{self.source}, line {self.line}" if self.line else self.source
        shown = got if isinstance(got, str) else json.dumps(got, default=str)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        where = f"field '{field}': " if field else ""
        raise AnnotationError(f"{place}: {where}expected {expected}, got {shown}. Fix: {fix}.")

    def note(self, kind: str, text: str) -> None:
        count, first = self.found.get(kind, (0, f"line {self.line}: {text}"))
        self.found[kind] = (count + 1, first)

    def notes(self) -> list[Note]:
        return [
            Note(kind=k, count=n, text=f"{k} in {n} row(s), first at {t}") for k, (n, t) in self.found.items()
        ]

    def row(self, row: Any) -> None:
        if not isinstance(row, Mapping):
            self.refuse("a JSON object", row, "write one object per line")
        for name, kinds in (("qid", (int, str)), ("vid", (str,)), ("query", (str,))):
            value = row.get(name)
            if (
                not isinstance(value, kinds)
                or isinstance(value, bool)
                or (isinstance(value, str) and not value.strip())
            ):
                wanted = " or ".join({int: "an integer", str: "a non-empty string"}[k] for k in kinds)
                self.refuse(wanted, value, f"give every row a {name}", name)
        duration = row.get("duration")
        if not _is_number(duration) or duration <= 0:
            self.refuse(
                "a positive number of seconds", duration, "give the video's length in seconds", "duration"
            )
        if row["qid"] in self.seen:
            other = f"{row['qid']} (also on line {self.seen[row['qid']]})"
            self.refuse("a qid used once", other, "drop or renumber one of the two rows", "qid")
        self.seen[row["qid"]] = self.line
        known = self.duration_of.setdefault(row["vid"], (duration, self.line))
        if known[0] != duration:
            wanted = f"{known[0]} as on line {known[1]} for the same video"
            self.refuse(wanted, duration, "one video has one length", "duration")
        if (row["vid"], row["query"]) in self.sentences:
            self.note("repeated query", f"{row['vid']!r} has this query already: {row['query']!r}")
        self.sentences.add((row["vid"], row["query"]))
        if unknown := sorted(set(row) - _KNOWN_FIELDS):
            self.note("unknown field", ", ".join(unknown))
        self.labels(row)

    def labels(self, row: Mapping[str, Any]) -> None:
        present = [name for name in self.profile.labels if row.get(name) is not None]
        if present and len(present) < len(self.profile.labels):
            missing = sorted(set(self.profile.labels) - set(present))
            self.refuse(
                f"all of {list(self.profile.labels)}",
                f"no {missing}",
                "complete the row or remove its labels",
                missing[0],
            )
        if self.labelled is not None and self.labelled[0] != bool(present):
            wanted = f"{'labels' if self.labelled[0] else 'no labels'} as on line {self.labelled[1]}"
            self.refuse(
                wanted, present, "split labelled and unlabelled rows into two files", self.profile.labels[0]
            )
        self.labelled = self.labelled or (bool(present), self.line)
        if row.get("relevant_windows") is not None:
            self.windows(row)
        if row.get("relevant_clip_ids") is not None:
            self.clips(row)
        if row.get("label") is not None:
            self.clip_labels(row)
        if self.profile.name == "qvhighlights":
            self.video_span(row)

    def windows(self, row: Mapping[str, Any]) -> None:
        windows, field = row["relevant_windows"], "relevant_windows"
        end_of_video = row["duration"] * self.profile.duration_unit
        if not isinstance(windows, list) or not windows:
            self.refuse(
                "a list with at least one [start, end]", windows, "give each query at least one window", field
            )
        for window in windows:
            if not isinstance(window, list) or len(window) != 2 or not all(_is_number(v) for v in window):
                self.refuse(
                    "[start, end] in seconds, finite numbers", window, "write two numbers per window", field
                )
            start, end = window
            if end <= start:
                self.refuse("start < end", window, "swap the two, or drop the empty window", field)
            if start < 0 or end > end_of_video + SLACK:
                self.refuse(
                    f"a window within 0 and {end_of_video:g} s",
                    window,
                    "clip it to the video, or correct `duration`",
                    field,
                )
            if end - start < self.profile.clip_length:
                self.note(
                    "short window", f"{window} is shorter than a clip of {self.profile.clip_length:g} s"
                )
        ordered = sorted(windows)
        if any(later[0] < earlier[1] for earlier, later in zip(ordered, ordered[1:], strict=False)):
            self.note("overlapping windows", str(ordered))

    def clips(self, row: Mapping[str, Any]) -> None:
        ids, scores = row["relevant_clip_ids"], row.get("saliency_scores")
        count = math.ceil(row["duration"] * self.profile.duration_unit / self.profile.clip_length)
        if not isinstance(ids, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
            self.refuse("a list of integers", ids, "count clips from 0", "relevant_clip_ids")
        outside = [i for i in ids if not 0 <= i < count]
        if outside:
            wanted = f"clip ids in 0..{count - 1} ({row['duration']:g} s in clips of {self.profile.clip_length:g} s)"
            self.refuse(wanted, outside, "count clips from 0, or correct `duration`", "relevant_clip_ids")
        if len(set(ids)) != len(ids):
            self.refuse(
                "each clip once", ids, "drop the repeated clip ids and their scores", "relevant_clip_ids"
            )
        if scores is None:
            return
        field = "saliency_scores"
        if not isinstance(scores, list) or len(scores) != len(ids):
            got = f"{len(scores)} entries" if isinstance(scores, list) else scores
            self.refuse(
                f"one entry per clip id, {len(ids)}", got, "give one list of scores per relevant clip", field
            )
        for entry in scores:
            if (
                not isinstance(entry, list)
                or len(entry) != 3
                or not all(_is_number(v) and 0 <= v <= 4 for v in entry)
            ):
                self.refuse(
                    "three scores (annotators) in 0..4 per clip", entry, "write [a, b, c] per clip", field
                )
        if ids and not any(map(any, scores)):
            self.note("no positive clip", "saliency is 0 on every clip")
        length = self.profile.clip_length
        inside = {
            i
            for start, end in row.get("relevant_windows") or ()
            for i in range(int(start // length), math.ceil(end / length))
        }
        if row.get("relevant_windows") and inside != set(ids):
            self.note(
                "clips and windows differ",
                f"clips {sorted(inside ^ set(ids))[:5]} are in one of the two only",
            )

    def clip_labels(self, row: Mapping[str, Any]) -> None:
        label = row["label"]
        widths = (
            {len(entry) if isinstance(entry, list) else -1 for entry in label}
            if isinstance(label, list)
            else set()
        )
        if len(widths) != 1 or -1 in widths or 0 in widths:
            self.refuse(
                "one list of scores per clip, all of one length",
                f"lengths {sorted(widths)}",
                "give every clip one score per annotator",
                "label",
            )
        if not all(_is_number(v) for entry in label for v in entry):
            self.refuse("finite numbers", "something else", "replace missing scores", "label")
        for name in ("clip", "match"):
            if row.get(name) is not None and (
                not isinstance(row[name], list) or len(row[name]) != len(label)
            ):
                self.refuse(
                    f"one entry per clip, {len(label)}", row[name], f"align `{name}` with `label`", name
                )
        if self.profile.name == "tvsum" and len(label) != row["duration"]:
            self.refuse(
                f"{row['duration']} clips (TVSum's duration counts clips)",
                f"{len(label)} clips",
                "correct `duration`",
                "label",
            )
        if (
            row.get("clip")
            and row.get("frames") is not None
            and max(end for _, end in row["clip"]) > row["frames"]
        ):
            self.note(
                "clip past the end", f"{max(end for _, end in row['clip']):g} of {row['frames']:g} frames"
            )

    def video_span(self, row: Mapping[str, Any]) -> None:
        parts = row["vid"].rsplit("_", 2)
        try:
            span = float(parts[-1]) - float(parts[-2])
        except (ValueError, IndexError):
            return
        if abs(span - row["duration"]) > SLACK:
            self.note("vid span", f"{row['vid']} spans {span:g} s, duration says {row['duration']:g} s")


def _parse(path: Path) -> Iterator[tuple[int, Any]]:
    """`(line number, object)` of every non-empty line."""
    again = "fetch it again (`vtg data fetch`, then `vtg data verify`)"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(
            f"{path}: expected an annotation file, got {error.strerror}. Fix: {again}."
        ) from None
    head = data[:200].lstrip().lower()
    for start, what in (
        (b"<", "an HTML page"),
        (b"version https://git-lfs", "a Git LFS pointer"),
        (b"\x1f\x8b", "a gzip archive"),
    ):
        if head.startswith(start):
            raise AnnotationError(f"{path}, line 1: expected JSON lines, got {what}. Fix: {again}.")
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            torn = number == len(lines) or not any(rest.strip() for rest in lines[number:])
            got = "a torn line, the last one" if torn else f"{type(error).__name__}: {error}"
            fix = again if torn else "correct the line, or " + again
            raise AnnotationError(
                f"{path}, line {number}: expected one JSON object, got {got}. Fix: {fix}."
            ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise AnnotationError(
            f"unknown data set: expected one of {', '.join(DATASETS)}, got {name!r}. Fix: use one of these."
        )
    return DATASETS[name]
