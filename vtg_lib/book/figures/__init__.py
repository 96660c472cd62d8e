"""Figures of the book.

Every function takes plain numbers and returns a matplotlib `Figure`; `show` turns it into what a page
displays. Colours keep their meaning through the book: grey is the paper, blue is ours, green the ground
truth, orange a prediction.
"""

# ruff: noqa: F401  (one namespace for those who draw)
from vtg_lib.book.figures.charts import Gap, curves, dose_response, gaps, slope_chart
from vtg_lib.book.figures.style import (
    BLACK,
    GREY,
    MARKERS,
    MAX_BYTES,
    OURS,
    PAPER,
    PREDICTION,
    SERIES,
    TRUTH,
    figure_html,
    png,
    show,
    styled,
    subplots,
)
from vtg_lib.book.figures.timelines import timeline, timeline_alt
from vtg_lib.diagnostics.timelines import Timeline
