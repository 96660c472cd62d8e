"""What a topic's file is made of: running the model with its trace, numbers as JSON, and what pages show.

A record is the JSON that `measure` gave for one run. `vtg_lib.book.views.diagnostics` draws what a `View`
declares. Figures are drawn from the mean of a method's records over its seeds, number by number, so functions
on records must bear None where no run had a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from vtg_lib.data.batches import Batch, GroundingData, Output
from vtg_lib.models.inference import evaluation_mode

BATCH = 64
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers: means over seeds.

    Attributes:
        rows: name -> {column: number or None}, of one record.
        by: the column that these names stand in, "" if there is one row a method.
        spread: column -> the name of a further column with its standard deviation over seeds.
        digits: decimals.
    """

    rows: Callable[[Record], Mapping[str, Mapping[str, Any]]]
    by: str = ""
    spread: Mapping[str, str] = field(default_factory=dict)
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of any kind.

    Attributes:
        told: what it shows of one method, for readers who do not see it.
        caption: the line below, unless the notebook gives another.
    """

    told: Callable[[Record], str]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Lines(Figure):
    """A line for each method, with its spread over seeds: by decoder layer, by epoch or by a scale of its
    own.

    Attributes:
        value: of one record, a number for each layer or place on the scale; by epoch, one number.
        ylabel: what the numbers are; xlabel: of what layers or the scale are.
        along: the scale, of one record; default layers from 1 on.
    """

    value: Callable[[Record], Any]
    ylabel: str
    xlabel: str = "decoder layer"
    along: Callable[[Record], Sequence[float]] | None = None


@dataclass(frozen=True, kw_only=True)
class Flow(Figure):
    """How things flow from one decoder layer to the next, in parts that sum to 1.

    Attributes:
        shares: part -> a share for each pair of layers; up to three parts, the first is what stays.
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
class Histograms(Figure):
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
    """What pages show of a diagnostic; `title` names it in text alternatives and where nothing was run.

    number: the one number of a record that a claim can be about; None where there is none.
    head: of that number's column where all methods are set side by side; "" leaves it out there.
    """

    title: str
    number: Callable[[Record], float | None] | None = None
    head: str = ""
    table: Table | None = None
    figure: Lines | Flow | Histograms | None = None
    by_epoch: Lines | None = None


def collect(
    model: nn.Module,
    data: GroundingData,
    rows: Tensor,
    pick: Callable[[Batch, Output], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """What `pick` takes from each batch and the model's output with its trace.

    Args:
        rows: `[N]`, int64, on the CPU.
        pick: gives tensors with the sample axis second (`[S, B, ...]`), or nothing if the model lacks them.

    Returns:
        The tensors on the CPU (floating ones as float32), joined on the sample axis.
    """
    device = next(model.parameters()).device
    parts: list[dict[str, Tensor]] = []
    with evaluation_mode(model, device):
        for index in torch.split(rows, BATCH):
            batch = data.batch(index).to(device)
            picked = pick(batch, model(batch, trace=True))
            if not picked:
                return {}
            parts.append(
                {name: (x.float() if x.is_floating_point() else x).cpu() for name, x in picked.items()}
            )
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


def first_rows(data: GroundingData, number: int) -> Tensor:
    return torch.arange(min(number, len(data)))


def rounded(value: Any) -> float:
    """A number as JSON keeps it: four decimals."""
    return round(float(value), 4)


def shares(counts: Tensor, total: Tensor) -> list[float | None]:
    """`counts / total`, both `[S]`; None where the total is 0."""
    return [rounded(c / t) if t else None for c, t in zip(counts.tolist(), total.tolist(), strict=True)]


def auc(higher: np.ndarray, lower: np.ndarray) -> float | None:
    """The chance that one of `higher` is above one of `lower`; None where there is none of either."""
    if not len(higher) or not len(lower):
        return None
    return rounded(stats.mannwhitneyu(higher, lower).statistic / (len(higher) * len(lower)))


def known_mean(values: Sequence[float | None]) -> float | None:
    """The mean of the numbers among `values`; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def text(value: float | None, form: str) -> str:
    """A number in a format such as ".2f", a dash for None."""
    return "–" if value is None else format(value, form)
