"""Figures of the chapter on task, data, evaluator and released predictions. Plain numbers in, matplotlib
figures out.

A method looks as it does in the whole book: `vtg_lib.book.figures.looks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book.figures import (
    BLACK,
    DASHES,
    GREY,
    MARKERS,
    PREDICTION,
    SERIES,
    TRUTH,
    looks,
    matrix,
    styled,
    subplots,
)
from vtg_lib.data.statistics import MOMENTS, POSITIONS, RELATIVE, SECONDS, VOTES, WORDS
from vtg_lib.evaluation.per_query import COUNTS, LENGTH_EDGES, METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 5.7  # inches; a phone shows the figure at about half of its pixels
FEWEST = 10  # predictions in a bin of a reliability curve that is drawn
Styles = Mapping[str, Mapping[str, Any]]  # by line, what `Axes.plot` takes
# Lines by name (x, y and, where the marks have sizes, these), and what `Axes.set` takes.
Panel = tuple[Mapping[str, Sequence[Any]], Mapping[str, Any]]


def method_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What `Axes.plot` takes for each method, by its key or by what it is called."""
    names = list(names)
    return {
        name: look | {"label": METHODS.get(name, name), "markersize": 4.5, "linewidth": 1.3}
        for name, look in zip(names, looks(names), strict=True)
    }


@styled
def lines(
    panels: Sequence[Panel], styles: Styles, shape: tuple[int, int], height: float, **keywords: Any
) -> Figure:
    """Panels of lines under one legend.

    Args:
        panels: row by row; styles: of every line; shape: rows and columns; height: inches.
        keywords: of `subplots`.
    """
    figure, grid = subplots(*shape, size=(WIDTH, height), squeeze=False, **keywords)
    for axes, (series, settings) in zip(grid.flat, panels, strict=True):
        for name, (x, y, *sizes) in series.items():
            axes.plot(x, y, **{"markevery": max(len(x) // 12, 1)} | dict(styles[name]))
            if sizes:
                look = {key: styles[name][key] for key in ("color", "marker")}
                axes.scatter(x, y, s=sizes[0], alpha=0.45, linewidth=0, zorder=3, **look)
        axes.set(**settings)
        axes.minorticks_off()
    columns = -(-len(styles) // 2)  # two rows
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=columns, fontsize=8.5)
    return figure


def distributions(sets: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Moments per query, their length and place, words of a query and votes of annotators, a line a data set.

    Args:
        sets: per label `vtg_lib.data.statistics.shapes`; those without a distribution are left out of its
            panel.
    """
    x = {
        "moments": np.arange(1, MOMENTS + 1),
        "seconds": SECONDS[1:-1],
        "relative": (np.arange(RELATIVE) + 0.5) / RELATIVE,
        "position": (np.arange(POSITIONS) + 0.5) / POSITIONS,
        "words": np.arange(1, WORDS + 1),
        "votes": np.arange(VOTES),
    }
    up_to, ticks = [2, 5, 10, 30, 60, 150], [1, 5, 10, 15, 20, WORDS]
    settings: dict[str, dict[str, Any]] = {
        "moments": (
            {"xlabel": "moments of a query", "ylabel": "share of queries", "xticks": x["moments"]}
            | {"xticklabels": [*map(str, range(1, MOMENTS)), f"{MOMENTS}+"]}
        ),
        "seconds": (
            {"xlabel": "length of a moment (s)", "ylabel": "share up to this length"}
            | {"xscale": "log", "xticks": up_to, "xticklabels": map(str, up_to)}
        ),
        "relative": {"xlabel": "length / video", "ylabel": "share of moments"},
        "position": {"xlabel": "place in the video (0 to 1)", "ylabel": "share of moments there"},
        "words": (
            {"xlabel": "words of a query", "ylabel": "share of queries", "xticks": ticks}
            | {"xticklabels": [*map(str, ticks[:-1]), f"{WORDS}+"]}
        ),
        "votes": {"xlabel": "one annotator's score of a clip", "ylabel": "share of scores"},
    }
    styles = {
        label: (
            {"color": SERIES[n], "linestyle": DASHES[n % len(DASHES)], "label": label}
            | {"marker": MARKERS[n], "markersize": 4}
        )
        for n, label in enumerate(sets)
    }
    panels = [
        (
            {
                label: (x[key], np.cumsum(shapes[key])[:-1] if key == "seconds" else shapes[key])
                for label, shapes in sets.items()
                if key in shapes
            },
            {**settings[key], "ylim": (0, None)},
        )
        for key in x
    ]
    return lines(panels, styles, (3, 2), 7.6)


@styled
def ranking(worked: Mapping[str, Any], level: str = "0.5") -> Figure:
    """One query's predictions in the order of their scores, and the precision-recall curve that they make at
    one threshold.

    Args:
        worked: `vtg_lib.book.foundations.record.worked_query`; level: a threshold of its steps.
    """
    steps, windows, duration = worked["steps"], worked["relevant_windows"], worked["duration"]
    figure, (top, low) = subplots(2, 1, size=(WIDTH, 5.0), height_ratios=[1.7, 1])
    for start, end in windows:
        top.axvspan(start, end, color=TRUTH, alpha=0.10, linewidth=0)
        top.barh(0, end - start, left=start, height=0.7, color=TRUTH)
    missed = {"facecolor": "white", "edgecolor": GREY, "hatch": "////"}
    for rank, step in enumerate(steps, 1):
        face = missed if step[level] is None else {"color": PREDICTION}
        length, right = step["end"] - step["start"], step["end"] < 0.72 * duration
        top.barh(rank, length, left=step["start"], height=0.6, linewidth=0.8, **face)
        place = {"x": step["end"] + 1.5, "ha": "left"} if right else {"x": step["start"] - 1.5, "ha": "right"}
        text = f"{step['score']:.2f} · IoU {step['iou']:.2f}"
        top.text(y=rank, s=text, va="center", fontsize=8, **place)
    top.set(yticks=range(len(steps) + 1), yticklabels=["truth", *range(1, len(steps) + 1)])
    top.set(ylim=(len(steps) + 0.6, -0.7), xlim=(0, duration), xlabel="time (seconds)", ylabel="rank")
    top.grid(axis="y", visible=False)
    recall = np.cumsum([step[level] is not None for step in steps]) / len(windows)
    precision = np.asarray(worked["precision"][level])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    x = np.concatenate([[0.0], recall, [recall[-1], 1.0]])
    y = np.concatenate([[envelope[0]], envelope, [0.0, 0.0]])  # 0 at recalls that no rank reaches
    area = f"area = AP = {worked['ap'][level]:.2f}"
    low.fill_between(x, y, color=PREDICTION, alpha=0.3, step="pre", linewidth=0, label=area)
    low.plot(x, y, color=PREDICTION, drawstyle="steps-pre", linewidth=1.6)
    low.plot(recall, precision, "o", color=BLACK, markersize=4, label="after each rank")
    low.set(xlim=(-0.02, 1.02), ylim=(0, 1.08), xlabel=f"recall at IoU {level}", ylabel="precision")
    low.legend(fontsize=8, loc="upper right")
    return figure


def convergence(
    logs: Mapping[str, Mapping[str, Sequence[float]]], released: Mapping[str, int | None]
) -> Figure:
    """mAP on val by epoch in the authors' logs; a ring marks the epoch whose predictions were released.

    Args:
        logs: per method `epoch` and `mAP`; released: its epoch, or None where the log belongs to another run.
    """
    known = method_styles(logs)
    styles = {
        name: (
            known[name]
            | {"markersize": 3, "linewidth": 1.2}
            | {"label": METHODS[name] + ("" if released.get(name) else " (another run)")}
        )
        for name in logs
    }
    series = {name: (log["epoch"], log["mAP"]) for name, log in logs.items()}
    settings = {"xlabel": "epoch", "ylabel": "mAP (val)", "ylim": (0, None)}
    figure = lines([(series, settings)], styles, (1, 1), 3.6)
    ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.8}
    for name, (epochs, values) in series.items():
        if epoch := released.get(name):
            edge = known[name]["color"]
            height = values[list(epochs).index(epoch)]
            figure.axes[0].plot(epoch, height, "o", markeredgecolor=edge, **ring)
    return figure


def reliability(methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean IoU by score, of the first prediction and of all ten; the larger a mark, the more predictions have
    such a score.

    Args:
        methods: per method `vtg_lib.evaluation.per_query.calibration`.
    """
    diagonal = {"color": GREY, "linestyle": "--", "linewidth": 1}
    panels: list[Panel] = []
    for key, title in (("first", "first prediction"), ("all", "all ten predictions")):
        series: dict[str, Sequence[Any]] = {"": ([0, 1], [0, 1])}
        for name, found in methods.items():
            count = np.array(found[key]["count"])
            x, y = (np.array(found[key][part], float)[count >= FEWEST] for part in ("score", "outcome"))
            series[name] = x, y, 8 + 120 * count[count >= FEWEST] / count.sum()
        settings = {"title": title, "xlabel": "score", "xlim": (-0.03, 1.06), "ylim": (0, 1)}
        panels.append((series, settings | ({} if panels else {"ylabel": "mean IoU"})))
    return lines(panels, method_styles(methods) | {"": diagonal}, (1, 2), 3.9, sharey=True)


def recall(methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What is found, by length of the moment (above) and by moments of the query (below).

    Args:
        methods: per method `length` (`vtg_lib.evaluation.per_query.recall_by_length`) and `count`
            (`recall_by_count`).
    """
    lengths = [f"{high:g}" for _, high in pairwise(LENGTH_EDGES)]
    counts = [*map(str, COUNTS[:-1]), f"{COUNTS[-1]}+"]
    met, seconds = "share of moments met", "length up to (s)"
    plan = (
        ("length", "first", lengths, seconds, "by the first prediction", met),
        ("length", "any", lengths, seconds, "by any of ten", ""),
        ("count", "found", counts, "moments of the query (k)", "by the first k predictions", met),
        ("count", "ap", counts, "moments of the query", "AP", "mean"),
    )
    panels = [
        (
            {name: (range(len(ticks)), np.array(found[part][key], float)) for name, found in methods.items()},
            {"xticks": range(len(ticks)), "xticklabels": ticks, "ylim": (0, 1)}
            | {"xlabel": xlabel, "title": title, "ylabel": ylabel},
        )
        for part, key, ticks, xlabel, title, ylabel in plan
    ]
    return lines(panels, method_styles(methods), (2, 2), 5.2, sharey="row")


def agreement(names: Sequence[str], iou: np.ndarray, rank: np.ndarray) -> Figure:
    """A square of methods: below the diagonal the mean IoU of first predictions, above it the rank
    correlation of AP.

    Args:
        names: M methods; iou, rank: `[M, M]`, symmetric.
    """
    square = np.tril(iou, -1) + np.triu(rank, 1)
    np.fill_diagonal(square, np.nan)
    title = "above the diagonal: rank correlation of AP\nbelow: IoU of the first predictions"
    return matrix(square, names, names, digits=2, title=title)


@styled
def solved(share: Sequence[float], chance: Sequence[float]) -> Figure:
    """Queries by how many of the methods are right on them, and what it were if they succeeded
    independently.
    """
    figure, axes = subplots(size=(WIDTH, 2.7))
    place, hatched = np.arange(len(share)), {"color": "white", "edgecolor": GREY, "hatch": "////"}
    found = axes.bar(place - 0.2, share, width=0.38, color=SERIES[0], label="found")
    axes.bar(place + 0.2, chance, width=0.38, label="if independent", **hatched)
    axes.bar_label(found, [f"{100 * value:.0f} %" for value in share], padding=1.5, fontsize=8)
    axes.set(xlabel="methods that are right with their first prediction", ylabel="share of queries")
    axes.set(xticks=place, ylim=(0, max(*share, *chance) * 1.15))
    axes.grid(axis="x", visible=False)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.12, 1.02))
    return figure
