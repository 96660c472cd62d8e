"""What our runs say about a row of a paper's table: the best evidence, its spread, and a verdict that is computed.

Evidence. A run counts for a row when its spec is the row's at one of the paper's profiles, whatever the seed.
`official` comes before `rendered` before `sim`; kinds are never mixed in a cell or in a comparison. `released` (predictions that
the authors published, scored by our evaluator) and `counted` (parameters of the published size) are kept apart.

Verdicts compare the sign of row - reference row, in the paper and in ours, column by column. The words, first match:

- "reference": the row is the one that the others are compared with;
- "not printed": the paper has no number for the row or the reference;
- "not run": no evidence of the same kind for both rows, with a common seed;
- "no difference printed": the paper's two numbers are equal;
- "one seed": a single common seed, so no interval;
- "within noise": the 95 % interval of our difference, paired by seed, contains 0;
- "same direction" or "reversed": it does not, and the signs agree or disagree.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib import stats
from vtg_lib.papers.plan import row_datasets, row_spec
from vtg_lib.papers.schema import EVIDENCE, Column, Paper, Row, Table
from vtg_lib.recorded import released_score

if TYPE_CHECKING:
    from vtg_lib.store import Store

SAME, REVERSED, NOISE, NOT_RUN = "same direction", "reversed", "within noise", "not run"
REFERENCE, NOT_PRINTED, NO_DIFFERENCE, ONE_SEED = "reference", "not printed", "no difference printed", "one seed"
DECIDED = (SAME, REVERSED)
RELEASED, COUNTED = "released", "counted"

_released_score = functools.cache(released_score)  # the files do not change while a page is built
RunIndex = Mapping[str, Mapping[int, Mapping[str, Any]]]  # cost key -> seed -> record of the store


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Our numbers of one kind for one row: {column: {seed: value}}. Released and counted numbers have the seed 0."""

    kind: str
    values: Mapping[str, Mapping[int, float]]

    def summary(self, column: str) -> stats.Summary:
        """Mean, sample sd and n over seeds in `column`."""
        return stats.summarise(list(self.values.get(column, {}).values()))

    @property
    def n(self) -> int:
        """Seeds, in the column that has most."""
        return max((len(seeds) for seeds in self.values.values()), default=0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A word, and what it was computed from: row - reference in the paper and in ours (None where there is none)."""

    word: str
    paper_difference: float | None = None
    difference: stats.Interval | None = None
    evidence: str | None = None


@dataclass(frozen=True, kw_only=True)
class RowResults:
    """All evidence for a row, and its verdict in each column."""

    row: Row
    runs: Mapping[str, Evidence] = field(default_factory=dict)
    released: Evidence | None = None
    counted: Evidence | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)

    @property
    def best_run(self) -> Evidence | None:
        """The best kind of run that exists."""
        return next((self.runs[kind] for kind in EVIDENCE if kind in self.runs), None)

    @property
    def best(self) -> Evidence | None:
        """The released predictions where the row has them, else the best kind of run."""
        return self.released or self.best_run

    @property
    def lines(self) -> list[Evidence]:
        """What a table shows, one line each: released, then the best runs; or counted alone."""
        shown = [evidence for evidence in (self.released, self.best_run) if evidence is not None]
        return shown or ([self.counted] if self.counted is not None else [])


@dataclass(frozen=True, kw_only=True)
class TableResults:
    """A table of a paper with our evidence."""

    paper: str
    table: Table
    rows: tuple[RowResults, ...]

    def row(self, label: str) -> RowResults:
        """The row with this label.

        Raises:
            KeyError: there is none.
        """
        return self.rows[self.table.rows.index(self.table.row(label))]


# ------------------------------------------------------------------------------------------------------------ evidence


def index_runs(store: Store | Iterable[Mapping[str, Any]]) -> RunIndex:
    """The store's runs by everything but the seed. Runs of models or settings that are gone are left out."""
    from vtg_lib.runs import RunSpec

    index: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in store:
        try:
            spec = RunSpec.from_dict(record["spec"])
            index.setdefault(spec.cost_key, {})[spec.seed] = record
        except (ValueError, TypeError, KeyError):
            continue
    return index


def results_for(
    paper: Paper, table: Table, row: Row, runs: RunIndex, released: Mapping[str, Mapping[str, float]] | None = None
) -> RowResults:
    """All evidence for one row, without verdicts.

    Args:
        runs: see `index_runs`.
        released: prediction file -> "brief" metrics, see `released_scores`.
    """
    return RowResults(
        row=row,
        runs=_run_evidence(paper, table, row, runs),
        released=_released_evidence(table, row, released or {}),
        counted=_counted_evidence(table, row),
    )


def _run_evidence(paper: Paper, table: Table, row: Row, runs: RunIndex) -> dict[str, Evidence]:
    if not row.planned or not _registered(row.model):
        return {}
    found: dict[str, Evidence] = {}
    for kind in EVIDENCE:
        values: dict[str, dict[int, float]] = {}
        for profile in (p for p in paper.profiles.values() if p.evidence == kind):
            for dataset in row_datasets(table, profile):
                columns = [c for c in table.columns if c.dataset == dataset and c.metric is not None]
                for seed, record in runs.get(row_spec(row, profile, dataset, 0).cost_key, {}).items():
                    for column in columns:
                        value = _metric(record["metrics"], column)
                        if value is not None:
                            values.setdefault(column.name, {})[seed] = value
        if values:
            found[kind] = Evidence(kind=kind, values=values)
    return found


def _metric(metrics: Mapping[str, Mapping[str, float]], column: Column) -> float | None:
    assert column.split is not None and column.metric is not None
    split = metrics.get(column.split)
    if split is None and column.dataset == "charades_sta":  # it has no validation split: runs call its test split "val"
        split = metrics.get("val")
    value = None if split is None else split.get(column.metric)
    return None if value is None or math.isnan(value) else float(value)


def _released_evidence(table: Table, row: Row, released: Mapping[str, Mapping[str, float]]) -> Evidence | None:
    values: dict[str, dict[int, float]] = {}
    for column in table.columns:
        brief = released.get(row.released.get(column.split or "", ""), {})
        if column.metric is not None and column.metric in brief:
            values[column.name] = {0: float(brief[column.metric])}
    return Evidence(kind=RELEASED, values=values) if values else None


def _counted_evidence(table: Table, row: Row) -> Evidence | None:
    columns = [c.name for c in table.columns if c.metric == "parameters"]
    if not columns or not row.planned or not _registered(row.model):
        return None
    count = _parameters(row.model or "", json.dumps(row.overrides.config, sort_keys=True))
    return Evidence(kind=COUNTED, values={name: {0: count} for name in columns})


def _registered(model: str | None) -> bool:
    from vtg_lib.models import MODELS

    return model in MODELS


@functools.cache
def _parameters(model: str, overrides: str) -> float:
    """Millions of learnable parameters at the published size."""
    import torch

    from vtg_lib import models

    with torch.random.fork_rng(devices=[]):  # initialising draws random numbers that are nobody's business
        return models.count_parameters(models.build(model, json.loads(overrides))) / 1e6


def released_scores(paper: Paper, data_root: Path | str | None = None) -> dict[str, dict[str, float]]:
    """The evaluator's "brief" numbers of every released prediction file that the paper's rows name: computed from the
    files where they are there, else as `vtg_lib.recorded` has them.

    Args:
        data_root: the folder of real data; default as `vtg_lib.data.data_root`.
    """
    from vtg_lib.data import data_root as default_root

    root = default_root(data_root)
    names = {(name, split) for t in paper.tables for row in t.rows for split, name in row.released.items()}
    scores = {name: _released_score(name, split, root) for name, split in sorted(names)}
    return {name: score for name, score in scores.items() if score is not None}


# ---------------------------------------------------------------------------------------------------------- comparison


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
    runs = index_runs(store)
    compared = {}
    for table in paper.tables if tables is None else [paper.table(table_id) for table_id in tables]:
        rows = [results_for(paper, table, row, runs, released) for row in table.rows]
        reference = next((r for r in rows if r.row.label == table.reference), None)
        compared[table.id] = TableResults(
            paper=paper.key, table=table, rows=tuple(_with_verdicts(table, row, reference) for row in rows)
        )
    return compared


def _with_verdicts(table: Table, row: RowResults, reference: RowResults | None) -> RowResults:
    if reference is None:
        return row
    verdicts = {c.name: verdict(row, reference, c.name) for c in table.columns if c.metric is not None}
    return RowResults(row=row.row, runs=row.runs, released=row.released, counted=row.counted, verdicts=verdicts)


def verdict(row: RowResults, reference: RowResults, column: str) -> Verdict:
    """Whether ours moves as the paper's does, from the reference row to this row, in one column."""
    if row.row.label == reference.row.label:
        return Verdict(word=REFERENCE)
    printed, base = row.row.paper.get(column), reference.row.paper.get(column)
    if printed is None or base is None:
        return Verdict(word=NOT_PRINTED)
    paper_difference = round(printed - base, 6)
    for kind in EVIDENCE:
        ours = row.runs[kind].values.get(column, {}) if kind in row.runs else {}
        others = reference.runs[kind].values.get(column, {}) if kind in reference.runs else {}
        if set(ours) & set(others):
            interval = stats.paired_difference(ours, others)
            word = _word(paper_difference, interval)
            return Verdict(word=word, paper_difference=paper_difference, difference=interval, evidence=kind)
    return Verdict(word=NOT_RUN, paper_difference=paper_difference)


def _word(paper_difference: float, ours: stats.Interval) -> str:
    if paper_difference == 0:
        return NO_DIFFERENCE
    if ours.n < 2:
        return ONE_SEED
    if ours.contains_zero:
        return NOISE
    return SAME if (ours.mean > 0) == (paper_difference > 0) else REVERSED
