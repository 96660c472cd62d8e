"""The methods of the library, trained on the same generated data, beside the order that SDST's Tab. 1 prints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vtg_lib.book import figures as plots
from vtg_lib.book import ordering
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.page import items, paragraph
from vtg_lib.book.tables import table
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.papers.evidence import TableResults, compare

if TYPE_CHECKING:
    from IPython.display import HTML

PAPER, TABLE, COLUMN, KIND = "sdst", "tab1", "val mAP", "sim"
OURS, NAME = "Ours†", "SDST†"  # what the paper calls its own method, and what it is called here
COMMAND = f"`vtg sweep --paper {PAPER} --profile sim --seeds 3 --tables {TABLE}` trains them."


def _results(chapter: Foundations) -> TableResults:
    paper = load_paper(PAPER)
    store = Store(chapter.store.path.parent / f"{paper.chapter}.jsonl")
    found = compare(paper, store, [TABLE])[TABLE]
    names = {OURS: NAME}
    rows = [
        replace(row, row=replace(row.row, label=names.get(row.row.label, row.row.label)))
        for row in found.rows
    ]
    return replace(found, rows=tuple(rows), lacking=tuple(names.get(label, label) for label in found.lacking))


def order_table(chapter: Foundations) -> HTML:
    """The methods in the printed order, with our mean, spread and rank, and how long they were trained."""
    results, profile = _results(chapter), load_paper(PAPER).profile(KIND)
    rows = ordering.frame(ordering.order(results, COLUMN, KIND)).to_dict("records")
    lines = {result.row.label: result.row for result in results.rows}
    for row in rows:
        row["epochs"] = row_spec(lines[row["method"]], profile, "qvhighlights", 0).train.epochs
    return table(rows) if rows else paragraph(f"Not run yet. {COMMAND}")


def order_figure(chapter: Foundations) -> HTML:
    """The same as lines from the paper's number to ours."""
    places = ordering.order(_results(chapter), COLUMN, KIND).places
    figure = plots.slope_chart(
        [place.label for place in places],
        [place.printed for place in places],
        [place.ours.mean for place in places],
        metric=COLUMN,
        ours_sd=[place.ours.sd if place.ours.n > 1 else None for place in places],
        evidence=KIND,
    )
    told = (
        "; ".join(f"{place.label}: paper {place.printed:.2f}, ours {place.ours.mean:.2f}" for place in places)
        or "nothing yet"
    )
    return plots.show(
        figure,
        f"Slope chart of {COLUMN}, each side on its own scale. {told}",
        "The printed order beside ours.",
    )


def order_told(chapter: Foundations) -> HTML:
    """What became of the printed order, and methods that have no printed number here."""
    results = _results(chapter)
    lines = [ordering.summary(ordering.order(results, COLUMN, KIND))]
    for row in results.rows:
        if row.row.paper[COLUMN] is None and KIND in row.runs:
            ours = row.runs[KIND].summary(COLUMN)
            lines.append(
                f"No number is printed for {row.row.label}; ours: {ours.mean:.2f} (sd {ours.sd:.2f}, {ours.n} seeds)."
            )
    if results.lacking:
        lines.append(f"Not run yet: {', '.join(results.lacking)}. {COMMAND}")
    return items(lines)
