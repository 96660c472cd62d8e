"""Views on what authors published beside their predictions: the printed rows, and their logs.

Words on printed rows are computed by `vtg_lib.papers.quotes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures
from vtg_lib.book.foundations.chapter import Foundations, page, part
from vtg_lib.book.tables import GROUP, table
from vtg_lib.evaluation.per_query import METHODS
from vtg_lib.evaluation.released import PREDICTIONS
from vtg_lib.papers import quotes
from vtg_lib.papers.columns import METRICS

if TYPE_CHECKING:
    from IPython.display import HTML

NAMES = {key: name for name, key in METRICS.items()}  # of the evaluator's numbers
NBSP = "\N{NO-BREAK SPACE}"
RERUN = "rerun"  # in the label of a row that a paper's authors trained themselves
MAP = "MR-full-mAP"


# --- printed rows


def checked(chapter: Foundations, *, rerun: bool | None = None) -> list[tuple[quotes.Quote, quotes.Check]]:
    """Every printed row of a file that was scored, held against the score; `rerun`: those alone, or none."""
    files = [quote for quote in quotes.quotes() if quote.file in chapter.scores]
    found = [(quote, quotes.check(quote, chapter.scores[quote.file or ""])) for quote in files]
    return [(q, check) for q, check in found if check and (rerun is None or (RERUN in q.label) == rerun)]


def printed_table(chapter: Foundations) -> HTML:
    """Every printed row of released predictions, beside our evaluator's numbers."""
    if not chapter.scores:
        return page("No released predictions: neither the files nor the record were found.")
    held, scores, root = checked(chapter), chapter.scores, chapter.parameters.data_root
    shown = list(dict.fromkeys(key for quote, _ in held for key in NAMES if key in quote.numbers))
    rows: list[dict[str, str]] = []
    for file in dict.fromkeys(name for name in scores if any(quote.file == name for quote, _ in held)):
        name, _, split = file.rpartition("_")
        ours = {NAMES[key]: f"{scores[file][key]:.2f}" for key in shown if key in scores[file]}
        rows += [{GROUP: f"{METHODS[name]}, {split}"}, {"by": "our evaluator", **ours, "word": ""}]
        for quote, check in held:
            if quote.file == file:
                fine = check.word in (quotes.EQUAL, quotes.WITHIN_SD)
                furthest = "" if fine else f" ({NAMES[check.furthest]}, ours {check.gap:+.2f})"
                rerun = " (rerun)" if RERUN in quote.label else ""
                by = f"{quote.paper} {quote.place.replace(' ', NBSP)}{rerun}"
                cells = {NAMES[key]: _cell(quote, key) for key in shown}
                rows.append({"by": by, **cells, "word": check.word + furthest})
    here = sum(root is not None and (root / PREDICTIONS.format(name)).is_file() for name in scores)
    told = f"{here} of {len(scores)} files scored here, the others from the record"
    where = told if here < len(scores) else "all files scored here"
    return page(table(rows, text=["word"]), f"Evidence: released; {where}.")


def _cell(quote: quotes.Quote, key: str) -> str:
    if key not in quote.numbers:
        return "–"
    spread = f" ± {quote.sd[key]:g}" if key in quote.sd else ""
    return f"{quote.numbers[key]:.{quote.decimals}f}{spread}"


def printed_told(chapter: Foundations) -> HTML:
    """How many quoted rows come out, and by how much the others do not."""
    quoted, lines = checked(chapter, rerun=False), []
    for word in (quotes.EQUAL, quotes.LAST_DIGIT, quotes.ONE_CELL, quotes.DIFFERS):
        rows = [(quote, check) for quote, check in quoted if check.word == word]
        told = "; ".join(
            f"{quote.label} {quote.split} in {quote.paper} {quote.place} ({NAMES[check.furthest]}, ours "
            f"{check.gap:+.2f}; {check.equal} of {check.cells} cells equal)"
            for quote, check in rows
            if word != quotes.EQUAL
        )
        lines.append(f"**{word}**: {len(rows)} of {len(quoted)} quoted rows{': ' + told if told else ''}.")
    lines += [
        f"**{quote.label}** in {quote.paper} {quote.place}, against the released"
        f" {METHODS[(quote.file or '').rpartition('_')[0]]}: {check.word}; furthest {NAMES[check.furthest]},"
        f" ours {check.gap:+.2f}."
        for quote, check in checked(chapter, rerun=True)
    ]
    return page(lines)


def disagreement_table() -> HTML:
    """Cells that the papers print differently for one method and split."""
    rows = [
        {"row": f"{method}, {split}", "metric": NAMES[metric]}
        | {paper: f"{value:.{1 if round(value, 1) == value else 2}f}" for paper, value in cells.items()}
        for method, split, metric, cells in quotes.disagreements(quotes.quotes())
    ]
    exchanged = [
        f"{a.paper} {a.place} prints for {a.method} on {a.split} the numbers that {b.paper} {b.place} prints"
        f" on {b.split}."
        for a, b in quotes.exchanged_splits(quotes.quotes())
    ]
    return page(table(rows), *([exchanged] if exchanged else []))


# --- logs


def released_epochs(chapter: Foundations) -> dict[str, int | None]:
    """The epoch whose numbers the released predictions have, all of them."""
    matches = {name: log["released"] for name, log in chapter.found["logs"].items()}
    return {name: m["epoch"] if m and m["equal"] == m["of"] else None for name, m in matches.items()}


def _best_epoch(log: dict[str, list[float]]) -> int:
    return int(log["epoch"][int(np.argmax(log["mAP"]))])


@part("logs")
def convergence_figure(chapter: Foundations) -> HTML:
    """The authors' curves on val."""
    logs = chapter.found["logs"]
    told = "; ".join(
        f"{METHODS[name]}: {max(log['mAP']):.2f} at epoch {_best_epoch(log)}, {log['mAP'][-1]:.2f} at the end"
        for name, log in logs.items()
    )
    figure = figures.convergence(
        {name: logs[name] for name in METHODS if name in logs}, released_epochs(chapter)
    )
    caption = "mAP on val in the authors' logs. A ring marks the epoch that was released."
    alt = f"mAP on val by epoch in five authors' logs. Best: {told}."
    return plots.show(figure, alt, f"{caption} {chapter.source('logs')}")


@part("logs")
def log_table(chapter: Foundations) -> HTML:
    """The best epoch of each log, what picking it gains, and where the released and the printed numbers are
    in it.
    """
    quoted = {q.file: q.numbers.get(MAP) for q in quotes.quotes() if q.file and RERUN not in q.label}
    rows, released = [], released_epochs(chapter)
    for name in (name for name in METHODS if name in chapter.found["logs"]):
        log, value = chapter.found["logs"][name], quoted.get(f"{name}_val")
        late, match = np.array(log["mAP"][-(len(log["mAP"]) // 4) :]), log["released"]
        holders = [
            str(epoch) for epoch, found in zip(log["epoch"], log["mAP"], strict=True) if found == value
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
                "epochs with it": ", ".join(holders) or "none",
            }
        )
    return table(rows, across=True)


def split_gap(chapter: Foundations) -> HTML:
    """mAP on val less mAP on test, for methods with predictions on both."""
    scores = {name: score[MAP] for name, score in chapter.scores.items()}
    return page(
        [
            f"{title}: mAP {scores[f'{name}_val']:.2f} on val, where its epoch was chosen, "
            f"{scores[f'{name}_test']:.2f} on test ({scores[f'{name}_test'] - scores[f'{name}_val']:+.2f})."
            for name, title in METHODS.items()
            if {f"{name}_val", f"{name}_test"} <= scores.keys()
        ]
    )
