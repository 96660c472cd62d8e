"""Charts of results: rows of a table, curves, dose-response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book.figures.style import MARKERS, PAPER, SERIES, empty, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def slope_chart(
    labels: Sequence[str],
    paper: Sequence[float | None],
    ours: Sequence[float | None],
    *,
    metric: str,
    ours_sd: Sequence[float | None] | None = None,
    evidence: str = "",
) -> Figure:
    """Each row of a table as a line from the paper's number to ours, each side on its own scale.

    The two sides have different scales on purpose: evidence `sim` and `rendered` shows order and direction,
    not absolute numbers. Rows that lack one side are left out.
    """
    rows = [
        (label, float(p), float(o), float((ours_sd or [None] * len(labels))[i] or 0.0))
        for i, (label, p, o) in enumerate(zip(labels, paper, ours, strict=True))
        if p is not None and o is not None
    ]
    figure, axes = subplots(size=(6.4, 0.36 * max(len(rows), 4) + 1.3))
    if not rows:
        return empty(figure, axes, "no row has both numbers yet")
    left = _scaled([row[1] for row in rows])
    right = _scaled([row[2] for row in rows])
    for index, (label, value, mean, sd) in enumerate(rows):
        colour = SERIES[index % len(SERIES)]
        axes.plot(
            [0, 1],
            [left[index], right[index]],
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
        )
        mean_text = f"{mean:.1f} ± {sd:.1f}" if sd else f"{mean:.1f}"
        axes.annotate(
            f"{label}  {value:.1f}",
            (0, left[index]),
            (-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour,
        )
        axes.annotate(
            f"{mean_text}  {label}",
            (1, right[index]),
            (8, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            color=colour,
        )
    axes.set_xlim(-1.0, 2.0)
    axes.set_ylim(-0.08, 1.08)
    axes.set_xticks(
        [0, 1], [f"paper\n{metric}", f"ours ({evidence})\n{metric}" if evidence else f"ours\n{metric}"]
    )
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


def _scaled(values: Sequence[float]) -> np.ndarray:
    """Values in 0..1, nudged apart where their labels would overlap."""
    array = np.asarray(values, dtype=float)
    spread = np.ptp(array)
    placed = (array - array.min()) / spread if spread else np.full_like(array, 0.5)
    gap = min(0.9 / max(len(array), 1), 0.11)
    order = np.argsort(placed, kind="stable")
    for before, after in zip(order[:-1], order[1:], strict=True):
        placed[after] = max(placed[after], placed[before] + gap)
    return placed / max(placed.max(), 1.0)


@styled
def curves(
    x: Sequence[float],
    series: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    reference: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """Mean and band (± one standard deviation over seeds) of each series.

    Args:
        x: positions, length P.
        series: per label, an array [seeds, P] (or [P] for one seed).
        reference: up to three lines drawn dashed in grey, as (x, y): a published log, say.
    """
    figure, axes = subplots(size=(6.4, 3.0))
    for index, (label, values) in enumerate(series.items()):
        array = np.atleast_2d(np.asarray(values, dtype=float))
        mean, colour = array.mean(0), SERIES[index % len(SERIES)]
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(
            x,
            mean,
            color=colour,
            marker=marker,
            markersize=3.5,
            markevery=max(len(x) // 12, 1),
            label=f"{label} (n = {len(array)})",
        )
        if len(array) > 1:
            sd = array.std(0, ddof=1)
            axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
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
        series: per label, one (mean, low, high) a dose; None where it was not run.
        zero: draw the line where a gain is none.
    """
    figure, axes = subplots(size=(6.0, 2.9))
    if zero:
        axes.axhline(0, color=PAPER, linewidth=1)
    drawn = False
    for index, (label, points) in enumerate(series.items()):
        known = [(dose, *point) for dose, point in zip(doses, points, strict=True) if point is not None]
        if not known:
            continue
        drawn = True
        dose, mean, low, high = np.asarray(known, dtype=float).T
        error = np.clip([mean - low, high - mean], 0, None)
        axes.errorbar(
            dose,
            mean,
            yerr=error,
            color=SERIES[index % len(SERIES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            capsize=3,
            label=label,
        )
    if not drawn:
        return empty(figure, axes, "not run")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8)
    return figure
