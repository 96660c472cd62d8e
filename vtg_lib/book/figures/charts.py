"""Charts of results: rows of a table, curves, dose-response."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures import vegalite, vegarows
from vtg_lib.book.figures.interactive import charted
from vtg_lib.book.figures.style import OURS, PAPER, empty, looks, placed, styled, subplots
from vtg_lib.evaluation.statistics import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@charted(vegarows.slope_chart)
@styled
def slope_chart(
    labels: Sequence[str],
    paper: Sequence[float],
    ours: Sequence[float],
    *,
    metric: str,
    ours_sd: Sequence[float | None],
    evidence: str,
    names: Sequence[str] | None = None,
) -> Figure:
    """Each row of a table as a line from the paper's number to ours, each side on its own scale.

    The two sides have different scales on purpose: evidence `sim` and `rendered` shows order and direction,
    not absolute numbers.

    Args:
        ours_sd: over seeds; None or NaN where there is one seed.
        names: what gives each row its look where that is not the label: the method that the row is.
    """
    figure, axes = subplots(size=(6.4, 0.36 * max(len(labels), 4) + 1.3))
    if not labels:
        return empty(figure, axes, "no row has both numbers yet")
    sd = np.asarray(ours_sd, dtype=float)
    styles = looks(labels if names is None else names)
    for index, (label, left, right) in enumerate(zip(labels, placed(paper), placed(ours), strict=True)):
        look = styles[index]
        axes.plot([0, 1], [left, right], markersize=5, **look)
        spread = "" if np.isnan(sd[index]) else f" ± {sd[index]:.1f}"
        texts = (f"{label}  {paper[index]:.1f}", f"{ours[index]:.1f}{spread}  {label}")
        for side, (text, height) in enumerate(zip(texts, (left, right), strict=True)):
            axes.annotate(
                text,
                (side, height),
                (8 if side else -8, 0),
                textcoords="offset points",
                ha="left" if side else "right",
                va="center",
            )
    axes.set_xlim(-1.0, 2.0)
    axes.set_ylim(-0.08, 1.08)
    axes.set_xticks([0, 1], [f"paper\n{metric}", f"ours ({evidence})\n{metric}"])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


@charted(vegalite.curves)
@styled
def curves(
    x: Sequence[float],
    series: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    reference: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """Mean and band (95 % interval of the mean over seeds, Student's t) of each series.

    Args:
        x: positions, length P.
        series: per label, an array [seeds, P] (or [P] for one seed).
        reference: up to three lines drawn dashed in grey, as (x, y): a published log, say.
    """
    figure, axes = subplots(size=(6.4, 3.0))
    faint = 0.18 if len(series) <= 3 else 0.08  # many bands lie over each other
    for (label, values), look in zip(series.items(), looks(list(series)), strict=True):
        array = np.atleast_2d(np.asarray(values, dtype=float))
        seeds = "one seed" if len(array) == 1 else f"n = {len(array)}"
        _line(axes, x, array, look, f"{label} ({seeds})", faint)
    for dashes, (label, (along, heights)) in zip(("--", ":", "-."), (reference or {}).items(), strict=False):
        axes.plot(along, heights, color=PAPER, linestyle=dashes, linewidth=1.3, label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    lines = axes.get_legend_handles_labels()
    if len(lines[0]) > 4:  # inside the axes they would cover curves
        figure.legend(*lines, loc="outside lower center", ncols=2, fontsize=8)
    else:
        axes.legend(fontsize=8)
    return figure


def _line(
    axes: Axes, x: Sequence[float], values: np.ndarray, look: Mapping[str, Any], label: str, faint: float
) -> None:
    """The mean of `values` [seeds, P], and where there are several seeds the 95 % interval as a band."""
    axes.plot(x, values.mean(0), markersize=3.5, markevery=max(len(x) // 12, 1), label=label, **look)
    if len(values) > 1:
        bands = [t_interval(column) for column in values.T]
        low, high = ([getattr(band, side) for band in bands] for side in ("low", "high"))
        axes.fill_between(x, low, high, color=look["color"], alpha=faint, linewidth=0)


@styled
def panels(
    found: Mapping[str, Mapping[str, tuple[Sequence[float], np.ndarray]]],
    *,
    xlabel: str,
    ylabel: str,
    columns: int = 3,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Several axes side by side on one scale, each with lines as in `curves`, and one legend above all.

    Args:
        found: per title of a panel and label of a line, positions of length P and an array [seeds, P].
        columns: panels in a row, at most; limits: of the vertical axis, where numbers can only lie so.
    """
    across = min(columns, max(len(found), 1))
    rows = math.ceil(max(len(found), 1) / across)
    size = (6.4, 2.2 * rows + 0.5) if across > 1 else (6.4, 3.0)
    figure, grid = subplots(rows, across, size=size, sharex=True, sharey=True, squeeze=False)
    labels = list(dict.fromkeys(label for lines in found.values() for label in lines))
    styles = dict(zip(labels, looks(labels), strict=True))
    if not labels:
        return empty(figure, grid[0, 0], "not run")
    for axes, (title, lines) in zip(grid.flat, found.items(), strict=False):
        axes.set_title(title, loc="left")
        for label, (x, values) in lines.items():
            _line(axes, x, np.atleast_2d(np.asarray(values, float)), styles[label], label, 0.15)
    if limits is not None:
        grid[0, 0].set_ylim(*limits)
    for place, axes in enumerate(grid.flat):
        axes.tick_params(labelbottom=place + across >= len(found))
        if place >= len(found):
            axes.set_axis_off()
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(labels), 4), fontsize=8
    )
    figure.supxlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    return figure


@charted(vegalite.points)
@styled
def points(
    found: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str
) -> Figure:
    """Numbers against numbers: per label a point a seed, (x, y)."""
    figure, axes = subplots(size=(6.0, 3.0))
    if not found:
        return empty(figure, axes, "not run")
    for (label, (x, y)), look in zip(found.items(), looks(list(found)), strict=True):
        axes.plot(x, y, linestyle="", marker=look["marker"], color=look["color"], markersize=5, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


@charted(vegalite.dose_response)
@styled
def dose_response(
    doses: Sequence[float],
    series: Mapping[str, Sequence[tuple[float, float, float] | None]],
    *,
    xlabel: str,
    ylabel: str,
    zero: bool = True,
) -> Figure:
    """Gain or score against dose, with its interval.

    Args:
        doses: the knob's values.
        series: per label, one (mean, low, high) a dose; None where it was not run, bounds NaN where it has
            no interval.
        zero: draw the line where a gain is none.
    """
    figure, axes = subplots(size=(6.0, 2.9))
    if zero:
        axes.axhline(0, color=PAPER, linewidth=1)
    for (label, points), look in zip(series.items(), looks(list(series)), strict=True):
        known = [(dose, *point) for dose, point in zip(doses, points, strict=True) if point is not None]
        if known:
            dose, mean, low, high = np.asarray(known, dtype=float).T
            error = np.nan_to_num(np.clip([mean - low, high - mean], 0, None))
            axes.errorbar(dose, mean, yerr=error, markersize=5, capsize=3, label=label, **look)
    if not axes.containers:
        return empty(figure, axes, "not run")
    axes.set_xticks(doses, [f"{dose:g}" for dose in doses])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8)
    return figure


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A difference of two rows, for `gaps`; one without a word is a heading over those that follow.

    Attributes:
        label, word: left and right of it.
        learned, unlearned: seed -> its number, where both runs have learned and where one has not.
        mean, low, high: of the learned; NaN where there is none.
        paper: what the paper prints.
    """

    label: str
    word: str = ""
    learned: Mapping[int, float] = field(default_factory=dict)
    unlearned: Mapping[int, float] = field(default_factory=dict)
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    paper: float | None = None


@charted(vegarows.gaps)
@styled
def gaps(rows: Sequence[Gap], *, xlabel: str, width: float = 7.2, pitch: float = 0.42) -> Figure:
    """Differences, a line each: dots are seeds (hollow: a run had not learned, and does not count), the
    square is their mean with its interval, the grey diamond what the paper prints.

    Args:
        width, pitch: of the figure, and from line to line; inches.
    """
    figure, axes = subplots(size=(width, pitch * max(len(rows), 3) + 1.0))
    if not rows:
        return empty(figure, axes, "not run")
    axes.axvline(0, color=PAPER, linewidth=1)
    for height, row in enumerate(reversed(rows)):
        for numbers, face in ((row.learned, OURS), (row.unlearned, "none")):
            axes.scatter(
                list(numbers.values()),
                [height - 0.22] * len(numbers),
                s=10,
                facecolors=face,
                edgecolors=OURS,
                linewidths=0.8,
            )
        if not np.isnan(row.mean):
            axes.plot([row.low, row.high], [height, height], color=OURS)
            axes.plot([row.mean], [height], marker="s", color=OURS, markersize=5)
        if row.paper is not None:
            axes.plot([row.paper], [height], marker="D", color=PAPER, markersize=5)
        axes.annotate(row.word, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.label for row in reversed(rows)], fontsize=8)
    for label, row in zip(axes.get_yticklabels(), reversed(rows), strict=True):
        label.set_fontweight("normal" if row.word else "bold")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(xlabel)
    return figure
