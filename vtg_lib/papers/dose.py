"""Dose-response: turn the knob that a paper blames, and see whether the method's gain over its control
follows.

Only generated data has such knobs. Every study (`doses` in the paper's YAML) is a pair of rows of the paper's
tables, run on the same worlds at several values of one knob. What it says is a claim like any other: the
gain at the last value against that at the first (`vtg_lib.papers.claims`).

Tables that vary one setting of a method (`Varied`) are drawn in the same way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.statistics import Interval, paired_difference
from vtg_lib.papers import EVIDENCE, Dose, Paper, RowRef, load_paper, row_spec
from vtg_lib.papers.plan import turned
from vtg_lib.papers.questions import by_key

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers.evidence import TableResults

METRIC = "MR-full-mAP"
DATASET = "qvhighlights"  # whose generated world has the knobs
Point = tuple[float, int, float]  # value of the knob, seed, score


def dose_specs(
    paper_key: str, profile: str, seeds: Iterable[int], keys: Iterable[str] | None = None
) -> list[tuple[RowRef, RunSpec]]:
    """The runs of a paper's dose-response studies, first seed first, each once.

    Raises:
        ValueError: an unknown study.
    """
    paper = load_paper(paper_key)
    chosen = by_key("dose", paper.doses, keys)
    found: dict[str, tuple[RowRef, RunSpec]] = {}
    for seed in seeds:
        for dose in chosen:
            for value, setting in dose.points:
                labels = [f"{label}, {dose.knob}={value:g}" for _, label in (dose.treated, dose.control)]
                for label, spec in zip(labels, _pair(dose, paper, profile, setting, seed), strict=True):
                    ref = RowRef(paper=paper_key, table=dose.key, label=label, dataset=DATASET)
                    found.setdefault(spec.hash, (ref, spec))
    return list(found.values())


def _pair(dose: Dose, paper: Paper, profile: str, setting: Any, seed: int) -> list[RunSpec]:
    """The runs of the treated and of the control row with the knob set."""
    rows = [paper.table(table).row(label) for table, label in (dose.treated, dose.control)]
    bases = [row_spec(row, paper.profile(profile), DATASET, seed) for row in rows]
    plain = [dataclasses.replace(base, diagnostics=(), keep=False) for base in bases]
    return [turned(base, {**dose.data, dose.knob: setting}) for base in plain]


def response(
    dose: Dose, paper_key: str, profile: str, seeds: Iterable[int], store: Store
) -> list[Interval | None]:
    """The gain in mAP on test at each value of the knob, from stored runs that have learned to read; None
    where no seed has both rows.
    """
    from vtg_lib.experiments.run import find
    from vtg_lib.papers.evidence import TUNING, origin_of

    paper, found = load_paper(paper_key), []
    for _, setting in dose.points:
        treated, control = {}, {}
        for seed in sorted(seed for seed in set(seeds) if seed < TUNING):
            specs = _pair(dose, paper, profile, setting, seed)
            pair = [find(store, spec) for spec in specs]
            origins = [origin_of(run.to_dict()) for run in pair if run is not None]
            alike = len(origins) == 2 and origins[0].device == origins[1].device
            if alike and all(origin.learned for origin in origins):
                treated[seed], control[seed] = (
                    run.metrics.get("test", run.metrics["val"]).get(METRIC, math.nan) for run in pair if run
                )
        found.append(paired_difference(treated, control) if treated else None)
    return found


def table_points(results: TableResults) -> tuple[str | None, dict[str, list[Point]]]:
    """Of a table with `varied`: the best kind of evidence that a row has, and its numbers in the primary
    column by method.

    All are of one profile and one type of device, those with most numbers, as only such may be compared.
    """
    table = results.table
    assert table.varied is not None and table.primary is not None
    kind = next((kind for kind in EVIDENCE if any(kind in row.runs for row in results.rows)), None)
    found: dict[tuple[str | None, str | None], dict[str, list[Point]]] = {}
    for row in results.rows:
        method, number = table.varied.point(row.row.label)
        if kind is None or (runs := row.runs.get(kind)) is None:
            continue
        for seed, value in runs.values.get(table.primary, {}).items():
            origin = runs.profile, runs.origin(table.primary, seed).device
            found.setdefault(origin, {method: [] for method in table.varied.methods})[method].append(
                (number, seed, value)
            )
    return kind, max(found.values(), key=lambda points: sum(map(len, points.values())), default={})
