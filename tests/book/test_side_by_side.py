"""The chapter of all methods side by side: ranks, grids, kinds of queries, two methods on one query."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vtg_lib.book import figures as plots
from vtg_lib.book.chapter import Chapter
from vtg_lib.book.parameters import Parameters
from vtg_lib.book.views import answers as answer_views
from vtg_lib.book.views import side_by_side
from vtg_lib.evaluation.per_query import kinds
from vtg_lib.experiments.run import RunResult
from vtg_lib.models import MODELS
from vtg_lib.papers import load_paper
from vtg_lib.papers.verdict import METRIC


def test_every_method_with_a_published_size_is_compared() -> None:
    """Variants of others (SA on QD-DETR, say) and tuners that only chapter 03 needs are not."""
    rows = load_paper("side_by_side").table("methods").rows
    left_out = {"sa_qd_detr", "sa_tr_detr", "e3va", "losa", "lst", "untuned"}
    assert {row.model for row in rows} == set(MODELS) - left_out


def test_printed_numbers_are_those_of_the_papers_files() -> None:
    """A number that a paper of this book prints for the same method and column is printed here, too."""
    table, known = load_paper("side_by_side").table("methods"), {}
    for key in ("simdetr", "sadetr", "sdst", "tddetr"):
        for row in load_paper(key).table("tab1").rows:
            for column, value in row.paper.items():
                name = row.label.rstrip("†").replace("Ours", "SDST").replace("M-DETR", "Moment-DETR")
                known.setdefault((name, column.removeprefix("QVHighlights ")), set()).add(value)
    looked_up = [row for row in table.rows if row.paper["test mAP"] and (row.label, "test mAP") in known]
    assert len(looked_up) >= 12
    for row in looked_up:
        assert all(value in known[row.label, column] for column, value in row.paper.items()), row.label


def test_kinds_leave_no_query_out_and_exclude_each_other() -> None:
    rows = [
        {"query": "a b c", "duration": 150.0, "relevant_windows": [[0.0, 6.0]]},
        {"query": "word " * 10, "duration": 150.0, "relevant_windows": [[60.0, 80.0], [70.0, 90.0]]},
        {"query": "word " * 20, "duration": 150.0, "relevant_windows": [[100.0, 140.0]] * 3},
    ]
    found = kinds(rows)
    assert {name: list(of) for name, of in found.items()} == {
        "moments": ["1", "2", "3 or more"],
        "length": ["short", "middle", "long"],
        "place": ["begin", "middle", "end"],
        "words": ["to 8", "9 to 12", "more"],
    }
    for of in found.values():
        assert (np.sum(list(of.values()), axis=0) == 1).all()
        assert [mask.tolist() for mask in of.values()] == np.eye(3, dtype=bool).tolist()
    assert list(kinds(rows[:1])["moments"]) == ["1"]


def test_a_grid_shows_every_number_and_nothing_where_there_is_none() -> None:
    values = np.array([[1.0, np.nan], [2.25, 7.0]])
    axes = plots.matrix(values, ["a", "b"], ["x", "y"], digits=2, by_column=True).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "2.25", "7.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_ranks_stand_in_order_with_their_critical_difference() -> None:
    axes = plots.ranks({"worse": 2.5, "best": 1.0, "middle": 2.4}, 1.2).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["best", "middle", "worse"]
    bars = [line.get_xdata().tolist() for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars[0] == [1.0, 2.2] and bars[1] == [2.4, 3.0]  # no rank is worse than the last


def fake_runs(scores):
    return {
        label: [
            RunResult(
                hash="0",
                spec={"seed": seed},
                metrics={"test": {METRIC: value}},
                diagnostics={"calibration": {"after": {"0.7": {"ece": 0.1 * seed}}}} if label != "C" else {},
                provenance={"step_ms": 10.0, "parameters": 5, "process_peak_mb": 1.0, "wall_s": 2.0},
            )
            for seed, value in enumerate(values)
        ]
        for label, values in scores.items()
    }


@pytest.fixture()
def chapter(tmp_path) -> Chapter:
    return Chapter("side_by_side", Parameters.parse(profile="smoke", device="cpu"), results=tmp_path)


def test_rank_tests_are_over_worlds(chapter, monkeypatch) -> None:
    worlds = np.arange(6.0)
    scores = {"TR-DETR": 60 + worlds, "QD-DETR": 50 - worlds, "SDST": 70 + worlds}
    monkeypatch.setattr(side_by_side, "scores", lambda _: pd.DataFrame(scores).T)
    told = side_by_side.rank_told(chapter).data
    assert "Friedman over 6 worlds" in told and "methods differ" in told
    assert "Not apart from the best, SDST: TR-DETR." in told  # a rank apart; QD-DETR two
    assert "3 methods): Spearman&#39;s rho +1.00" in told
    monkeypatch.setattr(
        side_by_side, "scores", lambda _: pd.DataFrame({"A": [1.0], "B": [2.0], "C": [3.0]}).T
    )
    assert "Friedman" not in side_by_side.rank_told(chapter).data
    assert "not run yet" in side_by_side.rank_figure(chapter).data


def test_scores_are_those_of_the_table_by_world(chapter) -> None:
    row = next(row for row in chapter.compared["methods"].rows if row.row.label == "SDST")
    values = SimpleNamespace(values={"test mAP": {0: 50.0, 2: 52.0}})
    results = SimpleNamespace(rows=[SimpleNamespace(row=row.row, runs={"sim": values}), row])
    chapter.compared = {"methods": results}
    assert side_by_side.scores(chapter).to_dict("index") == {"SDST": {0: 50.0, 2: 52.0}}


def test_a_method_without_a_diagnostic_has_no_number(chapter, monkeypatch) -> None:
    monkeypatch.setattr(side_by_side, "runs", lambda _: fake_runs({"A": [1.0, 2.0], "C": [3.0]}))
    told = side_by_side.inside(chapter).data
    assert "A: calibration error (%) 5.00" in told and "C: " in told and "C: calibration" not in told
    assert "A: 10 ms, 1.5" in side_by_side.cost_figure(chapter).data
    monkeypatch.setattr(side_by_side, "runs", lambda _: {})
    for view in (side_by_side.inside, side_by_side.cost_figure, side_by_side.cost_table):
        assert "not run yet" in view(chapter).data


def test_two_methods_answer_the_same_queries_from_different_features(chapter) -> None:
    table = chapter.paper.table("methods")
    few = dataclasses.replace(table, rows=(table.row("SDST"), table.row("QD-DETR")), reference=None)
    chapter.paper = dataclasses.replace(chapter.paper, tables=(few,), yardstick=None)
    found = answer_views.answers(chapter)
    assert list(found.rows) == ["SDST", "QD-DETR"] and len(found.truth) == 32
    for view in (answer_views.kinds_figure, answer_views.agreement_figure, answer_views.solved_figure):
        shown = view(chapter, found).data
        assert "<img" in shown and "nan" not in shown.split("base64")[0]
    by_query, _, by_name, methods, other, others = answer_views.explorer(chapter, found).children
    assert len(by_query.options) == answer_views.EXPLORED
    assert (by_name.index, other.index) == (0, 1) and len(methods.children) == len(others.children) == 2
    page = methods.children[0].children[0].value
    assert page.startswith("<svg") and "SDST: " in page and page.count("<rect") == answer_views.SHOWN
    nothing = dataclasses.replace(found, rows={}, ranked={})
    assert "needs kept weights" in answer_views.explorer(chapter, nothing).data
