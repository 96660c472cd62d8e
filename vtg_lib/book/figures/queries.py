"""Pictures of what decoder queries do: who keeps its moment, how alike queries are, one layer of one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures.style import GREY, SERIES, TRUTH, empty, styled, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOW = (("kept", SERIES[0]), ("swapped", SERIES[1]), ("moved", "#bdbdbd"))  # from bottom to top


@styled
def matching_flow(shares: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How moments flow from one decoder layer to the next, one row a method.

    Args:
        shares: per method `kept`, `swapped` and `moved`, a share for each pair of layers; they sum to 1.
    """
    shown = {name: value for name, value in shares.items() if len(value["kept"])}
    figure, axes = subplots(
        max(len(shown), 1), 1, size=(6.4, 1.25 * max(len(shown), 1) + 0.7), sharex=True, squeeze=False
    )
    if not shown:
        return empty(figure, axes[0, 0], "no moments were matched")
    handles: dict[str, Any] = {}
    for row, (name, value) in zip(axes[:, 0], shown.items(), strict=True):
        for pair in range(len(value["kept"])):
            low = 0.0
            for kind, colour in FLOW:
                share = float(value[kind][pair])
                # Who keeps its query flows straight on; the others start from the whole layer before.
                left = (low, low + share) if kind == "kept" else (0.0, 1.0)
                edge = {"facecolor": colour, "alpha": 0.85 if kind == "kept" else 0.35, "linewidth": 0}
                handles[kind] = row.fill(
                    [pair + 1.06, pair + 1.94, pair + 1.94, pair + 1.06],
                    [left[0], low, low + share, left[1]],
                    **edge,
                )[0]
                if share >= 0.06:
                    row.annotate(
                        f"{share:.0%}", (pair + 1.92, low + share / 2), ha="right", va="center", fontsize=7
                    )
                low += share
        for layer in range(len(value["kept"]) + 1):
            row.plot([layer + 1, layer + 1], [0, 1], color=GREY, linewidth=4, solid_capstyle="butt")
        row.set_ylim(-0.03, 1.03)
        row.set_yticks([])
        row.grid(False)
        row.spines["left"].set_visible(False)
        row.set_title(name, loc="left")
        row.set_xticks(range(1, len(value["kept"]) + 2))
    axes[-1, 0].set_xlabel("decoder layer")
    labels = {"kept": "same query", "swapped": "query of another moment", "moved": "query without a moment"}
    figure.legend(
        [handles[k] for k in handles],
        [labels[k] for k in handles],
        loc="outside upper center",
        ncols=3,
        fontsize=8,
    )
    return figure


@styled
def similarity_histograms(
    records: Mapping[str, Mapping[str, Any]], edges: Sequence[float] | np.ndarray, layer: int = -1
) -> Figure:
    """Cosines of query pairs on the same and on different moments, one panel a method, of one decoder layer.

    Args:
        records: per method what `vtg_lib.diagnostics.queries.query_similarity` gives; edges: of its bins.
    """
    columns = min(len(records), 3) or 1
    rows = -(-len(records) // columns) or 1
    figure, axes = subplots(
        rows, columns, size=(2.2 * columns + 0.4, 1.9 * rows + 0.6), sharex=True, squeeze=False
    )
    for cell in axes.flat[len(records) :]:
        cell.set_axis_off()
    for cell, (name, record) in zip(axes.flat, records.items(), strict=False):
        for kind, colour in (("same", SERIES[0]), ("different", SERIES[1])):
            counts = np.asarray(record[kind][layer], dtype=float)
            cell.stairs(
                counts / max(counts.sum(), 1),
                edges,
                color=colour,
                fill=True,
                alpha=0.45,
                label=f"{kind} moment",
            )
        auc = record["auc"][layer]
        cell.set_title(f"{name}\nAUC {'–' if auc is None else f'{auc:.2f}'}", fontsize=8)
        cell.set_yticks([])
        cell.grid(False)
    figure.supxlabel("cosine of two queries", fontsize=9)
    if records:
        figure.legend(
            *axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8
        )
    return figure


@dataclass(frozen=True, kw_only=True)
class LayerPicture:
    """One decoder layer on one sample.

    Attributes:
        query: the sentence; layer: its number, from 1; seconds: length of the video.
        moments: true (start, end) in seconds; spans: `[Q, 2]` predicted ones, seconds; rank: `[Q]` what
            orders the queries.
        served: `[Q]` index of the moment that a query is matched to, or -1.
        attention: `[Q, T]` to the clips; factor: `[Q, Q]` S_attn that the next layer gets, or None.
    """

    query: str
    layer: int
    seconds: float
    moments: Sequence[tuple[float, float]]
    spans: np.ndarray
    rank: np.ndarray
    served: np.ndarray
    attention: np.ndarray
    factor: np.ndarray | None


@styled
def decoder_layer(picture: LayerPicture) -> Figure:
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
        left.plot([start, max(end, start + 0.2)], [place, place], color=GREY if moment < 0 else SERIES[moment % len(SERIES)],
                  linewidth=3 if moment < 0 else 6, solid_capstyle="butt")  # fmt: skip
        left.annotate(f"{picture.rank[query]:.2f}", (picture.seconds, place), (4, 0), textcoords="offset points", va="center",
                      fontsize=7, annotation_clip=False)  # fmt: skip
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
