"""What a chapter shows of numbers that follow a setting: dose-response studies, and tables that vary a
setting of methods.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code
from vtg_lib.book.views.claims import sentence
from vtg_lib.book.views.common import not_run
from vtg_lib.evaluation.statistics import t_interval
from vtg_lib.papers.columns import axis_label
from vtg_lib.papers.dose import response, table_points

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.evaluation.statistics import Interval


def dose(chapter: Chapter, key: str) -> HTML:
    """A dose-response study from the run store, on generated worlds, and what it says of the claim."""
    (study,) = [study for study in chapter.paper.doses if study.key == key]
    profile = next(name for name, size in chapter.paper.profiles.items() if size.evidence == "sim")
    seeds = sorted({record["spec"]["seed"] for record in chapter.store})
    points = response(study, chapter.paper.key, profile, seeds, chapter.store)
    if not any(points):
        return not_run(chapter, study.question, f"--dose {key}")
    bounds = [(p.mean, p.low, p.high) if p else None for p in points]
    figure = plots.dose_response(
        study.values, {study.gain: bounds}, xlabel=study.unit, ylabel="gain (points of mAP)"
    )
    told = "; ".join(f"at {v:g}: {_gain(p)}" for v, p in zip(study.values, points, strict=True))
    return plots.show(
        figure,
        f"{study.question} {study.gain} by {study.unit}: {told}.",
        f"{study.question} Evidence: sim. {told}.",
        "".join(f"<p>{sentence(one)}</p>" for one in chapter.judged if one.claim.key == key),
    )


def varied(chapter: Chapter, table_id: str) -> HTML:
    """How the methods of a table move with the setting that it varies, and what that says of the claims."""
    results = chapter.compared[table_id]
    setting, column = results.table.varied, results.table.primary
    assert setting is not None and column is not None
    kind, every = table_points(results)
    found = {method: points for method, points in every.items() if points}
    if not found:
        return not_run(chapter, results.table.caption, f"--tables {table_id}")
    numbers = sorted({number for points in found.values() for number, _, _ in points})
    series, told = {}, []
    for method, points in found.items():
        wholes = [t_interval([value for at, _, value in points if at == number]) for number in numbers]
        series[method] = [(w.mean, w.low, w.high) if w.n else None for w in wholes]
        means = (f"{_score(w)} at {number:g}" for number, w in zip(numbers, wholes, strict=True) if w.n)
        told.append(f"{method}: {', '.join(means)}")
    name = axis_label(column)
    figure = plots.dose_response(numbers, series, xlabel=setting.unit, ylabel=name, zero=False)
    what, numbers_told = f"{column} by number of {setting.unit}", "; ".join(told)
    bars = "bars: 95 % interval of the mean over seeds, where a point has several"
    caption = f"{what}; {bars}. Evidence: {kind}. {numbers_told}."
    about = [one for one in chapter.judged if one.claim.treated[0] == table_id]
    after = f"<ul>{''.join(f'<li>{sentence(one)}</li>' for one in about)}</ul>"
    return plots.show(figure, f"{what}. {numbers_told}.", caption, after)


def _score(found: Interval) -> str:
    bounds = "one seed" if found.n == 1 else f"95 % {found.low:.1f} to {found.high:.1f}, n = {found.n}"
    return f"{found.mean:.1f} ({bounds})"


def _gain(found: Interval | None) -> str:
    if found is None or not found.n:
        return code("not run")
    interval = "no interval" if math.isnan(found.low) else f"95 % {found.low:+.2f} to {found.high:+.2f}"
    return f"{found.mean:+.2f} ({interval}, n = {found.n})"
