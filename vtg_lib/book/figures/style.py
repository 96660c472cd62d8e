"""One style, colours that colour-blind readers can tell apart, and a text alternative on every figure."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILION, PURPLE, GREY = "#0072b2", "#d55e00", "#cc79a7", "#595959"

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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style without changing matplotlib's settings for anyone else."""

    @functools.wraps(draw)
    def wrapped(*arguments: P.args, **keywords: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*arguments, **keywords)

    return wrapped


def series_look(index: int) -> dict[str, str]:
    """Colour and marker of a series, by its place."""
    return {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}


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
    return (
        f'<figure class="vtg"><img alt="{html.escape(alt, quote=True)}" style="max-width:100%;height:auto" '
        f'src="data:image/png;base64,{code}">{below}</figure>'
    )


def show(figure: Figure, alt: str, caption: str = "") -> HTML:
    """`figure_html` as an object that notebooks display."""
    from IPython.display import HTML

    return HTML(figure_html(figure, alt, caption))


def empty(figure: Figure, axes: Axes, message: str) -> Figure:
    axes.text(0.5, 0.5, message, ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()
    return figure
