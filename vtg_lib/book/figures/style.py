"""One style, colours that colour-blind readers can tell apart, and a text alternative on every figure.

What a colour means is one of three: a kind of thing (`PAPER`, `OURS`, `TRUTH`, `PREDICTION`), a method
(`looks`: the same in every figure of the book), or a category of one figure (`SERIES`, by place).
"""

from __future__ import annotations

import base64
import functools
import html
import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILION, PURPLE, GREY = "#0072b2", "#d55e00", "#cc79a7", "#595959"
INK = "#222222"  # of text in charts

PAPER, OURS, TRUTH, PREDICTION = GREY, BLUE, GREEN, ORANGE
SERIES = (BLUE, VERMILION, SKY, GREEN, PURPLE, ORANGE, BLACK)  # in order of use
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # a second cue beside colour
DASHES = ("-", "--", "-.", ":")

# Methods have colours of their own (Paul Tol's "muted"): none is taken for paper, ours or a prediction.
METHOD_COLOURS = ("#999933", "#882255", "#aa4499", "#332288", "#44aa99", "#cc6677", BLACK)
# Methods that are often drawn together stand in one row, whose colours all differ. Those of the registry that
# are not named here follow in its order.
NAMED = (
    *("moment_detr", "qd_detr", "eatr", "tr_detr", "cg_detr", "sim_detr", "sdst"),
    *("univtg", "bam_detr", "r2_tuning", "flash_vtg", "sa_detr", "sg_detr", "td_detr"),
)
# What rows and chapters call a method that is drawn whole.
ALIASES = {"+ QGR + GLB": "sim_detr", "RDSA": "sdst"}

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
WIDE = 6.5  # inches; what is wider scrolls sideways in its box on a phone, so that its letters stay legible


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style without changing matplotlib's settings for anyone else."""

    @functools.wraps(draw)
    def wrapped(*arguments: P.args, **keywords: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*arguments, **keywords)

    return wrapped


def method_of(label: str) -> str | None:
    """The method that a label names, by its file's name; None where it names none (a setting, a quantity).

    "TR-DETR", "tr_detr, ours", "Baseline (TR-DETR)" and "TR-DETR (n = 8)" are one method.
    """
    known = {_plain(name): name for name in _methods()} | ALIASES
    heads = [re.split(r",| \(", part)[0] for part in (label, *re.findall(r"\(([^()]*)\)", label))]
    return next((known[key] for head in heads for key in (head, _plain(head)) if key in known), None)


def looks(labels: Sequence[str]) -> list[dict[str, str]]:
    """Colour, marker and line style of what one figure draws, by label.

    A method looks the same in every figure. Its second line in a figure (another size of it, say) keeps the
    colour and gets another marker; labels that name no method get colours that no method has, in order. No
    two labels of a figure share colour and marker.
    """
    found: list[dict[str, str]] = []
    unnamed = (_look(place, SERIES[:-1]) for place in itertools.count())  # black is a method's
    for name in map(method_of, labels):
        if name is None:
            found.append(next(unnamed))
            continue
        own = _look(_methods().index(name), METHOD_COLOURS)
        first = MARKERS.index(own["marker"])
        again = ({**own, "marker": marker} for marker in MARKERS[first:] + MARKERS[:first])
        found.append(next((look for look in again if not _taken(look, found)), own))
    return found


def _taken(look: dict[str, str], others: Sequence[dict[str, str]]) -> bool:
    return any((look["color"], look["marker"]) == (other["color"], other["marker"]) for other in others)


def _look(place: int, colours: Sequence[str]) -> dict[str, str]:
    row, column = divmod(place, len(colours))
    return {
        "color": colours[column],
        "marker": MARKERS[(column + row) % len(MARKERS)],
        "linestyle": DASHES[row % len(DASHES)],
    }


@functools.cache
def _methods() -> tuple[str, ...]:
    from vtg_lib.models import MODELS

    return (*NAMED, *(name for name in MODELS if name not in NAMED))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def subplots(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **keywords: Any
) -> tuple[Figure, Any]:
    """A figure, ``size`` in inches; made without pyplot, so that nothing global holds on to it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **keywords)


def png(figure: Figure) -> bytes:
    """The figure as a PNG of few colours (a page embeds many pictures), at most `MAX_BYTES` long where that
    is possible.
    """
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=STYLE["figure.dpi"], facecolor="white")
    raw.seek(0)
    picture = Image.open(raw).convert("RGB")
    for colours in (96, 48, 24):
        small = io.BytesIO()
        picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            small, "PNG", optimize=True
        )
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
    wide = " wide" if figure.get_figwidth() > WIDE else ""
    return (
        f'<figure class="vtg{wide}"><img alt="{html.escape(alt, quote=True)}" '
        f'style="max-width:100%;height:auto" src="data:image/png;base64,{code}">{below}</figure>'
    )


def placed(values: Sequence[float]) -> np.ndarray:
    """Heights in 0..1 of values, nudged apart where their labels would overlap."""
    array = np.asarray(values, dtype=float)
    spread = np.ptp(array)
    heights = (array - array.min()) / spread if spread else np.full_like(array, 0.5)
    gap = min(0.9 / max(len(array), 1), 0.11)
    order = np.argsort(heights, kind="stable")
    for before, after in zip(order[:-1], order[1:], strict=True):
        heights[after] = max(heights[after], heights[before] + gap)
    return heights / max(heights.max(), 1.0)


def empty(figure: Figure, axes: Axes, message: str) -> Figure:
    axes.text(0.5, 0.5, message, ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()
    return figure
