"""Figures of the chapter on task, data, evaluator and released predictions. Plain numbers in, matplotlib
figures out.

Each method keeps its colour and marker through the chapter: its place in
`vtg_lib.evaluation.per_query.METHODS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures import BLACK, GREY, MARKERS, PREDICTION, SERIES, TRUTH, styled, subplots
from vtg_lib.data.statistics import MOMENTS, POSITIONS, RELATIVE, SECONDS, VOTES, WORDS
from vtg_lib.evaluation.per_query import COUNTS, LENGTH_EDGES, METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.7  # inches; a phone shows the figure at about half of its pixels
DASHES = ("-", "--", "-.", ":")
FEWEST = 10  # predictions in a bin of a reliability curve that is drawn


def _method_style(name: str) -> dict[str, Any]:
    place = list(METHODS).index(name)
    return {"color": SERIES[place], "marker": MARKERS[place], "label": METHODS[name]}


# ---------------------------------------------------------------------------------------------------------------- data


@styled
def distributions(sets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Moments per query, their length and place, words of a query and votes of annotators, a line a data set.

    Args:
        sets: per label `vtg_lib.data.statistics.shapes`; those without a distribution are left out of its
            panel.
    """
    figure, axes = subplots(3, 2, size=(WIDTH, 7.6))
    panels = [
        ("moments", "moments of a query", range(1, MOMENTS + 1), "share of queries"),
        ("seconds", "length of a moment (s)", None, "share up to this length"),
        ("relative", "length / video", (np.arange(RELATIVE) + 0.5) / RELATIVE, "share of moments"),
        (
            "position",
            "place in the video (0 to 1)",
            (np.arange(POSITIONS) + 0.5) / POSITIONS,
            "share of moments there",
        ),
        ("words", "words of a query", range(1, WORDS + 1), "share of queries"),
        ("votes", "one annotator's score of a clip", range(VOTES), "share of scores"),
    ]
    for cell, (key, xlabel, x, ylabel) in zip(axes.flat, panels, strict=True):
        for place, (label, shapes) in enumerate(sets.items()):
            if key not in shapes:
                continue
            line = {"color": SERIES[place], "linestyle": DASHES[place % len(DASHES)], "label": label}
            few = key in ("moments", "votes")
            marker = {"marker": MARKERS[place], "markersize": 4} if few else {}
            if key == "seconds":
                cell.plot(
                    SECONDS[1:-1], np.cumsum(shapes[key])[:-1], marker=MARKERS[place], markersize=3.5, **line
                )
                cell.set_xscale("log")
                cell.set_xticks([2, 5, 10, 30, 60, 150], ["2", "5", "10", "30", "60", "150"])
                cell.minorticks_off()
            else:
                cell.plot(x, shapes[key], **line, **marker)
        cell.set_xlabel(xlabel)
        cell.set_ylabel(ylabel)
        cell.set_ylim(bottom=0)
    axes[0, 0].set_xticks(range(1, MOMENTS + 1), [*map(str, range(1, MOMENTS)), f"{MOMENTS}+"])
    axes[2, 0].set_xticks([1, 5, 10, 15, 20, WORDS], ["1", "5", "10", "15", "20", f"{WORDS}+"])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9)
    return figure


# -----------------------------------------------------------------------------------------------------------
# evaluator


@styled
def ranking(worked: Mapping[str, Any], level: str = "0.5") -> Figure:
    """One query's predictions in the order of their scores, and the precision-recall curve that they make at
    one threshold.

    Args:
        worked: `vtg_lib.book.foundations.worked_query`; level: a threshold of its steps.
    """
    steps, windows = worked["steps"], worked["relevant_windows"]
    figure, axes = subplots(2, 1, size=(WIDTH, 5.0), height_ratios=[1.7, 1])
    top, low = axes
    for start, end in windows:
        top.axvspan(start, end, color=TRUTH, alpha=0.10, linewidth=0)
        top.barh(0, end - start, left=start, height=0.7, color=TRUTH)
    for rank, step in enumerate(steps, 1):
        taken = step[level] is not None
        start, length = step["start"], step["end"] - step["start"]
        face = {"color": PREDICTION} if taken else {"facecolor": "white", "edgecolor": GREY, "hatch": "////"}
        top.barh(rank, length, left=start, height=0.6, linewidth=0.8, **face)
        told = f"{step['score']:.2f} · IoU {step['iou']:.2f}"
        right = step["end"] < 0.72 * worked["duration"]
        top.text(
            step["end"] + 1.5 if right else start - 1.5,
            rank,
            told,
            va="center",
            ha="left" if right else "right",
            fontsize=8,
        )
    top.set_yticks(range(len(steps) + 1), ["truth", *map(str, range(1, len(steps) + 1))])
    top.set_ylim(len(steps) + 0.6, -0.7)
    top.set_xlim(0, worked["duration"])
    top.grid(axis="y", visible=False)
    top.set_xlabel("seconds")
    top.set_ylabel("rank")
    recall = np.cumsum([step[level] is not None for step in steps]) / len(windows)
    precision = np.asarray(worked["precision"][level])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # The envelope is 0 at recalls that no rank reaches.
    x = np.concatenate([[0.0], recall, [recall[-1], 1.0]])
    y = np.concatenate([[envelope[0]], envelope, [0.0, 0.0]])
    low.fill_between(
        x,
        y,
        color=PREDICTION,
        alpha=0.3,
        step="pre",
        linewidth=0,
        label=f"area = AP = {worked['ap'][level]:.2f}",
    )
    low.plot(x, y, color=PREDICTION, drawstyle="steps-pre", linewidth=1.6)
    low.plot(recall, precision, "o", color=BLACK, markersize=4, label="after each rank")
    low.set_xlim(-0.02, 1.02)
    low.set_ylim(0, 1.08)
    low.set_xlabel(f"recall at IoU {level}")
    low.set_ylabel("precision")
    low.legend(fontsize=8, loc="upper right")
    return figure


# ---------------------------------------------------------------------------------------------------------
# predictions


@styled
def convergence(
    logs: Mapping[str, Mapping[str, Sequence[float]]], released: Mapping[str, int | None]
) -> Figure:
    """mAP on val by epoch in the authors' logs; a ring marks the epoch whose predictions were released.

    Args:
        logs: per method `epoch` and `mAP`; released: its epoch, or None where the log belongs to another run.
    """
    figure, axes = subplots(size=(WIDTH, 3.6))
    for name, log in logs.items():
        style = _method_style(name)
        label = style.pop("label") + ("" if released.get(name) else " (another run)")
        every = max(len(log["epoch"]) // 20, 1)
        axes.plot(
            log["epoch"], log["mAP"], markersize=3, markevery=every, linewidth=1.2, label=label, **style
        )
        if epoch := released.get(name):
            height = log["mAP"][list(log["epoch"]).index(epoch)]
            axes.plot(
                epoch,
                height,
                "o",
                markersize=11,
                markerfacecolor="none",
                markeredgecolor=style["color"],
                markeredgewidth=1.8,
            )
    axes.set_xlabel("epoch")
    axes.set_ylabel("mAP (val)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    return figure


@styled
def reliability(methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean IoU by score, of the first prediction and of all ten; the larger a mark, the more predictions have
    such a score.

    Args:
        methods: per method `vtg_lib.evaluation.per_query.calibration`.
    """
    figure, axes = subplots(1, 2, size=(WIDTH, 3.9), sharey=True)
    for cell, key, title in zip(
        axes, ("first", "all"), ("first prediction", "all ten predictions"), strict=True
    ):
        cell.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        for name, found in methods.items():
            curve, style = found[key], _method_style(name)
            total = sum(curve["count"])
            points = [
                (score, outcome, 8 + 120 * n / total)
                for score, outcome, n in zip(curve["score"], curve["outcome"], curve["count"], strict=True)
                if n >= FEWEST
            ]
            x, y, size = zip(*points, strict=True)
            cell.plot(x, y, linewidth=1.2, **(style | {"markersize": 4}))
            cell.scatter(
                x, y, s=size, color=style["color"], marker=style["marker"], alpha=0.45, linewidth=0, zorder=3
            )
        cell.set_title(title)
        cell.set_xlabel("score")
        cell.set_xlim(-0.03, 1.06)
        cell.set_ylim(0, 1)
    axes[0].set_ylabel("mean IoU")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8.5)
    return figure


@styled
def recall(methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What is found, by length of the moment (above) and by moments of the query (below).

    Args:
        methods: per method `length` (`vtg_lib.evaluation.per_query.recall_by_length`) and `count`
            (`recall_by_count`).
    """
    figure, axes = subplots(2, 2, size=(WIDTH, 5.2), sharey="row")
    lengths = [f"{high:g}" for _, high in pairwise(LENGTH_EDGES)]
    counts = [*map(str, COUNTS[:-1]), f"{COUNTS[-1]}+"]
    met = "share of moments met"
    panels = [
        (axes[0, 0], "length", "first", lengths, "length up to (s)", "by the first prediction", met),
        (axes[0, 1], "length", "any", lengths, "length up to (s)", "by any of ten", ""),
        (axes[1, 0], "count", "found", counts, "moments of the query (k)", "by the first k predictions", met),
        (axes[1, 1], "count", "ap", counts, "moments of the query", "AP", "mean"),
    ]
    for cell, part, key, ticks, xlabel, title, ylabel in panels:
        for name, found in methods.items():
            values = [np.nan if value is None else value for value in found[part][key]]
            cell.plot(range(len(ticks)), values, markersize=4.5, linewidth=1.3, **_method_style(name))
        cell.set_xticks(range(len(ticks)), ticks)
        cell.set_xlabel(xlabel)
        cell.set_ylabel(ylabel)
        cell.set_title(title)
        cell.set_ylim(0, 1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8.5)
    return figure


@styled
def agreement(names: Sequence[str], iou: np.ndarray, rank: np.ndarray) -> Figure:
    """A square of methods: below the diagonal the mean IoU of first predictions, above it the rank
    correlation of AP.

    Args:
        names: M methods; iou, rank: `[M, M]`, symmetric.
    """
    size = len(names)
    square = np.where(np.tril(np.ones((size, size), bool), -1), iou, rank)
    np.fill_diagonal(square, np.nan)
    figure, axes = subplots(size=(WIDTH, 4.3))
    axes.imshow(square, cmap="cividis", vmin=0.45, vmax=0.75)
    for row in range(size):
        for column in range(size):
            if row != column:
                value = square[row, column]
                ink = "white" if value < 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=10)
    axes.plot([-0.5, size - 0.5], [-0.5, size - 0.5], color="white", linewidth=2)
    axes.set_xticks(range(size), names, rotation=30, ha="right")
    axes.set_yticks(range(size), names)
    axes.grid(False)
    axes.set_title(
        "above the diagonal: rank correlation of AP\nbelow: IoU of the first predictions", fontsize=9
    )
    return figure


@styled
def solved(share: Sequence[float], chance: Sequence[float]) -> Figure:
    """Queries by how many of the methods are right on them, and what it were if they succeeded independently."""
    figure, axes = subplots(size=(WIDTH, 2.7))
    place = np.arange(len(share))
    axes.bar(place - 0.2, share, width=0.38, color=SERIES[0], label="found")
    axes.bar(
        place + 0.2, chance, width=0.38, color="white", edgecolor=GREY, hatch="////", label="if independent"
    )
    for x, value in zip(place, share, strict=True):
        axes.text(x - 0.2, value + 0.006, f"{100 * value:.0f} %", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(place, [str(n) for n in place])
    axes.set_xlabel("methods that are right with their first prediction")
    axes.set_ylabel("share of queries")
    axes.set_ylim(top=max(*share, *chance) * 1.15)
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.12, 1.02))
    return figure
