"""When a run begins to read: the rule on its curve, and the dots of the page."""

import re

import pytest

from vtg_lib.book.chapter import Chapter
from vtg_lib.book.figures.reading import Run, reading_figure
from vtg_lib.book.figures.style import VERMILION
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views.training import reading
from vtg_lib.experiments.store import Store
from vtg_lib.papers import load_paper, row_spec
from vtg_lib.papers.verdict import UNREAD, began_to_read, has_learned

CURVE = [8.0, 20.0, 30.0, 60.0]


def record(swapped: float | None, curve=CURVE) -> dict:
    metrics = {"val": {"MR-full-mAP": max(curve)}}
    metrics |= {} if swapped is None else {"swapped": {"MR-full-mAP": swapped}}
    epochs = list(range(2, 2 * len(curve) + 1, 2))
    return {"metrics": metrics, "curves": {"epoch": epochs, "MR-full-mAP": curve}}


@pytest.mark.parametrize(
    ("swapped", "epoch"),
    [(0.0, 2.0), (UNREAD * 20, 4.0), (UNREAD * 20 + 0.1, 6.0), (UNREAD * 60, 8.0), (UNREAD * 60 + 0.1, None)],
)
def test_a_run_begins_where_its_curve_leaves_what_swapped_sentences_find(swapped, epoch) -> None:
    assert began_to_read(record(swapped)) == epoch
    assert (epoch is not None) == has_learned(record(swapped))


def test_where_nobody_looked_nothing_is_marked() -> None:
    assert began_to_read(record(None)) is None and has_learned(record(None))


def test_dots_stand_on_their_lines() -> None:
    runs = [
        Run(epochs=[1, 2, 3], values=[5, 9, 30], learned=True, began=2),
        Run(epochs=[1, 2, 3], values=[5, 6, 7], learned=False, began=None),
    ]
    first, second = reading_figure({"a": runs, "a row with a name that takes two lines": runs[1:]}).axes
    dots = [line for line in first.lines if line.get_color() == VERMILION]
    assert [tuple(dot.get_xydata()[0]) for dot in dots] == [(2, 9)]
    assert [line.get_linestyle() for line in second.lines] == ["--"] and "\n" in second.get_title(loc="left")


def test_the_page_tells_of_every_row(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("vtg_lib.book.parameters.ROOT", tmp_path)
    paper = load_paper("simdetr")
    store = Store(tmp_path / f"{paper.chapter}.jsonl")
    parameters = Parameters.parse(profile="quick", device="cpu")
    empty = reading(Chapter("simdetr", parameters, results=tmp_path)).data
    assert "not run yet" in empty and "--tables tab3" in empty
    for seed, swapped in ((0, UNREAD * 20), (1, UNREAD * 30), (2, 60.0)):
        spec = row_spec(paper.table("tab3").row("+ IoU loss"), paper.profile("sim"), "qvhighlights", seed)
        looked = {name: {} for name in spec.diagnostics}
        line = {"hash": spec.hash, "spec": spec.resolved, "diagnostics": looked}
        store.append(line | record(swapped))
    page = reading(Chapter("simdetr", parameters, results=tmp_path)).data
    alt = re.search(r'alt="([^"]*)"', page)[1]
    assert "+ IoU loss: 2 of 3 read, from epoch 5.0 on in the mean; end at 60.0" in alt
    assert "Baseline" not in alt and f"less {100 * (1 - UNREAD):.0f} %" in page
