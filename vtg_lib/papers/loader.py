"""Reading and checking a paper's YAML. Every complaint names the file, the table, the row and the field."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from vtg_lib.data.forms import check, unknown
from vtg_lib.papers.columns import column
from vtg_lib.papers.questions import RowName
from vtg_lib.papers.schema import Paper, Profile, Row, Table

FOLDER = Path(__file__).parent
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, written in C, where libyaml is there
FIELDS = get_type_hints(Paper, include_extras=True)
ANCHORS = "x-"  # top-level fields that begin so only hold what others refer to


def paper_keys() -> list[str]:
    """The papers there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@functools.cache
def load_paper(key: str) -> Paper:
    """The paper with this key, or of this chapter ("03_sdst"), from the YAML beside this file.

    Raises:
        ValueError: no such paper, or a fault in its YAML; the message names file, table, row and field.
    """
    if key not in paper_keys() and re.fullmatch(r"\d\d_\w+", key):
        chapters = {paper.chapter: paper for paper in map(load_paper, paper_keys())}
        if key not in chapters:
            raise ValueError(f"paper: {unknown(key, [*paper_keys(), *chapters])}")
        return chapters[key]
    if key not in paper_keys():
        raise ValueError(f"paper: {unknown(key, paper_keys())}")
    return read_paper(FOLDER / f"{key}.yaml")


def read_paper(path: Path) -> Paper:
    """Read and check one paper's YAML, with the files it includes.

    Raises:
        ValueError: as `load_paper`.
        FileNotFoundError: an included file is missing.
    """
    found = _read(path)
    for name in found.get("include", ()):
        for key, value in _read(path.parent / name, found.get("model")).items():
            before = found.get(key)
            if before is None:
                found[key] = value
            elif isinstance(value, tuple):
                found[key] = (*before, *value)
            elif isinstance(value, Mapping) and not value.keys() & before.keys():
                found[key] = {**before, **value}
            else:
                twice = ", ".join(value.keys() & before.keys()) if isinstance(value, Mapping) else key
                raise ValueError(f"{name}, {key}: {twice} was read before, from another file")
    tables = found.get("tables", {})
    order = found.get("order", tuple(tables))
    if sorted(order) != sorted(tables):
        missing, extra = sorted(set(tables) - set(order)), sorted(set(order) - set(tables))
        raise ValueError(f"{path.name}: field 'order' leaves out {missing} and names unknown tables {extra}")
    found["tables"] = _with_parents(path.name, [tables[name] for name in order])
    for field in dataclasses.fields(Paper):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in found:
            raise ValueError(f"{path.name}: expected field {field.name!r}, which is missing")
    try:
        return Paper(**found)
    except ValueError as error:
        raise ValueError(f"{path.name}, {error}") from None


def _with_parents(where: str, tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables, every row that starts from another one's run holding that row."""
    rows = {(table.id, row.label): row for table in tables for row in table.rows}

    def whole(row: Row, later: tuple[RowName, ...] = ()) -> Row:
        if row.init is None:
            return row
        if row.init not in rows or rows[row.init].model is None or row.init in later:
            raise ValueError(
                f"{where}, row {row.label!r}, init: expected the table and label of a row that is run, and "
                f"that does not start from this one; got {list(row.init)}"
            )
        return dataclasses.replace(row, parent=whole(rows[row.init], (*later, row.init)))

    return tuple(
        dataclasses.replace(table, rows=tuple(map(whole, table.rows)))
        if any(row.init for row in table.rows)
        else table
        for table in tables
    )


def _read(path: Path, model: str | None = None) -> dict[str, Any]:
    """The fields of a `Paper` that one file holds; tables by id."""
    file = path.name
    try:
        content = check(dict[str, Any], yaml.load(path.read_text(encoding="utf-8"), LOADER), file)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML: {error}") from error
    found: dict[str, Any] = {}
    for key, value in content.items():
        where = f"{file}, {key}"
        if key == "tables":
            tables = check(dict[str, dict[str, Any]], value, where)
            found[key] = {
                i: _table(f"{file}, {i}", i, t, content.get("model", model)) for i, t in tables.items()
            }
        elif key == "profiles":
            profiles = check(dict[str, dict[str, Any]], value, where)
            found[key] = {n: check(Profile, {"name": n, **v}, f"{where}, {n}") for n, v in profiles.items()}
        elif key in FIELDS:
            found[key] = check(FIELDS[key], value, where)
        elif not key.startswith(ANCHORS):
            raise ValueError(f"{file}: unknown field {unknown(key, FIELDS)}")
    return found


def _table(where: str, table_id: str, value: dict[str, Any], model: str | None) -> Table:
    value = {"id": table_id, "primary": "mAP" if value.get("columns") else None, **value}
    defaults = check(dict[str, Any], value.pop("defaults", {}), f"{where}, defaults")
    names = check(list[str], value.get("columns", []), f"{where}, columns")
    rows = check(list[dict[str, Any]], value.get("rows", []), f"{where}, rows")
    if names:
        value["columns"] = [column(name, value.get("computed") is True) for name in names]
    if rows:
        value["rows"] = [_row(where, names, {**defaults, **row}, model) for row in rows]
    return check(Table, value, where)


def _row(where: str, names: list[str], value: dict[str, Any], model: str | None) -> dict[str, Any]:
    """A row with all its fields, lists of cells by the names of their columns."""
    where = f"{where}, row {value.get('label')!r}"
    if model is not None and value.get("source", "run") == "run":
        value = {"model": model, **value}
    paper = _cells(f"{where}, paper", names, value.get("paper", {}))
    value = {**value, "paper": {**dict.fromkeys(names), **paper}}
    if "also" in value:
        also = check(dict[str, Any], value["also"], f"{where}, also")
        cells = {name: _cells(f"{where}, also, {name}", names, given) for name, given in also.items()}
        value["also"] = {n: {c: v for c, v in given.items() if v is not None} for n, given in cells.items()}
    return value


def _cells(where: str, names: list[str], value: Any) -> dict[str, Any]:
    if not isinstance(value, list):
        return check(dict[str, Any], value, where)
    if len(value) != len(names):
        raise ValueError(f"{where}: expected {len(names)} cells ({', '.join(names)}), got {len(value)}")
    return dict(zip(names, value, strict=True))
