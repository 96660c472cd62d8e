"""Charts: the numbers that were computed, beside the picture, and without altair the picture alone."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from vtg_lib.book import assets, build
from vtg_lib.book import figures as plots
from vtg_lib.book.front import judged
from vtg_lib.book.views.claims import XLABEL, gap_rows
from vtg_lib.evaluation.statistics import t_interval
from vtg_lib.papers import load_paper

SEEDS = np.array([[0.0, 2.0, 5.0], [2.0, 4.0, 6.0], [1.0, 9.0, 7.0]])


def curves():
    series = {"TR-DETR": SEEDS, "</script> & one": SEEDS[0]}
    return plots.curves([1, 2, 3], series, xlabel="epoch", ylabel="mAP", reference={"log": ([1, 3], [4, 5])})


def rows_of(figure):
    (values,) = plots.specification(figure, "alt")["datasets"].values()
    return values


def find(spec, key):
    """Everything under a key, at whatever depth."""
    if isinstance(spec, dict):
        found = [spec[key]] if key in spec else []
        return found + [item for value in spec.values() for item in find(value, key)]
    return [item for value in spec for item in find(value, key)] if isinstance(spec, list) else []


@pytest.fixture()
def without_altair(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)


@pytest.fixture()
def shown(monkeypatch):
    """What is displayed: bundles by type, objects as they are."""
    kept = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: kept.append(data))
    return kept


def test_the_chart_of_claims_has_the_numbers_of_the_judged_claims():
    ((_, verdicts, _),) = judged([load_paper("sdst")])
    scores = [one for one in verdicts if one.claim.is_score and one.verdict.difference is not None]
    rows = rows_of(plots.gaps(gap_rows(verdicts, 44), xlabel=XLABEL))
    assert len(rows) == len(scores) > 5
    for row, one in zip(rows, scores, strict=True):
        found = one.verdict.difference
        assert (row["claim"], row["word"]) == (one.claim.claim, one.verdict.word)
        assert (row["mean"], row["low"], row["high"]) == pytest.approx(
            (found.mean, found.low, found.high), rel=1e-4
        )
        assert row["paper"] == one.verdict.paper_difference
        assert row["seeds"] == len(one.differences)
        told = [
            *((value, seed, "learned") for seed, value in one.differences.items()),
            *((value, seed, "had not learned") for seed, value in one.unlearned.items()),
        ]
        assert [dot[1:] for dot in row["dots"]] == [list(dot[1:]) for dot in told]
        np.testing.assert_allclose(*([dot[0] for dot in dots] for dots in (row["dots"], told)), rtol=1e-4)


def test_seeds_that_did_not_learn_and_rows_without_an_interval():
    rows = [
        plots.Gap(
            label="a cross-\nattention\nline", word="w", learned={3: 1.0}, unlearned={0: -9.0}, mean=1.0
        ),
        plots.Gap(label="b", word="not run"),
    ]
    first, second = rows_of(plots.gaps(rows, xlabel="mAP"))
    assert first["claim"] == "a cross-attention line"
    assert first["dots"] == [[1, 3, "learned"], [-9, 0, "had not learned"]] and first["seeds"] == 1
    assert [first[name] for name in ("mean", "low", "high", "paper")] == [1, None, None, None]
    assert second["mean"] is None and second["dots"] == []
    assert plots.specification(plots.gaps([], xlabel="mAP"), "alt") is None


def test_curves_have_means_and_intervals_and_colours_of_methods():
    line, one, log = rows_of(curves())
    bands = [t_interval(column) for column in SEEDS.T]
    assert line["row"] == "TR-DETR (n = 3)" and line["x"] == [1, 2, 3]
    np.testing.assert_allclose(line["y"], [band.mean for band in bands], rtol=1e-4)
    np.testing.assert_allclose(line["low"], [band.low for band in bands], rtol=1e-4)
    np.testing.assert_allclose(line["high"], [band.high for band in bands], rtol=1e-4)
    assert one["y"] == [0, 2, 5] and one["low"] == [None] * 3
    assert log == {"row": "log", "x": [1, 3], "y": [4, 5], "low": [None] * 2, "high": [None] * 2}
    encoded = [one for one in find(plots.specification(curves(), "alt"), "color") if isinstance(one, dict)]
    (scale,) = {json.dumps(color["scale"]["range"]) for color in encoded if "scale" in color}
    look = plots.looks(["TR-DETR", "x"])
    assert json.loads(scale) == [look[0]["color"], look[1]["color"], plots.PAPER]


def test_dose_response_leaves_out_what_was_not_run():
    points = [(1, 0, 2), None, (3, np.nan, np.nan)]
    figure = plots.dose_response([1, 2, 5], {"gain": points, "x": [None] * 3}, xlabel="k", ylabel="g")
    assert rows_of(figure) == [{"row": "gain", "x": [1, 5], "y": [1, 3], "low": [0, None], "high": [2, None]}]
    none = plots.dose_response([1], {"gain": [None]}, xlabel="k", ylabel="g")
    assert plots.specification(none, "alt") is None


def test_slope_charts_tell_both_numbers():
    slopes = {"metric": "mAP", "ours_sd": [0.5, None], "evidence": "sim"}
    x, y = rows_of(plots.slope_chart(["x", "TR-DETR"], [10, 20], [5, 1], **slopes))
    assert (x["paper"], x["ours"], x["right"]) == (10, "5.00 ± 0.5", "5.0 ± 0.5  x")
    assert (y["paper"], y["ours"], y["left"]) == (20, "1.00", "20.0")
    assert x["from"] < y["from"] and x["to"] > y["to"]
    assert y["color"] == plots.looks(["TR-DETR"])[0]["color"]


def test_points_and_grids_have_every_number_that_there_is():
    rows = rows_of(plots.points({"TR-DETR": ([1.5, 2], [3, 4]), "x": ([5], [6])}, xlabel="ms", ylabel="mAP"))
    assert rows == [{"row": "TR-DETR", "x": [1.5, 2], "y": [3, 4]}, {"row": "x", "x": [5], "y": [6]}]
    values = np.array([[1.0, np.nan], [2.0, 7.04]])
    cells = rows_of(plots.matrix(values, ["a", "b"], ["x\ny", "z"], digits=1, by_column=True))
    assert [(one["r"], one["c"], one["v"], one["s"]) for one in cells] == [
        ("a", "x y", 1.0, 0),
        ("b", "x y", 2.0, 1),
        ("b", "z", 7.0, 0),
    ]
    whole = rows_of(plots.matrix(values, ["a", "b"], ["x", "z"]))
    assert [one["s"] for one in whole] == [0, pytest.approx(1 / 6.04, abs=1e-4), 1]
    assert plots.specification(plots.matrix(np.full((1, 1), np.nan), ["a"], ["x"]), "alt") is None
    assert plots.specification(plots.points({}, xlabel="x", ylabel="y"), "alt") is None


def test_a_notebook_gets_chart_and_picture_and_no_html_that_would_hide_the_chart(shown):
    made = plots.show(curves(), "three points", "caption", "<p>after</p>")
    assert made.data == plots.figure_html(curves(), "three points", "caption") + "<p>after</p>"
    made._ipython_display_()
    bundle, after = shown
    assert set(bundle) == {plots.MIME, "text/markdown", "text/plain"} and after.data == "<p>after</p>"
    assert bundle["text/markdown"] == plots.figure_html(curves(), "three points", "caption")
    spec = bundle[plots.MIME]
    assert spec["description"] == "three points" and spec["title"]["text"] == ["caption"]
    assert "http" not in json.dumps(spec)
    assert len(json.dumps(spec)) < 12_000


def test_a_page_gets_the_picture_and_the_chart_as_data(shown):
    plots.show(curves(), "three points", "caption")._ipython_display_()
    (bundle,) = shown
    page = plots.page_html(
        {**bundle, "text/markdown": [bundle["text/markdown"]]}
    )  # lines, as files have them
    (text,) = re.findall(r'<script type="application/json" class="vtg-spec">(.*?)</script>', page)
    wanted = {key: value for key, value in bundle[plots.MIME].items() if key not in ("description", "title")}
    assert json.loads(text) == wanted and "<\\/script>" in text
    assert page.count("<img ") == page.count("</figure>") == 1 and 'alt="three points"' in page
    assert not re.search(r"https?://|//[a-z]", re.sub(r"base64,[^\"]+", "", page))
    assert plots.page_html({"text/html": "<p>"}) is None


def test_staged_chapters_hold_charts_beside_pictures(tmp_path, shown):
    plots.show(curves(), "three points")._ipython_display_()
    output = {"output_type": "display_data", "metadata": {}, "data": shown[0]}
    other = {"output_type": "stream", "name": "stdout", "text": "x"}
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [other, output]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    build._prepare(path)
    (staged,) = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert staged["outputs"] == [other, {**output, "data": {"text/html": plots.page_html(shown[0])}}]


def test_what_draws_charts_is_one_script_that_require_does_not_see(tmp_path):
    packages = tmp_path / "node_modules"
    for name in ("vega", "vega-lite", "vega-embed"):
        (packages / name / "build").mkdir(parents=True)
        (packages / name / "build" / f"{name}.min.js").write_text(
            f"seen.push(['{name}', typeof define, typeof module]);//"
        )
    assets.join_charts(packages, tmp_path)
    text = (tmp_path / "vega.js").read_text()
    assert re.findall(r"\['([a-z-]+)'", text) == ["vega", "vega-lite", "vega-embed"]
    assert text.startswith("(function (define, exports, module) {") and text.endswith("}).call(self);\n")


def test_without_altair_the_picture_is_shown(without_altair):
    made = plots.show(curves(), "three points", after="<p>after</p>")
    assert not hasattr(made, "_ipython_display_")
    assert made.data == plots.figure_html(curves(), "three points") + "<p>after</p>"


def test_figures_without_a_chart_are_pictures():
    figure, _ = plots.subplots(size=(2.0, 1.0))
    assert not hasattr(plots.show(figure, "nothing"), "_ipython_display_")


def test_nothing_imports_altair_before_a_chart_is_made():
    code = "import sys; sys.modules['altair'] = None; import vtg_lib.book.build, vtg_lib.book.views.claims"
    subprocess.run([sys.executable, "-c", code], check=True)
