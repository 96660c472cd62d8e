"""What pages can show of a diagnostic, declared beside its `measure`, drawn by `book.views.diagnostics`.

A record is the JSON that `measure` gave for one run. Figures are drawn from the mean of a method's records
over its seeds, number by number, so functions on records must bear None where no run had a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
Cells = Mapping[str, float | None]  # column -> number


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers: means over seeds.

    Attributes:
        rows: name -> cells, of one record; by: the column that these names stand in, "" if there is one row.
        spread: column -> the name of a further column with its standard deviation over seeds.
        digits: decimals.
    """

    rows: Callable[[Record], Mapping[str, Cells]]
    by: str = ""
    spread: Mapping[str, str] = field(default_factory=dict)
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """Attributes:
    told: what the figure shows of one method, for readers who do not see it.
    caption: the line below, unless the notebook gives another.
    """

    told: Callable[[Record], str]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Lines(_Figure):
    """A line for each method, with its spread over seeds: by decoder layer, or by epoch.

    Attributes:
        value: of one record, a number for each layer; by epoch, one number.
        ylabel: what the numbers are.
    """

    value: Callable[[Record], Any]
    ylabel: str


@dataclass(frozen=True, kw_only=True)
class Flow(_Figure):
    """How things flow from one decoder layer to the next, in parts that sum to 1.

    Attributes:
        shares: part -> a share for each pair of layers; the first part is what stays.
    """

    shares: Callable[[Record], Mapping[str, Sequence[float | None]]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes with a histogram for each series.

    Attributes:
        counts: series -> a count for each bin; marks: series -> where to draw a vertical line.
        title: above; side: left of it.
    """

    counts: Mapping[str, Sequence[float]]
    marks: Mapping[str, float] = field(default_factory=dict)
    title: str = ""
    side: str = ""


@dataclass(frozen=True, kw_only=True)
class Histograms(_Figure):
    """A grid of histograms, such as level by head, or one a method.

    Attributes:
        panels: the rows of the grid, from the records of all methods by name.
        edges: of the bins, `[bins + 1]`; inside: a range to shade.
        xlabel: what is counted.
        size: of a panel, inches.
    """

    panels: Callable[[Mapping[str, Record]], list[list[Panel]]]
    edges: Sequence[float]
    xlabel: str
    size: tuple[float, float]
    inside: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """What pages show of a diagnostic; `title` names it in text alternatives and where nothing was run."""

    title: str
    table: Table | None = None
    figure: Lines | Flow | Histograms | None = None
    by_epoch: Lines | None = None


def known_mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers among `values`; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def text(value: float | None, form: str) -> str:
    """A number in a format such as ".2f", a dash for None."""
    return "–" if value is None else format(value, form)
