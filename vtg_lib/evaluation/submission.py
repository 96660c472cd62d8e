"""Submissions in the QVHighlights layout: reading, checking and writing JSON lines.

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
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]

SHOWN = 10  # problems that one error lists
# The authors' own files are one clip short of int(duration / 2) where the features are; more is a mix-up of
# files.
LENGTH_TOLERANCE = 2
WINDOWS, SALIENCY = "pred_relevant_windows", "pred_saliency_scores"
_LISTS = (list, tuple, np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a submission. `place` is a line of a file, or an index of a list."""

    place: str = ""
    field: str = ""
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.place, self.field) if part)
        return f"{where + ': ' if where else ''}expected {self.expected}, got {self.got}. Fix: {self.fix}."


class SubmissionError(ValueError):
    """A submission that cannot be scored. `problems` lists everything found, the message the first ten."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN} more problems.")
        super().__init__("\n".join(lines))

    @classmethod
    def single(cls, **fields: str) -> SubmissionError:
        """The error for one `Problem` with these fields."""
        return cls([Problem(**fields)])


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; blank lines are skipped.

    Raises:
        SubmissionError: unreadable or empty file, or a line that is not one JSON object.
    """
    return [row for _, row in _read_lines(Path(path))]


def read_submission(
    path: str | Path, ground_truth: Sequence[Row] | None = None, *, match_number: bool = True
) -> list[dict[str, Any]]:
    """Read and check a submission file; with `ground_truth` also that both have the same queries and clips.

    Args:
        ground_truth: annotation rows with qid and duration (seconds).
        match_number: require the same qids on both sides.

    Raises:
        SubmissionError: file, line, field, what was expected and found, and the fix; up to ten problems at
            once.
    """
    lines = _read_lines(Path(path))
    rows = [row for _, row in lines]
    _raise_if(
        _problems(
            rows, [f"{path}, line {number}" for number, _ in lines], ground_truth, match_number, str(path)
        )
    )
    return rows


def check(
    predictions: Sequence[Row], ground_truth: Sequence[Row] | None = None, *, match_number: bool = True
) -> None:
    """`read_submission`'s checks for rows in memory.

    Raises:
        SubmissionError: index, field, what was expected and found, and the fix; up to ten problems at once.
    """
    places = [f"predictions[{i}]" for i in range(len(predictions))]
    _raise_if(_problems(predictions, places, ground_truth, match_number, "predictions"))


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


def _read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line with content."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise SubmissionError.single(
            place=str(path),
            expected="UTF-8 text",
            got="binary data",
            fix="unpack the file first, or name the .jsonl file",
        ) from None
    except OSError as error:
        raise SubmissionError.single(
            place=str(path),
            expected="a readable file",
            got=str(error.strerror),
            fix="check the path and its permissions",
        ) from None
    rows, problems = [], []
    last = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(_bad_json(f"{path}, line {number}", line.strip(), error, number == last))
        else:
            if isinstance(row, dict):
                rows.append((number, row))
            else:
                problems.append(
                    Problem(
                        place=f"{path}, line {number}",
                        expected="one JSON object, a query",
                        got=_show(row),
                        fix="write one object a line, without a list around them",
                    )
                )
    if not last:
        problems.append(
            Problem(
                place=str(path),
                expected="one line for each query",
                got="an empty file",
                fix="run the prediction again",
            )
        )
    _raise_if(problems)
    return rows


def _bad_json(place: str, line: str, error: Exception, last: bool) -> Problem:
    if line[0] == "<":
        got, fix = "HTML", "download the file again: a web page was saved in its place"
    elif last and line[0] == "{" and line[-1] != "}":
        got = f"a line that ends after {len(line)} characters, in {_show(line[-20:])}"
        fix = "write the file again: writing it, or downloading it, was cut off"
    else:
        got = f"{_show(line[:40])} ({error})"
        fix = "write one JSON object a line (json.dumps without indent)"
    return Problem(place=place, expected="one JSON object", got=got, fix=fix)


def _problems(
    rows: Sequence[Row],
    places: Sequence[str],
    ground_truth: Sequence[Row] | None,
    match_number: bool,
    source: str,
) -> list[Problem]:
    if len(rows) == 0:
        return [
            Problem(
                place=source, expected="one row for each query", got="none", fix="run the prediction again"
            )
        ]
    problems: list[Problem] = []
    clips = {} if ground_truth is None else {row["qid"]: int(row["duration"] / 2) for row in ground_truth}
    scored = [field for field in (WINDOWS, SALIENCY) if isinstance(rows[0], Mapping) and field in rows[0]]
    if not scored:
        return [
            Problem(
                place=places[0],
                expected=f"{WINDOWS} or {SALIENCY}",
                got=_show(list(rows[0])) if isinstance(rows[0], Mapping) else _show(rows[0]),
                fix="write the predictions under these names; the first row decides what is scored",
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
                fix = f"give every row {field}, or no row: the first row has it"
                problems.append(
                    Problem(place=place, field=field, expected="a list", got="no such field", fix=fix)
                )
            elif field == WINDOWS:
                problems += _window_problems(row[WINDOWS], place)
            else:
                problems += _saliency_problems(row[SALIENCY], clips.get(row["qid"]), place)
    if ground_truth is not None and (match_number or not seen.keys() & clips.keys()):
        problems += _qid_problems(seen, clips, source)
    return problems


def _qid_problem(row: Any, seen: Mapping[Any, str], place: str) -> Problem | None:
    if not isinstance(row, Mapping):
        return Problem(
            place=place, expected="a mapping, a query", got=_show(row), fix="give one mapping for each query"
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
            got=_show(qid),
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
                place=place, field=WINDOWS, expected="[[start, end, score], ...]", got=_show(windows), fix=fix
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
                Problem(place=place, field=field, expected="[start, end, score]", got=_show(window), fix=fix)
            ]
        if not _all_finite(window):
            fix = "look for NaN or infinity in the model's output"
            return [Problem(place=place, field=field, expected="finite numbers", got=_show(window), fix=fix)]
        if window[0] > window[1]:
            fix = "give start before end, in seconds; are these center and width?"
            return [Problem(place=place, field=field, expected="start <= end", got=_show(window), fix=fix)]
    return []


def _saliency_problems(scores: Any, clips: int | None, place: str) -> list[Problem]:
    def problem(expected: str, got: str, fix: str, index: str = "") -> list[Problem]:
        return [Problem(place=place, field=SALIENCY + index, expected=expected, got=got, fix=fix)]

    if not isinstance(scores, _LISTS):
        return problem("a list, one number a clip", _show(scores), "write a list of numbers")
    if len(scores) == 0:
        return problem(
            "one number a clip", "an empty list", "score every clip, or leave the field out of all rows"
        )
    if not _all_finite(scores):
        i = next(i for i, score in enumerate(scores) if not _all_finite([score]))
        return problem(
            "a finite number",
            _show(scores[i]),
            "look for NaN, infinity or text in the model's output",
            f"[{i}]",
        )
    if clips is not None and abs(len(scores) - clips) > LENGTH_TOLERANCE:
        fix = "score every clip of 2 s of the video of this query, without padding"
        return problem(f"{clips} scores, one a clip", str(len(scores)), fix)
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
                got=f"none for {len(missing)}: {_some(missing)}",
                fix="predict the whole split, or score what is there with match_number=False",
            )
        )
    if extra:
        problems.append(
            Problem(
                place=place,
                field="qid",
                expected="queries of the ground truth only",
                got=f"{len(extra)} others: {_some(sorted(extra, key=str))}",
                fix="check that both files are of the same split",
            )
        )
    return problems


def _some(qids: Sequence[Any], most: int = 5) -> str:
    return ", ".join(map(repr, qids[:most])) + (", …" if len(qids) > most else "")


def _show(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
