"""Reading and checking a paper's YAML. Every complaint names the file, the table, the row and the field."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vtg_lib.papers import columns as metrics_of
from vtg_lib.papers.schema import (
    DATASETS,
    EVIDENCE,
    SOURCES,
    Dose,
    Layer,
    Overrides,
    Paper,
    Profile,
    Row,
    Table,
    Varied,
)

FOLDER = Path(__file__).parent
PAPER_FIELDS = {
    "key",
    "chapter",
    "title",
    "venue",
    "code",
    "notes",
    "include",
    "order",
    "profiles",
    "tables",
    "doses",
}
TABLE_FIELDS = {
    *("kind", "caption", "place", "columns", "primary", "reference", "higher_is_better", "see", "computed"),
    *("varied", "notes", "defaults", "rows"),
}
ROW_FIELDS = {
    *(
        "label",
        "paper",
        "source",
        "model",
        "overrides",
        "released",
        "text",
        "also",
        "notes",
        "field",
        "added",
    ),
    *("planned", "features", "diagnostics"),
}
LAYER_FIELDS = {"config", "data", "train"}
CLAIMS = ("grows", "falls")


def paper_keys() -> list[str]:
    """The papers there are. A file with an underscore in its name (`sdst_deviations.yaml`) goes with a paper."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "_" not in path.stem)


@functools.cache
def load_paper(key: str) -> Paper:
    """The paper with this key, from the YAML beside this file.

    Raises:
        ValueError: no such paper, or a fault in its YAML; the message names file, table, row and field.
    """
    if key not in paper_keys():
        raise ValueError(f"paper: expected one of {', '.join(paper_keys())}; got {key!r}")
    return read_paper(FOLDER / f"{key}.yaml")


def read_paper(path: Path) -> Paper:
    """Read and check one paper's YAML, with the files it includes.

    Raises:
        ValueError: as `load_paper`.
        FileNotFoundError: an included file is missing.
    """
    top = _mapping(_yaml(path), f"{path.name}")
    _known(top, PAPER_FIELDS, path.name)
    for name in ("key", "chapter", "title", "venue", "profiles"):
        if name not in top:
            raise ValueError(f"{path.name}: field {name!r} is missing")
    tables = {i: _table(path.name, i, t) for i, t in _mapping(top.get("tables", {}), path.name).items()}
    for name in top.get("include", []):
        for table_id, value in _mapping(_yaml(path.parent / name).get("tables", {}), name).items():
            if table_id in tables:
                raise ValueError(f"{name}, {table_id}: a table with this id was read before")
            tables[table_id] = _table(name, table_id, value)
    order = top.get("order", list(tables))
    if sorted(order) != sorted(tables):
        missing, extra = sorted(set(tables) - set(order)), sorted(set(order) - set(tables))
        raise ValueError(f"{path.name}: field 'order' leaves out {missing} and names unknown tables {extra}")
    for table in tables.values():
        if table.see is not None and table.see not in tables:
            raise ValueError(f"{path.name}, {table.id}: field 'see' names {table.see!r}, which is no table")
    profiles = {
        n: _profile(path.name, n, v) for n, v in _mapping(top["profiles"], f"{path.name}, profiles").items()
    }
    return Paper(
        key=top["key"],
        chapter=top["chapter"],
        title=top["title"],
        venue=top["venue"],
        code=top.get("code"),
        tables=tuple(tables[i] for i in order),
        profiles=profiles,
        doses=tuple(_dose(path.name, dose, tables) for dose in top.get("doses", ())),
        notes=tuple(top.get("notes", ())),
    )


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not valid YAML: {error}") from error


def _table(file: str, table_id: str, value: Any) -> Table:
    where = f"{file}, {table_id}"
    value = _mapping(value, where)
    _known(value, TABLE_FIELDS, where)
    for name in ("caption", "place", "columns", "rows"):
        if name not in value:
            raise ValueError(f"{where}: field {name!r} is missing")
    kind = value.get("kind", "table")
    if kind not in ("table", "figure"):
        raise ValueError(f"{where}: field 'kind': expected table or figure, got {kind!r}")
    names = value["columns"]
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: field 'columns': names must be unique, got {names}")
    computed = value.get("computed")
    if computed not in (None, "ranks", "nemenyi"):
        raise ValueError(f"{where}: field 'computed': expected ranks or nemenyi, got {computed!r}")
    defaults = _mapping(value.get("defaults", {}), f"{where}, defaults")
    rows = tuple(_row(where, names, {**defaults, **_mapping(row, where)}) for row in value["rows"])
    labels = [row.label for row in rows]
    if len(set(labels)) != len(labels):
        raise ValueError(f"{where}: labels must be unique, got {labels}")
    primary = value.get("primary", "mAP") if names else None
    if primary is not None and primary not in names:
        raise ValueError(f"{where}: field 'primary': expected one of {names}, got {primary!r}")
    reference = value.get("reference")
    if reference is not None and reference not in labels:
        raise ValueError(f"{where}: field 'reference': expected one of {labels}, got {reference!r}")
    return Table(
        id=table_id,
        kind=kind,
        caption=value["caption"],
        place=value["place"],
        columns=tuple(metrics_of.column(name, computed is not None) for name in names),
        rows=rows,
        primary=primary,
        reference=reference,
        higher_is_better=value.get("higher_is_better", True),
        see=value.get("see"),
        computed=computed,
        varied=_varied(where, value["varied"], rows) if "varied" in value else None,
        notes=tuple(value.get("notes", ())),
    )


def _varied(where: str, value: Any, rows: tuple[Row, ...]) -> Varied:
    value = _mapping(value, f"{where}, varied")
    if set(value) != {"knob", "unit", "claims"}:
        raise ValueError(
            f"{where}: field 'varied': expected knob, unit and claims, got {', '.join(value) or 'nothing'}"
        )
    claims = _mapping(value["claims"], f"{where}, varied, claims")
    if wrong := [claim for claim in claims.values() if claim not in CLAIMS]:
        raise ValueError(
            f"{where}: field 'varied': expected claims to be {' or '.join(CLAIMS)}, got {wrong[0]!r}"
        )
    varied = Varied(knob=value["knob"], unit=value["unit"], claims=claims)
    for row in rows:
        try:
            number = varied.point(row.label)[1]
        except ValueError as error:
            raise ValueError(f"{where}: field 'label': {error}") from None
        if (value := row.overrides.config.get(varied.knob, number)) != number:
            raise ValueError(
                f"{where}, row {row.label!r}: expected {varied.knob} to be {number:g}, got {value!r}"
            )
    return varied


def _row(where: str, columns: list[str], value: dict[str, Any]) -> Row:
    label = value.get("label")
    if not isinstance(label, str) or not label:
        raise ValueError(f"{where}: field 'label': expected a name, got {label!r}")
    where = f"{where}, row {label!r}"
    _known(value, ROW_FIELDS, where)
    source = value.get("source", "run")
    model = value.get("model", "sdst" if source == "run" else None)
    if source not in SOURCES:
        raise ValueError(f"{where}: field 'source': expected one of {', '.join(SOURCES)}; got {source!r}")
    released = _mapping(value.get("released", {}), f"{where}, released")
    if (source == "released") != bool(released):
        raise ValueError(
            f"{where}: field 'released': expected split -> prediction file if source is released, else nothing"
        )
    if unknown := sorted(set(released) - {"val", "test"}):
        raise ValueError(f"{where}: field 'released': expected the splits val and test, got {unknown}")
    text = _mapping(value.get("text", {}), f"{where}, text")
    _known(text, set(columns), f"{where}, text")
    return Row(
        label=label,
        paper=_numbers(f"{where}, field 'paper'", columns, value.get("paper", {})),
        source=source,
        model=model,
        overrides=_overrides(value.get("overrides", {}), f"{where}, overrides", {"config", "data"}),
        released=released,
        text=text,
        also={
            name: {
                c: v for c, v in _numbers(f"{where}, also {name}", columns, numbers).items() if v is not None
            }
            for name, numbers in _mapping(value.get("also", {}), f"{where}, also").items()
        },
        notes=tuple(value.get("notes", ())),
        config_field=value.get("field"),
        added=_flag(value, "added", False, where),
        planned=_flag(value, "planned", source != "quoted", where),
        features=value.get("features"),
        diagnostics=tuple(value.get("diagnostics", ())),
    )


def _numbers(where: str, columns: list[str], value: Any) -> dict[str, float | None]:
    if isinstance(value, list):
        if len(value) != len(columns):
            raise ValueError(
                f"{where}: expected {len(columns)} cells ({', '.join(columns)}), got {len(value)}"
            )
        value = dict(zip(columns, value, strict=True))
    value = _mapping(value, where)
    _known(value, set(columns), where)
    for name, number in value.items():
        good = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        if number is not None and not good:
            raise ValueError(f"{where}, column {name!r}: expected a number or null, got {number!r}")
    return {name: None if value.get(name) is None else float(value[name]) for name in columns}


def _profile(file: str, name: str, value: Any) -> Profile:
    where = f"{file}, profile {name!r}"
    value = _mapping(value, where)
    _known(value, LAYER_FIELDS | {"evidence", "models", "datasets", "features"}, where)
    evidence = value.get("evidence")
    if evidence is not None and evidence not in EVIDENCE:
        raise ValueError(
            f"{where}: field 'evidence': expected one of {', '.join(EVIDENCE)} or nothing; got {evidence!r}"
        )
    datasets = _mapping(value.get("datasets", {}), f"{where}, datasets")
    _known(datasets, set(DATASETS), f"{where}, datasets")
    layer = {k: v for k, v in value.items() if k in LAYER_FIELDS | {"models"}}
    return Profile(
        name=name,
        evidence=evidence,
        layer=_layer(layer, where),
        datasets={k: _layer(v, f"{where}, data set {k!r}") for k, v in datasets.items()},
        features={
            k: _overrides(v, f"{where}, features {k!r}", LAYER_FIELDS)
            for k, v in _mapping(value.get("features", {}), f"{where}, features").items()
        },
    )


def _layer(value: Any, where: str) -> Layer:
    value = _mapping(value, where)
    _known(value, LAYER_FIELDS | {"models"}, where)
    models = _mapping(value.get("models", {}), f"{where}, models")
    return Layer(
        base=_overrides({k: v for k, v in value.items() if k != "models"}, where, LAYER_FIELDS),
        models={k: _overrides(v, f"{where}, model {k!r}", LAYER_FIELDS) for k, v in models.items()},
    )


def _dose(file: str, value: Any, tables: Mapping[str, Table]) -> Dose:
    where = f"{file}, doses"
    value = _mapping(value, where)
    names = {field.name for field in dataclasses.fields(Dose)}
    _known(value, names, where)
    if missing := sorted(names - {"settings"} - set(value)):
        raise ValueError(f"{where}: field {missing[0]!r} is missing")
    if len(value.get("settings", value["values"])) != len(value["values"]):
        raise ValueError(
            f"{where}, {value['key']}: field 'settings': expected one for each of the {len(value['values'])} values"
        )
    if value["claim"] not in CLAIMS:
        raise ValueError(
            f"{where}, {value['key']}: field 'claim': expected {' or '.join(CLAIMS)}, got {value['claim']!r}"
        )
    for side in ("treated", "control"):
        table, label = value[side]
        if table not in tables or label not in {row.label for row in tables[table].rows}:
            raise ValueError(
                f"{where}, {value['key']}: field {side!r}: there is no row {label!r} in table {table!r}"
            )
    sides = {side: tuple(value[side]) for side in ("treated", "control")}
    lists = {"values": tuple(map(float, value["values"])), "settings": tuple(value.get("settings", ()))}
    return Dose(**{**value, **sides, **lists})


def _overrides(value: Any, where: str, allowed: set[str]) -> Overrides:
    value = _mapping(value, where)
    _known(value, allowed, where)
    return Overrides(**{name: _mapping(part, f"{where}, {name}") for name, part in value.items()})


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {value!r}")
    return dict(value)


def _known(value: Mapping[str, Any], allowed: set[str], where: str) -> None:
    if unknown := sorted(set(value) - allowed):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r}; expected some of {', '.join(sorted(allowed))}"
        )


def _flag(value: Mapping[str, Any], name: str, default: bool, where: str) -> bool:
    flag = value.get(name, default)
    if not isinstance(flag, bool):
        raise ValueError(f"{where}: field {name!r}: expected true or false, got {flag!r}")
    return flag
