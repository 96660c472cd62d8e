"""Complaints about a file's values name the place, what was expected and what was there."""

import dataclasses
import datetime
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic
import pytest

from vtg_lib.data.forms import check


@dataclass(frozen=True, kw_only=True)
class Row:
    label: str
    size: int = 1
    pair: tuple[str, str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"expected a size of 0 or more, got {self.size}")


@dataclass(frozen=True, kw_only=True)
class Table:
    kind: Literal["table", "figure"] = "table"
    added: bool = False
    rows: tuple[Row, ...] = ()
    scale: float = 1.0
    released: Mapping[Literal["val", "test"], str] = field(default_factory=dict)
    named: Mapping[str, Row] = field(default_factory=dict)
    either: Row | list[Row] | None = None


def test_values_become_instances() -> None:
    got = check(
        Table, {"rows": [{"label": "a", "pair": ["x", "y"], "config": {"k": [1]}}], "scale": 2}, "f.yaml"
    )
    assert got == Table(rows=(Row(label="a", pair=("x", "y"), config={"k": [1]}),), scale=2.0)
    assert type(got.scale) is float and dataclasses.asdict(got)["rows"][0]["size"] == 1
    assert check(dict[str, int], {"a": 1}, "f") == {"a": 1}
    assert check(pydantic.TypeAdapter(int | None), None, "f") is None
    assert check(Table, Table(rows=(Row(label="a"),)), "f") == Table(rows=(Row(label="a"),))
    assert check(str, datetime.date(2024, 1, 2), "f") == "2024-01-02"
    assert check(str, pathlib.PurePosixPath("a/b"), "f") == "a/b"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "f.yaml: expected a mapping, got 3"),
        ({"added": "yes"}, "f.yaml, added: expected true or false, got 'yes'"),
        ({"scale": "1"}, "f.yaml, scale: expected a number, got '1'"),
        ({"kind": "plot"}, "f.yaml, kind: expected 'table' or 'figure', got 'plot'"),
        ({"rows": 3}, "f.yaml, rows: expected a list, got 3"),
        ({"rows": [{"label": "a", "size": 1.5}]}, "f.yaml, rows, item 1 ('a'), size: expected"),
        ({"rows": [{"size": 1}]}, "f.yaml, rows, item 1: expected field 'label', which is missing; got size"),
        (
            {"rows": [{"label": "a", "pair": ["x"]}]},
            "item 1 ('a'), pair: expected item 2, which is missing; got x",
        ),
        (
            {"rows": [{"label": "a"}, {"label": "b", "sice": 1}]},
            "f.yaml, rows, item 2 ('b'): unknown field 'sice'; did you mean 'size'? "
            "expected one of label, size, pair, config",
        ),
        (
            {"named": {"x": {"labl": "a", "label": "b"}}},
            "f.yaml, named, x: unknown field 'labl'; did you mean 'label'?",
        ),
        ({"released": {"tset": "a"}}, "f.yaml, released: expected the key to be 'val' or 'test', got 'tset'"),
        ({"rows": [{"label": "a", "size": -1}]}, "item 1 ('a'): expected a size of 0 or more, got -1"),
        ({"either": {"label": "a", "sice": 1}}, "f.yaml, either: unknown field 'sice'; did you mean 'size'?"),
        ({"rows": {1, 2}}, "f.yaml: expected values that JSON can hold, got set {1, 2}"),
    ],
)
def test_complaints(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        check(Table, value, "f.yaml")
    assert message in str(raised.value) and "pydantic" not in str(raised.value)
