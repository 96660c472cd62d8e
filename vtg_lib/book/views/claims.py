"""What a chapter shows of the paper's claims: a table, and a sentence for each. Words are computed by
`vtg_lib.papers.claims`.
"""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code, frame_html
from vtg_lib.papers.verdict import DECIDED

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.papers.claims import Judged


def claims(chapter: Chapter) -> HTML:
    """Every claim: what the paper prints, what we found, and the verdict, at the end and earlier."""
    import pandas as pd

    return frame_html(pd.DataFrame([_row(one) for one in chapter.judged]))


def claims_figure(chapter: Chapter) -> HTML:
    """The claims about mAP as differences: every seed, our mean and interval, the paper's number."""
    rows = [
        plots.Gap(
            label=textwrap.fill(one.claim.claim, 44),
            word=one.verdict.word,
            learned=list(one.differences.values()),
            unlearned=list(one.unlearned.values()),
            mean=found.mean,
            low=found.low,
            high=found.high,
            paper=one.verdict.paper_difference,
        )
        for one in chapter.judged
        if one.claim.measure is None and (found := one.verdict.difference) is not None
    ]
    told = "; ".join(f"{row.label}: {row.mean:+.1f}, {row.word}" for row in rows).replace("\n", " ")
    return plots.show(
        plots.gaps(rows, xlabel="treated − control (mAP)"),
        f"Claims as differences of mAP. {told or 'nothing was run yet'}",
        "Dots: seeds; hollow where a run had not learned to read. Squares: our mean, 95 % interval. "
        "Diamonds: the paper.",
    )


def claims_told(chapter: Chapter) -> HTML:
    """How many claims are decided, and which way."""
    from IPython.display import HTML

    words = [one.verdict.word for one in chapter.judged]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    decided = sum(word in DECIDED for word in words)
    return HTML(f"<p>{code(f'{decided} of {len(words)} claims are decided: {counts}.')}</p>")


def _row(one: Judged) -> dict[str, Any]:
    found, verdict = one.verdict.difference, one.verdict
    early = "; ".join(f"{float(share):.0%}: {word}" for share, word in one.by_share.items())
    return {
        "claim": one.claim.claim,
        "compared": f"{one.claim.treated[1]} − {one.claim.control[1]}",
        "number": one.claim.column or one.claim.measure,
        "paper": "" if verdict.paper_difference is None else f"{verdict.paper_difference:+.2f}",
        "ours": "" if found is None else f"{found.mean:+.2f}{_interval(found.low, found.high)}",
        "seeds": len(one.differences),
        "learned": " · ".join(f"{hits} of {number}" for hits, number in verdict.learned),
        "verdict": verdict.word + ("" if verdict.needed is None else f" ({verdict.needed} seeds would)"),
        "earlier": early,
    }


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({low:+.2f} to {high:+.2f})"


def sentence(one: Judged) -> str:
    """A claim and its verdict, as HTML."""
    found, verdict = one.verdict.difference, one.verdict
    told = f"{one.claim.claim} ({one.claim.place}): "
    facts = ""
    if found is not None:
        seeds = f"{len(one.differences)} seeds" if len(one.differences) != 1 else "1 seed"
        unit = one.claim.column or one.claim.measure
        facts = f" {unit} {found.mean:+.2f}{_interval(found.low, found.high)}, {seeds}."
    needed = "" if verdict.needed is None else f" {verdict.needed} seeds would decide at this spread."
    rate = "" if one.rate_p >= 0.05 else f" The share of runs that learn differs, too (p = {one.rate_p:.2g})."
    return f"{code(told)}<strong>{verdict.word}</strong>.{code(facts + needed + rate)}"
