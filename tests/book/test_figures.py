"""Figures: small, with text alternatives, and drawn from the right numbers."""

import io
import math

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vtg_lib.book import figures as plots

RNG = np.random.default_rng(0)
SAMPLE = plots.Timeline(
    name="q1",
    query='Someone says "hi" & leaves <the> room',
    duration=150.0,
    windows=[[20, 50], [90, 100]],
    predictions={"RDSA": [[22, 48, 0.9], [88, 104, 0.5]], "Def. CA": []},
    saliency_truth=[0.0] * 30 + [1.0] * 45,
    saliency={"RDSA": RNG.normal(size=75)},
    references={"RDSA": [[0, 80], [22, 48]]},
    offsets={"RDSA": [[[10.0, 0.5], [70.0, 0.1]], []]},
)


def figures():
    yield "timeline", plots.timeline(SAMPLE)
    yield (
        "slope",
        plots.slope_chart(["x", "y"], [1, 2], [3, 3], ours_sd=[0.1, None], metric="mAP", evidence="sim"),
    )
    yield (
        "curves",
        plots.curves(
            range(9),
            {"a": RNG.normal(size=(3, 9)), "b": np.ones(9)},
            xlabel="epoch",
            ylabel="mAP",
            reference={"log": ([0, 8], [1, 2])},
        ),
    )
    yield (
        "dose",
        plots.dose_response(
            [1, 2], {"gain": [(1, 0, 2), (1, np.nan, np.nan)], "other": [None, None]}, xlabel="k", ylabel="g"
        ),
    )
    yield "no dose", plots.dose_response([1], {"gain": [None]}, xlabel="k", ylabel="gain")


@pytest.mark.parametrize(
    ("name", "figure"), list(figures()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_pictures_are_small_pngs(name, figure):
    data = plots.png(figure)
    assert len(data) <= plots.MAX_BYTES
    assert np.asarray(Image.open(io.BytesIO(data)).convert("L")).std() > 0, "the picture is blank"


def test_alt_text_is_required_and_escaped():
    figure = plots.dose_response([1], {"gain": [None]}, xlabel="v", ylabel="gain")
    with pytest.raises(ValueError, match="alt"):
        plots.figure_html(figure, "  ")
    element = plots.figure_html(figure, 'says "hi" <b>', caption="<c>")
    assert 'alt="says &quot;hi&quot; &lt;b&gt;"' in element and "<figcaption>&lt;c&gt;" in element


def test_timeline_alt_tells_truth_and_prediction():
    alt = plots.timeline_alt(SAMPLE)
    assert "20 to 50 s, 90 to 100 s" in alt and "RDSA predicts 22 to 48 s first, score 0.90" in alt
    assert "Def. CA predicts" not in alt


def test_timeline_draws_windows_where_they_are():
    axes = plots.timeline(SAMPLE).axes[0]
    truth = [
        bar
        for bar in axes.patches
        if hasattr(bar, "get_width") and bar.get_facecolor()[:3] == matplotlib.colors.to_rgb(plots.TRUTH)
    ]
    spans = {(bar.get_x(), bar.get_x() + bar.get_width()) for bar in truth}
    assert {(20, 50), (90, 100)} <= spans


def test_curves_show_mean_and_spread_over_seeds():
    axes = plots.curves([0, 1], {"a": np.array([[0.0, 2.0], [2.0, 4.0]])}, xlabel="x", ylabel="y").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 3])
    low, high = axes.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    np.testing.assert_allclose([low, high], [1 - np.sqrt(2), 3 + np.sqrt(2)])


def test_slope_chart_keeps_the_order_of_both_sides():
    axes = plots.slope_chart(
        ["x", "y"], [10, 20], [5, 1], ours_sd=[0.5, None], metric="mAP", evidence="sim"
    ).axes[0]
    x, y = (line.get_ydata() for line in axes.lines[:2])
    assert x[0] < y[0] and x[1] > y[1]
    assert {text.get_text() for text in axes.texts} == {"x  10.0", "y  20.0", "5.0 ± 0.5  x", "1.0  y"}


def test_style_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    plots.dose_response([1], {"gain": [None]}, xlabel="v", ylabel="gain")
    assert dict(matplotlib.rcParams) == before


def test_gaps_show_seeds_that_did_not_learn_as_hollow_dots():
    row = plots.Gap(
        label="a",
        word="supports",
        learned=[1.0, 2.0],
        unlearned=[-9.0],
        mean=1.5,
        low=1.0,
        high=2.0,
        paper=3.0,
    )
    none = plots.Gap(label="b", word="not run", learned=[], unlearned=[], mean=math.nan, low=0, high=0)
    (axes,) = plots.gaps([row, none], xlabel="mAP").axes
    dots = [c for c in axes.collections if len(c.get_offsets())]
    assert [len(c.get_offsets()) for c in dots] == [2, 1]
    assert [bool(len(c.get_facecolors())) for c in dots] == [True, False]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert plots.png(plots.gaps([], xlabel="mAP"))


def test_series_colours_differ_in_lightness_or_hue_and_have_markers():
    assert len(set(plots.SERIES)) == len(plots.SERIES) == len(set(plots.MARKERS))
