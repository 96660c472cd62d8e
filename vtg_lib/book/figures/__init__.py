"""Figures of the book.

Every function takes plain numbers and returns a matplotlib `Figure`; `show` turns it into what a page
displays. Colours keep their meaning through the book: grey is the paper, blue is ours, green the ground
truth, orange a prediction, and every method has its own (`style.looks`).
"""

# ruff: noqa: F401  (one namespace for those who draw)
from vtg_lib.book.figures.charts import Gap, curves, dose_response, gaps, panels, points, slope_chart
from vtg_lib.book.figures.interactive import MIME, bundle, page_html, show, specification
from vtg_lib.book.figures.matrix import matrix, ranks
from vtg_lib.book.figures.style import (
    BLACK,
    DASHES,
    GREY,
    MARKERS,
    MAX_BYTES,
    METHOD_COLOURS,
    NAMED,
    OURS,
    PAPER,
    PREDICTION,
    SERIES,
    TRUTH,
    figure_html,
    looks,
    method_of,
    png,
    styled,
    subplots,
)
from vtg_lib.book.figures.timelines import timeline, timeline_alt
from vtg_lib.diagnostics.timelines import Timeline
