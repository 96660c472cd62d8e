"""What paired runs say of a difference that a paper prints or claims: a word that is computed.

Two rows are compared seed by seed over the seeds at which both have learned to read. The words, first match:

- "reference": the row is the one that the others are compared with;
- "not printed": the paper has no number for the row or the reference;
- "not run": no seed has both rows;
- "no difference printed": the paper's two numbers are equal;
- "did not learn": in either row, fewer than half of the runs, or fewer than two, have learned to read;
- "cannot tell": there is one seed;
- "supports" or "contradicts": p < 0.05 by the moderated t, and the sign is the expected one or not;
- "smaller than printed": not so, and the whole 95 % interval lies short of the printed difference;
- "cannot tell": none of these, with the seeds that a decision would need at this spread.

A run has learned to read if its mAP on validation falls by a quarter or more when the sentences are swapped
between videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.moderation import LEVEL, Moderated, Prior, moderated, needed_pairs
from vtg_lib.papers.schema import EVIDENCE

if TYPE_CHECKING:
    from vtg_lib.papers.evidence import Evidence, RowResults

SUPPORTS, CONTRADICTS, SMALLER = "supports", "contradicts", "smaller than printed"
UNDECIDED, UNLEARNED, NOT_RUN = "cannot tell", "did not learn", "not run"
REFERENCE, NOT_PRINTED, NO_DIFFERENCE = "reference", "not printed", "no difference printed"
DECIDED = (SUPPORTS, CONTRADICTS, SMALLER)
JUDGED = (*DECIDED, UNDECIDED, UNLEARNED, NOT_RUN)
METRIC, UNREAD = "MR-full-mAP", 0.75
LEAST = 2  # seeds: a claim about a knob has two runs a side from one seed, and that is still one world
Rate = tuple[int, int]  # runs that have learned, of how many


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A word, and what it was computed from.

    Attributes:
        paper_difference: what the paper prints, row - reference or treated - control; None where it prints
            none.
        difference: ours, in the same order; p: two-sided, adjusted where several claims are looked at.
        learned: runs of the first and of the second row that have learned to read.
        needed: seeds that a decision would need; None where one was made, or where nothing tells.
        mixed: pairs whose two sides come from different versions of the code.
    """

    word: str
    paper_difference: float | None = None
    difference: Moderated | None = None
    p: float = math.nan
    learned: tuple[Rate, Rate] = ((0, 0), (0, 0))
    evidence: str | None = None
    needed: int | None = None
    mixed: int = 0


def has_learned(record: Mapping[str, Any]) -> bool:
    """Whether a stored run reads the sentence; runs of earlier versions, which did not look, count as if."""
    metrics = record["metrics"]
    if METRIC not in (swapped := metrics.get("swapped", {})):
        return True
    return bool(swapped[METRIC] <= UNREAD * metrics["val"][METRIC])


def began_to_read(record: Mapping[str, Any]) -> float | None:
    """Epoch of the first evaluation at which a stored run's mAP was high enough for `has_learned`, held
    against what the finished run finds with swapped sentences: those are scored at the end alone.

    None where it has not learned to read, or where nobody looked.
    """
    swapped = record["metrics"].get("swapped", {}).get(METRIC)
    if swapped is None or not has_learned(record):
        return None
    curve = zip(record["curves"]["epoch"], record["curves"][METRIC], strict=True)
    return next((float(epoch) for epoch, value in curve if swapped <= UNREAD * value), None)


def judge(
    differences: Sequence[float],
    prior: Prior,
    *,
    printed: float | None,
    sign: int,
    learned: tuple[Rate, Rate],
    adjusted: float | None = None,
    **facts: Any,
) -> Verdict:
    """The verdict on paired differences of runs that have learned.

    Args:
        differences: one a seed; prior: of the variance of such differences.
        printed: the paper's difference, if it prints one; sign: +1 or -1, what it claims.
        learned: see `Verdict`; adjusted: the p value to judge by, in place of the difference's own.
        facts: further fields of the verdict.
    """
    found = moderated(differences, prior)
    p = found.p if adjusted is None else adjusted
    needed = None
    if any(hits < max(2, number / 2) for hits, number in learned) and all(number for _, number in learned):
        word = UNLEARNED if all(number > 1 for _, number in learned) else UNDECIDED
    elif found.n == 0:
        word = NOT_RUN
    elif found.n < LEAST:
        word = UNDECIDED
    elif p < LEVEL:
        word = SUPPORTS if found.mean * sign > 0 else CONTRADICTS
    elif printed and (found.high if sign > 0 else -found.low) < abs(printed):
        word = SMALLER
    else:
        word = UNDECIDED
    if word == UNDECIDED:
        # what the correction for many claims leaves of it
        level = LEVEL * found.p / p if p > found.p > 0 else LEVEL
        needed = needed_pairs(found.sd, printed or found.mean, prior, level)
    return Verdict(
        word=word,
        paper_difference=printed,
        difference=found if found.n else None,
        p=p,
        learned=learned,
        needed=needed,
        **facts,
    )


def verdict(
    row: RowResults, reference: RowResults, column: str, priors: Mapping[str, Prior] | None = None
) -> Verdict:
    """Whether ours moves as the paper's does, from the reference row to this row, in one column.

    Args:
        priors: column -> of the paper's rows; none by default.
    """
    if row.row.label == reference.row.label:
        return Verdict(word=REFERENCE)
    printed, base = row.row.paper.get(column), reference.row.paper.get(column)
    if printed is None or base is None:
        return Verdict(word=NOT_PRINTED)
    paper_difference = round(printed - base, 6)
    found = paired(row, reference, column)
    if found is None or not paper_difference:
        word = NO_DIFFERENCE if found else NOT_RUN
        return Verdict(word=word, paper_difference=paper_difference)
    kind, ours, others, seeds = found
    good = [s for s in seeds if ours.origin(column, s).learned and others.origin(column, s).learned]
    return judge(
        [ours.values[column][s] - others.values[column][s] for s in good],
        (priors or {}).get(column, Prior()),
        printed=paper_difference,
        sign=1 if paper_difference > 0 else -1,
        learned=(ours.rate(column), others.rate(column)),
        evidence=kind,
        mixed=sum(ours.origin(column, s).other_code(others.origin(column, s)) for s in seeds),
    )


def paired(
    row: RowResults, reference: RowResults, column: str
) -> tuple[str, Evidence, Evidence, list[int]] | None:
    """The best kind of evidence that has pairs of two rows in a column: the kind, both sides, their seeds."""
    for kind in EVIDENCE:
        if kind in row.runs and kind in reference.runs:
            ours, others = row.runs[kind], reference.runs[kind]
            if seeds := pairs(ours, others, column):
                return kind, ours, others, seeds
    return None


def pairs(ours: Evidence, others: Evidence, column: str) -> list[int]:
    """Seeds that two rows have in `column` at the same profile, and for each on the same type of device."""
    if ours.profile != others.profile:
        return []
    common = sorted(set(ours.values.get(column, {})) & set(others.values.get(column, {})))
    return [seed for seed in common if ours.origin(column, seed).device == others.origin(column, seed).device]
