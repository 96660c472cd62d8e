"""The one view of all diagnostics: the figure and the table that a topic of `vtg_lib.diagnostics` declares.

Shown are stored runs, or models at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.figures import diagnostics as pictures
from vtg_lib.book.views.common import frame_html, not_run
from vtg_lib.book.views.training import stored_runs
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
from vtg_lib.diagnostics.kinds import Flow, Histograms, Lines, Record, known_mean
from vtg_lib.evaluation.statistics import summarise

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
    caption: str | None = None,
) -> HTML:
    """The figure of a diagnostic.

    Args:
        records: what `measured` gave; default what `stored` gives for `table`.
        caption: instead of the topic's own.

    Raises:
        ValueError: the topic declares no figure.
    """
    view = VIEWS[topic]
    if view.figure is None:
        raise ValueError(f"{topic}: declares no figure; `table` shows it")
    found = stored(chapter, topic, table=table) if records is None else records
    if not found:
        return _not_run(chapter, topic, table)
    averaged = {f"{label} (n = {len(seeds)})": average(seeds) for label, seeds in found.items()}
    told = "; ".join(f"{label}: {view.figure.told(record)}" for label, record in averaged.items())
    drawn = _draw(view.figure, found, averaged)
    return plots.show(drawn, f"{view.title}. {told}.", view.figure.caption if caption is None else caption)


def _draw(shown: Lines | Flow | Histograms, found: Records, averaged: Mapping[str, Record]) -> Figure:
    if isinstance(shown, Flow):
        return pictures.flow({label: shown.shares(record) for label, record in averaged.items()})
    if isinstance(shown, Histograms):
        panels, size, inside = shown.panels(averaged), shown.size, shown.inside
        return pictures.histograms(panels, shown.edges, xlabel=shown.xlabel, size=size, inside=inside)
    values = {label: [list(shown.value(record)) for record in seeds] for label, seeds in found.items()}
    layers = max(len(value) for seeds in values.values() for value in seeds)
    series = {
        label: np.array([value + [None] * (layers - len(value)) for value in seeds], float)
        for label, seeds in values.items()
    }
    drawn = plots.curves(range(1, layers + 1), series, xlabel="decoder layer", ylabel=shown.ylabel)
    drawn.axes[0].set_xticks(range(1, layers + 1))
    return drawn


def by_epoch(chapter: Chapter, topic: str, *, table: str | None = None, caption: str | None = None) -> HTML:
    """A diagnostic over training, of stored runs.

    Raises:
        ValueError: the topic declares no `by_epoch`.
    """
    shown = VIEWS[topic].by_epoch
    if shown is None:
        raise ValueError(f"{topic}: declares no by_epoch; `figure` and `table` show it")
    found = stored(chapter, topic, table=table, when="by_epoch")
    if not found:
        return _not_run(chapter, topic, table)
    epochs = sorted({int(epoch) for seeds in found.values() for record in seeds for epoch in record})
    series = {
        label: np.array(
            [[shown.value(record[str(e)]) if str(e) in record else None for e in epochs] for record in seeds],
            float,
        )
        for label, seeds in found.items()
    }
    last = {label: [seed[max(seed, key=int)] for seed in seeds] for label, seeds in found.items()}
    told = "; ".join(f"{label} {shown.told(average(seeds))}" for label, seeds in last.items())
    drawn = plots.curves(epochs, series, xlabel="epoch", ylabel=shown.ylabel)
    alt = f"{VIEWS[topic].title}, {shown.ylabel} by epoch. {told}."
    return plots.show(drawn, alt, shown.caption if caption is None else caption)


def table(chapter: Chapter, topic: str, records: Records | None = None, *, table: str | None = None) -> HTML:
    """The table of a diagnostic, means over seeds; see `figure` for the arguments.

    Raises:
        ValueError: the topic declares no table.
    """
    import pandas as pd

    shown = VIEWS[topic].table
    if shown is None:
        raise ValueError(f"{topic}: declares no table; `figure` shows it")
    found = stored(chapter, topic, table=table) if records is None else records
    if not found:
        return _not_run(chapter, topic, table)
    rows = []
    for label, seeds in found.items():
        measured_rows = [shown.rows(record) for record in seeds]
        for name in dict.fromkeys(name for each in measured_rows for name in each):
            having = [each[name] for each in measured_rows if name in each]
            cells: dict[str, Any] = {"row": label} | ({shown.by: name} if shown.by else {})
            for column in having[0]:
                values = summarise(np.array([each[column] for each in having], float))
                cells[column] = values.mean
                if column in shown.spread:
                    cells[shown.spread[column]] = values.sd
            rows.append(cells | {"n": len(having)})
    return frame_html(pd.DataFrame(rows), digits=shown.digits)


def average(records: Sequence[Any]) -> Any:
    """JSON of several seeds as one, number by number: the mean of those that are not None."""
    first = records[0]
    if isinstance(first, Mapping):
        return {key: average([record[key] for record in records if key in record]) for key in first}
    if isinstance(first, list):
        return [average(values) for values in zip(*records, strict=True)]
    return known_mean(records)


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
