"""Diagnostics are found by listing their folder, and declare what pages show of them."""

from __future__ import annotations

import json

from vtg_lib import diagnostics
from vtg_lib.files import RESULTS

ADDED = """
from vtg_lib.diagnostics.topic import Lines, View

VIEW = View(title="Loss", by_epoch=Lines(value=lambda r: r["x"], ylabel="x", told=str, caption="c"))


def measure(model, data):
    return {"x": 1.0}
"""


def test_the_topics_of_stored_runs():
    lines = [line for path in RESULTS.glob("0*.jsonl") for line in path.read_text().splitlines()]
    stored = {name for line in lines for name in json.loads(line).get("diagnostics", {})}
    assert stored <= set(diagnostics.DIAGNOSTICS) == set(diagnostics.VIEWS)
    assert diagnostics.OBSERVED == ("matching",)


def test_a_file_adds_a_diagnostic(tmp_path, monkeypatch):
    (tmp_path / "added.py").write_text(ADDED)
    (tmp_path / "helper.py").write_text("x = 1")
    monkeypatch.setattr(diagnostics, "__path__", [*diagnostics.__path__, str(tmp_path)])
    found = diagnostics.find_topics()
    assert set(found) == {*diagnostics.DIAGNOSTICS, "added"}
    measure, view = found["added"]
    assert measure(None, None) == {"x": 1.0} and view.by_epoch is not None
