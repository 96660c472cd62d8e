"""A paper's tables beside our numbers, as data frames and as JSON; as HTML, see `vtg_lib.book.tables`.

    paper = load_paper("sdst")
    compared = compare(paper, Store("results/03_sdst.jsonl"), released=released_scores(paper))
    frame(compared["tab5"])

What counts as evidence: `vtg_lib.papers.evidence`; how verdicts are computed: `vtg_lib.papers.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.evidence import Evidence, TableResults, compare
from vtg_lib.papers.schema import Paper
from vtg_lib.papers.verdict import DECIDED, NOISE, NOT_RUN, ONE_SEED, REVERSED, SAME

if TYPE_CHECKING:
    import pandas as pd

    from vtg_lib.experiments.store import Store


def frame(results: TableResults) -> pd.DataFrame:
    """Rows by label (and evidence), columns in pairs (column, paper | ours | sd | n); NaN where there is no
    number.
    """
    import pandas as pd

    data: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for result in results.rows:
        kinds: list[Evidence | None] = [*result.lines]
        for evidence in kinds or [None]:
            cells = data.setdefault((result.row.label, evidence.kind if evidence else NOT_RUN), {})
            for column in results.table.columns:
                summary = evidence.summary(column.name) if evidence else stats.summarise([])
                values = (_nan(result.row.paper[column.name]), summary.mean, summary.sd, float(summary.n))
                cells.update(
                    {(column.name, k): v for k, v in zip(("paper", "ours", "sd", "n"), values, strict=True)}
                )
    names = pd.MultiIndex.from_tuples(list(data), names=["row", "evidence"]) if data else None
    columns = pd.MultiIndex.from_product(
        [[c.name for c in results.table.columns], ["paper", "ours", "sd", "n"]]
    )
    return pd.DataFrame([list(cells.values()) for cells in data.values()], index=names, columns=columns)


def agreement(results: TableResults, column: str | None = None) -> dict[str, Any]:
    """How far ours agrees with the paper in one column (default the table's primary one).

    `decided` rows have the verdict "same direction" or "reversed", `same` of them the former; `spearman` and
    `kendall` compare the order of the `ranked` rows that both have, ours by the mean over seeds of the
    reference row's evidence.
    """
    column = column or results.table.primary or ""
    words = [r.verdicts[column].word for r in results.rows if column in r.verdicts]
    reference = next((r for r in results.rows if r.row.label == results.table.reference), None)
    kind = reference.best_run.kind if reference is not None and reference.best_run is not None else None
    paper, ours = [], []
    for r in results.rows:
        if kind is not None and kind in r.runs:
            paper.append(_nan(r.row.paper[column]))
            ours.append(r.runs[kind].summary(column).mean)
    rho, tau, ranked = stats.rank_correlation(paper, ours)
    return {
        "table": results.table.id,
        "column": column,
        "evidence": kind,
        **{word: words.count(word) for word in (SAME, REVERSED, NOISE, ONE_SEED, NOT_RUN)},
        "decided": sum(word in DECIDED for word in words),
        "same": words.count(SAME),
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
    for column in results.table.columns:
        pairs = [
            (row.row.paper[column.name], row.best_run.summary(column.name))
            for row in results.rows
            if row.best_run is not None
        ]
        known = [(printed, ours) for printed, ours in pairs if printed is not None and ours.n]
        if len(known) < 2:
            continue
        paper, mine = (
            stats.summarise(values) for values in zip(*((p, ours.mean) for p, ours in known), strict=True)
        )
        squares = [ours.sd**2 for _, ours in known if not math.isnan(ours.sd)]
        seed_sd = math.sqrt(sum(squares) / len(squares)) if squares else math.nan
        cells = {
            "paper": paper.mean,
            "paper sd": paper.sd,
            "ours": mine.mean,
            "our sd": mine.sd,
            "seed sd": seed_sd,
        }
        lines.append({"column": column.name, **cells, "rows": len(known)})
    return pd.DataFrame(lines, columns=["column", "paper", "paper sd", "ours", "our sd", "seed sd", "rows"])


def released_check(compared: Mapping[str, TableResults]) -> pd.DataFrame:
    """Released predictions by our evaluator beside the printed number: table, row, column, paper, ours,
    equal.
    """
    import pandas as pd

    lines = []
    for results in compared.values():
        for result in results.rows:
            for column, seeds in (result.released.values if result.released else {}).items():
                printed, value = result.row.paper[column], seeds[0]
                if printed is not None:
                    lines.append(
                        (
                            results.table.id,
                            result.row.label,
                            column,
                            printed,
                            value,
                            abs(printed - value) < 0.005,
                        )
                    )
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
    tables = []
    for table_id, results in compare(paper, store, released=released).items():
        table = results.table
        rows = []
        for result in results.rows:
            judged = result.verdicts.get(table.primary or "")
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
            rows.append(row)
        columns = [column.name for column in table.columns]
        tables.append(
            {
                "paper": paper.key,
                "table": table_id,
                "caption": table.caption,
                "columns": columns,
                "rows": rows,
            }
        )
    return tables


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
    tables = []
    for results in compared.values():
        rows = []
        for result in results.rows:
            ours: dict[str, list[dict[str, Any]]] = {}
            kinds = (result.released, result.best_run, result.counted)
            for evidence in (evidence for evidence in kinds if evidence is not None):
                for column in evidence.values:
                    ours.setdefault(column, []).append(_cell(evidence, column))
            rows.append(
                {
                    "label": result.row.label,
                    "paper": dict(result.row.paper),
                    "source": result.row.source,
                    "ours": ours,
                }
            )
        columns = [column.name for column in results.table.columns]
        title = results.table.title
        tables.append(
            {"table": title, "caption": f"{title}. {results.table.caption}", "columns": columns, "rows": rows}
        )
    return tables


def _cell(evidence: Evidence, column: str) -> dict[str, Any]:
    s = evidence.summary(column)
    seeds = None if evidence.profile is None else s.n  # only runs have seeds
    return {"mean": s.mean, "sd": None if math.isnan(s.sd) else s.sd, "n": seeds, "evidence": evidence.kind}


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
