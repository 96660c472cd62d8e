"""Annotations in the layouts of the field, brought to QVHighlights' rows: what stands where, told from the
content.

- JSON lines, or one JSON list, of QVHighlights' rows; or an object that holds such a list.
- ActivityNet Captions: `{video: {duration, timestamps, sentences}}`. The same with `num_frames` and `fps`,
  and timestamps in frames, is 2D-TAN's TACoS.
- ActionFormer, SnAG: `{database: {video: {duration, annotations: [{segment, sentence}]}}}`.
- Lists of `{video, duration, timestamp, sentence}`, and of `[video, duration, [start, end], sentence]`
  (VSLNet).
- Ego4D's natural language queries: `{videos: [{clips: [{annotations: [{language_queries: [...]}]}]}]}`.
- MAD: `{query: {movie, movie_duration, timestamps: [start, end], sentence}}`.
- Charades-STA's text lines: `VIDEO START END##SENTENCE.`

Rows of layouts without qid get `VIDEO_0`, `VIDEO_1`, …; lines of text their number from 0, as in the field.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg_lib.files import UnreadableFile, json_values, read_text

Entry = tuple[str, Any]  # where it stands, and a row
_TEXT = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##\s*(.*)")
_VIDEO = ("vid", "video", "video_id", "video_uid", "clip_uid", "movie")
_WINDOW = ("timestamp", "timestamps", "times", "segment", "window", "ext_timestamps")
_SENTENCE = ("query", "sentence", "description", "caption", "text")
_LISTS = ("data", "annotations", "rows", "samples", "queries")  # names under which lists of rows stand


_UNNAMED = object()  # the qid of a row that has none


class AnnotationNote(UserWarning):
    """What a reader did that the file does not say."""


def entries(path: str | Path, durations: str | Path | None = None) -> list[Entry]:
    """The rows of a file of annotations.

    Args:
        durations: for layouts without them, a file of seconds by video: JSON `{video: seconds}`, or a table
            with a header (CSV) that has a column `id` or `video` and a column `length` or `duration`.

    Raises:
        UnreadableFile: no text, or no JSON; see `json_values`.
    """
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    if "##" in first and first.lstrip()[:1] not in "[{":
        return list(_charades(path, text, {} if durations is None else read_durations(durations)))
    values = json_values(path)
    if len(values) == 1 and isinstance(values[0][1], Mapping) and "qid" not in values[0][1]:
        place, whole = values[0]
        for known, read in _OBJECTS:
            if known(whole):
                try:
                    return _numbered(read(str(path), whole))
                except UnreadableFile:
                    raise
                except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                    got = f"an entry of another form ({type(error).__name__}: {error})"
                    fix = "compare the entries with the layout"
                    raise UnreadableFile([(place, "entries of one layout", got, fix)]) from None
        if names := [name for name in _LISTS if isinstance(whole.get(name), list)]:
            values = [(f"{path}, {names[0]}, item {n}", row) for n, row in enumerate(whole[names[0]], 1)]
    return _numbered(_plain(place, value) for place, value in values)


def read_durations(path: str | Path) -> dict[str, float]:
    """Seconds by video.

    Raises:
        UnreadableFile: neither form, or a length that is no number.
    """
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        found: Mapping[str, Any] = json.loads(text)
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
        names = rows[0].keys() if rows else ()
        video = next((name for name in ("id", "video", "vid") if name in names), None)
        length = next((name for name in ("length", "duration", "seconds") if name in names), None)
        if video is None or length is None:
            expected = "a header with id (or video) and length (or duration)"
            fix = "give JSON {video: seconds}, or such a table"
            raise UnreadableFile([(f"{path}, line 1", expected, ", ".join(names) or "nothing", fix)])
        found = {row[video]: row[length] for row in rows}
    faults, lengths = [], {}
    for name, value in found.items():
        try:
            lengths[name] = float(value)
        except (TypeError, ValueError):
            faults.append((f"{path}, {name}", "seconds", json.dumps(value), "write a number"))
    if faults:
        raise UnreadableFile(faults)
    return lengths


def _charades(path: str | Path, text: str, durations: Mapping[str, float]) -> Iterator[Entry]:
    found, faults = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place, match = f"{path}, line {number}", _TEXT.fullmatch(line.strip())
        try:
            assert match is not None
            found.append((place, match[1], [float(match[2]), float(match[3])], match[4]))
        except (AssertionError, ValueError):
            fix = "write the video, start and end in seconds, ## and the sentence"
            faults.append((place, "VIDEO START END##SENTENCE", repr(line[:60]), fix))
    if faults:
        raise UnreadableFile(faults)
    last: dict[str, float] = {}
    for _, video, (_, end), _ in found:
        last[video] = max(last.get(video, 0.0), end)
    guessed = sorted(set(last) - set(durations))
    if guessed:
        told = f"{len(guessed)} of {len(last)} videos" if durations else "videos"
        guess = "is the largest end of their windows; --durations FILE gives theirs"
        warnings.warn(f"{path}: the length of {told} {guess}", AnnotationNote, stacklevel=2)
    for number, (place, video, window, sentence) in enumerate(found):
        length = durations.get(video, last[video])
        # the released windows end up to a second after their videos
        window = [window[0], min(window[1], length)] if length < window[1] <= length + 1 else window
        yield place, _row(number, video, length, [window], sentence)


def _row(qid: Any, video: Any, duration: Any, windows: Any, sentence: Any) -> dict[str, Any]:
    return {
        "qid": _UNNAMED if qid is None else qid,
        "query": sentence.strip() if isinstance(sentence, str) else sentence,
        "duration": duration,
        "vid": video,
        "relevant_windows": windows,
    }


def _numbered(found: Iterator[Entry] | Sequence[Entry]) -> list[Entry]:
    """With `VIDEO_n` for a qid where there is none."""
    count: Counter[Any] = Counter()
    rows = []
    for place, row in found:
        if isinstance(row, dict) and row.get("qid") is _UNNAMED:
            video = row["vid"] if isinstance(row["vid"], str) else json.dumps(row["vid"])
            row = {**row, "qid": f"{video}_{count[video]}"}
            count[video] += 1
        rows.append((place, row))
    return rows


def _plain(place: str, value: Any) -> Entry:
    """A row of QVHighlights as it is; one of another list under its names."""
    if isinstance(value, list) and len(value) == 4 and isinstance(value[2], list):
        video, duration, window, sentence = value
        return place, _row(None, video, duration, [window], sentence)
    if isinstance(value, Mapping) and "qid" not in value:
        video, window, sentence = (
            next((name for name in names if name in value), None) for names in (_VIDEO, _WINDOW, _SENTENCE)
        )
        if video and window and sentence:
            windows = value[window]
            nested = isinstance(windows, list) and windows and isinstance(windows[0], list)
            windows = windows if nested else [windows]
            duration = value.get("duration", value.get("movie_duration"))
            return place, _row(None, value[video], duration, windows, value[sentence])
    return place, value


def _sentences(path: str, whole: Mapping[str, Any]) -> Iterator[Entry]:
    faults = []
    for video, one in whole.items():
        windows, sentences = one.get("timestamps"), one.get("sentences")
        if not isinstance(windows, list) or not isinstance(sentences, list) or len(windows) != len(sentences):
            got = " and ".join(
                str(len(x)) if isinstance(x, list) else json.dumps(x) for x in (windows, sentences)
            )
            expected, fix = "as many timestamps as sentences", "correct the video's entry"
            faults.append((f"{path}, {video}", expected, got, fix))
            continue
        duration, rate = one.get("duration"), None
        if duration is None and one.get("fps") and one.get("num_frames"):
            rate = float(one["fps"])
            duration = one["num_frames"] / rate
        for number, (window, sentence) in enumerate(zip(windows, sentences, strict=True), 1):
            seconds = [value / rate for value in window] if rate else window
            yield f"{path}, {video}, sentence {number}", _row(None, video, duration, [seconds], sentence)
    if faults:
        raise UnreadableFile(faults)


def _segments(path: str, whole: Mapping[str, Any]) -> Iterator[Entry]:
    for video, one in whole["database"].items():
        for number, part in enumerate(one.get("annotations") or [], 1):
            sentence = next((part[name] for name in (*_SENTENCE, "label") if name in part), None)
            row = _row(None, video, one.get("duration"), [part.get("segment")], sentence)
            yield f"{path}, {video}, annotation {number}", row


def _ego4d(path: str, whole: Mapping[str, Any]) -> Iterator[Entry]:
    for video in whole["videos"]:
        for clip in video.get("clips") or []:
            name = clip.get("clip_uid")
            try:
                length = float(clip["video_end_sec"]) - float(clip["video_start_sec"])
            except (KeyError, TypeError, ValueError):
                length = None  # refused with the row
            for annotation in clip.get("annotations") or []:
                for number, query in enumerate(annotation.get("language_queries") or [], 1):
                    window = [query.get("clip_start_sec"), query.get("clip_end_sec")]
                    row = _row(None, name, length, [window], query.get("query"))
                    yield f"{path}, clip {name}, query {number}", row


def _mad(path: str, whole: Mapping[str, Any]) -> Iterator[Entry]:
    for qid, one in whole.items():
        window = one.get("timestamps", one.get("ext_timestamps"))
        row = _row(str(qid), one["movie"], one.get("movie_duration"), [window], one.get("sentence"))
        yield f"{path}, {qid}", row


def _all_have(whole: Mapping[str, Any], *names: str) -> bool:
    first = next(iter(whole.values()), None)
    return isinstance(first, Mapping) and all(name in first for name in names)


def _values_are_objects(whole: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Mapping) for value in whole.values())


Known = Callable[[Mapping[str, Any]], bool]
Reader = Callable[[str, Mapping[str, Any]], Iterator[Entry]]
_OBJECTS: tuple[tuple[Known, Reader], ...] = (
    (lambda whole: isinstance(whole.get("database"), Mapping), _segments),
    (lambda whole: isinstance(whole.get("videos"), list), _ego4d),
    (lambda whole: _values_are_objects(whole) and _all_have(whole, "movie"), _mad),
    (lambda whole: _values_are_objects(whole) and _all_have(whole, "timestamps", "sentences"), _sentences),
)
