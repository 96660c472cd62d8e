"""All methods of the library at one budget: what they cost, how sure their order is, and what each does
inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code, frame_html
from vtg_lib.book.views.common import not_run
from vtg_lib.book.views.training import stored_runs
from vtg_lib.diagnostics import VIEWS
from vtg_lib.diagnostics.topic import known_mean
from vtg_lib.evaluation.statistics import rank_correlation, summarise
from vtg_lib.papers.ranks import ALPHA, Ranking, ranked
from vtg_lib.papers.verdict import METRIC

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.diagnostics.topic import View
    from vtg_lib.experiments.run import RunResult

TABLE, SPLIT = "methods", "test"


def runs(chapter: Chapter) -> dict[str, list[RunResult]]:
    """The stored runs by method, those that are scored on the test split."""
    found = {
        label: [run for run in kept if SPLIT in run.metrics]
        for label, kept in stored_runs(chapter, TABLE).items()
    }
    return {label: kept for label, kept in found.items() if kept}


# --- cost


def cost_figure(chapter: Chapter) -> HTML:
    """mAP against the time of a training step, a point a run."""
    found = runs(chapter)
    if not found:
        return not_run(chapter, "Cost", f"--tables {TABLE}")
    points = {
        label: ([run.provenance["step_ms"] for run in kept], [_score(run) for run in kept])
        for label, kept in found.items()
    }
    told = "; ".join(f"{label}: {np.mean(x):.0f} ms, {np.mean(y):.1f}" for label, (x, y) in points.items())
    figure = plots.points(points, xlabel="milliseconds a training step", ylabel="mAP on test (points)")
    return plots.show(figure, f"mAP on test against the time of a step. {told}.", "A point a run.")


def cost_table(chapter: Chapter) -> HTML:
    """mAP, parameters, time of a step and memory of every method."""
    import pandas as pd

    found = runs(chapter)
    if not found:
        return not_run(chapter, "Cost in numbers", f"--tables {TABLE}")
    rows = []
    for label, kept in found.items():
        whole = summarise([_score(run) for run in kept])
        mean = {
            head: float(np.mean([run.provenance[key] for run in kept]))
            for head, key in (
                ("step (ms)", "step_ms"),
                ("process (MB)", "process_peak_mb"),
                ("run (s)", "wall_s"),
            )
        }
        parameters = f"{kept[0].provenance['parameters']:,}"
        rows.append(
            {"method": label, "mAP": whole.mean, "sd": whole.sd, "worlds": whole.n, "parameters": parameters}
            | mean
        )
    return frame_html(pd.DataFrame(rows), digits=1)


def _score(run: RunResult) -> float:
    return float(run.metrics[SPLIT][METRIC])


# --- order


def scores(chapter: Chapter) -> pd.DataFrame:
    """mAP on test: methods by worlds, NaN where a run is lacking."""
    import pandas as pd

    by = {
        row.row.label: row.runs["sim"].values["test mAP"]
        for row in chapter.compared[TABLE].rows
        if "sim" in row.runs
    }
    return pd.DataFrame.from_dict(by, orient="index", dtype=float).sort_index(axis=1)


def _ranking(chapter: Chapter) -> Ranking | None:
    """Friedman's and Nemenyi's tests, of the best method against the others; None without enough runs."""
    found = scores(chapter)
    if len(found) < 3 or found.dropna(axis=1).shape[1] < 2:
        return None
    return ranked(found, str(found.dropna(axis=1).mean(axis=1).idxmax()))


def rank_figure(chapter: Chapter) -> HTML:
    """Mean ranks over worlds with the critical difference."""
    found = _ranking(chapter)
    if found is None:
        return not_run(chapter, "Ranks over worlds", f"--tables {TABLE} --seeds 8")
    told = "; ".join(
        f"{name} {rank:.1f}" for name, rank in sorted(found.test.mean_ranks.items(), key=lambda x: x[1])
    )
    alt = f"Mean ranks of {found.test.methods} methods over {found.test.blocks} worlds: {told}."
    caption = "A bar is the critical difference: methods whose dots it does not reach are worse, beyond the "
    caption += "luck of worlds (Nemenyi, 5 %)."
    return plots.show(plots.ranks(found.test.mean_ranks, found.distance), alt, caption)


def rank_told(chapter: Chapter) -> HTML:
    """What the rank tests say, and whether the order is the printed one."""
    from IPython.display import HTML

    lines = []
    if (found := _ranking(chapter)) is not None:
        test, others = found.test, [name for name in found.p if name not in found.apart]
        word = "differ" if test.p < ALPHA else "cannot be told apart"
        lines.append(
            f"Friedman over {test.blocks} worlds: chi² {test.statistic:.1f}, p {test.p:.2g}: methods {word}. "
            f"Not apart from the best, {found.row}: {', '.join(others) or 'none'}."
        )
    printed = chapter.paper.table(TABLE).numbers()["test mAP"].dropna()
    ours = scores(chapter).mean(axis=1)
    both = [name for name in printed.index if name in ours.index]
    if len(both) > 2:
        rho, tau, _ = rank_correlation(printed[both].to_numpy(), ours[both].to_numpy())
        lines.append(
            f"Order here against the order printed (test mAP, {len(both)} methods): Spearman's rho "
            f"{rho:+.2f}, Kendall's tau {tau:+.2f}."
        )
    return HTML("".join(f"<p>{code(line)}</p>" for line in lines))


# --- inside


def inside(chapter: Chapter) -> HTML:
    """The one number of every diagnostic, methods by topics, means over worlds; blank where a method has no
    such thing.
    """
    found = runs(chapter)
    views = [(topic, view) for topic, view in VIEWS.items() if view.head]
    values = np.array([[_number(kept, *view) for view in views] for kept in found.values()], dtype=float)
    if not found or not np.isfinite(values).any():
        return not_run(chapter, "Diagnostics of all methods", f"--tables {TABLE}")
    measured = np.isfinite(values).any(0)
    values = values[:, measured]
    topics = [view.head for (_, view), here in zip(views, measured, strict=True) if here]
    told = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{head} {value:.2f}".replace("\n", " ")
            for head, value in zip(topics, row, strict=True)
            if np.isfinite(value)
        )
        for label, row in zip(found, values, strict=True)
    )
    figure = plots.matrix(values, list(found), topics, digits=2, by_column=True)
    return plots.show(figure, f"Diagnostics by method. {told}", "Each column has a scale of its own.")


def _number(kept: Sequence[RunResult], topic: str, view: View) -> float:
    records = [run.diagnostics.get(topic, {}).get("after") for run in kept]
    assert view.number is not None
    mean = known_mean([view.number(record) for record in records if record])
    return math.nan if mean is None else mean
