"""What chapters display: tables, charts, source code, summaries. Each returns an object that notebooks show.

Words that judge (supports, contradicts, cannot tell, …) come from `vtg_lib.papers.verdict`; nothing here
decides anything.
"""

from __future__ import annotations

import inspect
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg_lib.book import PROVENANCE, sources
from vtg_lib.book import figures as plots
from vtg_lib.book.compared import render
from vtg_lib.book.tables import code, folded, frame_html, record_html

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML, Markdown

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.experiments.run import RunResult
    from vtg_lib.experiments.spec import RunSpec

HEADLINE = ("R1@0.5", "R1@0.7", "mAP", "mAP short", "mAP middle", "mAP long", "HD mAP", "HIT@1")


# --- the chapter


def overview(chapter: Chapter) -> HTML:
    """What this execution does, and what it does without, in a line."""
    from IPython.display import HTML

    p = chapter.parameters
    where = {
        "smoke": "a few steps of everything, to prove that the code runs: its numbers mean nothing",
        "quick": "numbers are the run store's; one headline run is trained again up to its first evaluation",
    }.get(
        chapter.profile,
        "runs that the store lacks are trained, which can take hours and goes on where it stopped",
    )
    seeds = ", ".join(map(str, p.seeds))
    store = f"`results/{chapter.store.path.name}`: {len(chapter.store)} runs"
    told = f"Profile {chapter.profile}: {where}. {store}. Here: {p.device}, seed {seeds}."
    return HTML("".join(f"<p>{code(line)}</p>" for line in (told, *chapter.missing)))


def footer(chapter: Chapter) -> None:
    """Display where this page comes from, and leave the same as a record in the output's metadata."""
    from IPython.display import display

    record = chapter.provenance()
    data = "; ".join(f"{name}: {value}" for name, value in record["data"].items())
    items = {
        "code": record["code_version"],
        "profile, seeds": f"{record['profile']}; {', '.join(map(str, record['seeds']))}",
        "device": record["device"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "started (UTC), duration": f"{record['started']}, {record['duration_s']:.0f} s",
        "trained here": ", ".join(record["live_specs"]) or "nothing",
        "runs in the store": str(len(record["store_specs"])),
        "data fingerprints": data or "none read",
    }
    hashes = " ".join(record["store_specs"]) or "none"
    element = (
        f"{record_html(items).data}<details><summary>spec hashes in the store</summary>{hashes}</details>"
    )
    content = {"text/html": element, "text/plain": json.dumps(record)}
    display(content, raw=True, metadata={PROVENANCE: record})


def source(*objects: Callable[..., Any] | type) -> Markdown:
    """The source of functions or classes, as the library has it now, each with a link to its file."""
    from IPython.display import Markdown

    parts = [
        f"```python\n{textwrap.dedent(inspect.getsource(item)).rstrip()}\n```\n\n{sources.link(item)}"
        for item in objects
    ]
    return Markdown("\n\n".join(parts))


# --- paper | ours


def table(chapter: Chapter, table_id: str, *, columns: Sequence[str] | None = None) -> HTML:
    """A table of the paper, paper | ours."""
    from IPython.display import HTML

    return HTML(render(chapter.compared[table_id], columns=columns))


def slope(chapter: Chapter, table_id: str, column: str | None = None) -> HTML:
    """A table's rows as lines from the paper's number to ours, in its primary column unless one is named."""
    results = chapter.compared[table_id]
    column = column or results.table.primary or results.table.columns[0].name
    reference = next((r for r in results.rows if r.row.label == results.table.reference), None)
    kind = reference.best_run.kind if reference is not None and reference.best_run is not None else ""
    rows = [
        (result.row, printed, ours)
        for result in results.rows
        if kind in result.runs
        and (printed := result.row.paper[column]) is not None
        and (ours := result.runs[kind].summary(column)).n
    ]
    title = f"{results.table.title}, {column}"
    if not rows:
        return not_run(chapter, f"Slope chart of {title}", f"--tables {table_id}")
    found, paper, summaries = zip(*rows, strict=True)
    whole = [not row.overrides.config and row.model for row in found]
    labels = [row.label for row in found]
    # One row of a figure is the method whole; where several differ in data alone, labels tell them apart.
    names = [m if m and whole.count(m) == 1 else label for m, label in zip(whole, labels, strict=True)]
    figure = plots.slope_chart(
        labels,
        paper,
        [ours.mean for ours in summaries],
        metric=column,
        ours_sd=[ours.sd for ours in summaries],
        evidence=kind,
        names=names,
    )
    told = "; ".join(
        f"{row.label}: paper {printed:.2f}, ours {ours.mean:.2f} (n = {ours.n})"
        for row, printed, ours in rows
    )
    alt = f"Slope chart of {title}, each side on its own scale. {told}"
    caption = f"{title}: the paper's order of rows beside ours; the two sides have scales of their own; "
    caption += "± sd over seeds where a row has several."
    return plots.show(figure, alt, caption)


def differences(chapter: Chapter, table_id: str, column: str | None = None) -> HTML:
    """A table's rows as differences from its reference row, ours beside the paper's, in its primary column
    unless one is named.
    """
    results = chapter.compared[table_id]
    column = column or results.table.primary or results.table.columns[0].name
    title = f"{results.table.title}, {column}"
    reference = next((r for r in results.rows if r.row.label == results.table.reference), None)
    rows = []
    for row in results.rows:
        verdict = row.verdicts.get(column)
        if row is reference or verdict is None or verdict.difference is None or verdict.evidence is None:
            continue
        assert reference is not None  # without one there is no verdict
        ours, base = (side.runs[verdict.evidence].values[column] for side in (row, reference))
        found = verdict.difference
        rows.append(
            plots.Gap(
                label=row.row.label,
                word=verdict.word,
                learned={seed: ours[seed] - base[seed] for seed in sorted(ours.keys() & base.keys())},
                mean=found.mean,
                low=found.low,
                high=found.high,
                paper=verdict.paper_difference,
            )
        )
    if not rows:
        return not_run(chapter, f"Differences of {title}", f"--tables {table_id}")
    told = "; ".join(f"{row.label}: {row.mean:+.1f}, {row.word}" for row in rows)
    figure = plots.gaps(rows, xlabel=f"row − {results.table.reference} (points of {column})")
    return plots.show(
        figure,
        f"{title}: differences from {results.table.reference}. {told}",
        f"{title}. Dots: seeds. Squares: our mean, 95 % interval. Diamonds: the paper.",
    )


def not_run(chapter: Chapter, what: str, options: str) -> HTML:
    """Says that something waits for runs, and which command makes them."""
    from IPython.display import HTML

    command = f"`vtg sweep --paper {chapter.paper.key} --profile sim {options}`"
    return HTML(f"<p><em>{code(f'{what}: not run yet. {command} makes the runs.')}</em></p>")


def table_explorer(chapter: Chapter) -> ipywidgets.VBox:
    """Choose table, metric and rows; works with and without a kernel."""
    from vtg_lib.book import widgets
    from vtg_lib.papers.tables import explorer_tables

    return widgets.table_explorer(explorer_tables(chapter.compared))


def summary(chapter: Chapter) -> HTML:
    """What agreed and what did not: computed verdicts on every table's primary column, folded by word."""
    from IPython.display import HTML

    from vtg_lib.papers.verdict import JUDGED

    judged: dict[str, list[str]] = {}
    for results in chapter.compared.values():
        column = results.table.primary or ""
        for result in results.rows:
            verdict = result.verdicts.get(column)
            if verdict is None:
                continue
            text = f"{results.table.title}, {result.row.label}"
            gap = verdict.difference
            if gap is not None:
                text += (
                    f" ({column}: paper {verdict.paper_difference:+.2f}, ours {gap.mean:+.2f}"
                    + ("" if gap.low != gap.low else f", 95 % {gap.low:+.2f} to {gap.high:+.2f}")
                    + f", {verdict.evidence})"
                )
            judged.setdefault(verdict.word, []).append(text)
    parts = []
    for word in JUDGED:
        rows = judged.get(word, [])
        inside = "".join(f"<li>{code(row)}</li>" for row in rows)
        parts.append(folded(f"{word}: {len(rows)} rows", f"<ul>{inside}</ul>"))
    return HTML("".join(parts))


def deviations(chapter: Chapter) -> Markdown:
    """The numbered list of what the text leaves open and what was chosen, on demand."""
    from IPython.display import Markdown

    lines = []
    for item in chapter.paper.deviations:
        lines += [
            f"{item.number}. **{item.place}.** {item.text_says}",
            f"    *We do:* {item.we_do}",  # four spaces belong to items of one and of two digits
            f"    *Reason:* {item.reason}",
        ]
    if not lines:
        return Markdown("None recorded.")
    head = f"{len(chapter.paper.deviations)} choices: what the text says, what we do, and why"
    # blank lines around it let the list be read as Markdown
    return Markdown(folded(head, "\n\n" + "\n\n".join(lines) + "\n\n"))


# --- diagnostics


def headline(results: Mapping[str, RunResult]) -> HTML:
    """The runs of a comparison, one row each: metrics on validation, parameters, seconds."""
    import pandas as pd

    from vtg_lib.papers.columns import METRICS

    rows = [
        {
            "row": name,
            **{name: result.metrics["val"].get(METRICS[name], math.nan) for name in HEADLINE},
            "parameters": f"{result.provenance['parameters']:,}",
            "training (s)": f"{result.provenance['wall_s']:.0f}",
            "spec": result.hash,
        }
        for name, result in results.items()
    ]
    return frame_html(pd.DataFrame(rows))


def again(chapter: Chapter, results: Mapping[str, RunResult], spec: RunSpec) -> HTML:
    """One of the runs trained once more up to its first evaluation, beside what the store has."""
    from IPython.display import HTML

    from vtg_lib.experiments.replay import comparable

    name = next(name for name, result in results.items() if result.hash == spec.hash)
    found = chapter.again(spec)
    if found is None:
        return HTML("")
    same = f"the same numbers in all digits ({len(results[name].curves)} of them)"
    differs = "; ".join(f"{key}: stored {was}, now {now}" for key, (was, now) in found.differs.items())
    told = f"{name}, trained here up to epoch {found.epoch}: "
    made, here = results[name].to_dict(), found.provenance
    where = f" The stored run was made on {made['provenance']['device']}, this one on {here['device']}"
    if not comparable(made, here):
        where += ": elsewhere the last digits differ, and training magnifies them, so equality tells nothing"
    tail = f".{where}" if differs else ""
    return HTML(f"<p>{code(told + (differs or same) + tail)}.</p>")


def training_curves(results: Mapping[str, RunResult], metric: str = "MR-full-mAP") -> HTML:
    """The metric on validation by epoch, one line a run."""
    from vtg_lib.papers.columns import METRICS

    epochs = [np.asarray(result.curves["epoch"], dtype=float) for result in results.values()]
    longest = max(epochs, key=len).tolist()
    series = {name: np.asarray(result.curves[metric], dtype=float) for name, result in results.items()}
    shown = next((name for name, key in METRICS.items() if key == metric), metric)
    figure = plots.curves(longest, series, xlabel="epoch", ylabel=f"{shown} on validation (points)")
    told = "; ".join(f"{name} ends at {values[-1]:.2f}" for name, values in series.items())
    return plots.show(
        figure,
        f"{shown} on validation by epoch: {told}.",
        f"{shown} on validation (points, 0 to 100) by epoch; one run each, so there is no interval.",
    )
