"""Dose-response: turn the knob that a paper blames, and see whether the method's gain over its control
follows.

Only generated data has such knobs. Every study (`doses` in the paper's YAML) is a pair of rows of the paper's
tables, run on the same world at several values of one knob; the gain is the paired difference over seeds.

Verdicts are computed: the slope of a least-squares line through the single-seed gains against the knob, with
its two-sided p value, gives a word, and the word is held against what the paper's explanation predicts:

- "not run": fewer than two values of the knob have a gain, so there is no slope;
- "no clear trend": p >= 0.05, or fewer than three gains, so no p value;
- "grows" or "falls": p < 0.05, by the sign of the slope; "as claimed" or "against the claim", by the
prediction.

Tables that vary one setting of a method (`Varied`) are judged in the same way, by the scores themselves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.evaluation.statistics import Interval, paired_difference
from vtg_lib.papers import EVIDENCE, Dose, Paper, RowRef, load_paper, row_spec

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers.evidence import TableResults

METRIC, READING = (
    "MR-full-mAP",
    "HL-min-VeryGood-mAP",
)  # of moments; of highlights, which need the sentence alone
GROWS, FALLS, NO_TREND, NOT_RUN = "grows", "falls", "no clear trend", "not run"
AS_CLAIMED, AGAINST = "as claimed", "against the claim"
DATASET = "qvhighlights"  # whose generated world has the knobs
LEVEL = 0.05  # below this p value a slope counts
Point = tuple[float, int, float]  # value of the knob, seed, gain or score


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How a gain or a score moves with a knob.

    Attributes:
        word: "grows", "falls", "no clear trend" or "not run".
        judgement: "as claimed", "against the claim", "no clear trend" or "not run".
        slope: percentage points per unit of the knob; p: of slope 0. NaN where there is none.
        n: single-seed numbers; seeds: how many seeds they come from.
    """

    word: str
    judgement: str
    slope: float
    p: float
    n: int
    seeds: int


def dose_specs(
    paper_key: str, profile: str, seeds: Iterable[int], keys: Iterable[str] | None = None
) -> list[tuple[RowRef, RunSpec]]:
    """The runs of a paper's dose-response studies, first seed first, each once.

    Raises:
        ValueError: an unknown study.
    """
    paper = load_paper(paper_key)
    studies = {dose.key: dose for dose in paper.doses}
    chosen = list(studies) if keys is None else list(keys)
    if unknown := sorted(set(chosen) - set(studies)):
        raise ValueError(
            f"dose: unknown study {', '.join(unknown)}; {paper_key} has {', '.join(studies) or 'none'}"
        )
    found: dict[str, tuple[RowRef, RunSpec]] = {}
    for seed in seeds:
        for dose in (studies[key] for key in chosen):
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
    return [dataclasses.replace(base, data={**base.data, dose.knob: setting}) for base in bases]


def response(
    dose: Dose, paper_key: str, profile: str, seeds: Iterable[int], store: Store, *, metric: str = METRIC
) -> list[Interval | None]:
    """The gain in a metric at each value of the knob from stored runs; None where no seed has both rows."""
    sides = _scores(dose, paper_key, profile, seeds, store, metric)
    return [paired_difference(treated, control) if treated else None for treated, control in sides]


def trend(
    dose: Dose, paper_key: str, profile: str, seeds: Iterable[int], store: Store, *, metric: str = METRIC
) -> Trend:
    """The slope of the gain in a metric against the knob over the single-seed gains in the store, and what it
    says of the claim.

    The p value takes the gains as independent; those of one seed at several values share the seed's
    initialisation.
    """
    points = [
        (value, seed, treated[seed] - control[seed])
        for value, (treated, control) in zip(
            dose.values, _scores(dose, paper_key, profile, seeds, store, metric), strict=True
        )
        for seed in treated
    ]
    return fit(points, dose.claim)


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
            found.setdefault(origin, {method: [] for method in table.varied.claims})[method].append(
                (number, seed, value)
            )
    return kind, max(found.values(), key=lambda points: sum(map(len, points.values())), default={})


def fit(points: Sequence[Point], claim: str) -> Trend:
    """The least-squares slope through single-seed points, and what it says of the claim."""
    from scipy.stats import linregress

    points = [point for point in points if not math.isnan(point[2])]
    slope = p = math.nan
    word = NOT_RUN
    if len({value for value, _, _ in points}) > 1:
        line = linregress([value for value, _, _ in points], [number for _, _, number in points])
        slope, p = float(line.slope), float(line.pvalue) if len(points) > 2 else math.nan
        word = NO_TREND if not p < LEVEL else GROWS if slope > 0 else FALLS
    judgement = word
    if word in (GROWS, FALLS):
        judgement = AS_CLAIMED if word == claim else AGAINST
    return Trend(
        word=word,
        judgement=judgement,
        slope=slope,
        p=p,
        n=len(points),
        seeds=len({seed for _, seed, _ in points}),
    )


def _scores(
    dose: Dose, paper_key: str, profile: str, seeds: Iterable[int], store: Store, metric: str
) -> list[tuple[dict[int, float], dict[int, float]]]:
    """Per value of the knob, a metric of the treated and of the control row by seed, where both ran on one
    type of device.
    """
    seeds = list(seeds)
    from vtg_lib.experiments.run import find
    from vtg_lib.papers.evidence import origin_of

    paper, found = load_paper(paper_key), []
    for _, setting in dose.points:
        treated, control = {}, {}
        for seed in sorted(set(seeds)):
            specs = _pair(dose, paper, profile, setting, seed)
            ours, other = (find(store, dataclasses.replace(spec, diagnostics=())) for spec in specs)
            if ours and other and origin_of(ours.to_dict()).device == origin_of(other.to_dict()).device:
                treated[seed], control[seed] = (
                    result.metrics["val"].get(metric, math.nan) for result in (ours, other)
                )
        found.append((treated, control))
    return found
