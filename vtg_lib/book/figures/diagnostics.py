"""Pictures of what models do inside: flows from layer to layer, histograms, one layer of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures.style import GREY, SERIES, TRUTH, empty, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vtg_lib.diagnostics.decoder import DecoderLayer
    from vtg_lib.diagnostics.kinds import Panel

FLOW = (SERIES[0], SERIES[1], "#bdbdbd")  # from bottom to top


@styled
def flow(shares: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """How things flow from one decoder layer to the next, one row a method.

    Args:
        shares: per method, part -> a share for each pair of layers; up to three parts that sum to 1, the
            first is what stays.
    """
    shown = {name: parts for name, parts in shares.items() if any(map(len, parts.values()))}
    rows = max(len(shown), 1)
    figure, axes = subplots(rows, 1, size=(6.4, 1.25 * rows + 0.7), sharex=True, squeeze=False)
    if not shown:
        return empty(figure, axes[0, 0], "no moments were matched")
    handles: dict[str, Any] = {}
    for row, (name, parts) in zip(axes[:, 0], shown.items(), strict=True):
        table = np.array(list(parts.values()), dtype=float)  # [part, pair]; NaN where there was none
        table = np.nan_to_num(table)
        lows = table.cumsum(0) - table
        for index, (part, colour) in enumerate(zip(parts, FLOW, strict=False)):
            for pair, (low, share) in enumerate(zip(lows[index], table[index], strict=True)):
                # What stays flows straight on; the others start from the whole layer before.
                left = (low, low + share) if index == 0 else (0.0, 1.0)
                handles[part] = row.fill(
                    [pair + 1.06, pair + 1.94, pair + 1.94, pair + 1.06],
                    [left[0], low, low + share, left[1]],
                    facecolor=colour,
                    alpha=0.35 if index else 0.85,
                    linewidth=0,
                )[0]
                if share >= 0.06:
                    place = (pair + 1.92, low + share / 2)
                    row.annotate(f"{share:.0%}", place, ha="right", va="center", fontsize=7)
        layers = range(1, table.shape[1] + 2)
        for layer in layers:
            row.plot([layer, layer], [0, 1], color=GREY, linewidth=4, solid_capstyle="butt")
        row.set_ylim(-0.03, 1.03)
        row.set_yticks([])
        row.grid(False)
        row.spines["left"].set_visible(False)
        row.set_title(name, loc="left")
        row.set_xticks(layers)
    axes[-1, 0].set_xlabel("decoder layer")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, fontsize=8)
    return figure


@styled
def histograms(
    panels: Sequence[Sequence[Panel]],
    edges: Sequence[float],
    *,
    xlabel: str,
    size: tuple[float, float],
    inside: tuple[float, float] | None = None,
) -> Figure:
    """A grid of histograms, each a share of its series; one scale a row.

    Args:
        panels: the rows of the grid.
        edges: of the bins, `[bins + 1]`.
        size: of a panel, inches; inside: a range to shade.
    """
    rows, columns = len(panels), max(map(len, panels), default=0)
    if not columns:
        figure, axes = subplots(size=(6.4, 1.2))
        return empty(figure, axes, "nothing was measured")
    whole = (size[0] * columns + 1.0, size[1] * rows + 0.8)
    figure, axes = subplots(rows, columns, size=whole, sharex=True, sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for row, drawn in zip(axes, panels, strict=True):
        for cell in row[len(drawn) :]:
            cell.set_axis_off()
        for cell, panel in zip(row, drawn, strict=False):
            if inside is not None:
                cell.axvspan(*inside, color="#f1f1f1", linewidth=0)
            for index, (label, counts) in enumerate(panel.counts.items()):
                share = np.asarray(counts, dtype=float) / max(sum(counts), 1)
                handles[label] = cell.stairs(share, edges, color=SERIES[index], linewidth=1.2)
            for index, place in enumerate(panel.marks.values()):
                cell.axvline(place, color=SERIES[index], linestyle=("--", ":")[index % 2], linewidth=1)
            cell.set_yticks([])
            cell.grid(False)
            cell.set_title(panel.title)
            cell.set_ylabel(panel.side)
    figure.supxlabel(xlabel, fontsize=9)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=8
    )
    return figure


@styled
def decoder_layer(picture: DecoderLayer) -> Figure:
    """The predictions of a layer from best to worst, what they attend to, and who will read whom."""
    order = np.argsort(-picture.rank, kind="stable")
    figure, (left, middle, right) = subplots(
        1, 3, size=(7.4, 0.17 * len(order) + 1.5), width_ratios=(5, 3, 2.2)
    )
    for number, (start, end) in enumerate(picture.moments):
        left.axvspan(start, end, color=TRUTH, alpha=0.15, linewidth=0)
        left.plot(
            [start, end],
            [-0.45, -0.45],
            color=SERIES[number % len(SERIES)],
            linewidth=3,
            solid_capstyle="butt",
        )
    for place, query in enumerate(order):
        moment = int(picture.served[query])
        start, end = picture.spans[query]
        colour, width = (GREY, 3) if moment < 0 else (SERIES[moment % len(SERIES)], 6)
        ends = [start, max(end, start + 0.2)]
        left.plot(ends, [place, place], color=colour, linewidth=width, solid_capstyle="butt")
        text, at = f"{picture.rank[query]:.2f}", (picture.seconds, place)
        left.annotate(
            text, at, (4, 0), textcoords="offset points", va="center", fontsize=7, annotation_clip=False
        )
    left.set_xlim(0, picture.seconds)
    left.set_yticks(range(len(order)), [str(query + 1) for query in order], fontsize=7)
    left.set_ylim(len(order) - 0.5, -0.5)
    left.set_xlabel("seconds")
    left.set_ylabel("query, best first")
    left.set_title("predictions and rank", loc="left")
    middle.imshow(picture.attention[order], aspect="auto", cmap="Greys", interpolation="nearest")
    middle.set_title("attention to clips", loc="left")
    middle.set_xlabel("clip")
    if picture.factor is not None:
        right.imshow(
            picture.factor[np.ix_(order, order)], cmap="viridis", vmin=0, vmax=1, interpolation="nearest"
        )
        right.set_title("$S_{attn}$, 0 to 1", loc="left")
        right.set_xlabel("read query")
    else:
        right.set_axis_off()
    for cell in (middle, right):
        cell.set_xticks([])
        cell.set_yticks([])
        cell.grid(False)
    figure.suptitle(f"Layer {picture.layer}", fontsize=9, x=0.01, ha="left")
    return figure


def decoder_layer_alt(picture: DecoderLayer) -> str:
    """Text alternative of `decoder_layer`: which queries have a moment."""
    matched = np.flatnonzero(picture.served >= 0) + 1
    return f"layer {picture.layer}: moments are matched to queries {', '.join(map(str, matched))}."
