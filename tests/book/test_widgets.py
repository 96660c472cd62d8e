"""Explorers: every choice is made beforehand and linked without a kernel."""

import re

import ipywidgets
import pytest

from vtg_lib.book import figures as plots
from vtg_lib.book import widgets

TABLE = {
    "table": "tab5",
    "caption": "Attention <of> the sparse stream",
    "columns": ["mAP", "R1@0.5", "empty"],
    "rows": [
        {
            "label": "Def. CA",
            "paper": {"mAP": 54.27, "R1@0.5": 72.58},
            "source": "run",
            "ours": {"mAP": [{"mean": 31.0, "interval": (28.0, 34.0), "n": 3, "evidence": "sim"}]},
        },
        {"label": "Ours", "paper": {"mAP": 55.60, "R1@0.5": None}, "source": "run", "ours": {}},
        {"label": "Other", "paper": {"mAP": 50.0}, "source": "quoted"},
    ],
}


def test_metric_panel_shows_both_sides_and_says_what_is_missing():
    panel = widgets.metric_panel(TABLE["rows"], "mAP", caption=TABLE["caption"])
    assert (
        "54.27" in panel
        and "sim 31.00 (28.00 to 34.00, n = 3)" in panel
        and "mAP (points, 0 to 100)" in panel
    )
    assert panel.count("not run") == 1 and panel.count("quoted") == 1
    assert "Attention &lt;of&gt;" in panel
    assert panel.count('type="checkbox"') == 3


def test_the_paper_and_every_kind_have_their_own_scale():
    def cell(mean, kind):
        return {"mean": mean, "interval": None, "n": 1, "evidence": kind}

    cells = [[cell(50.0, "released"), cell(10.0, "sim")], [cell(12.0, "sim")], []]
    rows = [{**row, "ours": {"mAP": found}} for row, found in zip(TABLE["rows"], cells, strict=True)]
    body, foot = widgets.metric_panel(rows, "mAP").split("<tbody>")[1].split("<tfoot>")
    found = [
        re.findall(r'<b class="(.)" style="left:([\d.]+)%"></b><small>(\w+)</small>', line)
        for line in body.split("<tr>")[1:]
    ]
    # A lone released row stands in the middle of its axis, the least simulated one near the left.
    assert found[0][1:] == [("o", "50.0", "released"), ("o", "3.7", "sim")]
    assert found[1] == [("p", "96.3", "paper"), ("o", "96.3", "sim")]
    assert found[2] == [("p", "3.7", "paper")]  # not run: no mark of ours
    assert body.count("(one seed)") == 3
    ends = re.findall(r"<span>([\d.]+)</span><span>(\w+)</span><span>([\d.]+)</span>", foot)
    assert ends == [
        ("49.78", "paper", "55.82"),
        ("49.50", "released", "50.50"),
        ("9.92", "sim", "12.08"),
    ]


def test_an_interval_is_drawn_on_the_axis_of_its_kind():
    panel = widgets.metric_panel(TABLE["rows"], "mAP")
    (bar,) = re.findall(r'<i class="o" style="left:([\d.]+)%; width:([\d.]+)%">', panel)
    assert bar == ("3.7", "92.6")  # it makes the axis: 28 to 34, and a little room


def test_table_explorer_offers_only_metrics_with_numbers():
    box = widgets.table_explorer([TABLE, {"table": "figA", "caption": "", "columns": [], "rows": []}])
    outer = box.children[0]
    assert outer.options == ("tab5",)
    inner = box.children[1].children[0].children[0]
    assert inner.options == ("mAP", "R1@0.5")
    with pytest.raises(ValueError, match="no table"):
        widgets.table_explorer([])


def test_choices_are_linked_by_javascript(monkeypatch):
    made = []
    monkeypatch.setattr(ipywidgets, "jslink", lambda a, b: made.append((a, b)))
    box = widgets.picture_explorer({"a": "<b>a</b>", "b": "<b>b</b>"}, description="picture")
    selector, slider, stack = box.children
    assert ((selector, "index"), (stack, "selected_index")) in made
    assert ((slider, "value"), (selector, "index")) in made
    assert [child.value for child in stack.children] == ["<b>a</b>", "<b>b</b>"]
    assert stack.selected_index == 0


def test_timeline_explorer_embeds_pictures_with_alt_text():
    sample = plots.Timeline(
        name="q1", query="x", duration=10, windows=[[1, 2]], predictions={"m": [[1, 2, 0.5]]}
    )
    box = widgets.timeline_explorer([sample, sample])
    stack = box.children[-1]
    assert len(stack.children) == 2 and len(set(box.children[0].options)) == 2
    assert all('<img alt="Timeline of 10 s' in child.value for child in stack.children)
    with pytest.raises(ValueError, match="at least one"):
        widgets.timeline_explorer([])
