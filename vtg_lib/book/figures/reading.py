"""Learning curves run by run, with the moment at which each begins to read the sentence."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtg_lib.book.figures.style import GREY, OURS, VERMILION, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, LETTERS, WIDTH = 2, 34, 5.0  # panels in a row, letters that fit above one, inches


@dataclass(frozen=True, kw_only=True)
class Run:
    """One line.

    Attributes:
        epochs, values: of its evaluations; learned: whether it reads in the end.
        began: the epoch at which it begins to, one of `epochs`; None where that is not known.
    """

    epochs: Sequence[float]
    values: Sequence[float]
    learned: bool
    began: float | None


@styled
def reading_figure(found: Mapping[str, Sequence[Run]]) -> Figure:
    """A panel a row, a line a run; a dot where it begins to read."""
    across = min(COLUMNS, len(found))
    down = math.ceil(len(found) / across)
    height = 1.9 * down + 0.4
    figure, grid = subplots(down, across, size=(WIDTH, height), sharex=True, sharey=True, squeeze=False)
    for axes, (label, runs) in zip(grid.flat, found.items(), strict=False):
        axes.set_title(textwrap.fill(label, LETTERS), loc="left", fontsize=8.5)
        for run in runs:
            look = {"color": OURS, "linestyle": "-"} if run.learned else {"color": GREY, "linestyle": "--"}
            axes.plot(run.epochs, run.values, linewidth=0.9, alpha=0.6, **look)
            if run.began is not None:
                there = run.values[list(run.epochs).index(run.began)]
                axes.plot(run.began, there, "o", color=VERMILION, markersize=4, zorder=3)
    for place, axes in enumerate(grid.flat):
        axes.tick_params(labelbottom=place + across >= len(found))
        if place >= len(found):
            axes.set_axis_off()
    grid[0, 0].set_ylim(bottom=0)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("mAP on validation (points)", fontsize=9)
    return figure
