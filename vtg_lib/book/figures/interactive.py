"""The same numbers as a picture and as a Vega-Lite chart that answers to the pointer.

A figure drawn by a function that is `charted` carries its chart. `show` leaves both in a notebook: JupyterLab
draws the chart by itself; a rendered page starts from the picture, which `book/static/charts.js` exchanges
for the chart (see `page_html`), so that print and pages without scripts keep the picture.
"""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

from vtg_lib.book.figures.style import INK, STYLE, figure_html

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

P = ParamSpec("P")

MIME = "application/vnd.vegalite.v5+json"  # what JupyterLab 4 draws
WIDTH = 600
SMALL = {"fontSize": 11, "fontWeight": "normal"}
CONFIG: dict[str, Any] = {
    "background": "white",  # as the pictures': the page's style turns both over in the dark
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "gridColor": STYLE["grid.color"],
        "domainColor": STYLE["axes.edgecolor"],
        "tickColor": STYLE["axes.edgecolor"],
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
    },
    "text": {"color": INK},
    "legend": {"labelColor": INK, "labelLimit": 0, "symbolStrokeWidth": 2},
}


def charted(chart: Callable[P, Any]) -> Callable[[Callable[P, Figure]], Callable[P, Figure]]:
    """What a function draws carries the chart that `chart` makes of the same arguments, made when shown."""

    def decorate(draw: Callable[P, Figure]) -> Callable[P, Figure]:
        @functools.wraps(draw)
        def wrapped(*arguments: P.args, **keywords: P.kwargs) -> Figure:
            figure = draw(*arguments, **keywords)
            setattr(figure, "chart", functools.partial(chart, *arguments, **keywords))  # noqa: B010
            return figure

        return wrapped

    return decorate


def show(figure: Figure, alt: str, caption: str = "", after: str = "") -> HTML:
    """The figure as an object that notebooks display, with its chart if it has one and altair is installed.

    Args:
        alt, caption: as for `figure_html`.
        after: HTML that follows the figure.
    """
    from IPython.display import HTML, display

    made = bundle(figure, alt, caption)
    shown = HTML(made["text/markdown"] + after)
    if MIME in made:

        def both() -> None:
            display(made, raw=True)
            if after:
                display(HTML(after))

        setattr(shown, "_ipython_display_", both)  # noqa: B010  (goes before what HTML does)
    return shown


def bundle(figure: Figure, alt: str, caption: str = "") -> dict[str, Any]:
    """The figure by type: the picture, its text alternative, and its chart if there is one."""
    spec = specification(figure, alt, caption)
    # Of HTML and a chart JupyterLab would take the HTML, of Markdown and a chart it takes the chart.
    made = {"text/markdown": figure_html(figure, alt, caption), "text/plain": alt}
    return made if spec is None else {MIME: spec, **made}


def specification(figure: Figure, alt: str, caption: str = "") -> dict[str, Any] | None:
    """The chart of a figure as Vega-Lite; None where it has none, or altair is not installed."""
    chart = getattr(figure, "chart", None)
    try:
        made = None if chart is None else chart()
    except ImportError:
        made = None
    if made is None:
        return None
    spec = made.properties(width=WIDTH, autosize={"type": "fit-x", "contains": "padding"}).to_dict()
    del spec["$schema"]  # an address, which nobody is to ask for
    title = {"text": textwrap.wrap(caption, 100), "orient": "bottom", "anchor": "start", **SMALL}
    return {**spec, "description": alt, "title": title, "config": CONFIG}


def page_html(data: Mapping[str, Any]) -> str | None:
    """A notebook's output for the rendered page: the picture, and beside it the chart as data; None where the
    output has no chart.
    """
    if MIME not in data:
        return None
    # The page has the description and the caption already.
    spec = {key: value for key, value in data[MIME].items() if key not in ("description", "title")}
    text = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    script = f'<script type="application/json" class="vtg-spec">{text}</script></figure>'
    return "".join(data["text/markdown"]).replace("</figure>", script)
