"""A paper's tables with our evidence, and the verdicts that are computed from it.

Two runs are compared when they have the same profile, seed and type of device (CPU or GPU). Versions
of the code may differ, but it is counted where they do (`Verdict.mixed`, `TableResults.versions`): by
`vtg_lib.experiments.provenance.source_digest`, which covers a model's own modules beside the shared ones, and
so says nothing about two runs of different models. Versions that `vtg_lib.experiments.replay` found to make
the same numbers count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.moderation import Prior, fit_prior
from vtg_lib.papers.evidence import RowResults, TableResults, index_runs, row_results, runnable
from vtg_lib.papers.plan import row_datasets
from vtg_lib.papers.schema import EVIDENCE, Paper, Table
from vtg_lib.papers.verdict import paired, verdict

if TYPE_CHECKING:
    from vtg_lib.experiments.store import Store


def compare(
    paper: Paper,
    store: Store | Iterable[Mapping[str, Any]],
    tables: Sequence[str] | None = None,
    released: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, TableResults]:
    """Tables with all evidence and verdicts, by id.

    Args:
        store: the run store, or any iterable of its records.
        tables: ids; default all.
        released: see `released_scores`; default none.
    """
    runs, compared = index_runs(store), {}
    every = {table.id: row_results(paper, table, runs, released or {}) for table in paper.tables}
    spread = priors(paper, every)
    for table in paper.tables if tables is None else [paper.table(table_id) for table_id in tables]:
        rows = every[table.id]
        lacking = tuple(r.row.label for r in rows if runnable(r.row) and not r.runs)
        reference = next((r for r in rows if r.row.label == table.reference), None)
        if reference is not None:
            columns = [c for c in table.columns if c.metric is not None]
            known = {c.name: spread[c.metric] for c in columns if c.metric in spread}
            rows = [
                replace(r, verdicts={c.name: verdict(r, reference, c.name, known) for c in columns})
                for r in rows
            ]
        compared[table.id] = TableResults(
            paper=paper.key, table=table, rows=tuple(rows), lacking=lacking, profile=_cheapest(paper, table)
        )
    return compared


def priors(paper: Paper, rows: Mapping[str, Sequence[RowResults]]) -> dict[str, Prior]:
    """metric -> what variances of differences between rows of the paper's tables are drawn from."""
    found: dict[str, dict[tuple[float, ...], list[float]]] = {}
    for table in paper.tables:
        reference = next((r for r in rows[table.id] if r.row.label == table.reference), None)
        if reference is None:
            continue
        for row in (row for row in rows[table.id] if row is not reference):
            for column in table.columns:
                pair = paired(row, reference, column.name) if column.metric else None
                if pair is not None and column.metric is not None:
                    _, ours, others, seeds = pair
                    gaps = [
                        ours.values[column.name][s] - others.values[column.name][s]
                        for s in seeds
                        if ours.origin(column.name, s).learned and others.origin(column.name, s).learned
                    ]
                    # a pair in two tables counts once
                    found.setdefault(column.metric, {})[tuple(gaps)] = gaps
    return {metric: fit_prior(gaps.values()) for metric, gaps in found.items()}


def _cheapest(paper: Paper, table: Table) -> str | None:
    """The profile of the lowest kind of evidence that produces a data set of the table's columns."""
    able = [p for p in paper.profiles.values() if p.evidence is not None and row_datasets(table, p)]
    return max(able, key=lambda p: EVIDENCE.index(p.evidence or "")).name if able else None
