"""What a chapter shows of numbers that follow a setting: dose-response studies, and tables that vary a
setting of methods.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vtg_lib.book import figures as plots
from vtg_lib.book.tables import code
from vtg_lib.book.views.common import not_run
from vtg_lib.evaluation.statistics import summarise
from vtg_lib.papers.dose import READING, Trend, fit, response, table_points, trend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.evaluation.statistics import Interval

_TRENDS = {
    "grows": "grows",
    "falls": "falls",
    "no clear trend": "has no clear trend",
    "not run": "was not run at two values or more",
}


def dose(chapter: Chapter, key: str) -> HTML:
    """A dose-response study from the run store, on generated worlds, with its trend held against the paper's
    claim.
    """
    from IPython.display import HTML

    (study,) = [study for study in chapter.paper.doses if study.key == key]
    profile = next(name for name, size in chapter.paper.profiles.items() if size.evidence == "sim")
    seeds = sorted({record["spec"]["seed"] for record in chapter.store})
    runs = (study, chapter.paper.key, profile, seeds, chapter.store)
    points = response(*runs)
    if not any(points):
        return not_run(chapter, study.question, f"--dose {key}")
    bounds = [(p.mean, p.low, p.high) if p else None for p in points]
    figure = plots.dose_response(study.values, {study.gain: bounds}, xlabel=study.unit, ylabel="gain")
    told = _gains(study.values, points)
    drawn = plots.figure_html(
        figure,
        f"{study.question} {study.gain} by {study.unit}: {told}.",
        f"{study.question} Evidence: sim. {told}.",
    )
    judged = _judged("The gain", trend(*runs), "gain", study.knob, study.place, study.claim)
    read, reading = trend(*runs, metric=READING), response(*runs, metric=READING)
    control = (
        f"Highlights need the sentence but no query: their gain (HD mAP) {_TRENDS[read.word]} "
        f"({_numbers(read, 'gain', study.knob)}; {_gains(study.values, reading)}). "
        "Where it moves too, part of the gain above is in reading the sentence, not in finding moments."
    )
    return HTML(f"{drawn}<p>{judged}</p><p>{code(control)}</p>")


def varied(chapter: Chapter, table_id: str) -> HTML:
    """How a table's methods move with the setting that it varies, each held against the paper's claim."""
    from IPython.display import HTML

    results = chapter.compared[table_id]
    setting, place, column = results.table.varied, results.table.place, results.table.primary
    assert setting is not None and column is not None
    kind, every = table_points(results)
    found = {method: points for method, points in every.items() if points}
    if not found:
        return not_run(chapter, results.table.caption, f"--tables {table_id}")
    numbers = sorted({number for points in found.values() for number, _, _ in points})
    series, told, judged = {}, [], ""
    for method, points in found.items():
        wholes = [summarise([value for at, _, value in points if at == number]) for number in numbers]
        series[method] = [(w.mean, w.mean - w.sd, w.mean + w.sd) if w.n else None for w in wholes]
        means = (f"{w.mean:.1f} at {number:g}" for number, w in zip(numbers, wholes, strict=True) if w.n)
        told.append(f"{method}: {', '.join(means)}")
        claim = setting.claims[method]
        verdict = _judged(f"{method}: {column}", fit(points, claim), "number", setting.knob, place, claim)
        judged += f"<li>{verdict}</li>"
    figure = plots.dose_response(numbers, series, xlabel=setting.unit, ylabel=column, zero=False)
    caption = f"{column} by number of {setting.unit}; bars: ± sd over seeds. Evidence: {kind}."
    drawn = plots.figure_html(figure, f"{column} by number of {setting.unit}. {'; '.join(told)}.", caption)
    return HTML(f"{drawn}<ul>{judged}</ul>")


def _judged(what: str, found: Trend, number: str, knob: str, place: str, claim: str) -> str:
    verdict = (
        f"{what} {_TRENDS[found.word]} ({_numbers(found, number, knob)}). By the paper ({place}) it {claim}: "
    )
    return f"{code(verdict)}<strong>{found.judgement}</strong>."


def _numbers(found: Trend, number: str, knob: str) -> str:
    numbers = f"{_several(found.n, f'single-seed {number}')} from {_several(found.seeds, 'seed')}"
    if math.isnan(found.slope):
        return numbers
    p = "no p value below three" if math.isnan(found.p) else f"p = {found.p:.2g}"
    return f"slope {found.slope:+.3g} points per unit of `{knob}`, {p}, {numbers}"


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _gains(values: Sequence[float], found: Sequence[Interval | None]) -> str:
    told = zip(values, ("not run" if p is None or not p.n else _gain(p) for p in found), strict=True)
    return "; ".join(f"at {value:g}: {gain}" for value, gain in told)


def _gain(found: Interval) -> str:
    interval = "no interval" if math.isnan(found.low) else f"95 % {found.low:+.2f} to {found.high:+.2f}"
    return f"{found.mean:+.2f} ({interval}, n = {found.n})"
