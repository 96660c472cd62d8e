"""Submissions in the QVHighlights layout: checked and written; `vtg_lib.evaluation.reading` reads them.

One row a query: `qid`, `pred_relevant_windows` [[start s, end s, score], ...], `pred_saliency_scores` [a
number a clip]; `query` and `vid` are for readers. Accepted as in the field's evaluator: any order of windows,
windows without length or beyond the video, fewer or more than ten of them, none at all, and moments or
highlights alone.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from vtg_lib.evaluation.problems import Problem, SubmissionError, show, some
from vtg_lib.files import UNEVEN, USUAL_CLIPS

Row = Mapping[str, Any]

# The authors' own files are one clip short of int(duration / 2) where the features are; more is a mix-up of
# files.
LENGTH_TOLERANCE = 2
CLIP = 2.0  # seconds of QVHighlights' clips
WINDOWS, SALIENCY = "pred_relevant_windows", "pred_saliency_scores"
_LISTS = (list, tuple, np.ndarray)


def check(
    predictions: Sequence[Row],
    ground_truth: Sequence[Row] | None = None,
    *,
    match_number: bool = True,
    places: Sequence[str] | None = None,
    source: str = "predictions",
    clip_length: float | None = None,
) -> None:
    """Checks rows; with `ground_truth` also that both have the same queries, videos and clips.

    Args:
        ground_truth: annotation rows with qid and duration (seconds).
        match_number: require the same qids on both sides.
        places: where each row stands; source: what they are from.
        clip_length: seconds; see `clip_counts`.

    Raises:
        SubmissionError: place, field, what was expected and found, and the fix; up to ten problems at once.
    """
    places = places or [f"{source}[{i}]" for i in range(len(predictions))]
    _raise_if(_problems(predictions, places, ground_truth, match_number, source, clip_length))


def clip_counts(
    predictions: Sequence[Row], ground_truth: Sequence[Row], clip_length: float | None = None
) -> tuple[dict[Any, int], float | None]:
    """How many clips each query's video has, and how long they are.

    Labelled clips are counted, unless scores are of clips of another length, which `highlights` looks up by
    time. Else a clip is `clip_length` seconds, or QVHighlights' two where annotations have saliency; or,
    where nothing says it, what agrees best with the lengths and the numbers of scores.
    """
    if any(row.get("label") for row in ground_truth):
        counted = {row["qid"]: len(row.get("label") or ()) for row in ground_truth}
        return (counted if clip_length is None else {}), None
    if clip_length is None and any(row.get("saliency_scores") for row in ground_truth):
        clip_length = CLIP
    if clip_length is None:
        clip_length = _agreed(predictions, {row["qid"]: row["duration"] for row in ground_truth})
    return {row["qid"]: int(row["duration"] / clip_length + 1e-6) for row in ground_truth}, clip_length


def _agreed(predictions: Sequence[Row], duration: Mapping[Any, float]) -> float:
    given = [
        (duration[row["qid"]], len(row[SALIENCY]))
        for row in predictions
        if isinstance(row, Mapping)
        and isinstance(row.get(SALIENCY), _LISTS)
        and len(row[SALIENCY])
        and isinstance(row.get("qid"), int | str)
        and row["qid"] in duration
    ]
    if not given:
        return CLIP
    middle = float(np.median([seconds / clips for seconds, clips in given]))
    fits = [
        sum(abs(clips - seconds / length) <= LENGTH_TOLERANCE for seconds, clips in given)
        for length in USUAL_CLIPS
    ]
    off = [abs(length / middle - 1) for length in USUAL_CLIPS]
    near = [0.0 if far < UNEVEN else -far for far in off]
    # of lengths that fit equally well the more usual one
    return max(zip(fits, near, reversed(range(len(fits))), USUAL_CLIPS, strict=True))[3]


def check_qids(predictions: Iterable[Row], qids: Collection[Any], *, place: str = "predictions") -> None:
    """Raise `SubmissionError` unless `predictions` has exactly the queries `qids`."""
    _raise_if(_qid_problems([row["qid"] for row in predictions], qids, place))


def write_submission(path: str | Path, predictions: Sequence[Row]) -> None:
    """Check rows and write them as JSON lines; a reader sees the old file or the whole new one.

    Raises:
        SubmissionError: rows that `read_submission` would refuse. Nothing is written then.
    """
    check(predictions)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row in predictions:
                file.write(json.dumps(row, allow_nan=False, default=_plain) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON can write them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(
        f"a submission row holds a {type(value).__name__}, which JSON cannot. Fix: convert it to a number or"
        " text."
    )


def _raise_if(problems: Sequence[Problem]) -> None:
    if problems:
        raise SubmissionError(problems)


def _problems(
    rows: Sequence[Row],
    places: Sequence[str],
    ground_truth: Sequence[Row] | None,
    match_number: bool,
    source: str,
    clip_length: float | None = None,
) -> list[Problem]:
    if len(rows) == 0:
        return [
            Problem(
                place=source, expected="one row for each query", got="none", fix="run the prediction again"
            )
        ]
    problems: list[Problem] = []
    truth = {} if ground_truth is None else {row["qid"]: row for row in ground_truth}
    clips, length = ({}, None) if ground_truth is None else clip_counts(rows, ground_truth, clip_length)
    has = {
        field: next(
            (p for row, p in zip(rows, places, strict=True) if isinstance(row, Mapping) and field in row), ""
        )
        for field in (WINDOWS, SALIENCY)
    }
    scored = [field for field, place in has.items() if place]
    if not scored:
        return [
            Problem(
                place=places[0],
                expected=f"{WINDOWS} or {SALIENCY}",
                got=show(list(rows[0])) if isinstance(rows[0], Mapping) else show(rows[0]),
                fix="write the predictions under these names",
            )
        ]
    seen: dict[Any, str] = {}
    for row, place in zip(rows, places, strict=True):
        problem = _qid_problem(row, seen, place)
        if problem is not None:
            problems.append(problem)
            continue
        seen[row["qid"]] = place
        place = f"{place}, qid {row['qid']!r}"
        for field in scored:
            if field not in row:
                fix = f"give every row {field}, or no row: {has[field].removeprefix(f'{source}, ')} has it"
                problems.append(
                    Problem(place=place, field=field, expected="a list", got="no such field", fix=fix)
                )
            elif field == WINDOWS:
                problems += _window_problems(row[WINDOWS], place)
            else:
                problems += _saliency_problems(row[SALIENCY], clips.get(row["qid"]), length, place)
    if ground_truth is not None and (match_number or not seen.keys() & truth.keys()):
        problems += _qid_problems(seen, truth, source)
    return problems


def _qid_problem(row: Any, seen: Mapping[Any, str], place: str) -> Problem | None:
    if not isinstance(row, Mapping):
        return Problem(
            place=place, expected="a mapping, a query", got=show(row), fix="give one mapping for each query"
        )
    if "qid" not in row:
        return Problem(
            place=place,
            field="qid",
            expected="an integer or text",
            got="no such field",
            fix="add the query's qid",
        )
    qid = row["qid"]
    if isinstance(qid, bool) or not isinstance(qid, int | str | np.integer):
        return Problem(
            place=place,
            field="qid",
            expected="an integer or text",
            got=show(qid),
            fix="use the qid of the annotation file",
        )
    if qid in seen:
        return Problem(
            place=place,
            field="qid",
            expected="each qid once",
            got=f"{qid!r} again, after {seen[qid]}",
            fix="keep one of the two",
        )
    return None


def _window_problems(windows: Any, place: str) -> list[Problem]:
    if not isinstance(windows, _LISTS):
        fix = "write a list of windows, empty if there is none"
        return [
            Problem(
                place=place, field=WINDOWS, expected="[[start, end, score], ...]", got=show(windows), fix=fix
            )
        ]
    for i, window in enumerate(windows):
        field = f"{WINDOWS}[{i}]"
        if (
            not isinstance(window, _LISTS)
            or len(window) != 3
            or not all(isinstance(value, Real) for value in window)
        ):
            fix = "give start and end in seconds and a score, as numbers"
            return [
                Problem(place=place, field=field, expected="[start, end, score]", got=show(window), fix=fix)
            ]
        if not _all_finite(window):
            fix = "look for NaN or infinity in the model's output"
            return [Problem(place=place, field=field, expected="finite numbers", got=show(window), fix=fix)]
        if window[0] > window[1]:
            fix = "give start before end, in seconds; are these center and width?"
            return [Problem(place=place, field=field, expected="start <= end", got=show(window), fix=fix)]
    return []


def _saliency_problems(scores: Any, clips: int | None, length: float | None, place: str) -> list[Problem]:
    def problem(expected: str, got: str, fix: str, index: str = "") -> list[Problem]:
        return [Problem(place=place, field=SALIENCY + index, expected=expected, got=got, fix=fix)]

    if not isinstance(scores, _LISTS):
        return problem("a list, one number a clip", show(scores), "write a list of numbers")
    if len(scores) == 0:
        return problem(
            "one number a clip", "an empty list", "score every clip, or leave the field out of all rows"
        )
    if not _all_finite(scores):
        i = next(i for i, score in enumerate(scores) if not _all_finite([score]))
        return problem(
            "a finite number",
            show(scores[i]),
            "look for NaN, infinity or text in the model's output",
            f"[{i}]",
        )
    if clips is not None and abs(len(scores) - clips) > LENGTH_TOLERANCE:
        of = f" of {length:g} s" if length else ""
        fix = f"score every clip{of} of the video of this query, without padding"
        return problem(f"{clips} scores, one a clip{of}", str(len(scores)), fix)
    return []


def _all_finite(values: Iterable[Any]) -> bool:
    """Whether all are finite real numbers; True and False are not numbers here."""
    values = list(values)
    if not set(map(type, values)) <= {int, float} and not all(
        isinstance(value, Real) and not isinstance(value, bool) for value in values
    ):
        return False
    try:
        return all(map(math.isfinite, values))
    except OverflowError:  # an integer beyond any float
        return False


def _qid_problems(found: Iterable[Any], wanted: Collection[Any], place: str) -> list[Problem]:
    given = set(found)
    if not given:  # every row's qid is a problem of its own
        return []
    missing = [qid for qid in wanted if qid not in given]
    extra = given - set(wanted)
    text = {str(qid) for qid in wanted}
    problems = []
    if missing and len(missing) == len(wanted) and all(str(qid) in text for qid in given):
        want, got = (type(next(iter(side))).__name__ for side in (wanted, given))
        return [
            Problem(
                place=place, field="qid", expected=f"type {want}", got=f"type {got}", fix="convert the qids"
            )
        ]
    if missing:
        problems.append(
            Problem(
                place=place,
                field="qid",
                expected=f"all {len(wanted)} queries of the ground truth",
                got=f"none for {len(missing)}: {some(missing)}",
                fix="predict the whole split, or score what is there (match_number=False; "
                "`vtg eval --allow-missing`)",
            )
        )
    if extra:
        problems.append(
            Problem(
                place=place,
                field="qid",
                expected="queries of the ground truth only",
                got=f"{len(extra)} others: {some(sorted(extra, key=str))}",
                fix="check that both files are of the same split",
            )
        )
    return problems
