"""Many methods at once: numbers in a grid, and mean ranks on a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book.figures import vegarows
from vtg_lib.book.figures.interactive import charted
from vtg_lib.book.figures.style import BLACK, OURS, empty, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL, ROW = 0.56, 0.3  # inches, of a cell's width and height


@charted(vegarows.matrix)
@styled
def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    digits: int = 0,
    title: str = "",
    by_column: bool = False,
) -> Figure:
    """A grid of numbers on colours; NaN is left blank.

    Args:
        values: `[R, C]`; rows, columns: their names; a column's name may have a line break.
        digits: decimals.
        by_column: a scale of colours for each column, where they hold different things.
    """
    from matplotlib.colors import LinearSegmentedColormap

    size = (1.5 + CELL * max(len(columns), 4), 1.2 + ROW * max(len(rows), 3))
    figure, axes = subplots(size=size)
    if not np.isfinite(values).any():
        return empty(figure, axes, "not run")
    where = vegarows.shares(values, by_column)
    ramp = LinearSegmentedColormap.from_list("ramp", vegarows.RAMP)
    axes.imshow(where, cmap=ramp, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title)
    return figure


@styled
def ranks(mean_ranks: Mapping[str, float], distance: float) -> Figure:
    """Mean ranks of methods, best above; the bar from each is the critical difference: what it does not reach
    is worse beyond chance.

    Args:
        mean_ranks: 1 is best; distance: the critical difference of two mean ranks.
    """
    ordered = sorted(mean_ranks.items(), key=lambda entry: entry[1])
    figure, axes = subplots(size=(6.4, 0.26 * max(len(ordered), 3) + 0.9))
    for place, (_, rank) in enumerate(ordered):
        axes.plot(
            [rank, min(rank + distance, len(ordered))], [place, place], color=OURS, linewidth=3, alpha=0.35
        )
        axes.plot([rank], [place], marker="o", color=BLACK, markersize=5)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
    axes.set(ylim=(len(ordered) - 0.5, -0.5), xlim=(0.7, len(ordered) + 0.3))
    axes.set_xlabel(f"mean rank over worlds (1 is best); bars: critical difference, {distance:.1f}")
    axes.grid(axis="y", visible=False)
    return figure
