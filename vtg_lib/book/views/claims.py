"""What a chapter shows of the paper's claims: a table, and a sentence for each. Words are computed by
`vtg_lib.papers.claims`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code, folded, frame_html, tally
from vtg_lib.papers.verdict import (
    CONTRADICTS,
    DECIDED,
    NOT_RUN,
    SMALLER,
    SUPPORTS,
    UNDECIDED,
    UNLEARNED,
)

XLABEL = "treated − control (points of mAP)"
KEY = (
    "Dots: seeds; hollow where a run had not learned to read. Squares: our mean, 95 % interval. "
    "Diamonds: the paper."
)

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.papers.claims import Judged


def claims(chapter: Chapter) -> HTML:
    """Every claim: what the paper prints, what we found, and the verdict; on demand what was compared, how
    many runs learned, and the verdicts earlier in training.
    """
    import pandas as pd
    from IPython.display import HTML

    first, further = (
        frame_html(pd.DataFrame([row(one) for one in chapter.judged])).data for row in (_row, _further)
    )
    told = "What each claim compares, how many runs learned to read, and the verdict earlier in training"
    return HTML(first + folded(told, further))


def claims_figure(chapter: Chapter) -> HTML:
    """The claims about mAP as differences: every seed, our mean and interval, the paper's number."""
    rows = gap_rows(chapter.judged, 44)
    return plots.show(plots.gaps(rows, xlabel=XLABEL), gaps_told(rows), KEY)


def gap_rows(judged: Iterable[Judged], width: int) -> list[plots.Gap]:
    """The claims about mAP that have runs, for `figures.gaps`; lines of labels are up to `width` long."""
    return [
        plots.Gap(
            label=textwrap.fill(one.claim.claim, width),
            word=one.verdict.word,
            learned=one.differences,
            unlearned=one.unlearned,
            mean=found.mean,
            low=found.low,
            high=found.high,
            paper=one.verdict.paper_difference,
        )
        for one in judged
        if one.claim.is_score and (found := one.verdict.difference) is not None
    ]


def gaps_told(rows: Sequence[plots.Gap]) -> str:
    """The text alternative of `figures.gaps`."""
    told = "; ".join(f"{row.label.rstrip('.')}: {row.mean:+.1f}, {row.word}" for row in rows).replace(
        "\n", " "
    )
    return f"Claims as differences of mAP. {told or 'nothing was run yet'}"


def decided(judged: Sequence[Judged], what: str = "claims") -> tuple[str, str]:
    """How many claims are decided, and how many have which verdict."""
    words = [one.verdict.word for one in judged]
    return f"{sum(word in DECIDED for word in words)} of {len(words)} {what} are decided", tally(words)


def claims_told(chapter: Chapter) -> HTML:
    """How many claims are decided, and which way."""
    from IPython.display import HTML

    return HTML(f"<p>{code(': '.join(decided(chapter.judged)))}.</p>")


HEADS = {
    SUPPORTS: "Our runs support",
    CONTRADICTS: "Our runs contradict",
    SMALLER: "On generated worlds these are smaller than printed, if they are there at all",
    UNLEARNED: "Too few runs learned to read to tell",
    UNDECIDED: "Our runs cannot tell",
    NOT_RUN: "Not run",
}


def conclusions(chapter: Chapter) -> HTML:
    """The claims by verdict, in sentences, and beside them what this evidence cannot say."""
    from IPython.display import HTML

    parts = []
    for word, head in HEADS.items():
        told = [sentence(one) for one in chapter.judged if one.verdict.word == word]
        if told:
            parts.append(f"<p><b>{head}:</b></p><ul>{''.join(f'<li>{line}</li>' for line in told)}</ul>")
    kinds = sorted({one.verdict.evidence for one in chapter.judged if one.verdict.evidence})
    limits = (
        f"Evidence: {', '.join(kinds) or 'none yet'}. On generated worlds a verdict is about the cause that "
        "a claim names, with everything else equal; it says nothing of the paper's absolute numbers, "
        "features or training at full size."
    )
    return HTML("".join(parts) + f"<p>{code(limits)}</p>")


def _row(one: Judged) -> dict[str, Any]:
    found, verdict = one.verdict.difference, one.verdict
    return {
        "claim": one.claim.claim,
        "verdict": verdict.word + ("" if verdict.needed is None else f" ({verdict.needed} seeds would)"),
        "paper": "" if verdict.paper_difference is None else f"{verdict.paper_difference:+.2f}",
        "ours": "" if found is None else f"{found.mean:+.2f}{_interval(found.low, found.high)}",
        "seeds": len(one.differences),
    }


def _further(one: Judged) -> dict[str, Any]:
    return {
        "claim": one.claim.claim,
        "compared": f"{one.claim.treated[1]} − {one.claim.control[1]}",
        "number": one.claim.number,
        "learned": " · ".join(f"{hits} of {number}" for hits, number in one.verdict.learned),
        "earlier": "; ".join(f"{float(share):.0%}: {word}" for share, word in one.by_share.items()),
    }


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({low:+.2f} to {high:+.2f})"


def sentence(one: Judged) -> str:
    """A claim and its verdict, as HTML."""
    found, verdict = one.verdict.difference, one.verdict
    told = f"{one.claim.claim.rstrip('.')} ({one.claim.place}): "
    facts = ""
    if found is not None:
        seeds = f"{len(one.differences)} seeds" if len(one.differences) != 1 else "1 seed"
        unit = one.claim.number
        facts = f" {unit} {found.mean:+.2f}{_interval(found.low, found.high)}, {seeds}."
    needed = "" if verdict.needed is None else f" {verdict.needed} seeds would decide at this spread."
    rate = "" if one.rate_p >= 0.05 else f" The share of runs that learn differs, too (p = {one.rate_p:.2g})."
    return f"{code(told)}<strong>{verdict.word}</strong>.{code(facts + needed + rate)}"
