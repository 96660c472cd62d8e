"""Vega-Lite charts of rows that `charts` draws, from the same arguments. They need altair."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures.style import INK, OURS, PAPER, looks, placed
from vtg_lib.book.figures.vegalite import INTERVAL, WHEEL, number

if TYPE_CHECKING:
    from altair import LayerChart

    from vtg_lib.book.figures.charts import Gap

LINE, ROW = 66, 38  # of `gaps`: characters a line, px of a row
FONT = 11.5  # px
RAMP = ("#ffffff", "#80c7ef")  # black letters are legible on all of it, and turned over in the dark, too


def shares(values: np.ndarray, by_column: bool) -> np.ndarray:
    """Where numbers `[R, C]` lie between the least and the greatest of all, or of their column; 0 to 1."""
    axis = 0 if by_column else None
    with np.errstate(invalid="ignore"):
        low, high = np.nanmin(values, axis=axis), np.nanmax(values, axis=axis)
    return (values - low) / np.where(high > low, high - low, 1.0)


def gaps(rows: Sequence[Gap], *, xlabel: str, width: float = 0, pitch: float = 0) -> LayerChart | None:
    """`charts.gaps` without inches: the words of a line stand over its numbers, so that a phone
    has room for both.
    """
    import altair as alt

    if not rows:
        return None
    wholes = [re.sub(r"(?<=-)\n", "", row.label).replace("\n", " ") for row in rows]
    lines = [textwrap.fill(whole, LINE) for whole in wholes]
    data = [
        {
            "i": i,
            "claim": whole,
            "text": line,
            "word": row.word,
            "mean": number(row.mean),
            "low": number(row.low),
            "high": number(row.high),
            "paper": None if row.paper is None else number(row.paper),
            "seeds": len(row.learned),
            "dots": [
                [number(value), seed, word]
                for numbers, word in ((row.learned, "learned"), (row.unlearned, "had not learned"))
                for seed, value in numbers.items()
            ],
        }
        for i, (row, whole, line) in enumerate(zip(rows, wholes, lines, strict=True))
    ]
    hover = alt.selection_point(name="hover", fields=["i"], on="pointerover", clear="pointerout", empty=False)
    zoom = alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom=WHEEL)
    height = (ROW + 12 * max(line.count("\n") for line in lines)) * len(rows)

    verdicts = alt.Axis(
        orient="right",
        labelExpr=f"{json.dumps([row.word for row in rows])}[datum.value]",
        labelOffset=0.2 * height / len(rows),
        labelFontSize=FONT,
        domain=False,
        ticks=False,
        grid=False,
    )

    def at(place: float, **axis: Any) -> Any:
        return alt.Y("i:O", title=None, scale={"type": "band"}, bandPosition=place, **axis)

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", title=xlabel, scale={"zero": False})

    end = alt.Y2("i:O", bandPosition=1)
    base = alt.Chart()
    shown = base.transform_filter("isValid(datum.low)")
    up = alt.ExprRef("-13 * (length(split(datum.text, '\\n')) - 1)")  # lines are set downwards
    weight = alt.ExprRef("datum.word ? 'normal' : 'bold'")  # a heading has no word
    words = base.mark_text(
        align="left", baseline="bottom", dy=up, fontSize=FONT, fontWeight=weight, lineBreak="\n", clip=False
    )
    told = [
        alt.Tooltip("claim:N"),
        alt.Tooltip("word:N", title="verdict"),
        alt.Tooltip("mean:Q", title="ours, mean", format="+.2f"),
        alt.Tooltip("told:N", title="95 % interval"),
        alt.Tooltip("printed:N", title="paper"),
        alt.Tooltip("seeds:Q", title="seeds that learned"),
    ]
    layers = [
        base.mark_rule(color=PAPER).encode(x=alt.datum(0), y=at(0.56, axis=verdicts), y2=end),
        words.encode(y=at(0.55), x=alt.value(0), text="text:N"),
        shown.mark_rule(color=OURS, strokeWidth=2, clip=True).encode(y=at(0.7), x=x("low"), x2="high:Q"),
        base.mark_square(color=OURS, size=50, opacity=1, clip=True)
        .encode(y=at(0.7), x=x("mean"))
        .add_params(zoom),
        base.mark_point(shape="diamond", color=PAPER, filled=True, size=60, opacity=1, clip=True).encode(
            y=at(0.7), x=x("paper")
        ),
        # Above all but the dots, as the whole line answers.
        base.transform_calculate(
            told=INTERVAL.format("+.2f"),
            printed="isValid(datum.paper) ? format(datum.paper, '+.2f') : 'no number'",
        )
        .mark_rect(color=OURS)
        .encode(
            y=alt.Y("i:O", title=None, scale={"type": "band"}),
            opacity=alt.condition(hover, alt.value(0.07), alt.value(0)),
            tooltip=told,
        )
        .add_params(hover),
        base.transform_flatten(["dots"])
        .transform_calculate(value="datum.dots[0]", seed="datum.dots[1]", learned="datum.dots[2]")
        .mark_point(color=OURS, size=18, strokeWidth=0.8, opacity=1, clip=True)
        .encode(
            y=at(0.92),
            x=x("value"),
            fill={"condition": {"test": "datum.learned == 'learned'", "value": OURS}, "value": "white"},
            tooltip=[
                alt.Tooltip("claim:N"),
                alt.Tooltip("seed:N"),
                alt.Tooltip("value:Q", title="its difference", format="+.2f"),
                alt.Tooltip("learned:N", title="its runs"),
            ],
        ),
    ]
    return alt.layer(*layers, data=alt.InlineData(values=data)).properties(height=height)


def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    digits: int = 0,
    title: str = "",
    by_column: bool = False,
) -> LayerChart | None:
    """`matrix.matrix`: a cell tells its row, column and number."""
    import altair as alt

    if not np.isfinite(values).any():
        return None
    where = shares(values, by_column)
    names = [column.replace("\n", " ") for column in columns]
    cells = [
        {"r": rows[r], "c": names[c], "v": round(float(value), digits), "s": number(float(where[r, c]))}
        for (r, c), value in np.ndenumerate(values)
        if np.isfinite(value)
    ]
    base = alt.Chart(alt.InlineData(values=cells), height=22 * len(rows)).encode(
        x=alt.X("c:N", sort=names, axis=alt.Axis(title=title or None, labelAngle=-45, labelLimit=0)),
        y=alt.Y("r:N", sort=list(rows), axis=alt.Axis(title=None, labelLimit=0)),
        tooltip=[
            alt.Tooltip("r:N", title="row"),
            alt.Tooltip("c:N", title="column"),
            alt.Tooltip("v:Q", title="number", format=f".{digits}f"),
        ],
    )
    ramp = {"range": list(RAMP), "domain": [0, 1], "interpolate": "rgb"}
    fill = alt.Color("s:Q", scale=ramp, legend=None)
    words = base.mark_text(fontSize=FONT - 1.5).encode(text=alt.Text("v:Q", format=f".{digits}f"))
    return alt.layer(base.mark_rect().encode(color=fill), words)


def slope_chart(
    labels: Sequence[str],
    paper: Sequence[float],
    ours: Sequence[float],
    *,
    metric: str,
    ours_sd: Sequence[float | None],
    evidence: str,
    names: Sequence[str] | None = None,
) -> LayerChart | None:
    """`charts.slope_chart`: the row that is pointed at stands out. Its name is written once, on the right."""
    import altair as alt

    if not labels:
        return None
    sides = zip(paper, ours, ours_sd, placed(paper), placed(ours), strict=True)
    data = []
    for label, look, (printed, mean, sd, left, right) in zip(
        labels, looks(names or labels), sides, strict=True
    ):
        spread = "" if sd is None or math.isnan(sd) else f" ± {sd:.1f}"
        texts = {
            "left": f"{printed:.1f}",
            "right": f"{mean:.1f}{spread}  {label}",
            "ours": f"{mean:.2f}{spread}",
        }
        where = {"from": number(left), "to": number(right)}
        data.append({"row": label, "paper": number(printed), **texts, **where, "color": look["color"]})
    hover = alt.selection_point(name="hover", fields=["row"], on="pointerover", clear="pointerout")
    seen = alt.condition(hover, alt.value(1), alt.value(0.25))
    told = [
        alt.Tooltip("row:N"),
        alt.Tooltip("paper:Q", format=".2f"),
        alt.Tooltip("ours:N", title=f"ours ({evidence})"),
    ]
    head = f"[datum.value ? 'ours ({evidence})' : 'paper', {json.dumps(metric)}]"
    axis = alt.Axis(title=None, values=[0, 1], labelExpr=head, grid=False, labelFontSize=11, labelFlush=False)

    def x(side: int) -> Any:
        return alt.X(datum=side, type="quantitative", axis=axis, scale={"domain": [0, 1], "nice": False})

    def y(side: str) -> Any:
        return alt.Y(f"{side}:Q", axis=None, scale={"domain": [-0.08, 1.08], "nice": False})

    base = alt.Chart().encode(color=alt.Color("color:N", scale=None))
    line = base.encode(x(0), y("from"), alt.X2(datum=1), alt.Y2("to:Q"))
    ends = ((0, "from", "left", "right", -9), (1, "to", "right", "left", 9))
    layers = [line.mark_rule(strokeWidth=2).encode(opacity=seen)]
    for end, y_of, text, align, away in ends:
        at = base.encode(x(end), y(y_of), opacity=seen)
        words = at.mark_text(align=align, dx=away, fontSize=FONT).encode(
            text=f"{text}:N", color=alt.value(INK)
        )
        layers += [at.mark_circle(size=50), words]
    wide = line.mark_rule(strokeWidth=16, opacity=0).encode(tooltip=told).add_params(hover)
    height = 30 * max(len(labels), 4) + 20
    return alt.layer(*layers, wide, data=alt.InlineData(values=data)).properties(height=height)
