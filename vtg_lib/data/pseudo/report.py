"""What pseudo-labelling did, counted as it goes: what was left out and why, and what the labels look like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from vtg_lib.data.pseudo.captions import RULES
from vtg_lib.data.pseudo.labels import GRADES
from vtg_lib.files import RESULTS

MANY = 6  # moments a query; the last bin holds more
LONGEST = (10, 30)  # seconds: short, middle, long, as the evaluator has them
BESIDE = "QVHighlights train"  # in `results/recorded.json`


@dataclass
class Tally:
    """Counts, of a size that does not grow with the number of captions.

    Attributes:
        read: captions; kept: rows written.
        dropped: rule, or kind of fault -> captions.
        notes: oddity -> captions that were used all the same: `short_interval` (shorter than a clip),
            `all_clips` (no clip stayed below the threshold), `equal_scores` (inside the interval, of several
            clips), `trimmed` (the row shows part of its video).
        words, moments, seconds, grades: histograms of words and moments a query, the length of a moment, and
            the grade of a clip.
        covered: shares of the rows' videos inside their moments, summed.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    words: Counter[float] = field(default_factory=Counter)
    moments: Counter[float] = field(default_factory=Counter)
    seconds: Counter[float] = field(default_factory=Counter)
    grades: Counter[float] = field(default_factory=Counter)
    covered: float = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a row that is written."""
        windows: Sequence[Sequence[float]] = row["relevant_windows"]
        lengths = [round(end - start, 3) for start, end in windows]
        self.kept += 1
        self.words[len(row["query"].split())] += 1
        self.moments[len(windows)] += 1
        self.seconds.update(lengths)
        self.grades.update(votes[0] for votes in row["saliency_scores"])
        self.covered += sum(lengths) / row["duration"]

    def to_json(self) -> dict[str, Any]:
        """For `from_json`: counters as sorted pairs, as JSON keys are text."""
        plain: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            plain[part.name] = sorted(value.items()) if isinstance(value, Counter) else value
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Tally:
        """What `to_json` wrote."""
        found: dict[str, Any] = {
            name: Counter(dict(value)) if isinstance(value, list) else value for name, value in plain.items()
        }
        return cls(**found)

    def report(self) -> dict[str, Any]:
        """`captions`, `kept`, `dropped` (by rule, those that dropped none too), `notes`; and of the rows what
        `vtg_lib.data.statistics.statistics` gives under the same names, with `grade_share`.
        """
        found: dict[str, Any] = {
            "captions": self.read,
            "kept": self.kept,
            "dropped": dict.fromkeys(RULES, 0) | dict(sorted(self.dropped.items())),
            "notes": dict(sorted(self.notes.items())),
        }
        if not self.kept:
            return found
        clips, windows = self.grades.total(), self.seconds.total()
        counts = {str(n): self.moments[n] / self.kept for n in range(1, MANY)}
        counts[f"{MANY}+"] = sum(n for value, n in self.moments.items() if value >= MANY) / self.kept
        short, middle = (sum(n for s, n in self.seconds.items() if s <= edge) / windows for edge in LONGEST)
        return found | {
            "words_per_query": _summary(self.words),
            "windows_per_query": _summary(self.moments),
            "window_length": _summary(self.seconds),
            "window_count_share": counts,
            "length_share": {"short": short, "middle": middle - short, "long": 1 - middle},
            "coverage": self.covered / self.kept,
            "grade_share": {str(grade): self.grades[grade] / clips for grade in GRADES},
        }


def _summary(counts: Counter[float]) -> dict[str, float]:
    """Of a histogram what `statistics` gives of values."""
    total, values = counts.total(), sorted(counts)
    middle, seen = list[float](), 0
    for value in values:  # the median is the mean of the two middle values of an even number
        seen += counts[value]
        middle += [value] * ((seen > (total - 1) // 2) + (seen > total // 2) - len(middle))
    mean = sum(value * count for value, count in counts.items()) / total
    return {
        "mean": float(mean),
        "median": float(sum(middle) / 2),
        "min": float(values[0]),
        "max": float(values[-1]),
    }


def qvhighlights() -> dict[str, Any] | None:
    """The same of QVHighlights' training annotations as the book has recorded them, for comparison; its
    grade 0 has no counterpart here. None outside a checkout.
    """
    try:
        recorded = json.loads((RESULTS / "recorded.json").read_text(encoding="utf-8"))
        whole = recorded["foundations"]["annotations"][BESIDE]
    except (OSError, ValueError, KeyError):
        return None
    names = ("words_per_query", "windows_per_query", "window_length", "window_count_share", "length_share")
    found = {name: whole["statistics"][name] for name in (*names, "coverage")}
    return found | {"grade_share": {str(grade): share for grade, share in enumerate(whole["votes"])}}


def report_text(report: Mapping[str, Any], beside: Mapping[str, Any] | None) -> str:
    """The report as people read it; beside: the numbers of QVHighlights."""
    counts = ", ".join(f"{name} {n:,}" for name, n in report["dropped"].items())
    lines = [f"{report['captions']:,} captions: {report['kept']:,} kept; left out: {counts}"]
    if report["notes"]:
        lines.append("of those kept: " + ", ".join(f"{name} {n:,}" for name, n in report["notes"].items()))
    if not report["kept"]:
        return "\n".join(lines)
    head = f"{'':32}{'here':>10}"
    lines.append(head + (f"{'QVHighlights':>14}" if beside else ""))
    for title, *path, form in _SHOWN:
        ours, theirs = _at(report, path), _at(beside or {}, path)
        other = f"{format(theirs, form):>14}" if theirs is not None else ""
        lines.append(f"{title:32}{format(ours, form):>10}{other}")
    return "\n".join(lines)


_SHOWN: tuple[tuple[str, ...], ...] = (
    ("words a query, mean", "words_per_query", "mean", ".1f"),
    ("moments a query, mean", "windows_per_query", "mean", ".2f"),
    *((f"  queries with {n}", "window_count_share", n, ".1%") for n in ("1", "2", "3", "4", "5", "6+")),
    ("seconds a moment, mean", "window_length", "mean", ".1f"),
    ("  median", "window_length", "median", ".1f"),
    ("  up to 10 s", "length_share", "short", ".1%"),
    ("  10 to 30 s", "length_share", "middle", ".1%"),
    ("  longer", "length_share", "long", ".1%"),
    ("share of the video in moments", "coverage", ".1%"),
    *((f"  clips graded {grade}", "grade_share", str(grade), ".1%") for grade in GRADES),
)


def _at(report: Any, path: Sequence[str]) -> float | None:
    for name in path:
        report = report.get(name) if isinstance(report, Mapping) else None
    return report
