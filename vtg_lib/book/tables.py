"""Tables of the pages as HTML: rows, data frames, names with values, and a paper's table beside ours.

The same values give the same string, with no script and no outside file; what a template is given is escaped.
A wide table scrolls sideways in its own box, and its first column stays in sight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, Template
from markupsafe import Markup, escape

from vtg_lib.papers.evidence import COUNTED, Evidence, RowResults, TableResults
from vtg_lib.papers.schema import title_of
from vtg_lib.papers.verdict import NOT_RUN

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

GROUP = ""  # the one key of a row that is a heading within a table
SENTENCE = 18  # characters from which on a cell of a data frame wraps
SIGNS = {"supports": "✓", "contradicts": "✗", "smaller than printed": "<", "cannot tell": "≈"}


def code(text: str) -> Markup:
    """Escaped; what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def number(value: Any, digits: int = 2) -> str:
    """A cell: a float with `digits` decimals, "–" for None and NaN, anything else as it is."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def printed(value: float | None) -> str:
    """A paper's number: two decimals, more where they are needed (p values, learning rates)."""
    if value is None or abs(value * 100 - round(value * 100)) < 1e-9:
        return number(value)
    return f"{value:g}"


def with_sd(mean: float, sd: float | None) -> str:
    """Our number: mean ± standard deviation over seeds, where there is one."""
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


_ENVIRONMENT = Environment(autoescape=True)
_ENVIRONMENT.filters |= {"code": code, "number": number, "printed": printed}


def template(source: str) -> Template:
    """A template that escapes what it is given; its line breaks and indents are not part of the page."""
    return _ENVIRONMENT.from_string("".join(line.strip() for line in source.splitlines()))


# ----------------------------------------------------------------------------------------------------------
# rows

# Headers and words wrap, numbers do not.
_ROWS = template("""
<style>
.vtg-page-table { overflow-x: auto; max-width: 100%; margin: .4em 0 .6em; }
.vtg-page-table table { border-collapse: collapse; font-size: .82rem; line-height: 1.35; margin: 0;
 font-variant-numeric: tabular-nums; }
.vtg-page-table :is(th, td) { padding: .2em .5em; text-align: right; border-bottom: 1px solid #8884;
 white-space: nowrap; }
.vtg-page-table thead th { white-space: normal; vertical-align: bottom; font-weight: 600; min-width: 3.6em; }
.vtg-page-table th:first-child { text-align: left; position: sticky; left: 0;
 background: var(--pst-color-background, #fff);
 white-space: normal; min-width: min(8.5em, 30vw); max-width: min(20em, 40vw); font-weight: 500; }
.vtg-page-table th.group { font-weight: 700; padding-top: .6em; max-width: none; white-space: nowrap; }
.vtg-page-table .text { text-align: left; white-space: normal; min-width: 6.5em; }
</style>
<div class="vtg-page-table" role="region" tabindex="0" aria-label="table"><table>
<thead><tr>
{% for name in names %}
  <th scope="col"{% if name in text %} class="text"{% endif %}>{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}<tr>
  {% if group in row %}
    <th scope="rowgroup" class="group" colspan="{{ names|length }}">{{ row[group] }}</th>
  {% else %}
    <th scope="row">{{ row[names[0]]|number(digits) }}</th>
    {% for name in names[1:] %}
      <td{% if name in text %} class="text"{% endif %}>{{ row.get(name)|number(digits) }}</td>
    {% endfor %}
  {% endif %}
</tr>{% endfor %}
</tbody></table></div>""")

_RECORD = template("""
<table class="vtg-record"><tbody>
{% for name, value in items.items() %}<tr>
<th scope="row" style="text-align:left">{{ name }}</th>
<td style="text-align:left;white-space:normal;overflow-wrap:anywhere">{{ value|code }}</td>
</tr>{% endfor %}
</tbody></table>""")


def table(
    rows: Sequence[Mapping[str, Any]], *, digits: int = 2, across: bool = False, text: Collection[str] = ()
) -> HTML:
    """Rows as a table; the first column names them.

    Args:
        rows: {column: number, text or None} each; {GROUP: text} is a heading over the rows that follow.
        digits: decimals of floats; across: turn the table, so that each of `rows` is a column.
        text: columns of words, set flush left.
    """
    from IPython.display import HTML

    names = list(dict.fromkeys(name for row in rows for name in row if name != GROUP))
    if across:
        first = names[0]
        rows = [{first: name} | {str(row[first]): row.get(name) for row in rows} for name in names[1:]]
        names = list(dict.fromkeys(name for row in rows for name in row))
    return HTML(_ROWS.render(names=names, rows=rows, digits=digits, text=text, group=GROUP))


def frame_html(frame: pd.DataFrame, *, digits: int = 2) -> HTML:
    """A data frame as a `table`; columns with sentences flush left."""
    words = [
        name for name in frame if any(isinstance(cell, str) and len(cell) > SENTENCE for cell in frame[name])
    ]
    return table(frame.to_dict("records"), digits=digits, text=words)


def record_html(items: Mapping[str, str]) -> HTML:
    """Names and values as a two-column table; what stands in backticks is set as code."""
    from IPython.display import HTML

    return HTML(_RECORD.render(items=items))


# ----------------------------------------------------------------------------------------------------------
# paper | ours

# The caption is as wide as the box, not as the table, which may be wider than what is seen of it.
_COMPARED = template("""
<style>
.vtg-table{overflow-x:auto;max-width:100%;margin:.5em 0 1em}
.vtg-table table{border-collapse:collapse;font-size:.85em;white-space:nowrap;
font-variant-numeric:tabular-nums}
.vtg-table caption{caption-side:top;text-align:left;white-space:normal;font-weight:600;padding:.2em 0}
.vtg-table caption span{position:sticky;left:0;display:inline-block;max-width:min(42rem,calc(100vw - 3rem))}
.vtg-table th,.vtg-table td{padding:.15em .55em;border-bottom:1px solid #8884;text-align:right}
.vtg-table th.label,.vtg-table td.word{text-align:left}
.vtg-table th.label{position:sticky;left:0;background:var(--pst-color-background,#fff);font-weight:500;
white-space:normal;min-width:min(9em,30vw);max-width:min(22em,38vw)}
.vtg-table thead th{text-align:center;font-weight:600}
.vtg-table .ours{font-weight:600}.vtg-table .sd{font-weight:400}
.vtg-table .kind{border:1px solid #8888;border-radius:.5em;padding:0 .4em;font-size:.9em}
.vtg-table tr.reference>*{border-bottom:2px solid #888}
.vtg-notes{font-size:.85em}
</style>
<div class="vtg-table" role="region" tabindex="0" aria-label="{{ table.title }}"><table>
<caption><span>{{ table.title }} ({{ table.place }}). {{ table.caption }}</span></caption>
{% if names %}
  <thead><tr><th rowspan="2" scope="col">row</th>
  {% for name in names %}<th scope="colgroup" colspan="2">{{ name }}</th>{% endfor %}
  <th rowspan="2" scope="col">seeds</th><th rowspan="2" scope="col">evidence</th>
  {% if judged %}
    <th rowspan="2" scope="col">{{ table.primary or "" }} against {{ table.reference }}</th>
  {% endif %}
  </tr><tr>
  {% for name in names %}<th scope="col">paper</th><th scope="col">ours</th>{% endfor %}
  </tr></thead>
  <tbody>
  {% for row, lines in rows %}{% for line in lines %}
    <tr{% if row.label == table.reference %} class="reference"{% endif %}>
    {% if loop.first %}<th class="label" scope="rowgroup" rowspan="{{ lines|length }}">
      {{ row.label }}{% if row.added %} (added){% endif %}</th>{% endif %}
    {% for paper, ours, counted in line.cells %}
      <td>{{ paper }}</td>
      {% if ours is none %}<td></td>{% else %}
        <td class="ours"{% if counted %} title="counted at the published size"{% endif %}>
        {{ ours.mean|number }}
        {%- if ours.n > 1 %} <span class="sd">± {{ ours.sd|number }}</span>{% endif %}</td>
      {% endif %}
    {% endfor %}
    <td>{{ line.seeds }}</td><td class="word"><span class="kind">{{ line.kind }}</span></td>
    {% if judged %}<td class="word">{{ line.verdict }}</td>{% endif %}
    </tr>
  {% endfor %}{% endfor %}
  </tbody>
{% endif %}
</table>
{% if not names %}
  <p>No printed numbers.{% if see %} The numbers are in {{ see }}.{% endif %}</p>
{% endif %}
</div>
{% if notes %}
  <ul class="vtg-notes">{% for note in notes %}<li>{{ note|code }}</li>{% endfor %}</ul>
{% endif %}
""")


def render(results: TableResults, *, columns: Sequence[str] | None = None, notes: bool = True) -> str:
    """A paper's table: a line per row and kind of evidence, each column's paper | ours ± sd, n, verdict.

    Every cell that needs colour also has a word or sign.

    Args:
        columns: names of the columns to show; default all.
        notes: list below it the table's and rows' notes (reconstructions, doubts), what our runs leave to be
            desired, and the command that trains what is lacking.

    Raises:
        KeyError: a name in `columns` is no column of the table.
    """
    shown = results.table
    chosen = shown.columns if columns is None else map(shown.column, columns)
    names = [column.name for column in chosen]
    return _COMPARED.render(
        table=shown,
        names=names,
        judged=shown.reference is not None,
        rows=[(row.row, _lines(results, row, names)) for row in results.rows],
        see=shown.see and title_of(shown.see),
        notes=_notes(results) if notes else [],
    )


def _lines(results: TableResults, row: RowResults, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row's lines: one a kind of evidence, at least one; the first has the paper's numbers."""
    kinds: list[Evidence | None] = [*row.lines] or [None]
    without = "quoted" if row.row.source == "quoted" else NOT_RUN
    return [
        {
            "cells": [("" if line else _paper(row, name), *_ours(row, evidence, name)) for name in names],
            "seeds": _seeds(evidence) if evidence is not None and evidence.kind in row.runs else "",
            "kind": without if evidence is None else evidence.kind,
            "verdict": _verdict(results, row, evidence),
        }
        for line, evidence in enumerate(kinds)
    ]


def _seeds(evidence: Evidence) -> str:
    """How many, and how many of them learned to read where not all did."""
    hits, number = min((evidence.rate(name) for name in evidence.values), default=(0, 0))
    return str(evidence.n) if hits == number else f"{hits} of {number} learned"


def _paper(row: RowResults, name: str) -> str:
    value, sd = row.row.paper[name], row.row.also.get("sd", {}).get(name)
    text = row.row.text.get(name, "–") if value is None else printed(value)
    return text if sd is None else f"{text} ± {printed(sd)}"


def _ours(row: RowResults, evidence: Evidence | None, name: str) -> tuple[Any, bool]:
    """The summary over seeds, None where there is none, and whether it is counted and not run."""
    holder = next((e for e in (evidence, row.counted) if e is not None and e.values.get(name)), None)
    return (None, False) if holder is None else (holder.summary(name), holder.kind == COUNTED)


def _verdict(results: TableResults, row: RowResults, evidence: Evidence | None) -> str:
    verdict = row.verdicts.get(results.table.primary or "")
    if verdict is None or (evidence is not None and evidence.kind not in row.runs):
        return ""
    text = f"{SIGNS.get(verdict.word, '')} {verdict.word}".strip()
    gap = verdict.difference
    if gap is None:
        return text
    interval = f", 95 % [{gap.low:+.2f}, {gap.high:+.2f}]" if gap.n > 1 else ""
    return f"{text} ({gap.mean:+.2f}{interval})"


def _notes(results: TableResults) -> list[str]:
    lines = list(results.table.notes)
    lines += [f"{row.row.label}: {note}" for row in results.rows for note in row.row.notes]
    lines += _code_versions(results)
    if results.command is not None:
        needs = "" if results.profile == "sim" else ", on a GPU and with the annotations of its data sets,"
        lacking = "; ".join(results.lacking)
        lines.append(f"Not run yet: {lacking}. `{results.command}`{needs} trains what this table lacks.")
    return lines


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
