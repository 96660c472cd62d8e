"""Vega-Lite charts of lines that `charts` draws, from the same arguments. They need altair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures.style import PAPER, looks
from vtg_lib.evaluation.statistics import t_interval

if TYPE_CHECKING:
    from altair import Chart, Color, LayerChart, Parameter, Shape

SHAPES = {
    **dict(
        zip("os^DvP", ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross"), strict=True)
    ),
    "X": "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z",
}
DASHES = {"-": [1, 0], "--": [6, 3], "-.": [6, 2, 1, 2], ":": [2, 2]}
# A page keeps its wheel: it zooms with Ctrl held, which is what a touchpad sends for a pinch.
WHEEL = "wheel![event.ctrlKey || event.metaKey]"
BESIDE = 34  # characters of the longest name with which two stand side by side in a legend
INTERVAL = "isValid(datum.low) ? format(datum.low, '{0}') + ' to ' + format(datum.high, '{0}') : 'none'"

Bounds = tuple[float, float, float]  # a mean and its interval; NaN where there is none


def curves(
    x: Sequence[float],
    series: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    reference: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> LayerChart:
    """`charts.curves`: a click in the legend leaves one line, x zooms and moves."""
    lines = []
    for (label, values), look in zip(series.items(), looks(list(series)), strict=True):
        array = np.atleast_2d(np.asarray(values, dtype=float))
        bounds = [(band.mean, band.low, band.high) for band in map(t_interval, array.T)]
        seeds = "one seed" if len(array) == 1 else f"n = {len(array)}"
        lines.append((_line(f"{label} ({seeds})", x, bounds), look))
    for dashes, (label, (along, heights)) in zip(("--", ":", "-."), (reference or {}).items(), strict=False):
        bounds = [(height, math.nan, math.nan) for height in heights]
        lines.append((_line(label, along, bounds), {"color": PAPER, "marker": "", "linestyle": dashes}))
    faint = 0.18 if len(series) <= 3 else 0.08
    return _lines(lines, xlabel, ylabel, zoom=True, faint=faint, every=max(len(x) // 12, 1))


def dose_response(
    doses: Sequence[float],
    series: Mapping[str, Sequence[Bounds | None]],
    *,
    xlabel: str,
    ylabel: str,
    zero: bool = True,
) -> LayerChart | None:
    """`charts.dose_response`: a click in the legend leaves one line."""
    lines = []
    for (label, points), look in zip(series.items(), looks(list(series)), strict=True):
        known = [(dose, point) for dose, point in zip(doses, points, strict=True) if point is not None]
        if known:
            lines.append((_line(label, *zip(*known, strict=True)), look))
    return _lines(lines, xlabel, ylabel, ticks=doses, zero=zero) if lines else None


def _line(label: str, x: Sequence[float], bounds: Sequence[Bounds]) -> dict[str, Any]:
    """A line as one row of data, which is far shorter than one a point."""
    columns = {"x": list(x), **dict(zip(("y", "low", "high"), zip(*bounds, strict=True), strict=True))}
    return {"row": label, **{name: [number(v) for v in column] for name, column in columns.items()}}


def number(value: float) -> float | int | None:
    """In as many digits as anyone reads; JSON has no NaN."""
    short = float(f"{value:.5g}")
    return None if math.isnan(short) else int(short) if short.is_integer() else short


def points(
    found: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str
) -> Chart | None:
    """`charts.points`: a click in the legend leaves one label, both axes zoom and move."""
    import altair as alt

    if not found:
        return None
    color, shape, pick = _looks(list(found), looks(list(found)))
    data = [
        {"row": label, "x": [number(v) for v in x], "y": [number(v) for v in y]}
        for label, (x, y) in found.items()
    ]
    return (
        alt.Chart(alt.InlineData(values=data), height=260)
        .transform_flatten(["x", "y"])
        .mark_point(filled=True, size=55, clip=True)
        .encode(
            x=alt.X("x:Q", title=xlabel, scale={"zero": False, "padding": 8}),
            y=alt.Y("y:Q", title=ylabel, scale={"zero": False, "padding": 8}),
            color=color,
            shape=shape,
            opacity=alt.condition(pick, alt.value(1.0), alt.value(0.1)),
            tooltip=[
                alt.Tooltip("row:N", title="label"),
                alt.Tooltip("x:Q", title=xlabel, format=".4~g"),
                alt.Tooltip("y:Q", title=ylabel, format=".4~g"),
            ],
        )
        .add_params(pick, alt.selection_interval(name="zoom", bind="scales", zoom=WHEEL))
    )


def _looks(names: Sequence[str], styles: Sequence[Mapping[str, str]]) -> tuple[Color, Shape, Parameter]:
    """Colour and shape of every row, and what a click in their legend selects."""
    import altair as alt

    columns = 2 if max(map(len, names)) <= BESIDE else 1
    key = alt.Legend(
        title=None, orient="bottom", columns=columns, symbolSize=60, symbolLimit=0, symbolOpacity=1
    )
    domain = {"domain": list(names)}
    color = alt.Color("row:N", scale={**domain, "range": [look["color"] for look in styles]}, legend=key)
    shapes = [SHAPES.get(look["marker"], "stroke") for look in styles]
    pick = alt.selection_point(name="pick" if len(names) > 1 else "only", fields=["row"], bind="legend")
    return color, alt.Shape("row:N", scale={**domain, "range": shapes}), pick


def _lines(
    drawn: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]],
    xlabel: str,
    ylabel: str,
    *,
    ticks: Sequence[float] | None = None,
    zero: bool = False,
    zoom: bool = False,
    faint: float = 0.0,
    every: int = 1,
) -> LayerChart:
    """Lines with bands or bars, and for the point that is nearest to the pointer its numbers.

    Args:
        drawn: data and look of every line.
        faint: opacity of the bands; without it intervals are bars.
        every: of how many points one has a marker.
    """
    import altair as alt

    names, styles = [line["row"] for line, _ in drawn], [look for _, look in drawn]
    color, shape, pick = _looks(names, styles)
    dash = alt.StrokeDash(
        "row:N", scale={"domain": names, "range": [DASHES[look["linestyle"]] for look in styles]}
    )
    near = alt.selection_point(name="near", on="pointerover", nearest=True, empty=False, clear="pointerout")
    whole = all(float(x).is_integer() for line, _ in drawn for x in line["x"])
    # Of whole numbers whole ticks (Vega-Lite loses `tickMinStep` where layers share an axis).
    count = "max(1, min(ceil(width / 50), floor(span(domain('x')))))" if whole else "ceil(width / 50)"
    axis: dict[str, Any] = {"title": xlabel, "format": "~g"}
    axis |= {"values": list(ticks)} if ticks is not None else {"tickCount": {"expr": count}}
    base = (
        alt.Chart()
        .transform_flatten(["x", "y", "low", "high"])
        .encode(
            x=alt.X(
                "x:Q", axis=axis, scale={"zero": False, "nice": False, "padding": 8 if ticks is None else 24}
            ),
            y=alt.Y("y:Q", title=ylabel, scale={"zero": zero}),
            color=color,
        )
    )
    known = base.transform_filter("isValid(datum.low)").encode(alt.Y("low:Q", title=ylabel), alt.Y2("high:Q"))
    seen = alt.condition(pick, alt.value(1.0), alt.value(0.1))
    if faint:
        shade = alt.condition(pick, alt.value(faint), alt.value(faint / 6))
        spread = known.mark_area(clip=True).encode(fillOpacity=shade)
    else:
        spread = known.mark_rule(strokeWidth=1.6).encode(opacity=seen)
    told = [
        alt.Tooltip("row:N", title="line"),
        alt.Tooltip("x:Q", title=xlabel),
        alt.Tooltip("y:Q", title=ylabel, format=".4~g"),
        alt.Tooltip("told:N", title="95 % interval"),
    ]
    marker = {
        "condition": [
            {"param": "near", "value": 1},
            {"test": f"datum.k % {every} == {1 % every}", "value": 1},
        ]
    }
    points = (
        base.transform_window(k="row_number()", groupby=["row"])
        .transform_filter(pick)
        .transform_calculate(told=INTERVAL.format(".4~g"))
        .mark_point(filled=True, size=45, clip=True)
        .encode(
            shape=shape,
            opacity={**marker, "value": 0},
            size=alt.condition(near, alt.value(130), alt.value(45)),
            tooltip=told,
        )
        .add_params(near)
    )
    line = base.mark_line(strokeWidth=1.8, clip=True).encode(strokeDash=dash, opacity=seen).add_params(pick)
    if zoom:
        line = line.add_params(
            alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom=WHEEL)
        )
    nought = [alt.Chart().mark_rule(color=PAPER).encode(y=alt.datum(0))] if zero else []
    data = alt.InlineData(values=[line for line, _ in drawn])
    return alt.layer(*nought, spread, line, points, data=data).properties(height=260)
