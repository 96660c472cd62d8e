"""A paper's tables beside our numbers, as data frames and as JSON; as HTML, see `vtg_lib.book.tables`.

    paper = load_paper("sdst")
    compared = compare(paper, Store("results/03_sdst.jsonl"), released=released_scores(paper))
    agreement_table(compared)

What counts as evidence: `vtg_lib.papers.evidence`; how verdicts are computed: `vtg_lib.papers.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.comparison import compare
from vtg_lib.papers.evidence import Evidence, RowResults, TableResults
from vtg_lib.papers.schema import Paper
from vtg_lib.papers.verdict import DECIDED, JUDGED

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.experiments.store import Store


def agreement(results: TableResults, column: str | None = None) -> dict[str, Any]:
    """How far ours agrees with the paper in one column (default the table's primary one).

    A count for every word that judges; `decided`, how many rows have one of `DECIDED`; `spearman` and
    `kendall` compare the order of the `ranked` rows that both have, ours by the mean over seeds of the
    reference row's evidence.
    """
    column = column or results.table.primary or ""
    words = [r.verdicts[column].word for r in results.rows if column in r.verdicts]
    reference = next((r.best_run for r in results.rows if r.row.label == results.table.reference), None)
    kind = reference.kind if reference is not None else None
    both = [
        (_nan(r.row.paper[column]), r.runs[kind].summary(column).mean)
        for r in results.rows
        if kind is not None and kind in r.runs
    ]
    rho, tau, ranked = stats.rank_correlation([printed for printed, _ in both], [mean for _, mean in both])
    return {
        "table": results.table.id,
        "column": column,
        "evidence": kind,
        **{word: words.count(word) for word in JUDGED},
        "decided": sum(word in DECIDED for word in words),
        "spearman": rho,
        "kendall": tau,
        "ranked": ranked,
    }


def agreement_table(compared: Mapping[str, TableResults]) -> pd.DataFrame:
    """`agreement` of every table that has a reference row, one line each."""
    import pandas as pd

    return pd.DataFrame(
        [agreement(results) for results in compared.values() if results.table.reference is not None]
    )


def spread_over_rows(results: TableResults) -> pd.DataFrame:
    """How far a table's rows lie apart, as printed and in our runs, beside how far our seeds do, column by
    column.

    Of the rows that have runs: mean and sd over rows, of the printed numbers and of our means; `seed sd`, the
    root mean square of their sd over seeds (NaN where none has two); `rows`, how many there are.
    """
    import pandas as pd

    lines = []
    for name in (column.name for column in results.table.columns):
        rows = [
            (_nan(row.row.paper[name]), row.best_run.summary(name)) for row in results.rows if row.best_run
        ]
        known = [(printed, ours) for printed, ours in rows if not math.isnan(printed) and ours.n]
        if len(known) > 1:
            paper, mine = (
                stats.summarise(v) for v in ([p for p, _ in known], [ours.mean for _, ours in known])
            )
            seeds = math.sqrt(stats.summarise([ours.sd**2 for _, ours in known]).mean)
            lines.append((name, paper.mean, paper.sd, mine.mean, mine.sd, seeds, len(known)))
    return pd.DataFrame(lines, columns=["column", "paper", "paper sd", "ours", "our sd", "seed sd", "rows"])


def released_check(compared: Mapping[str, TableResults]) -> pd.DataFrame:
    """Released predictions by our evaluator beside the printed number: table, row, column, paper, ours,
    equal.
    """
    import pandas as pd

    lines = [
        (table_id, result.row.label, column, printed, seeds[0], abs(printed - seeds[0]) < 0.005)
        for table_id, results in compared.items()
        for result in results.rows
        for column, seeds in (result.released.values if result.released else {}).items()
        if (printed := result.row.paper[column]) is not None
    ]
    return pd.DataFrame(lines, columns=["table", "row", "column", "paper", "ours", "equal"])


def to_json(
    paper: Paper,
    store: Store | Iterable[Mapping[str, Any]],
    released: Mapping[str, Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """What `vtg tables --json` prints: plain JSON values, no NaN.

    Each table: paper, table, caption, columns, rows; each row: label, paper {column: number, printed ones
    only}, source, best {evidence, mean {column: number}, sd {column: number or null}, n}, verdict (of the
    primary column). `best` of a row without evidence has the evidence null, no numbers and n = 0. Counted
    parameters are under `counted`.
    """
    return [
        {
            "paper": paper.key,
            "table": table_id,
            "caption": results.table.caption,
            "columns": [column.name for column in results.table.columns],
            "rows": [_row_json(result, results.table.primary or "") for result in results.rows],
        }
        for table_id, results in compare(paper, store, released=released).items()
    ]


def _row_json(result: RowResults, primary: str) -> dict[str, Any]:
    judged = result.verdicts.get(primary)
    row: dict[str, Any] = {
        "label": result.row.label,
        "paper": {name: value for name, value in result.row.paper.items() if value is not None},
        "source": result.row.source,
        "best": _best_json(result.best),
        "verdict": judged.word if judged is not None else None,
    }
    if result.row.text:
        row["text"] = dict(result.row.text)
    if result.counted is not None:
        row["counted"] = {name: seeds[0] for name, seeds in result.counted.values.items()}
    if result.released is not None and result.best_run is not None:
        row["runs"] = _best_json(result.best_run)
    return row


def _best_json(evidence: Evidence | None) -> dict[str, Any]:
    if evidence is None:
        return {"evidence": None, "mean": {}, "sd": {}, "n": 0}
    summaries = {column: evidence.summary(column) for column in evidence.values}
    return {
        "evidence": evidence.kind,
        "mean": {column: round(s.mean, 6) for column, s in summaries.items()},
        "sd": {column: None if math.isnan(s.sd) else round(s.sd, 6) for column, s in summaries.items()},
        "n": evidence.n,
    }


def explorer_tables(compared: Mapping[str, TableResults]) -> list[dict[str, Any]]:
    """What `vtg_lib.book.widgets.table_explorer` takes: rows with `ours` as {column: [a cell a kind of
    evidence]}.
    """
    return [
        {
            "table": results.table.title,
            "caption": f"{results.table.title}. {results.table.caption}",
            "columns": (names := [column.name for column in results.table.columns]),
            "rows": [
                {
                    "label": result.row.label,
                    "paper": dict(result.row.paper),
                    "source": result.row.source,
                    "ours": {name: cells for name in names if (cells := _cells(result, name))},
                }
                for result in results.rows
            ],
        }
        for results in compared.values()
    ]


def _cells(result: RowResults, column: str) -> list[dict[str, Any]]:
    kinds = (result.released, result.best_run, result.counted)
    return [
        _cell(evidence, column) for evidence in kinds if evidence is not None and column in evidence.values
    ]


def _cell(evidence: Evidence, column: str) -> dict[str, Any]:
    s = evidence.summary(column)
    seeds = None if evidence.profile is None else s.n  # only runs have seeds
    interval = evidence.interval(column)
    bounds = None if seeds is None or math.isnan(interval.low) else (interval.low, interval.high)
    return {"mean": s.mean, "interval": bounds, "n": seeds, "evidence": evidence.kind}


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
