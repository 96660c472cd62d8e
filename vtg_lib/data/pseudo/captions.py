"""Captions of intervals of videos: reading, checking and filtering them, one at a time.

JSON lines, an object a caption; names of fields in any case:

- ours: `{vid, caption, interval: [start, end], duration, qid}`, seconds; without `duration` the video is as
  long as its features, without `qid` a caption is known by its line, counted from 0;
- InternVid's: `{YoutubeID, Start_timestamp, End_timestamp, Caption}`, times as `HH:MM:SS.mmm`. Its card
  (huggingface.co/datasets/OpenGVLab/InternVid) has a video id, timestamps, the generated caption and a
  similarity; the files themselves are behind a form. They have no durations.

Besides these, names that captioned and annotated data has elsewhere are understood (`NAMES`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtg_lib.data.pseudo.labels import PseudoLabels
from vtg_lib.data.timeline import content_stem, tokenize
from vtg_lib.files import UnreadableFile, json_lines

# What fields are called, lower-case, ours first.
NAMES: dict[str, tuple[str, ...]] = {
    "vid": ("vid", "youtubeid", "videoid", "video_id", "video"),
    "caption": ("caption", "text", "query", "sentence"),
    "interval": ("interval", "timestamp", "segment", "window"),
    "start": ("start", "start_timestamp", "start_sec", "start_time"),
    "end": ("end", "end_timestamp", "end_sec", "end_time"),
    "duration": ("duration", "video_duration"),
    "qid": ("qid", "caption_id", "id"),
}
SLACK = 1.0  # seconds that an interval may end after its video, as timestamps of public data do
# Why a caption is left out. Of the rules, the first that applies counts.
EMPTY, FEW_WORDS, REPEATED, LONG = "empty", "few_words", "repeated", "longer_than_window"
RULES = (EMPTY, FEW_WORDS, REPEATED, LONG)


class CaptionError(ValueError):
    """Captions that cannot be used; the message names file, line, field, expected, got and the fix.

    Attributes:
        kind: what is wrong, in a word, as `--skip-bad` counts it.
    """

    def __init__(self, message: str, kind: str = "captions") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Caption:
    """A caption, and the interval (seconds) of the video that it belongs to; duration None: not said."""

    line: int
    qid: int | str
    vid: str
    text: str
    interval: tuple[float, float]
    duration: float | None


def read_captions(path: str | Path) -> Iterator[Caption | CaptionError]:
    """The captions of a file, as they are read; where one cannot be used, its error.

    Raises:
        CaptionError: the file cannot be read.
    """
    try:
        for line, value in json_lines(path):
            place = f"{path}, line {line}"
            if isinstance(value, UnreadableFile):
                yield CaptionError(str(value), "json")
                continue
            try:
                yield parse(value, line, place)
            except CaptionError as error:
                yield error
    except UnreadableFile as error:
        raise CaptionError(str(error)) from None


def parse(value: Any, line: int, place: str) -> Caption:
    """A caption as a file has it, checked.

    Raises:
        CaptionError: see the class.
    """

    def fail(name: str, expected: str, got: Any, fix: str) -> CaptionError:
        shown = got if isinstance(got, str) and name == "" else json.dumps(got)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        where = f"field '{name}': " if name else ""
        return CaptionError(f"{place}: {where}expected {expected}, got {shown}. Fix: {fix}.", name or "json")

    if not isinstance(value, Mapping):
        raise fail("", "a JSON object", json.dumps(value), "write one object a line")
    lower = {str(name).lower(): content for name, content in value.items()}

    def get(name: str) -> Any:
        return next((lower[known] for known in NAMES[name] if lower.get(known) is not None), None)

    def missing(name: str) -> CaptionError:
        got = f"none of {', '.join(NAMES[name])} among {', '.join(map(str, value)) or 'no fields'}"
        return CaptionError(f"{place}: field '{name}': expected one, got {got}. Fix: add it.", name)

    vid, text = get("vid"), get("caption")
    if vid is None:
        raise missing("vid")
    if not isinstance(vid, str) or not vid.strip() or "/" in vid or "\\" in vid:
        raise fail("vid", "the name of a video", vid, "write text without slashes")
    if text is None:
        raise missing("caption")
    if not isinstance(text, str):
        raise fail("caption", "text", text, "write the caption as text")
    duration = get("duration")
    length = None if duration is None else _seconds(duration)
    if duration is not None and not (length or 0) > 0:
        raise fail("duration", "a positive number of seconds", duration, "give the video's length")
    both = get("interval")
    if both is None:
        both = [get("start"), get("end")]
        if None in both:
            raise missing("interval")
    if not isinstance(both, list) or len(both) != 2:
        raise fail("interval", "[start, end] in seconds", both, "write two numbers")
    start, end = map(_seconds, both)
    if start is None or end is None:
        raise fail("interval", "[start, end] in seconds or HH:MM:SS.mmm", both, "write two times")
    if not start < end:
        raise fail("interval", "start < end", both, "swap the two, or drop the caption")
    if start < 0:
        raise fail("interval", "a start of 0 or more", both, "count seconds from the video's start")
    if length is not None:
        start, end = inside((start, end), length, place)
    qid = get("qid")
    if qid is None:
        qid = line - 1
    if isinstance(qid, bool) or not isinstance(qid, (int, str)) or not str(qid).strip() or "/" in str(qid):
        raise fail("qid", "an integer or text without slashes", qid, "number the captions")
    return Caption(line, qid, vid.strip(), text, (start, end), length)


def inside(interval: tuple[float, float], duration: float, place: str) -> tuple[float, float]:
    """`interval` cut at the end of its video, which it may pass by `SLACK` seconds.

    Raises:
        CaptionError: it ends later, or begins after the video.
    """
    start, end = interval
    if end > duration + SLACK or start >= duration:
        raise CaptionError(
            f"{place}: field 'interval': expected an interval within 0 and {duration:g} s, got "
            f"[{start:g}, {end:g}]. Fix: correct it, or the video's duration or features.",
            "interval",
        )
    return start, min(end, duration)


def _seconds(value: Any) -> float | None:
    """A time in seconds, from a number or from [[HH:]MM:]SS.mmm; None if it is neither."""
    if isinstance(value, str):
        parts = value.strip().split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            return None
        if len(parts) > 3 or any(not 0 <= number < 60 for number in numbers[1:]):
            return None
        value = sum(number * 60**power for power, number in enumerate(reversed(numbers)))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


@dataclass
class Filter:
    """Which captions are meaningless. Content words are English, in Latin letters. It remembers 8 bytes of a
    hash for each caption that it has let pass.
    """

    settings: PseudoLabels
    _seen: set[int] = field(default_factory=set)

    def rule(self, caption: Caption) -> str | None:
        """The rule by which a caption is left out, None if it stays."""
        if not caption.text.strip():
            return EMPTY
        words = tokenize(caption.text)
        if sum(content_stem(word) is not None for word in words) < self.settings.min_words:
            return FEW_WORDS
        key = " ".join(words) if words else caption.text.strip()
        mark = digest(key if self.settings.repeated == "file" else f"{caption.vid}\n{key}")
        if mark in self._seen:
            return REPEATED
        self._seen.add(mark)
        return None


def digest(text: str) -> int:
    """64 bits of a text's hash, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
