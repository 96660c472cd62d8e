"""The one view of all diagnostics: the figure and the table that a topic of `vtg_lib.diagnostics` declares.

Shown are stored runs, or models at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.figures import diagnostics as pictures
from vtg_lib.book.tables import frame_html
from vtg_lib.book.views.common import not_run
from vtg_lib.book.views.training import stored_runs
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
from vtg_lib.diagnostics.topic import Flow, Histograms, Lines, Record, known_mean

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure
    from torch import nn

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.data.batches import GroundingData

Records = Mapping[str, Sequence[Record]]  # method -> a diagnostic of each seed


def stored(chapter: Chapter, topic: str, *, table: str | None = None, when: str = "after") -> Records:
    """A stored diagnostic of a table's rows, by label.

    Args:
        table: its id; default the first table of the paper with a row that asks for the diagnostic.
        when: "before" training, "after" it, or "by_epoch", which gives {epoch: record} each.
    """
    found = {
        label: [run.diagnostics.get(topic, {}).get(when) for run in runs]
        for label, runs in stored_runs(chapter, table or _table(chapter, topic)).items()
    }
    return {label: [record for record in seeds if record] for label, seeds in found.items() if any(seeds)}


def measured(models: Mapping[str, nn.Module], data: GroundingData, topic: str) -> Records:
    """A diagnostic of models at hand; those that have no such thing are left out."""
    found = {name: DIAGNOSTICS[topic](model, data) for name, model in models.items()}
    return {name: [record] for name, record in found.items() if record}


def figure(
    chapter: Chapter,
    topic: str,
    records: Records | None = None,
    *,
    table: str | None = None,
    by_epoch: bool = False,
    caption: str | None = None,
) -> HTML:
    """The figure of a diagnostic.

    Args:
        records: what `measured` gave; default what `stored` gives for `table`.
        by_epoch: over training instead of after it.
        caption: instead of the topic's own.

    Raises:
        ValueError: the topic declares no such figure.
    """
    part = "by_epoch" if by_epoch else "figure"
    shown = _declared(topic, part)
    found = (
        stored(chapter, topic, table=table, when=part if by_epoch else "after")
        if records is None
        else records
    )
    if not found:
        return _not_run(chapter, topic, table)
    last = {
        label: [seed[max(seed, key=int)] if by_epoch else seed for seed in seeds]
        for label, seeds in found.items()
    }
    means = {f"{label} (n = {len(seeds)})": average(seeds) for label, seeds in last.items()}
    if isinstance(shown, Flow):
        drawn = pictures.flow({label: shown.shares(record) for label, record in means.items()})
    elif isinstance(shown, Histograms):
        drawn = pictures.histograms(shown, shown.panels(means))
    else:
        drawn = _lines(shown, found, by_epoch)
    told = "; ".join(f"{label}: {shown.told(record)}" for label, record in means.items())
    over = f", {shown.ylabel} by epoch" if by_epoch else ""
    alt = f"{VIEWS[topic].title}{over}. {told}."
    return plots.show(drawn, alt, shown.caption if caption is None else caption)


def _lines(shown: Lines, found: Records, by_epoch: bool) -> Figure:
    def placed(seed: Record) -> dict[float, Any]:
        if by_epoch:
            return {int(epoch): shown.value(record) for epoch, record in seed.items()}
        values = shown.value(seed)
        return dict(zip(shown.along(seed) if shown.along else range(1, len(values) + 1), values, strict=True))

    points = {label: [placed(seed) for seed in seeds] for label, seeds in found.items()}
    along = sorted({x for seeds in points.values() for seed in seeds for x in seed})
    series = {
        label: np.array([[seed.get(x) for x in along] for seed in seeds], float)
        for label, seeds in points.items()
    }
    drawn = plots.curves(along, series, xlabel="epoch" if by_epoch else shown.xlabel, ylabel=shown.ylabel)
    drawn.axes[0].locator_params("x", integer=all(float(x).is_integer() for x in along))
    return drawn


def table(chapter: Chapter, topic: str, records: Records | None = None, *, table: str | None = None) -> HTML:
    """The table of a diagnostic, means over seeds, on demand where a figure shows the same; see `figure` for
    the arguments.

    Raises:
        ValueError: the topic declares no table.
    """
    import pandas as pd

    shown = _declared(topic, "table")
    found = stored(chapter, topic, table=table) if records is None else records
    if not found:
        return _not_run(chapter, topic, table)
    rows = [
        {"row": label, shown.by: name, **cells}
        for label, seeds in found.items()
        for record in seeds
        for name, cells in shown.rows(record).items()
    ]
    groups = pd.DataFrame(rows).set_index(["row", shown.by]).astype(float).groupby(level=[0, 1], sort=False)
    frame = groups.mean()
    for column, name in shown.spread.items():
        frame.insert(frame.columns.get_loc(column) + 1, name, groups[column].std())
    frame["n"] = groups.size()
    told = "" if VIEWS[topic].figure is None else f"{VIEWS[topic].title}, in numbers"
    return frame_html(frame.reset_index().drop(columns="", errors="ignore"), digits=shown.digits, fold=told)


def average(records: Sequence[Any]) -> Any:
    """JSON of several seeds as one, number by number: the mean of those that are not None."""
    first = records[0]
    if isinstance(first, Mapping):
        return {key: average([record[key] for record in records if key in record]) for key in first}
    if isinstance(first, list):
        return [average(values) for values in zip(*records, strict=True)]
    return known_mean(records)


def _declared(topic: str, part: str) -> Any:
    if (shown := getattr(VIEWS[topic], part)) is None:
        raise ValueError(f"{topic}: its file in vtg_lib/diagnostics declares no {part} to show")
    return shown


def _table(chapter: Chapter, topic: str) -> str:
    """The table whose rows ask for a diagnostic."""
    for each in chapter.paper.tables:
        if any(topic in row.diagnostics for row in each.rows):
            return each.id
    raise ValueError(
        f"{chapter.paper.key}: no row asks for the diagnostic {topic!r}; add it to `diagnostics` of rows in "
        "the paper's YAML, or name the table"
    )


def _not_run(chapter: Chapter, topic: str, table_id: str | None) -> HTML:
    return not_run(chapter, VIEWS[topic].title, f"--tables {table_id or _table(chapter, topic)}")
