"""Submissions from files, in the layouts that people have, brought to QVHighlights' rows.

JSON lines, one JSON list, or an object that holds such a list, or windows by qid; perhaps gzip. Windows
without a score, or as objects, are in the order of their rank. Rows with a text `answer` in place of windows
are read by `answers`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg_lib.evaluation import answers
from vtg_lib.evaluation.problems import Problem, SubmissionError, SubmissionWarning, some
from vtg_lib.evaluation.submission import WINDOWS, Row, check
from vtg_lib.files import UnreadableFile, json_values

TEXTS = ("answer", "response", "output")  # names under which an answer in words stands
_LISTS = ("predictions", "results", "data", "rows")  # names under which lists of rows stand


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; blank lines are skipped.

    Raises:
        SubmissionError: unreadable or empty file, or a line that is not one JSON object.
    """
    return [row for _, row in _rows(path)]


def read_submission(
    path: str | Path,
    ground_truth: Sequence[Row] | None = None,
    *,
    match_number: bool = True,
    unit: answers.Unit | None = None,
    clip_length: float | None = None,
) -> list[dict[str, Any]]:
    """Read and check a submission file; with `ground_truth` also that both have the same queries and clips.

    What was read in another way than the file says is a `SubmissionWarning`.

    Args:
        ground_truth: annotation rows with qid and duration (seconds).
        match_number: require the same qids on both sides.
        unit: of the windows, seconds unless said otherwise; and of bare numbers in answers in words, which
            are not read without it.
        clip_length: seconds of a clip that saliency is of; see `clip_counts`.

    Raises:
        SubmissionError: file, line, field, what was expected and found, and the fix; up to ten problems at
            once.
    """
    found = _rows(path)
    places = [place for place, _ in found]
    duration = {row["qid"]: row["duration"] for row in ground_truth or ()}
    rows = _same_qids([_listed(row) for _, row in found], duration)
    rows = _scored(_answered(rows, duration, unit, str(path)), str(path))
    rows = _in_seconds(rows, duration, unit, str(path))
    check(
        *(rows, ground_truth),
        match_number=match_number,
        places=places,
        source=str(path),
        clip_length=clip_length,
    )
    _other_videos(rows, ground_truth or (), str(path))
    return rows


def _rows(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        values = json_values(path)
    except UnreadableFile as error:
        raise SubmissionError(
            [Problem(place=place, expected=want, got=got, fix=fix) for place, want, got, fix in error.faults]
        ) from None
    if len(values) == 1 and isinstance(whole := values[0][1], Mapping) and "qid" not in whole:
        name = next((name for name in _LISTS if isinstance(whole.get(name), list)), None)
        if name is not None:
            values = [(f"{path}, {name}, item {n}", row) for n, row in enumerate(whole[name], 1)]
        elif whole and all(isinstance(windows, list) and windows for windows in whole.values()):
            return [(f"{path}, {qid}", {"qid": qid, WINDOWS: windows}) for qid, windows in whole.items()]
    problems = [
        Problem(
            place=place,
            expected="one JSON object, a query",
            got=repr(row)[:60],
            fix="write one object for each query",
        )
        for place, row in values
        if not isinstance(row, dict)
    ]
    if problems or not values:
        empty = Problem(place=str(path), expected="one row for each query", got="none", fix="predict again")
        raise SubmissionError(problems or [empty])
    return values


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """With windows as lists, where they are objects with start, end and perhaps a score."""
    windows = row.get(WINDOWS)
    if not isinstance(windows, list) or not windows or not all(isinstance(one, dict) for one in windows):
        return row
    names = [name for name in ("start", "end", "score") if name in windows[0]]
    if names[:2] != ["start", "end"] or any(name not in one for one in windows for name in names):
        return row
    return {**row, WINDOWS: [[one[name] for name in names] for one in windows]}


def _same_qids(rows: list[dict[str, Any]], wanted: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """With the annotations' qids, where a JSON object could only have them as text."""
    by_text = {str(qid): qid for qid in wanted}
    if not rows or any(not isinstance(row.get("qid"), str) or len(row) != 2 for row in rows):
        return rows
    return [{**row, "qid": by_text.get(row["qid"], row["qid"])} for row in rows]


def _answered(
    rows: list[dict[str, Any]], duration: Mapping[Any, float], unit: answers.Unit | None, path: str
) -> list[dict[str, Any]]:
    """Windows of what is said in words; a query about which nothing can be read has none."""
    spoken, unread, made = 0, [], []
    for row in rows:
        name = next((name for name in TEXTS if isinstance(row.get(name), str)), None)
        if name is None or WINDOWS in row or not isinstance(row.get("qid"), int | str):
            made.append(row)
            continue
        spoken += 1
        said = answers.windows(row[name], duration.get(row["qid"], 0.0), unit)
        if not said:
            unread.append(row["qid"])
        made.append({**row, WINDOWS: _ranked(said)})
    if spoken:
        hint = "" if unit or not unread else "; bare numbers need --unit"
        told = (
            f", {len(unread)} without a time that could be read (qid {some(unread)}){hint}" if unread else ""
        )
        _say(f"{path}: {spoken} answers in words{told}; a query without a window counts as a miss")
    return made


def _ranked(windows: Sequence[Any]) -> list[list[Any]]:
    return [[*window, 1 - place / len(windows)] for place, window in enumerate(windows)]


def _scored(rows: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """With scores that fall with the rank, where no window of the file has one."""
    windows = [w for row in rows if isinstance(row.get(WINDOWS), list) for w in row[WINDOWS]]
    if not windows or any(not isinstance(window, list) or len(window) != 2 for window in windows):
        return rows
    _say(f"{path}: windows without scores; they count in the order given")
    return [
        {**row, WINDOWS: _ranked(row[WINDOWS])} if isinstance(row.get(WINDOWS), list) else row for row in rows
    ]


def _in_seconds(
    rows: list[dict[str, Any]], duration: Mapping[Any, float], unit: answers.Unit | None, path: str
) -> list[dict[str, Any]]:
    def whole(window: Any) -> bool:
        return isinstance(window, list) and len(window) == 3 and all(type(x) in (int, float) for x in window)

    read = [
        row
        for row in rows
        if isinstance(row.get(WINDOWS), list)
        and isinstance(row.get("qid"), int | str)  # what is no id is left to the check
        and not any(name in row for name in TEXTS)
    ]
    windows = [window for row in read for window in row[WINDOWS] if whole(window)]
    if unit in ("fraction", "percent"):
        share = 1.0 if unit == "fraction" else 0.01
        for row in read:
            factor = share * duration.get(row.get("qid"), 1.0)
            row[WINDOWS] = [
                [window[0] * factor, window[1] * factor, window[2]] if whole(window) else window
                for window in row[WINDOWS]
            ]
        return rows
    known = [seconds for qid, seconds in duration.items() if any(row.get("qid") == qid for row in read[:3])]
    within = windows and all(0 <= x <= 1 for window in windows for x in window[:2])
    if unit is None and within and known and max(known) > 2 and any(w[1] > w[0] for w in windows):
        raise SubmissionError.single(
            place=path,
            field=WINDOWS,
            expected="seconds",
            got="windows of which every one lies within 0 and 1: are these fractions of the video?",
            fix="give seconds, or say which they are (unit; `vtg eval --unit fraction`, or `seconds`)",
        )
    return rows


def _other_videos(rows: Sequence[Row], ground_truth: Sequence[Row], path: str) -> None:
    videos = {row["qid"]: row.get("vid") for row in ground_truth}
    named = [row for row in rows if row.get("vid") and videos.get(row["qid"])]
    others = [row for row in named if row["vid"] != videos[row["qid"]]]
    if others:
        one = others[0]
        _say(
            f"{path}: {len(others)} of {len(named)} queries name another vid than the annotations, qid "
            f"{one['qid']!r}: {one['vid']!r} and {videos[one['qid']]!r} (renumbered, or another split?)"
        )


def _say(text: str) -> None:
    warnings.warn(text, SubmissionWarning, stacklevel=2)
