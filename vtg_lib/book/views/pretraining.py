"""What chapters show of runs that start from others: how they learn, and how that goes with their labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import folded, frame_html, with_sd
from vtg_lib.book.views.common import not_run
from vtg_lib.book.views.training import stored_runs
from vtg_lib.experiments.origin import lineage
from vtg_lib.experiments.run import find
from vtg_lib.experiments.spec import RunSpec
from vtg_lib.papers.columns import METRICS

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.experiments.run import RunResult

METRIC = METRICS["mAP"]
SCRATCH = "from random weights"
Curve = tuple[list[float], np.ndarray]  # steps, and mAP on validation [seeds, steps]


def fine_tuning(chapter: Chapter, table: str) -> HTML:
    """mAP on validation by step of every row that starts from another one, beside the same row from random
    weights.

    A curve begins at step 0 where the weights that it starts from were scored as they are.
    """
    found = _curves(chapter, table)
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
    figure = plots.panels(found, xlabel="step", ylabel="mAP on validation (points)", columns=2)
    text = ". ".join(told)
    caption = "mAP on validation (points, 0 to 100) by step; bands: 95 % interval over seeds."
    return plots.show(figure, f"Fine-tuning by step. {text}.", f"{caption} {text}.")


def _curves(chapter: Chapter, table: str) -> dict[str, dict[str, Curve]]:
    """By row: the curve from random weights, then that of the row; rows that lack one are left out."""
    found = {}
    for label, runs in stored_runs(chapter, table).items():
        row = chapter.paper.table(table).row(label)
        if row.parent is None:
            continue
        pairs = [(_from_scratch(chapter, run), run) for run in runs if run.curves]
        both = [(first, second) for first, second in pairs if first is not None]
        if both:
            scratch, tuned = zip(*both, strict=True)
            found[label] = {SCRATCH: _curve(scratch), f"from {row.parent.label}": _curve(tuned, chapter)}
    return found


def _from_scratch(chapter: Chapter, run: RunResult) -> RunResult | None:
    spec = RunSpec.from_dict(run.spec)
    return find(chapter.store, dataclasses.replace(spec, init="", init_scope="all"))


def _curve(runs: tuple[RunResult, ...], chapter: Chapter | None = None) -> Curve:
    """Of the runs that are as long as the longest; with a chapter, from its scored initial weights on."""
    longest = max((run.curves["step"] for run in runs), key=len)
    kept = [run for run in runs if run.curves["step"] == longest]
    values = np.array([run.curves[METRIC] for run in kept], float)
    starts = [None if chapter is None else _at_zero(chapter, run) for run in kept]
    if all(start is not None for start in starts):
        return [0.0, *map(float, longest)], np.column_stack([np.array(starts, float), values])  # type: ignore[arg-type]
    return list(map(float, longest)), values  # type: ignore[arg-type]


def _at_zero(chapter: Chapter, run: RunResult) -> float | None:
    spec = RunSpec.from_dict(run.spec)
    scored = find(chapter.store, dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=0)))
    return None if scored is None else scored.metrics["val"][METRIC]


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
    rows: list[dict[str, Any]] = []
    drawn = {}
    for label, pairs in found.items():
        scores = [_score(run) for _, run in pairs]
        precise = [100 * made["clips"]["precision"] for made, _ in pairs]
        drawn[label] = precise, scores
        cells = {
            f"{kind}: {part}": with_sd(*_mean([100 * made[kind][part] for made, _ in pairs]))
            for kind in ("clips", "moments")
            for part in ("precision", "recall")
        }
        rows.append({"row": label, **cells, "mAP": with_sd(*_mean(scores)), "n": len(pairs)})
    figure = plots.points(drawn, xlabel="precision of the labelled clips (percent)", ylabel="mAP (points)")
    means = [(np.mean(x), np.mean(y)) for x, y in drawn.values()]
    told = "; ".join(
        f"{label}: {x:.0f} % of clips right, mAP {y:.1f}" for label, (x, y) in zip(drawn, means, strict=True)
    )
    if len({x for x, _ in means}) > 2:
        order = float(stats.spearmanr(*zip(*means, strict=True)).statistic)
        told += f". Over {len(means)} rows Spearman's ρ of precision and mAP is {order:+.2f}"
    caption = f"A point a run: mAP against the precision of its labels, by row. {told}."
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


def _score(run: RunResult) -> float:
    """On test where there is one, else on validation."""
    return run.metrics.get("test", run.metrics["val"])[METRIC]


def _mean(values: list[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
