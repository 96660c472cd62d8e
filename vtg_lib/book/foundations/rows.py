"""Views on what papers print for released predictions, and on the authors' logs. Words are computed by
`vtg_lib.papers.quotes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.chapter import Foundations
from vtg_lib.book.foundations.page import items, joined, paragraph, part, source
from vtg_lib.book.tables import GROUP, table
from vtg_lib.evaluation import released as recorded
from vtg_lib.evaluation.per_query import METHODS
from vtg_lib.papers import quotes as printed
from vtg_lib.papers.columns import METRICS

if TYPE_CHECKING:
    from IPython.display import HTML

NAMES = {key: name for name, key in METRICS.items()}  # of the evaluator's numbers
NBSP = "\N{NO-BREAK SPACE}"
RERUN = "rerun"  # in the label of a row that a paper's authors trained themselves


def checked(chapter: Foundations) -> Iterator[tuple[printed.Quote, printed.Check]]:
    for quote in printed.quotes():
        if quote.file in chapter.scores:
            check = printed.check(quote, chapter.scores[quote.file])
            if check is not None:
                yield quote, check


def printed_table(chapter: Foundations) -> HTML:
    """Every printed row of released predictions, beside our evaluator's numbers."""
    if not chapter.scores:
        return paragraph("No released predictions: neither the files nor the record were found.")
    shown = list(dict.fromkeys(key for quote, _ in checked(chapter) for key in NAMES if key in quote.numbers))
    rows: list[dict[str, str]] = []
    for file, score in chapter.scores.items():
        told = [(quote, check) for quote, check in checked(chapter) if quote.file == file]
        if not told:
            continue
        name, _, split = file.rpartition("_")
        rows.append({GROUP: f"{METHODS[name]}, {split}"})
        rows.append(
            {"by": "our evaluator"}
            | {NAMES[key]: f"{score[key]:.2f}" for key in shown if key in score}
            | {"word": ""}
        )
        for quote, check in told:
            word = check.word
            if word not in (printed.EQUAL, printed.WITHIN_SD):
                word += f" ({NAMES[check.furthest]}, ours {check.gap:+.2f})"
            rerun = " (rerun)" if RERUN in quote.label else ""
            cells = {NAMES[key]: _cell(quote, key) for key in shown}
            rows.append(
                {"by": f"{quote.paper} {quote.place.replace(' ', NBSP)}{rerun}", **cells, "word": word}
            )
    return joined(table(rows, text=["word"]), _scored(chapter))


def _cell(quote: printed.Quote, key: str) -> str:
    if key not in quote.numbers:
        return "–"
    spread = f" ± {quote.sd[key]:g}" if key in quote.sd else ""
    return f"{quote.numbers[key]:.{quote.decimals}f}{spread}"


def _scored(chapter: Foundations) -> HTML:
    """Where the evaluator's numbers of the table above come from."""
    root = chapter.parameters.data_root
    here = [name for name in chapter.scores if root and (root / recorded.PREDICTIONS.format(name)).is_file()]
    told = f"{len(here)} of {len(chapter.scores)} files scored here, the others from the record"
    return paragraph(
        f"Evidence: released; {told if len(here) < len(chapter.scores) else 'all files scored here'}."
    )


def printed_told(chapter: Foundations) -> HTML:
    """How many quoted rows come out, and by how much the others do not."""
    quoted = [(quote, check) for quote, check in checked(chapter) if RERUN not in quote.label]
    reruns = [(quote, check) for quote, check in checked(chapter) if RERUN in quote.label]
    lines = []
    for word in (printed.EQUAL, printed.LAST_DIGIT, printed.ONE_CELL, printed.DIFFERS):
        rows = [(quote, check) for quote, check in quoted if check.word == word]
        told = "; ".join(
            f"{quote.label} {quote.split} in {quote.paper} {quote.place} ({NAMES[check.furthest]}, ours {check.gap:+.2f}; "
            f"{check.equal} of {check.cells} cells equal)"
            for quote, check in rows
            if word != printed.EQUAL
        )
        lines.append(f"**{word}**: {len(rows)} of {len(quoted)} quoted rows{': ' + told if told else ''}.")
    for quote, check in reruns:
        lines.append(
            f"**{quote.label}** in {quote.paper} {quote.place}, against the released {METHODS[quote.file.rpartition('_')[0]]}: "
            f"{check.word}; furthest {NAMES[check.furthest]}, ours {check.gap:+.2f}."
            if quote.file
            else ""
        )
    return items(lines)


def disagreement_table() -> HTML:
    """Cells that the papers print differently for one method and split."""
    rows = [
        {"row": f"{method}, {split}", "metric": NAMES[metric]}
        | {
            paper: f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"
            for paper, value in cells.items()
        }
        for method, split, metric, cells in printed.disagreements(printed.quotes())
    ]
    exchanged = [
        f"{a.paper} {a.place} prints for {a.method} on {a.split} the numbers that {b.paper} {b.place} prints on {b.split}."
        for a, b in printed.exchanged_splits(printed.quotes())
    ]
    return joined(table(rows), *([items(exchanged)] if exchanged else []))


# ------------------------------------------------------------------------------------------------------------------ logs


@part("logs")
def convergence_figure(chapter: Foundations) -> HTML:
    """The authors' curves on val."""
    logs, released = chapter.found["logs"], released_epochs(chapter)
    told = "; ".join(
        f"{METHODS[name]}: {max(log['mAP']):.2f} at epoch {_best_epoch(log)}, {log['mAP'][-1]:.2f} at the end"
        for name, log in logs.items()
    )
    figure = figures.convergence({name: logs[name] for name in METHODS if name in logs}, released)
    caption = f"mAP on val in the authors' logs. A ring marks the epoch that was released. {source(chapter, 'logs')}"
    return plots.show(figure, f"mAP on val by epoch in five authors' logs. Best: {told}.", caption)


def _best_epoch(log: dict[str, list[float]]) -> int:
    return int(log["epoch"][int(np.argmax(log["mAP"]))])


def released_epochs(chapter: Foundations) -> dict[str, int | None]:
    """The epoch whose numbers the released predictions have, all of them."""
    matches = {name: log["released"] for name, log in chapter.found["logs"].items()}
    return {name: m["epoch"] if m and m["equal"] == m["of"] else None for name, m in matches.items()}


@part("logs")
def log_table(chapter: Foundations) -> HTML:
    """The best epoch of each log, what picking it gains, and where the released and the printed numbers are
    in it.
    """
    quoted = {quote.file: quote for quote in printed.quotes() if quote.file and RERUN not in quote.label}
    rows, released = [], released_epochs(chapter)
    for name in (name for name in METHODS if name in chapter.found["logs"]):
        log = chapter.found["logs"][name]
        late = np.array(log["mAP"][-(len(log["mAP"]) // 4) :])
        match, quote = log["released"], quoted.get(f"{name}_val")
        value = quote.numbers.get("MR-full-mAP") if quote else None
        holders = [
            epoch
            for epoch, found in zip(log["epoch"], log["mAP"], strict=True)
            if value is not None and found == value
        ]
        rows.append(
            {
                "log": METHODS[name],
                "evaluations": len(log["epoch"]),
                "best mAP": max(log["mAP"]),
                "at epoch": _best_epoch(log),
                "mAP, last quarter": f"{late.mean():.2f} ± {late.std(ddof=1):.2f}",
                "best less its mean": f"{max(log['mAP']) - late.mean():+.2f}",
                "released predictions are of": f"epoch {released[name]}" if released[name] else "another run",
                "numbers that agree": None if match is None else f"{match['equal']} of {match['of']}",
                "printed mAP": None if value is None else f"{value:.2f}",
                "epochs with it": ", ".join(map(str, holders)) or "none",
            }
        )
    return table(rows, across=True)


def split_gap(chapter: Foundations) -> HTML:
    """mAP on val less mAP on test, for methods with predictions on both."""
    lines = []
    for name, title in METHODS.items():
        val, test = (
            chapter.scores.get(f"{name}_{split}", {}).get("MR-full-mAP") for split in ("val", "test")
        )
        if val is not None and test is not None:
            lines.append(
                f"{title}: mAP {val:.2f} on val, where its epoch was chosen, {test:.2f} on test ({test - val:+.2f})."
            )
    return items(lines)
