"""What chapters show of runs that start from others: how they learn, and how that goes with their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import folded, frame_html, with_sd
from vtg_lib.book.views.common import not_run
from vtg_lib.book.views.training import stored_runs
from vtg_lib.evaluation.statistics import summarise
from vtg_lib.experiments.origin import lineage
from vtg_lib.experiments.run import find
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.papers.columns import METRICS

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.experiments.run import RunResult
    from vtg_lib.experiments.store import Store
    from vtg_lib.papers.schema import Column

SCRATCH = "from random weights"
Curve = tuple[list[float], np.ndarray]  # steps, and the metric on validation [seeds, steps]


def fine_tuning(chapter: Chapter, table: str, rows: Collection[str] = ()) -> HTML:
    """The table's primary metric on validation by step, of every row that starts from another one, beside the
    same run from random weights; of `rows` alone, if there are any.

    A curve begins at step 0 where the weights that it starts from were scored as they are.
    """
    found = {name: lines for name, lines in _curves(chapter, table).items() if not rows or name in rows}
    if not found:
        return not_run(chapter, "Fine-tuning beside training from random weights", f"--tables {table}")
    told = []
    for label, lines in found.items():
        (x, scratch), (name, (steps, tuned)) = lines[SCRATCH], list(lines.items())[1]
        level = scratch.mean(0)[-1]
        soon = next((s for s, value in zip(steps, tuned.mean(0), strict=True) if value >= level), None)
        when = "not within as many steps" if soon is None else f"after {soon:,.0f} steps"
        told.append(
            f"{label}: {SCRATCH} {level:.1f} after {x[-1]:,.0f} steps; {name} {tuned.mean(0)[-1]:.1f}, there "
            f"{when}"
        )
    metric = f"{_name(chapter, table)} on validation (points, 0 to 100)"
    figure = plots.panels(found, xlabel="step", ylabel=metric, columns=2)
    text = ". ".join(told)
    caption = f"{metric} by step; bands: 95 % interval over seeds. {text}."
    return plots.show(figure, f"Fine-tuning by step. {text}.", caption)


def _primary(chapter: Chapter, table: str) -> Column:
    """The column that a table is judged by."""
    found = chapter.paper.table(table)
    assert found.primary is not None  # of every table with runs
    return found.column(found.primary)


def _name(chapter: Chapter, table: str) -> str:
    """What its metric is called, without the split."""
    metric = _primary(chapter, table).metric or ""
    return next((name for name, key in METRICS.items() if key == metric), metric)


def _curves(chapter: Chapter, table: str) -> dict[str, dict[str, Curve]]:
    """By row: the curve from random weights, then that of the row; rows that lack one are left out."""
    found = {}
    metric = _primary(chapter, table).metric or ""
    for label, runs in stored_runs(chapter, table).items():
        row = chapter.paper.table(table).row(label)
        if row.parent is None:
            continue
        pairs = [(_from_scratch(chapter, run), run) for run in runs if metric in run.curves]
        both = [(first, second) for first, second in pairs if first is not None]
        if both:
            scratch, tuned = zip(*both, strict=True)
            found[label] = {
                SCRATCH: _curve(scratch, metric),
                f"from {row.parent.label}": _curve(tuned, metric, chapter.store),
            }
    return found


def _from_scratch(chapter: Chapter, run: RunResult) -> RunResult | None:
    spec = RunSpec.from_dict(run.spec)
    return find(chapter.store, dataclasses.replace(spec, init="", init_scope="all"))


def _curve(runs: Sequence[RunResult], metric: str, store: Store | None = None) -> Curve:
    """Of the runs that are as long as the longest; with a store, from their initial weights on."""
    longest = max((run.curves["step"] for run in runs), key=len)
    kept = [run for run in runs if run.curves["step"] == longest]
    steps, values = np.array(longest, float), np.array([run.curves[metric] for run in kept], float)
    starts = [None if store is None else _at_zero(store, run, metric) for run in kept]
    if None not in starts:
        steps, values = np.append(0.0, steps), np.column_stack([np.array(starts, float), values])
    return steps.tolist(), values


def _at_zero(store: Store, run: RunResult, metric: str) -> float | None:
    """Of a run that scored the weights that this one starts from, on the same validation split."""

    def alike(record: Mapping[str, Any]) -> bool:
        one = record["spec"]
        return (
            one["train"]["epochs"] == 0
            and (one.get("init"), one["model"], one["seed"]) == (spec["init"], spec["model"], spec["seed"])
            and _without_size(one["data"]) == _without_size(spec["data"])
        )

    spec = run.spec
    return next((r["metrics"]["val"].get(metric) for r in store if alike(r)), None)


def _without_size(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "train"}


def label_noise(chapter: Chapter, table: str) -> HTML:
    """How well the runs of a table do, against how right the labels were that they, or the runs that they
    start from, were trained with; labels are judged on the first captions of each run's own world.
    """
    import pandas as pd
    from IPython.display import HTML

    found = {
        label: [(made, run) for run in runs if (made := _labels(chapter, run)) is not None]
        for label, runs in stored_runs(chapter, table).items()
    }
    found = {label: pairs for label, pairs in found.items() if pairs}
    if not found:
        return not_run(chapter, "Performance against the precision of the labels", f"--tables {table}")
    column, name = _primary(chapter, table), _name(chapter, table)
    assert column.split is not None and column.metric is not None
    rows: list[dict[str, Any]] = []
    drawn = {}
    for label, pairs in found.items():
        scores = [run.metrics[column.split][column.metric] for _, run in pairs]
        precise = [100 * made["clips"]["precision"] for made, _ in pairs]
        drawn[label] = precise, scores
        cells = {
            f"{kind}: {part}": _told([100 * made[kind][part] for made, _ in pairs])
            for kind in ("clips", "moments")
            for part in ("precision", "recall")
        }
        rows.append({"row": label, **cells, name: _told(scores), "n": len(pairs)})
    figure = plots.points(
        drawn, xlabel="precision of the labelled clips (percent)", ylabel=f"{column.name} (points)"
    )
    means = [(np.mean(x), np.mean(y)) for x, y in drawn.values()]
    told = "; ".join(
        f"{label}: {x:.0f} % of clips right, {name} {y:.1f}"
        for label, (x, y) in zip(drawn, means, strict=True)
    )
    if len({x for x, _ in means}) > 2:
        order = float(stats.spearmanr(*zip(*means, strict=True)).statistic)
        told += f". Over {len(means)} rows Spearman's ρ of precision and {name} is {order:+.2f}"
    caption = f"A point a run: {column.name} against the precision of its labels, by row. {told}."
    shown = plots.figure_html(figure, caption, caption)
    return HTML(shown + folded("The labels and the runs in numbers", frame_html(pd.DataFrame(rows)).data))


def _labels(chapter: Chapter, run: RunResult) -> dict[str, Any] | None:
    """How right the labels of a run are: its own, or the last in its `lineage` that are not the true ones.
    None where that cannot be told.
    """
    from vtg_lib.data.pseudo.quality import of_spec

    runs = lineage(RunSpec.from_dict(run.spec), chapter.store)
    if runs is None or any(one.resolved["data"]["kind"] != "sim" for one in runs):
        return None
    trained = [one.resolved["data"] for one in runs if one.train.epochs]
    return (
        of_spec(next((data for data in trained if data["labels"] != "true"), trained[0])) if trained else None
    )


def _told(values: list[float]) -> str:
    found = summarise(values)
    return with_sd(found.mean, found.sd)
