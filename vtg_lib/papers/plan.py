"""From a row of a table to the runs that reproduce it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtg_lib.papers.schema import Paper, Profile, Row, Table

if TYPE_CHECKING:
    from vtg_lib.experiments.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class RowRef:
    """A row of a paper's table, on one of the data sets that the table's columns speak of."""

    paper: str
    table: str
    label: str
    dataset: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run, and all rows that it is evidence for."""

    spec: RunSpec
    refs: tuple[RowRef, ...]


def row_datasets(table: Table, profile: Profile) -> list[str]:
    """The data sets of the table's columns that the profile can produce, in column order."""
    datasets = dict.fromkeys(
        c.dataset for c in table.columns if c.metric is not None and c.dataset is not None
    )
    return [dataset for dataset in datasets if dataset in profile.datasets]


def row_spec(row: Row, profile: Profile, dataset: str, seed: int) -> RunSpec:
    """The run of one row: the model's defaults, the profile's overrides, then the row's own. Of rows that
    have diagnostics the store keeps the first seed's weights, for pages to look into.

    Raises:
        ValueError: the row names no model, the profile does not produce `dataset` or the variant the row
            asks for, or a train field is unknown.
    """
    from vtg_lib.experiments.spec import RunSpec

    if row.model is None:
        raise ValueError(f"row {row.label!r} is only quoted: it names no model to run")
    overrides = profile.overrides(row.model, dataset)
    if row.variant is not None:
        if row.variant not in profile.variants:
            known = ", ".join(profile.variants) or "none"
            raise ValueError(
                f"row {row.label!r} asks for variant {row.variant!r}; profile {profile.name} has {known}"
            )
        overrides = overrides.then(profile.variants[row.variant])
    overrides = overrides.then(row.overrides)
    return RunSpec.from_dict(
        {
            "model": row.model,
            "config": dict(overrides.config),
            "data": dict(overrides.data),
            "train": dict(overrides.train),
            "seed": seed,
            "init": ""
            if row.parent is None
            else row_spec(row.parent, profile, "qvhighlights", seed).resolved,
            "init_scope": row.init_scope,
            "diagnostics": row.diagnostics,
            "keep": bool(row.diagnostics) and seed == 0,
        }
    )


INIT = "init."  # before a knob: it is one of the world of the run that a run starts from


def turned(spec: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """The run with knobs of its world set, or, as "init.KNOB", of the world of the run that it starts from;
    one that starts from none has no such world, and stays as it is.
    """
    own = {name: value for name, value in settings.items() if not name.startswith(INIT)}
    before = {n.removeprefix(INIT): value for n, value in settings.items() if n.startswith(INIT)}
    init = spec.init if isinstance(spec.init, str) or not before else turned(spec.init, before)
    return dataclasses.replace(spec, data={**spec.data, **own}, init=init)


def plan(
    paper: Paper,
    profile: str,
    seeds: Iterable[int],
    tables: Collection[str] | None = None,
    models: Collection[str] | None = None,
) -> list[Planned]:
    """The runs that fill the paper's tables, each once, whatever number of rows share it.

    All rows come with the first seed before any comes with the second, so that a sweep that runs out of time
    leaves a whole table of fewer seeds. A shared run computes the diagnostics of all its rows.

    Args:
        tables: ids; default all.
        models: names that can be run; default all that `vtg_lib.models.MODELS` holds. Rows of others are left
            out.

    Raises:
        ValueError: unknown table or profile, or overrides that a model or the data does not have.
    """
    if models is None:
        from vtg_lib.models import MODELS

        models = set(MODELS)
    chosen = paper.tables if tables is None else [paper.table(table_id) for table_id in tables]
    size = paper.profile(profile)
    found: dict[str, Planned] = {}
    for seed in seeds:
        for table in chosen:
            for row in table.rows:
                if not row.planned or row.model not in models:
                    continue
                for dataset in row_datasets(table, size):
                    spec = row_spec(row, size, dataset, seed)
                    ref = RowRef(paper=paper.key, table=table.id, label=row.label, dataset=dataset)
                    found[spec.hash] = _merge(found.get(spec.hash), spec, ref)
    return list(found.values())


def _merge(before: Planned | None, spec: RunSpec, ref: RowRef) -> Planned:
    if before is None:
        return Planned(spec=spec, refs=(ref,))
    return Planned(spec=merged(before.spec, spec), refs=(*before.refs, ref))


def merged(first: RunSpec, second: RunSpec) -> RunSpec:
    """One run asked for twice: with the diagnostics of both, and its weights kept if either wants them."""
    names = tuple(dict.fromkeys((*first.diagnostics, *second.diagnostics)))
    return dataclasses.replace(first, diagnostics=names, keep=first.keep or second.keep)


def specs(
    paper: Paper,
    profile: str,
    seeds: Iterable[int],
    tables: Collection[str] | None = None,
    models: Collection[str] | None = None,
) -> list[tuple[tuple[RowRef, ...], RunSpec]]:
    """`plan` as pairs (all rows that the run is evidence for, the run)."""
    return [(planned.refs, planned.spec) for planned in plan(paper, profile, seeds, tables, models)]
