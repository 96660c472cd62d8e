"""Figures: small, with text alternatives, and drawn from the right numbers."""

import dataclasses
import io
import math

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vtg_lib.book import figures as plots
from vtg_lib.book.foundations import figures as foundations_figures

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
    half = 12.706 * np.sqrt(2) / np.sqrt(2)  # Student's t of two seeds, times sd over the root of two
    np.testing.assert_allclose([low, high], [1 - half, 3 + half], rtol=1e-4)


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
        learned={0: 1.0, 1: 2.0},
        unlearned={2: -9.0},
        mean=1.5,
        low=1.0,
        high=2.0,
        paper=3.0,
    )
    none = plots.Gap(label="b", word="not run", mean=math.nan, low=0, high=0)
    (axes,) = plots.gaps([row, none], xlabel="mAP").axes
    dots = [c for c in axes.collections if len(c.get_offsets())]
    assert [len(c.get_offsets()) for c in dots] == [2, 1]
    assert [bool(len(c.get_facecolors())) for c in dots] == [True, False]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert plots.png(plots.gaps([], xlabel="mAP"))


def drawn(figure):
    """Label -> (colour, marker) of a figure's lines, with what follows a method's name cut off."""
    handles = [item for axes in figure.axes for item in zip(*axes.get_legend_handles_labels(), strict=True)]
    found = {}
    for handle, label in handles:
        line = handle.lines[0] if hasattr(handle, "lines") else handle
        found[label.split(" (n")[0].split(" (one")[0]] = (line.get_color(), line.get_marker())
    return found


def test_a_method_looks_the_same_in_every_figure():
    values, dose = np.ones((2, 3)), [(1, 0, 2)] * 2
    first = plots.curves(range(3), {"QD-DETR": values, "TR-DETR": values}, xlabel="x", ylabel="y")
    second = plots.dose_response([1, 2], {"Sim-DETR": dose, "TR-DETR": dose}, xlabel="x", ylabel="y")
    third = plots.timeline(
        dataclasses.replace(SAMPLE, saliency={"SDST": [0, 1], "Sim-DETR": [1, 0], "QD-DETR": [0, 1]})
    )
    fourth = plots.slope_chart(["Baseline (TR-DETR)"], [1], [2], metric="mAP", ours_sd=[None], evidence="sim")
    fifth = foundations_figures.convergence(
        {"tr_detr": {"epoch": [1, 2], "mAP": [1, 2]}, "cg_detr": {"epoch": [1, 2], "mAP": [1, 2]}}, {}
    )
    seen = {}
    for figure in (first, second, third, fifth):
        for label, look in drawn(figure).items():
            name = plots.method_of(label)
            assert seen.setdefault(name, look) == look, f"{name} changes its look"
    assert {"qd_detr", "tr_detr", "sim_detr", "sdst", "cg_detr"} <= set(seen)
    assert fourth.axes[0].lines[0].get_color() == seen["tr_detr"][0]


def test_no_two_lines_of_a_figure_look_alike():
    from vtg_lib.models import MODELS

    rows = ["+ QGR", "TR-DETR, 10", "TR-DETR, 20", "+ QGR + GLB", "Def. CA", "RDSA", "unheard of"]
    for labels in (list(MODELS), rows, [f"setting {n}" for n in range(20)], [*MODELS, *rows]):
        found = [(look["color"], look["marker"]) for look in plots.looks(labels)]
        assert len(set(found)) == len(labels)
    named = [look["color"] for look in plots.looks(["Moment-DETR", "QD-DETR", "TR-DETR", "Sim-DETR", "SDST"])]
    assert len(set(named)) == len(named)
    assert not {plots.PAPER, plots.OURS, plots.TRUTH, plots.PREDICTION} & set(plots.METHOD_COLOURS)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("TR-DETR", "tr_detr"),
        ("tr_detr, ours", "tr_detr"),
        ("Baseline (TR-DETR)", "tr_detr"),
        ("RDSA (n = 8)", "sdst"),
        ("SDST†", "sdst"),
        ("TR-DETR, 20", "tr_detr"),
        ("+ QGR", None),
        ("with QGR − without (mAP)", None),
    ],
)
def test_labels_name_methods(label, name):
    assert plots.method_of(label) == name


def test_methods_stay_apart_for_colour_blind_readers():
    """As Machado et al. (2009) simulate it, at full severity: CIE76 distances above 10."""
    sights = {
        "deutan": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
        "protan": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    }
    colours = np.array([matplotlib.colors.to_rgb(colour) for colour in plots.METHOD_COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in sights.values():
        lab = _lab(np.clip(linear @ np.array(matrix).T, 0, 1))
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 99 * np.eye(len(lab))
        assert gaps.min() > 10
    assert len({look["marker"] for look in plots.looks(plots.NAMED[: len(colours)])}) == len(colours)


def _lab(linear):
    """CIE L*a*b* of linear sRGB, `[..., 3]`."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def test_series_colours_differ_in_lightness_or_hue_and_have_markers():
    assert len(set(plots.SERIES)) == len(plots.SERIES) == len(set(plots.MARKERS))
