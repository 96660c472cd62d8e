"""Pictures of what models do inside: flows from layer to layer, histograms, one layer of one sample."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures.style import GREY, SERIES, TRUTH, looks, method_of, styled, subplots
from vtg_lib.spans import cw_to_se

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vtg_lib.diagnostics.decoder import Decoded
    from vtg_lib.diagnostics.topic import Histograms, Panel

FLOW = (SERIES[0], SERIES[1], "#bdbdbd")  # from bottom to top


@styled
def flow(shares: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """How things flow from one decoder layer to the next, one row a method.

    Args:
        shares: per method what `vtg_lib.diagnostics.topic.Flow` says.
    """
    size = (6.4, 1.25 * len(shares) + 0.7)
    figure, axes = subplots(len(shares), 1, size=size, sharex=True, squeeze=False)
    handles: dict[str, Any] = {}
    for row, (name, parts) in zip(axes[:, 0], shares.items(), strict=True):
        table = np.nan_to_num(np.array(list(parts.values()), float))  # [part, pair]
        for index, (part, colour) in enumerate(zip(parts, FLOW, strict=False)):
            for pair, share in enumerate(table[index], 1):
                low = table[:index, pair - 1].sum()
                # What stays flows straight on; the others start from the whole layer before.
                left = [0, 1] if index else [low, low + share]
                x, y = pair + np.array([0.06, 0.94, 0.94, 0.06]), [left[0], low, low + share, left[1]]
                drawn = row.fill(
                    x,
                    y,
                    facecolor=colour,
                    alpha=0.35 if index else 0.85,
                    linewidth=0,
                    zorder=1 if index else 2,
                )
                handles[part] = drawn[0]
                if share >= 0.06:
                    row.text(
                        pair + 0.92,
                        low + share / 2,
                        f"{share:.0%}",
                        ha="right",
                        va="center",
                        fontsize=7,
                        zorder=3,
                    )
        layers = range(1, table.shape[1] + 2)
        row.vlines(layers, 0, 1, color=GREY, linewidth=4)
        row.set(ylim=(-0.03, 1.03), xticks=layers, yticks=[])
        row.set_title(name, loc="left")
        row.grid(False)
        row.spines["left"].set_visible(False)
    axes[-1, 0].set_xlabel("decoder layer")
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3, fontsize=8)
    return figure


@styled
def histograms(shown: Histograms, panels: Sequence[Sequence[Panel]]) -> Figure:
    """A grid of histograms, each a share of its series; one scale a row."""
    rows, columns = len(panels), max(map(len, panels))
    size = (shown.size[0] * columns + 1.0, shown.size[1] * rows + 0.8)
    figure, axes = subplots(rows, columns, size=size, sharex=True, sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for row, drawn in zip(axes, panels, strict=True):
        for cell in row[len(drawn) :]:
            cell.set_axis_off()
        for cell, panel in zip(row, drawn, strict=False):
            if shown.inside is not None:
                cell.axvspan(*shown.inside, color="#f1f1f1", linewidth=0)
            colours = _colours(list(panel.counts))
            for colour, (label, counts) in zip(colours, panel.counts.items(), strict=False):
                share = np.array(counts, float) / max(sum(counts), 1)
                handles[label] = cell.stairs(share, shown.edges, color=colour, linewidth=1.2)
            for index, place in enumerate(panel.marks.values()):
                cell.axvline(place, color=colours[index], linestyle=("--", ":")[index % 2], linewidth=1)
            cell.set(
                title="\n".join(textwrap.fill(line, 30) for line in panel.title.splitlines()),
                ylabel=panel.side,
                yticks=[],
            )
            cell.grid(False)
    figure.supxlabel(shown.xlabel, fontsize=9)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def _colours(labels: Sequence[str]) -> list[str]:
    """Of methods their own, of categories those of the figure."""
    if any(map(method_of, labels)):
        return [look["color"] for look in looks(labels)]
    return list(SERIES)


@styled
def decoder_layer(decoded: Decoded, row: int, layer: int) -> Figure:
    """The predictions of a layer from best to worst, what they attend to, and who will read whom.

    Args:
        decoded: with attention; row: among its rows; layer: from 0.
    """
    rank, served = decoded.rank[layer, row].numpy(), decoded.served[layer, row].tolist()
    seconds = float(decoded.seconds[row])
    spans = (cw_to_se(decoded.spans[layer, row]).clamp(0, 1) * seconds).tolist()
    order = np.argsort(-rank, kind="stable")
    size = (7.4, 0.17 * len(order) + 1.5)
    figure, (left, middle, right) = subplots(1, 3, size=size, width_ratios=(5, 3, 2.2))
    for number, (start, end) in enumerate(decoded.annotations[row]["relevant_windows"]):
        left.axvspan(start, end, color=TRUTH, alpha=0.15, linewidth=0)
        colour = SERIES[number % len(SERIES)]
        left.plot([start, end], [-0.45, -0.45], color=colour, linewidth=3, solid_capstyle="butt")
    at_right = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
    for place, query in enumerate(order):
        moment, (start, end) = served[query], spans[query]
        colour, width = (GREY, 3) if moment < 0 else (SERIES[moment % len(SERIES)], 6)
        ends = [start, max(end, start + 0.2)]
        left.plot(ends, [place, place], color=colour, linewidth=width, solid_capstyle="butt")
        left.annotate(f"{rank[query]:.2f}", (seconds, place), fontsize=7, **at_right)
    left.set_yticks(range(len(order)), [str(query + 1) for query in order], fontsize=7)
    left.set(
        xlim=(0, seconds), ylim=(len(order) - 0.5, -0.5), xlabel="time (seconds)", ylabel="query, best first"
    )
    left.set_title("predictions and rank", loc="left")
    assert decoded.attention is not None
    attention = decoded.attention[layer, row, order][:, decoded.clips[row]].numpy()
    extent = (0.0, seconds, len(order) - 0.5, -0.5)
    middle.imshow(attention, aspect="auto", cmap="Greys", interpolation="nearest", extent=extent)
    middle.set_title("attention to clips", loc="left")
    middle.set(xlabel="time (seconds)", xlim=(0, seconds), yticks=[])
    if decoded.factor is not None and layer < len(decoded.factor):
        factor = decoded.factor[layer, row].numpy()[np.ix_(order, order)]
        right.imshow(factor, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        right.set_title("$S_{attn}$, 0 to 1", loc="left")
        right.set_xticks(range(len(order)), [str(query + 1) for query in order], fontsize=6, rotation=90)
        right.set(xlabel="query that is read", yticks=[])
    else:
        right.set_axis_off()
    for cell in (middle, right):
        cell.grid(False)
    figure.suptitle(f"Layer {layer + 1}", fontsize=9, x=0.01, ha="left")
    return figure


def decoder_layer_alt(decoded: Decoded, row: int, layer: int) -> str:
    """Text alternative of `decoder_layer`: which queries have a moment."""
    matched = [str(query + 1) for query, moment in enumerate(decoded.served[layer, row]) if moment >= 0]
    return f"layer {layer + 1}: moments are matched to queries {', '.join(matched)}."
