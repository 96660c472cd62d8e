"""What our runs say about a row of a paper's table: the best evidence and its spread.

A run counts for a row when its spec is the row's at one of the paper's profiles, whatever the seed.
`official` comes before `rendered` before `sim`; kinds are never mixed in a cell or in a comparison, nor are
two profiles of one kind: the first in the paper's YAML that has runs stands for the kind. `released`
(predictions that the authors published, scored by our evaluator) and `counted` (parameters of the published
size) are kept apart.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation import statistics as stats
from vtg_lib.evaluation.released import released_score
from vtg_lib.papers.plan import row_datasets, row_spec
from vtg_lib.papers.schema import EVIDENCE, Column, Paper, Row, Table
from vtg_lib.papers.verdict import Verdict, has_learned

if TYPE_CHECKING:
    from vtg_lib.experiments.store import Store

RELEASED, COUNTED = "released", "counted"
TUNING = 1000  # worlds from here on are for tuning; no table reads them

_released_score = functools.cache(released_score)  # the files do not change while a page is built
RunIndex = Mapping[str, Mapping[int, Mapping[str, Any]]]  # cost key -> seed -> record of the store


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What decides whether a run may be compared with another: its type of device, its model, its version of
    the code, and whether it has learned to read.
    """

    device: str | None = None
    model: str | None = None
    digest: str | None = None
    learned: bool = True

    def other_code(self, other: Origin) -> bool:
        """Whether two runs of one model are known to come from different versions of its code."""
        known = self.digest is not None and other.digest is not None
        return known and self.model == other.model and self.digest != other.digest


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Our numbers of one kind for one row: {column: {seed: value}}. Released and counted numbers have the
    seed 0.

    Runs have a profile, and an origin for every value.
    """

    kind: str
    values: Mapping[str, Mapping[int, float]]
    profile: str | None = None
    origins: Mapping[str, Mapping[int, Origin]] = field(default_factory=dict)

    def origin(self, column: str, seed: int) -> Origin:
        """Where a value comes from, as far as it is known."""
        return self.origins.get(column, {}).get(seed, Origin())

    def summary(self, column: str) -> stats.Summary:
        """Mean, sample sd and n over seeds in `column`, of runs that have learned to read; of all if none
        has.
        """
        return stats.summarise(self._learned(column))

    def interval(self, column: str) -> stats.Interval:
        """Student's 95 % interval of the mean of the same seeds; its bounds are NaN for one."""
        return stats.t_interval(self._learned(column))

    def _learned(self, column: str) -> list[float]:
        values = self.values.get(column, {})
        learned = [value for seed, value in values.items() if self.origin(column, seed).learned]
        return learned or list(values.values())

    def rate(self, column: str) -> tuple[int, int]:
        """How many runs in `column` have learned to read, of how many."""
        seeds = self.values.get(column, {})
        return sum(self.origin(column, seed).learned for seed in seeds), len(seeds)

    @property
    def n(self) -> int:
        """Seeds, in the column that has most."""
        return max((len(seeds) for seeds in self.values.values()), default=0)


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
    """A table of a paper with our evidence.

    lacking: labels of rows that the library can run and that have no runs. command: trains them, at the
    cheapest profile that produces the table's numbers (`profile`); None where there are none, or no profile
    does.
    """

    paper: str
    table: Table
    rows: tuple[RowResults, ...]
    lacking: tuple[str, ...] = ()
    profile: str | None = None

    @property
    def command(self) -> str | None:
        if not self.lacking or self.profile is None:
            return None
        return f"vtg sweep --paper {self.paper} --profile {self.profile} --tables {self.table.id}"

    @property
    def versions(self) -> dict[str, list[str]]:
        """Digests of the code behind the runs that the table shows, by model."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            for seeds in row.best_run.origins.values() if row.best_run is not None else ():
                for origin in seeds.values():
                    if origin.model is not None and origin.digest is not None:
                        found.setdefault(origin.model, set()).add(origin.digest)
        return {model: sorted(digests) for model, digests in found.items()}

    def row(self, label: str) -> RowResults:
        """The row with this label.

        Raises:
            KeyError: there is none.
        """
        return self.rows[self.table.rows.index(self.table.row(label))]


def index_runs(store: Store | Iterable[Mapping[str, Any]]) -> RunIndex:
    """The store's runs by everything but the seed. Runs of models or settings that are gone are left out."""
    from vtg_lib.experiments.spec import RunSpec

    index: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in store:
        try:
            spec = RunSpec.from_dict(record["spec"])
            index.setdefault(spec.cost_key, {})[spec.seed] = record
        except (ValueError, TypeError, KeyError):
            continue
    return index


def _run_evidence(paper: Paper, table: Table, row: Row, runs: RunIndex) -> dict[str, Evidence]:
    if not runnable(row):
        return {}
    found: dict[str, Evidence] = {}
    for profile in paper.profiles.values():
        if profile.evidence is None or profile.evidence in found:
            continue
        values: dict[str, dict[int, float]] = {}
        origins: dict[str, dict[int, Origin]] = {}
        for dataset in row_datasets(table, profile):
            columns = [c for c in table.columns if c.dataset == dataset and c.metric is not None]
            for seed, record in runs.get(row_spec(row, profile, dataset, 0).cost_key, {}).items():
                if seed >= TUNING:
                    continue
                for column in columns:
                    value = _metric(record["metrics"], column)
                    if value is not None:
                        values.setdefault(column.name, {})[seed] = value
                        origins.setdefault(column.name, {})[seed] = origin_of(record)
        if values:
            found[profile.evidence] = Evidence(
                kind=profile.evidence, values=values, profile=profile.name, origins=origins
            )
    return found


def origin_of(record: Mapping[str, Any]) -> Origin:
    """Where a line of a store comes from."""
    from vtg_lib.experiments.provenance import same_code

    known = record.get("provenance", {})
    device, digest = known.get("device"), known.get("source_digest")
    if device is not None:  # `machine.device_name` counts the threads of a CPU only
        device = "cpu" if device.endswith("thread(s)") else "cuda"
    return Origin(
        device=device,
        model=record["spec"]["model"],
        digest=digest and same_code().of(digest),
        learned=has_learned(record),
    )


def _metric(metrics: Mapping[str, Mapping[str, float]], column: Column) -> float | None:
    assert column.split is not None and column.metric is not None
    value = metrics.get(column.split, {}).get(column.metric)
    return None if value is None or math.isnan(value) else float(value)


def _released_evidence(
    table: Table, row: Row, released: Mapping[str, Mapping[str, float]]
) -> Evidence | None:
    values: dict[str, dict[int, float]] = {}
    for column in table.columns:
        brief = released.get(row.released.get(column.split or "val", ""), {})
        if column.metric is not None and column.metric in brief:
            values[column.name] = {0: float(brief[column.metric])}
    return Evidence(kind=RELEASED, values=values) if values else None


def _counted_evidence(table: Table, row: Row) -> Evidence | None:
    columns = [c.name for c in table.columns if c.metric == "parameters"]
    if not columns or not runnable(row):
        return None
    count = _parameters(row.model or "", json.dumps(row.overrides.config, sort_keys=True))
    return Evidence(kind=COUNTED, values={name: {0: count} for name in columns})


def runnable(row: Row) -> bool:
    """Whether the library has the row's model."""
    from vtg_lib.models import MODELS

    return row.planned and row.model in MODELS


@functools.cache
def _parameters(model: str, overrides: str) -> float:
    """Millions of learnable parameters at the published size."""
    import torch

    from vtg_lib import models

    with torch.random.fork_rng(devices=[]):  # initialising draws random numbers that are nobody's business
        return models.count_parameters(models.build(model, json.loads(overrides))) / 1e6


def released_scores(paper: Paper, data_root: Path | str | None = None) -> dict[str, dict[str, float]]:
    """The evaluator's "brief" numbers of every released prediction file that the paper's rows name: computed
    from the files where they are there, else as `vtg_lib.evaluation.released` has them.

    Args:
        data_root: the folder of real data; default as `vtg_lib.files.data_root`.
    """
    from vtg_lib.files import data_root as default_root

    root = default_root(data_root)
    names = {(name, split) for t in paper.tables for row in t.rows for split, name in row.released.items()}
    scores = {name: _released_score(name, split, root) for name, split in sorted(names)}
    return {name: score for name, score in scores.items() if score is not None}


def row_results(
    paper: Paper, table: Table, runs: RunIndex, released: Mapping[str, Mapping[str, float]]
) -> list[RowResults]:
    """A table's rows with all evidence there is, as yet without verdicts."""
    return [
        RowResults(
            row=row,
            runs=_run_evidence(paper, table, row, runs),
            released=_released_evidence(table, row, released),
            counted=_counted_evidence(table, row),
        )
        for row in table.rows
    ]
