"""Figures of the book: one style, colours that colour-blind readers can tell apart, a text alternative on every one.

Every function takes plain numbers and returns a matplotlib `Figure`; `show` turns it into what a page displays. Colours keep
their meaning through the book: grey is the paper, blue is ours, green the ground truth, orange a prediction.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
GREY = "#595959"

PAPER, OURS, TRUTH, PREDICTION = GREY, BLUE, GREEN, ORANGE
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # in order of use
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # a second cue beside colour

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.dpi": 110,
}

MAX_BYTES = 60_000  # of one picture: a page embeds many


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One query on one video, as the timeline figure and the explorer show it. Times in seconds.

    Attributes:
        name: short label, such as the query's id.
        query: the sentence.
        duration: length of the video.
        windows: ground truth, [start, end] each.
        predictions: per method, [start, end, score] each, best first.
        saliency_truth: mean annotator score per clip in 0..1, or empty.
        saliency: per method, one score per clip (any scale; drawn rescaled to 0..1).
        references: per method, the best query's [start, end] at each refinement level, first level first.
        offsets: per method and level, the positions (seconds) that the best query's attention looks at, with weights:
            [position, weight] each.
    """

    name: str
    query: str
    duration: float
    windows: Sequence[Sequence[float]]
    predictions: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    saliency_truth: Sequence[float] = ()
    saliency: Mapping[str, Sequence[float]] = field(default_factory=dict)
    references: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    offsets: Mapping[str, Sequence[Sequence[Sequence[float]]]] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------------- showing


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style without changing matplotlib's settings for anyone else."""

    @functools.wraps(draw)
    def wrapped(*arguments: P.args, **keywords: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*arguments, **keywords)

    return wrapped


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **keywords: Any) -> tuple[Figure, Any]:
    """A figure, ``size`` in inches; made without pyplot, so that nothing global holds on to it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **keywords)


def png(figure: Figure) -> bytes:
    """The figure as a PNG of few colours (a page embeds many pictures), at most `MAX_BYTES` long where that is possible."""
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=STYLE["figure.dpi"], facecolor="white")
    raw.seek(0)
    picture = Image.open(raw).convert("RGB")
    for colours in (96, 48, 24):
        small = io.BytesIO()
        picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        if small.tell() <= MAX_BYTES:
            break
    return small.getvalue()


def figure_html(figure: Figure, alt: str, caption: str = "") -> str:
    """The figure as an HTML element with its text alternative.

    Args:
        figure: what to show.
        alt: what the picture shows, for readers who do not see it. Must not be empty.
        caption: a line below the picture.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a figure needs a text alternative: got an empty alt; say what the picture shows")
    code = base64.b64encode(png(figure)).decode("ascii")
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="vtg"><img alt="{html.escape(alt, quote=True)}" style="max-width:100%;height:auto" '
        f'src="data:image/png;base64,{code}">{below}</figure>'
    )


def show(figure: Figure, alt: str, caption: str = "") -> HTML:
    """`figure_html` as an object that notebooks display."""
    from IPython.display import HTML

    return HTML(figure_html(figure, alt, caption))


# ---------------------------------------------------------------------------------------------------------- timelines


def _bar(axes: Axes, row: float, start: float, end: float, colour: str, alpha: float = 1.0, height: float = 0.62) -> None:
    axes.barh(row, end - start, left=start, height=height, color=colour, alpha=alpha, linewidth=0.6, edgecolor="white")


def _rescaled(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    spread = np.ptp(array) if array.size else 0.0
    return (array - array.min()) / spread if spread > 0 else np.zeros_like(array)


@styled
def timeline(sample: Timeline, *, top: int = 3, width: float = 7.2) -> Figure:
    """Ground truth, each method's best predictions, references level by level with where attention looks, and saliency.

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
    figure, axes = subplots(len(heights), 1, size=(width, sum(heights) + 0.45), sharex=True, squeeze=False, height_ratios=heights)
    main = axes[0, 0]
    labels = ["ground truth"]
    for start, end in sample.windows:
        _bar(main, 0, start, end, TRUTH)
        for line in axes[:, 0]:
            line.axvspan(start, end, color=TRUTH, alpha=0.10, linewidth=0)
    for index, method in enumerate(methods):
        colour = SERIES[index % len(SERIES)]
        if method in sample.predictions:
            row = len(labels)
            best = sample.predictions[method][:top]
            for rank, (start, end, _) in reversed(list(enumerate(best))):
                _bar(main, row, start, end, PREDICTION, alpha=1.0 if rank == 0 else 0.35, height=0.62 - 0.18 * min(rank, 2))
            labels.append(f"{method}: predictions" if levels[method] else method)
        for level, (start, end) in enumerate(sample.references.get(method, ())):
            row = len(labels)
            main.plot([start, end], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
            main.plot([start, end], [row, row], "|", color=colour, markersize=8)
            looks = sample.offsets.get(method, ())
            if level < len(looks) and len(looks[level]):
                position, weight = np.asarray(looks[level], dtype=float).T
                size = 4 + 40 * weight / max(float(weight.max()), 1e-9)
                main.scatter(position, np.full_like(position, row), s=size, color=BLACK, alpha=0.55, zorder=3, linewidth=0)
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
            low.fill_between(middle[: len(sample.saliency_truth)], sample.saliency_truth, color=TRUTH, alpha=0.35, step="mid")
        for index, (method, values) in enumerate(sample.saliency.items()):
            low.plot(middle[: len(values)], _rescaled(values), color=SERIES[index % len(SERIES)], label=method, linewidth=1.2)
        low.set_ylabel("saliency")
        low.set_ylim(0, 1.05)
        if len(sample.saliency) > 2:  # too many to fit among the curves
            figure.legend(*low.get_legend_handles_labels(), ncols=len(sample.saliency), loc="outside lower center", fontsize=8)
        elif sample.saliency:
            low.legend(ncols=len(sample.saliency), loc="upper right", fontsize=7)
    axes[-1, 0].set_xlim(0, sample.duration)
    axes[-1, 0].set_xlabel("seconds")
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


# ---------------------------------------------------------------------------------------------------------- comparisons


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

    The two sides have different scales on purpose: evidence `sim` and `rendered` shows order and direction, not absolute
    numbers. Rows that lack one side are left out.
    """
    rows = [
        (label, float(p), float(o), float((ours_sd or [None] * len(labels))[i] or 0.0))
        for i, (label, p, o) in enumerate(zip(labels, paper, ours, strict=True))
        if p is not None and o is not None
    ]
    figure, axes = subplots(size=(6.4, 0.36 * max(len(rows), 4) + 1.3))
    if not rows:
        return _empty(figure, axes, "no row has both numbers yet")
    left = _scaled([row[1] for row in rows])
    right = _scaled([row[2] for row in rows])
    for index, (label, value, mean, sd) in enumerate(rows):
        colour = SERIES[index % len(SERIES)]
        axes.plot([0, 1], [left[index], right[index]], color=colour, marker=MARKERS[index % len(MARKERS)], markersize=5)
        mean_text = f"{mean:.1f} ± {sd:.1f}" if sd else f"{mean:.1f}"
        axes.annotate(
            f"{label}  {value:.1f}", (0, left[index]), (-8, 0), textcoords="offset points", ha="right", va="center", color=colour
        )
        axes.annotate(
            f"{mean_text}  {label}", (1, right[index]), (8, 0), textcoords="offset points", ha="left", va="center", color=colour
        )
    axes.set_xlim(-1.0, 2.0)
    axes.set_ylim(-0.08, 1.08)
    axes.set_xticks([0, 1], [f"paper\n{metric}", f"ours ({evidence})\n{metric}" if evidence else f"ours\n{metric}"])
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


# ---------------------------------------------------------------------------------------------------------- diagnostics


@styled
def offset_histograms(
    counts: Mapping[str, Any],
    edges: Sequence[float] | np.ndarray,
    *,
    initial: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Distributions of weighted offsets: one row per refinement level, one column per attention head, one colour per method.

    Args:
        counts: per method, `[levels][heads][bins]` samples; see `vtg_lib.diagnostics.offsets`.
        edges: `[bins + 1]`, in half widths of the reference: -1 and +1 are its borders.
        initial: per method, each head's value before training (dashed line).
    """
    arrays = {method: np.asarray(values, dtype=float) for method, values in counts.items() if len(values)}
    if not arrays:
        figure, axes = subplots(size=(6.4, 1.2))
        return _empty(figure, axes, "no offsets were traced")
    levels, heads = (max(array.shape[axis] for array in arrays.values()) for axis in (0, 1))
    figure, axes = subplots(levels, heads, size=(1.0 * heads + 1.0, 0.8 * levels + 0.8), sharex=True, sharey="row", squeeze=False)
    for level in range(levels):
        for head in range(heads):
            cell = axes[level, head]
            cell.axvspan(-1, 1, color="#f1f1f1", linewidth=0)
            for index, (method, array) in enumerate(arrays.items()):
                if level < array.shape[0] and head < array.shape[1]:
                    share = array[level, head] / max(array[level, head].sum(), 1)
                    label = method if level == head == 0 else None
                    cell.stairs(share, edges, color=SERIES[index], linewidth=1.2, label=label)
                if initial and method in initial and head < len(initial[method]):
                    cell.axvline(initial[method][head], color=SERIES[index], linestyle=("--", ":")[index % 2], linewidth=1)
            cell.set_yticks([])
            cell.grid(False)
            if level == 0:
                cell.set_title(f"head {head + 1}")
            if head == 0:
                cell.set_ylabel(f"level {level + 1}")
    figure.supxlabel("weighted offset (−1, +1: the reference's borders)", fontsize=9)
    figure.legend(loc="outside upper center", ncols=len(arrays), fontsize=8)
    return figure


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
    axes.legend(fontsize=8)
    return figure


@styled
def dose_response(
    doses: Sequence[float],
    series: Mapping[str, Sequence[tuple[float, float, float] | None]],
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Gain against dose with its interval; the zero line is where the method no longer helps.

    Args:
        doses: the knob's values.
        series: per label, one (mean, low, high) a dose; None where it was not run.
    """
    figure, axes = subplots(size=(6.0, 2.9))
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
        return _empty(figure, axes, "not run")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8)
    return figure


def _empty(figure: Figure, axes: Axes, message: str) -> Figure:
    axes.text(0.5, 0.5, message, ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()
    return figure
