"""One budget for every method: the same learning rates, on worlds that no table reads, chosen on validation.

`vtg search` trains the trials and keeps them in `results/search.jsonl`; the profile in the paper's YAML has
to name what they choose, which a test holds. What is tried is a model, or, as "model:variant", one of the
profile's variants of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.files import RESULTS
from vtg_lib.papers.evidence import TUNING, index_runs
from vtg_lib.papers.plan import row_spec
from vtg_lib.papers.schema import Paper, Row
from vtg_lib.papers.verdict import METRIC, has_learned

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec
    from vtg_lib.experiments.store import Store

SEARCH = RESULTS / "search.jsonl"
RATES = (7.5e-4, 1.5e-3, 3e-3)
WORLDS = (TUNING, TUNING + 1)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What one learning rate gave one method.

    Attributes:
        scores: validation mAP by world; learned: how many of these runs have learned to read.
    """

    model: str
    rate: float
    scores: Mapping[int, float]
    learned: int

    @property
    def mean(self) -> float:
        return sum(self.scores.values()) / len(self.scores)


def search_specs(
    paper: Paper, profile: str, models: Sequence[str], rates: Iterable[float], worlds: Iterable[int]
) -> list[RunSpec]:
    """The trials of some methods, world by world."""
    rates = list(rates)
    return [
        _spec(paper, profile, model, rate, world) for world in worlds for model in models for rate in rates
    ]


def _spec(paper: Paper, profile: str, model: str, rate: float, world: int) -> RunSpec:
    """The method as its plainest row has it, a variant as the paper's yardstick if it is one, with another
    learning rate.

    Raises:
        ValueError: the paper has no row of the method.
    """
    rows = {
        (table.id, row.label): row
        for table in paper.tables
        for row in table.rows
        if row.planned and _name(row) == model
    }
    if not rows:
        raise ValueError(f"search: {paper.key} has no row of {model}")
    row = min(rows.values(), key=lambda row: len(row.overrides.config) + len(row.overrides.data))
    if ":" in model and paper.yardstick is not None:
        row = rows.get(paper.yardstick, row)
    spec = row_spec(row, paper.profile(profile), "qvhighlights", world)
    train = dataclasses.replace(spec.train, learning_rate=rate)
    return dataclasses.replace(spec, train=train, diagnostics=(), keep=False)


def trials(paper: Paper, profile: str, store: Store | Iterable[Mapping[str, Any]]) -> list[Trials]:
    """The trials in a store of every method of the paper, by method and rate."""
    from vtg_lib.models import MODELS

    runs = index_runs(store)
    models = {
        _name(row) for table in paper.tables for row in table.rows if row.planned and row.model in MODELS
    }
    records = [record for seeds in runs.values() for record in seeds.values()]
    rates = sorted({record["spec"]["train"]["learning_rate"] for record in records})
    found, seen = [], set()
    for model in sorted(models):
        for rate in rates:
            key = _spec(paper, profile, model, rate, TUNING).cost_key
            seeds = {} if key in seen else runs.get(key, {})
            seen.add(key)  # a variant of other features alone may be what the model is anyway
            tried = {world: record for world, record in seeds.items() if world >= TUNING}
            if tried:
                scores = {world: record["metrics"]["val"][METRIC] for world, record in tried.items()}
                learned = sum(map(has_learned, tried.values()))
                found.append(Trials(model=model, rate=rate, scores=scores, learned=learned))
    return found


def _name(row: Row) -> str:
    return f"{row.model}:{row.variant}" if row.variant else str(row.model)


def chosen(found: Iterable[Trials]) -> dict[str, float]:
    """model -> the rate at which most runs learned, and of these the one with the highest mean."""
    best: dict[str, Trials] = {}
    for one in found:
        before = best.get(one.model)
        if before is None or (one.learned, one.mean) > (before.learned, before.mean):
            best[one.model] = one
    return {model: one.rate for model, one in best.items()}
