"""Whether ours moves as the paper's does, from a reference row to a row: a word that is computed.

Verdicts compare the sign of row - reference row, in the paper and in ours, column by column. The words, first
match:

- "reference": the row is the one that the others are compared with;
- "not printed": the paper has no number for the row or the reference;
- "not run": the two rows have no pair;
- "no difference printed": the paper's two numbers are equal;
- "one seed": a single common seed, so no interval;
- "within noise": the 95 % interval of our difference, paired by seed, contains 0;
- "same direction" or "reversed": it does not, and the signs agree or disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.schema import EVIDENCE

if TYPE_CHECKING:
    from vtg_lib.papers.evidence import Evidence, RowResults

SAME, REVERSED, NOISE, NOT_RUN = "same direction", "reversed", "within noise", "not run"
REFERENCE, NOT_PRINTED, NO_DIFFERENCE, ONE_SEED = (
    "reference",
    "not printed",
    "no difference printed",
    "one seed",
)
DECIDED = (SAME, REVERSED)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A word, and what it was computed from: row - reference in the paper and in ours (None where there is
    none).

    mixed: pairs whose two sides come from different versions of the code.
    """

    word: str
    paper_difference: float | None = None
    difference: stats.Interval | None = None
    evidence: str | None = None
    mixed: int = 0


def verdict(row: RowResults, reference: RowResults, column: str) -> Verdict:
    """Whether ours moves as the paper's does, from the reference row to this row, in one column."""
    if row.row.label == reference.row.label:
        return Verdict(word=REFERENCE)
    printed, base = row.row.paper.get(column), reference.row.paper.get(column)
    if printed is None or base is None:
        return Verdict(word=NOT_PRINTED)
    paper_difference = round(printed - base, 6)
    for kind in EVIDENCE:
        if kind not in row.runs or kind not in reference.runs:
            continue
        ours, base_runs = row.runs[kind], reference.runs[kind]
        if seeds := pairs(ours, base_runs, column):
            treated, control = ({s: e.values[column][s] for s in seeds} for e in (ours, base_runs))
            interval = stats.paired_difference(treated, control)
            return Verdict(
                word=_word(paper_difference, interval),
                paper_difference=paper_difference,
                difference=interval,
                evidence=kind,
                mixed=sum(ours.origin(column, s).other_code(base_runs.origin(column, s)) for s in seeds),
            )
    return Verdict(word=NOT_RUN, paper_difference=paper_difference)


def pairs(ours: Evidence, others: Evidence, column: str) -> list[int]:
    """Seeds that two rows have in `column` at the same profile, and for each on the same type of device."""
    if ours.profile != others.profile:
        return []
    common = sorted(set(ours.values.get(column, {})) & set(others.values.get(column, {})))
    return [seed for seed in common if ours.origin(column, seed).device == others.origin(column, seed).device]


def _word(paper_difference: float, ours: stats.Interval) -> str:
    if paper_difference == 0:
        return NO_DIFFERENCE
    if ours.n < 2:
        return ONE_SEED
    if ours.contains_zero:
        return NOISE
    return SAME if (ours.mean > 0) == (paper_difference > 0) else REVERSED
