"""A compared table as HTML: one string, the same for the same numbers, with no script and no outside file.

Every cell that needs colour also has a word or sign; on a narrow page the table scrolls sideways inside its
frame, and the labels, which stay in sight, wrap so that they leave room for numbers.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from vtg_lib.evaluation import statistics as stats
from vtg_lib.papers.evidence import COUNTED, Evidence, RowResults, TableResults
from vtg_lib.papers.schema import title_of
from vtg_lib.papers.verdict import NOT_RUN

SIGNS = {"same direction": "✓", "reversed": "✗", "within noise": "≈", "one seed": "·"}
STYLE = (
    "<style>"
    ".vtg-table{overflow-x:auto;max-width:100%;margin:.5em 0 1em}"
    ".vtg-table table{border-collapse:collapse;font-size:.85em;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".vtg-table caption{caption-side:top;text-align:left;white-space:normal;font-weight:600;padding:.2em 0}"
    # Of the box, not of the table, which may be wider than what is seen of it.
    ".vtg-table caption span{position:sticky;left:0;display:inline-block;max-width:min(42rem,calc(100vw - 3rem))}"
    ".vtg-table th,.vtg-table td{padding:.15em .55em;border-bottom:1px solid #8884;text-align:right}"
    ".vtg-table th.label,.vtg-table td.word{text-align:left}"
    ".vtg-table th.label{position:sticky;left:0;background:var(--pst-color-background,#fff);font-weight:500;"
    "white-space:normal;min-width:min(9em,30vw);max-width:min(22em,38vw)}"
    ".vtg-table thead th{text-align:center;font-weight:600}"
    ".vtg-table .ours{font-weight:600}.vtg-table .sd{font-weight:400}"
    ".vtg-table .kind{border:1px solid #8888;border-radius:.5em;padding:0 .4em;font-size:.9em}"
    ".vtg-table tr.reference>*{border-bottom:2px solid #888}"
    ".vtg-notes{font-size:.85em}"
    "</style>"
)


def render(results: TableResults, *, columns: Sequence[str] | None = None, notes: bool = True) -> str:
    """The table: per row and line of evidence, each column's paper | ours ± sd, then n, evidence and verdict.

    Args:
        columns: names of the columns to show; default all.
        notes: list below it the table's and rows' notes (reconstructions, doubts), what our runs leave to be
            desired, and the command that trains what is lacking.

    Raises:
        KeyError: a name in `columns` is no column of the table.
    """
    table = results.table
    names = (
        [table.column(name).name for name in columns]
        if columns is not None
        else [c.name for c in table.columns]
    )
    title = f"<caption><span>{_e(table.title)} ({_e(table.place)}). {_e(table.caption)}</span></caption>"
    listed = _notes(results) if notes else ""
    if not names:
        see = f" The numbers are in {_e(title_of(table.see))}." if table.see else ""
        return f'{STYLE}<div class="vtg-table"><table>{title}</table><p>No printed numbers.{see}</p></div>{listed}'
    body = "".join(_row(results, row, names) for row in results.rows)
    parts = [
        STYLE,
        '<div class="vtg-table" role="region" tabindex="0" ',
        f'aria-label="{_e(table.title)}"><table>',
        title,
    ]
    return "".join([*parts, _head(results, names), f"<tbody>{body}</tbody></table></div>", listed])


def _head(results: TableResults, names: Sequence[str]) -> str:
    groups = "".join(f'<th scope="colgroup" colspan="2">{_e(name)}</th>' for name in names)
    pairs = '<th scope="col">paper</th><th scope="col">ours</th>' * len(names)
    last = '<th rowspan="2" scope="col">seeds</th><th rowspan="2" scope="col">evidence</th>'
    if results.table.reference is not None:
        last += f'<th rowspan="2" scope="col">{_e(results.table.primary or "")} against {_e(results.table.reference)}</th>'
    return f'<thead><tr><th rowspan="2" scope="col">row</th>{groups}{last}</tr><tr>{pairs}</tr></thead>'


def _row(results: TableResults, row: RowResults, names: Sequence[str]) -> str:
    table = results.table
    lines: list[Evidence | None] = [*row.lines] or [None]
    added = " (added)" if row.row.added else ""
    marked = ' class="reference"' if row.row.label == table.reference else ""
    rendered = []
    for number, evidence in enumerate(lines):
        label = (
            f'<th class="label" scope="rowgroup" rowspan="{len(lines)}">{_e(row.row.label)}{added}</th>'
            if number == 0
            else ""
        )
        cells = "".join(
            f"<td>{_paper(row, name) if number == 0 else ''}</td>{_ours(row, evidence, name)}"
            for name in names
        )
        seeds = "" if evidence is None or evidence.kind not in row.runs else str(evidence.n)
        kind = (
            evidence.kind if evidence is not None else (NOT_RUN if row.row.source != "quoted" else "quoted")
        )
        last = f'<td>{seeds}</td><td class="word"><span class="kind">{_e(kind)}</span></td>'
        if table.reference is not None:
            last += f'<td class="word">{_verdict(results, row, evidence)}</td>'
        rendered.append(f"<tr{marked}>{label}{cells}{last}</tr>")
    return "".join(rendered)


def _paper(row: RowResults, name: str) -> str:
    value = row.row.paper[name]
    text = row.row.text.get(name, "–") if value is None else _number(value)
    sd = row.row.also.get("sd", {}).get(name)
    return _e(text if sd is None else f"{text} ± {_number(sd)}")


def _ours(row: RowResults, evidence: Evidence | None, name: str) -> str:
    holder = next((e for e in (evidence, row.counted) if e is not None and e.values.get(name)), None)
    if holder is None:
        return "<td></td>"
    summary: stats.Summary = holder.summary(name)
    spread = "" if math.isnan(summary.sd) else f' <span class="sd">± {summary.sd:.2f}</span>'
    hint = ' title="counted at the published size"' if holder.kind == COUNTED else ""
    return f'<td class="ours"{hint}>{summary.mean:.2f}{spread}</td>'


def _verdict(results: TableResults, row: RowResults, evidence: Evidence | None) -> str:
    v = row.verdicts.get(results.table.primary or "")
    if v is None or (evidence is not None and evidence.kind not in row.runs):
        return ""
    text = f"{SIGNS.get(v.word, '')} {v.word}".strip()
    if v.difference is not None and v.difference.n > 1:
        text += f" ({v.difference.mean:+.2f}, 95 % [{v.difference.low:+.2f}, {v.difference.high:+.2f}])"
    elif v.difference is not None:
        text += f" ({v.difference.mean:+.2f})"
    return _e(text)


def _notes(results: TableResults) -> str:
    lines = list(results.table.notes)
    lines += [f"{row.row.label}: {note}" for row in results.rows for note in row.row.notes]
    items = [_e(line) for line in [*lines, *_code_versions(results)]]
    if results.command is not None:
        needs = "" if results.profile == "sim" else ", on a GPU and with the annotations of its data sets,"
        command = f"<code>{_e(results.command)}</code>{needs}"
        items.append(
            f"Not run yet: {_e('; '.join(results.lacking))}. {command} trains what this table lacks."
        )
    return '<ul class="vtg-notes">' + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""


def _code_versions(results: TableResults) -> list[str]:
    """A note where the table's runs of one model come from several versions of the code, and which pairs that
    touches.
    """
    several = {model: digests for model, digests in results.versions.items() if len(digests) > 1}
    if not several:
        return []
    primary = results.table.primary or ""
    rows = [row.row.label for row in results.rows if primary in row.verdicts and row.verdicts[primary].mixed]
    told = ", ".join(f"{model} {len(digests)}" for model, digests in several.items())
    pairs = (
        f"two sides of a pair differ in: {'; '.join(rows)}"
        if rows
        else "the two sides of every pair are of one version"
    )
    means = "any change to a source file counts as one, unless a replay made the same numbers"
    return [f"Mixed code versions of runs ({told}; {means}): {pairs}."]


def _number(value: float) -> str:
    """Printed numbers: two decimals, more where they are needed (p values, learning rates)."""
    return f"{value:.2f}" if abs(value * 100 - round(value * 100)) < 1e-9 else f"{value:g}"


def _e(text: str) -> str:
    return html.escape(text, quote=True)
