"""Does the order that a paper prints hold among our runs? Every pair of a table's rows, judged by
`vtg_lib.papers.verdict`; and the views of SDST's Tab. 1 that show it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scipy.stats import kendalltau

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations.chapter import page
from vtg_lib.book.tables import table
from vtg_lib.evaluation.statistics import Summary
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.evidence import TableResults
from vtg_lib.papers.verdict import CONTRADICTS, DECIDED, SUPPORTS, UNDECIDED, Verdict, verdict

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter

JUDGED = (*DECIDED, UNDECIDED)
PAPER, TABLE, COLUMN, KIND = "sdst", "tab1", "val mAP", "sim"
OURS, NAME = "Ours†", "SDST†"  # what the paper calls its own method, and what it is called here
COMMAND = f"`vtg sweep --paper {PAPER} --profile sim --seeds 3 --tables {TABLE}` trains them."


@dataclass(frozen=True, kw_only=True)
class Place:
    """A method in both orders; rank 1 is best.

    Attributes:
        label: of the row; printed: the paper's number; ours: mean, sd and number of seeds of the best kind of
            run.
        printed_rank, rank: among the methods that have both numbers.
    """

    label: str
    printed: float
    ours: Summary
    printed_rank: int
    rank: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """The methods, best printed number first, and the verdict on every pair (better by the paper, worse by
    the paper).

    tau: Kendall's rank correlation of the printed numbers and our means; NaN for fewer than two methods.
    """

    places: tuple[Place, ...]
    pairs: tuple[tuple[str, str, Verdict], ...]
    tau: float


def order(results: TableResults, column: str, kind: str) -> Order:
    """Both orders of the rows that have a printed number and runs of one `kind` ("sim", "rendered", ...) in
    `column`.

    Raises:
        KeyError: the table has no such column.
    """
    results.table.column(column)
    found = [(row.row.paper[column], row) for row in results.rows if kind in row.runs]
    known = [(number, row) for number, row in found if number is not None]
    known.sort(key=lambda pair: pair[0], reverse=True)
    means = [row.runs[kind].summary(column) for _, row in known]
    ranking = sorted(means, key=lambda ours: ours.mean, reverse=True)
    places = tuple(
        Place(label=row.row.label, printed=number, ours=ours, printed_rank=n, rank=ranking.index(ours) + 1)
        for n, ((number, row), ours) in enumerate(zip(known, means, strict=True), 1)
    )
    rows = itertools.combinations([row for _, row in known], 2)
    pairs = [(a.row.label, b.row.label, verdict(a, b, column)) for a, b in rows]
    judged = tuple(pair for pair in pairs if pair[2].word in JUDGED and pair[2].evidence == kind)
    tau = math.nan
    if len(known) > 1:
        tau = float(kendalltau([number for number, _ in known], [ours.mean for ours in means]).statistic)
    return Order(places=places, pairs=judged, tau=tau)


def summary(order: Order) -> str:
    """What became of the printed order, in words that are computed."""
    if not order.pairs:
        return "Not run yet: no two methods have runs."
    words = Counter(judged.word for *_, judged in order.pairs)
    total = len(order.pairs)
    parts = [f"{words[SUPPORTS]} of {total} pairs of methods stand as printed (p < 0.05 over paired seeds)"]
    parts += [f"{number} {word}" for word, number in words.items() if word not in (SUPPORTS, CONTRADICTS)]
    swapped = "; ".join(f"{b} above {a}" for a, b, judged in order.pairs if judged.word == CONTRADICTS)
    parts.append(f"{words[CONTRADICTS]} stand the other way round" + (f" ({swapped})" if swapped else ""))
    return f"{'; '.join(parts)}. Kendall's τ of the two orders: {order.tau:.2f}."


def _results(chapter: Chapter) -> TableResults:
    paper = load_paper(PAPER)
    store = Store(chapter.store.path.parent / f"{paper.chapter}.jsonl")
    found, names = compare(paper, store, [TABLE])[TABLE], {OURS: NAME}
    rows = [
        replace(row, row=replace(row.row, label=names.get(row.row.label, row.row.label)))
        for row in found.rows
    ]
    return replace(found, rows=tuple(rows), lacking=tuple(names.get(label, label) for label in found.lacking))


def order_table(chapter: Chapter) -> HTML:
    """The methods in the printed order, with our mean, spread and rank, and how long they were trained."""
    results, profile = _results(chapter), load_paper(PAPER).profile(KIND)
    lines = {result.row.label: result.row for result in results.rows}
    rows = [
        {
            "method": place.label,
            f"paper {COLUMN}": place.printed,
            "ours, mean": place.ours.mean,
            "sd": place.ours.sd,
            "seeds": place.ours.n,
            "rank in the paper": place.printed_rank,
            "rank here": place.rank,
            "epochs": row_spec(lines[place.label], profile, "qvhighlights", 0).train.epochs,
        }
        for place in order(results, COLUMN, KIND).places
    ]
    return table(rows) if rows else page(f"Not run yet. {COMMAND}")


def order_figure(chapter: Chapter) -> HTML:
    """The same as lines from the paper's number to ours."""
    places = order(_results(chapter), COLUMN, KIND).places
    figure = plots.slope_chart(
        [place.label for place in places],
        [place.printed for place in places],
        [place.ours.mean for place in places],
        metric=COLUMN,
        ours_sd=[place.ours.sd if place.ours.n > 1 else None for place in places],
        evidence=KIND,
    )
    told = "; ".join(f"{p.label}: paper {p.printed:.2f}, ours {p.ours.mean:.2f}" for p in places)
    alt = f"Slope chart of {COLUMN}, each side on its own scale. {told or 'nothing yet'}"
    return plots.show(figure, alt, "The printed order beside ours.")


def order_told(chapter: Chapter) -> HTML:
    """What became of the printed order, and methods that have no printed number here."""
    results = _results(chapter)
    rows = [row for row in results.rows if row.row.paper[COLUMN] is None and KIND in row.runs]
    unprinted = [(row.row.label, row.runs[KIND].summary(COLUMN)) for row in rows]
    lacking = [f"Not run yet: {', '.join(results.lacking)}. {COMMAND}"] if results.lacking else []
    return page(
        [
            summary(order(results, COLUMN, KIND)),
            *(
                f"No number is printed for {label}; ours: {ours.mean:.2f} (sd {ours.sd:.2f}, {ours.n} seeds)."
                for label, ours in unprinted
            ),
            *lacking,
        ]
    )
