"""One query on one video: ground truth, predictions, saliency, references and offsets by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book.figures.style import GREY, PREDICTION, TRUTH, looks, styled, subplots
from vtg_lib.diagnostics.timelines import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _bar(
    axes: Axes, row: float, start: float, end: float, colour: str, alpha: float = 1.0, height: float = 0.62
) -> None:
    axes.barh(
        row,
        end - start,
        left=start,
        height=height,
        color=colour,
        alpha=alpha,
        linewidth=0.6,
        edgecolor="white",
    )


def _rescaled(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    spread = np.ptp(array) if array.size else 0.0
    return (array - array.min()) / spread if spread > 0 else np.zeros_like(array)


@styled
def timeline(sample: Timeline, *, top: int = 3, width: float = 7.2) -> Figure:
    """Ground truth, each method's best predictions, references level by level with where attention looks, and
    saliency.

    Args:
        sample: what to draw.
        top: predictions drawn per method.
        width: inches.
    """
    methods = list(dict.fromkeys([*sample.predictions, *sample.references]))
    levels = {method: len(sample.references.get(method, ())) for method in methods}
    rows = 1 + sum((method in sample.predictions) + levels[method] for method in methods)
    with_saliency = bool(len(sample.saliency_truth) or sample.saliency)
    heights = [0.24 * rows + 0.25] + ([0.9 if len(sample.saliency) <= 2 else 1.4] if with_saliency else [])
    figure, axes = subplots(
        len(heights), 1, size=(width, sum(heights) + 0.45), sharex=True, squeeze=False, height_ratios=heights
    )
    main = axes[0, 0]
    labels = ["ground truth"]
    for start, end in sample.windows:
        _bar(main, 0, start, end, TRUTH)
        for line in axes[:, 0]:
            line.axvspan(start, end, color=TRUTH, alpha=0.10, linewidth=0)
    named = list(dict.fromkeys([*methods, *sample.saliency]))
    style = dict(zip(named, looks(named), strict=True))
    for method in methods:
        colour = style[method]["color"]
        if method in sample.predictions:
            row = len(labels)
            best = sample.predictions[method][:top]
            for rank, (start, end, _) in reversed(list(enumerate(best))):
                _bar(
                    main,
                    row,
                    start,
                    end,
                    PREDICTION,
                    alpha=1.0 if rank == 0 else 0.35,
                    height=0.62 - 0.18 * min(rank, 2),
                )
            labels.append(f"{method}: predictions" if levels[method] else method)
        for level, (start, end) in enumerate(sample.references.get(method, ())):
            row = len(labels)
            main.plot([start, end], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
            main.plot([start, end], [row, row], "|", color=colour, markersize=8)
            seen = sample.offsets.get(method, ())
            if level < len(seen) and len(seen[level]):
                position, weight = np.asarray(seen[level], dtype=float).T
                size = 4 + 40 * weight / max(float(weight.max()), 1e-9)
                main.scatter(
                    position,
                    np.full_like(position, row),
                    s=size,
                    color=GREY,
                    alpha=0.8,
                    zorder=3,
                    linewidth=0.5,
                    edgecolor="white",
                )
            labels.append(f"{method}: level {level + 1}")
    main.set_yticks(range(len(labels)), labels)
    main.set_ylim(len(labels) - 0.4, -0.6)
    main.grid(axis="y", visible=False)
    main.set_title(f"“{sample.query}”", loc="left", wrap=True)
    if with_saliency:
        low = axes[1, 0]
        clips = max([len(sample.saliency_truth), *(len(values) for values in sample.saliency.values())])
        middle = (np.arange(clips) + 0.5) * sample.duration / clips
        if len(sample.saliency_truth):
            low.fill_between(
                middle[: len(sample.saliency_truth)],
                sample.saliency_truth,
                color=TRUTH,
                alpha=0.35,
                step="mid",
            )
        for method, values in sample.saliency.items():
            low.plot(
                middle[: len(values)],
                _rescaled(values),
                color=style[method]["color"],
                linestyle=style[method]["linestyle"],
                marker=style[method]["marker"],
                markersize=3.5,
                markevery=max(len(values) // 12, 1),
                label=method,
                linewidth=1.2,
            )
        low.set_ylabel("saliency\n(0 to 1)")
        low.set_ylim(0, 1.05)
        if len(sample.saliency) > 2:  # too many to fit among the curves
            figure.legend(
                *low.get_legend_handles_labels(),
                ncols=len(sample.saliency),
                loc="outside lower center",
                fontsize=8,
            )
        elif sample.saliency:
            low.legend(ncols=len(sample.saliency), loc="upper right", fontsize=7)
    axes[-1, 0].set_xlim(0, sample.duration)
    axes[-1, 0].set_xlabel("time (seconds)")
    return figure


def timeline_alt(sample: Timeline) -> str:
    """Text alternative of `timeline`: the query, the true windows and each method's first prediction."""
    truth = ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in sample.windows) or "none"
    parts = [f"Timeline of {sample.duration:.0f} s for the query: {sample.query}. Ground truth: {truth}."]
    for method, predictions in sample.predictions.items():
        if predictions:
            start, end, score = predictions[0]
            parts.append(f"{method} predicts {start:.0f} to {end:.0f} s first, score {score:.2f}.")
    for method, levels in sample.references.items():
        spans = ", ".join(f"{start:.0f} to {end:.0f}" for start, end in levels)
        parts.append(f"References of {method} by level: {spans} s.")
    return " ".join(parts)
