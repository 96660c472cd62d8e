"""A paper's table beside ours, as HTML: the metric that verdicts are about in view, all others on demand.

The same values give the same string, with no script and no outside file. On a narrow screen every row is a
block of its own, with the column's name before each cell.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from typing import Any

from vtg_lib.book.tables import folded, number, printed, tally, template
from vtg_lib.papers.evidence import COUNTED, Evidence, RowResults, TableResults
from vtg_lib.papers.schema import title_of
from vtg_lib.papers.verdict import JUDGED, NOT_RUN, Verdict

SIGNS = {"supports": "✓", "contradicts": "✗", "smaller than printed": "<", "cannot tell": "≈"}

# Styles are those of `.vtg-table` in the book's style sheet.
_COMPARED = template("""
<div class="vtg-table" role="region" tabindex="0" aria-label="{{ table.title }}"><table>
<caption>{{ table.title }} ({{ table.place }}). {{ table.caption }}</caption>
{% if names %}
  <thead><tr>{% for name in heads %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row, lines in rows %}{% for line in lines %}
    <tr{% if row.label == table.reference %} class="reference"{% endif %}>
    {% if loop.first %}<th class="label" scope="rowgroup" rowspan="{{ lines|length }}">
      {{ row.label|linked }}{% if row.added %} (added){% endif %}</th>{% endif %}
    {% for paper, ours, counted in line.cells %}
      <td data-label="{{ heads[2 * loop.index0 + 1] }}" class="paper">{{ paper }}</td>
      <td data-label="{{ heads[2 * loop.index0 + 2] }}" class="ours"
        {%- if counted %} title="counted at the published size"{% endif %}>
        {% if ours is not none %}
          {{ ours.mean|number }}
          {%- if ours.n > 1 %} <span class="sd">± {{ ours.sd|number }}</span>{% endif %}
        {% endif %}
      </td>
    {% endfor %}
    {% if judged %}
      <td data-label="difference" class="gap">{{ line.gap }}</td>
      <td data-label="verdict" class="word">{{ line.verdict }}</td>
    {% endif %}
    <td data-label="seeds">{{ line.seeds }}</td>
    <td data-label="evidence" class="word"><span class="kind">{{ line.kind }}</span></td>
    </tr>
  {% endfor %}{% endfor %}
  </tbody>
{% endif %}
</table>
{% if not names %}
  <p>No printed numbers.{% if see %} The numbers are in {{ see }}.{% endif %}</p>
{% endif %}
</div>
{% if further %}
  <details class="vtg-more"><summary>All {{ every|length }} columns</summary>
  <div class="vtg-table wide" role="region" tabindex="0" aria-label="{{ table.title }}, all columns"><table>
  <thead><tr><th rowspan="2" scope="col">row</th>
  {% for name in every %}<th scope="colgroup" colspan="2">{{ name }}</th>{% endfor %}
  </tr><tr>
  {% for name in every %}<th scope="col">paper</th><th scope="col">ours</th>{% endfor %}
  </tr></thead><tbody>
  {% for row, lines in further %}{% for cells in lines %}
    <tr>{% if loop.first %}<th class="label" scope="rowgroup" rowspan="{{ lines|length }}">{{ row.label|linked
    }}</th>{% endif %} {% for paper, ours, counted in cells %}
      <td class="paper">{{ paper }}</td><td class="ours">{% if ours is not none %}{{ ours.mean|number }}
      {%- if ours.n > 1 %} <span class="sd">± {{ ours.sd|number }}</span>{% endif %}{% endif %}</td>
    {% endfor %}</tr>
  {% endfor %}{% endfor %}
  </tbody></table></div></details>
{% endif %}
{% if runs %}
  <details class="vtg-more"><summary>Repeat a row</summary>
  <p>Each answers from the run store unless it is told to <code>--rerun</code>; the hash is that of seed
  0.</p> <ul>{% for label, hash, command in runs %}<li>{{ label }} (<code>{{ hash }}</code>): <code>{{
  command }}</code></li> {% endfor %}</ul></details>
{% endif %}
{% if names %}
  <p class="vtg-csv"><a download="{{ file }}.csv" href="data:text/csv;base64,{{ csv }}">
  {{ table.title ~ " as CSV" }}</a></p>
{% endif %}
{% if notes %}
  <details class="vtg-more"><summary>Notes ({{ notes|length }})</summary>
  <ul class="vtg-notes">{% for note in notes %}<li>{{ note|code }}</li>{% endfor %}</ul></details>
{% endif %}
""")


def render(results: TableResults, *, columns: Sequence[str] | None = None, notes: bool = True) -> str:
    """A paper's table: a line per row and kind of evidence, paper | ours ± sd, difference, verdict, n.

    In view are the primary column and numbers of parameters; the others open on demand, as do the commands
    that repeat a row and the notes, and all of a secondary table. Every cell that needs colour also has a
    word or sign.

    Args:
        columns: names of the columns in view.
        notes: list below it the table's and rows' notes (reconstructions, doubts), what our runs leave to be
            desired, and the command that trains what is lacking.

    Raises:
        KeyError: a name in `columns` is no column of the table.
    """
    table, judged = results.table, results.table.reference is not None
    every = [column.name for column in table.columns]
    if columns is None:
        counts = [column.name for column in table.columns if column.metric == "parameters"]
        names = list(dict.fromkeys([*([table.primary] if table.primary else every[:1]), *counts]))
    else:
        names = [table.column(name).name for name in columns]
    heads = ["row", *(f"{name}, {side}" for name in names for side in ("paper", "ours"))]
    heads += ["difference from " + (table.reference or ""), "verdict"] if judged else []
    all_lines = [(row.row, _lines(results, row, every)) for row in results.rows]
    further = [(row, [line["cells"] for line in lines]) for row, lines in all_lines]
    shown = _COMPARED.render(
        table=table,
        names=names,
        heads=[*heads, "seeds", "evidence"],
        judged=judged,
        rows=[(row.row, _lines(results, row, names)) for row in results.rows],
        every=every,
        further=further if len(every) > len(names) and columns is None else [],
        runs=_commands(results) if notes else [],
        file=f"{results.paper}_{table.id}",
        csv=_csv(every, all_lines),
        see=table.see and title_of(table.see),
        notes=_notes(results) if notes else [],
    )
    return folded(_heading(results), shown) if table.secondary else shown


def _heading(results: TableResults) -> str:
    """What a folded table holds: rows, how many of them have runs of ours, and their verdicts."""
    table, ran = results.table, sum(bool(row.runs) for row in results.rows)
    verdicts = [row.verdicts.get(table.primary or "") for row in results.rows if row.runs]
    words = [verdict.word for verdict in verdicts if verdict is not None]
    told = f"{table.title}: {len(results.rows)} rows, {ran or 'none'} with runs of ours"
    counts = tally(word for word in words if word in JUDGED)
    return f"{told}; {counts}" if counts else told


def _lines(results: TableResults, row: RowResults, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row's lines: one a kind of evidence, at least one; the first has the paper's numbers."""
    kinds: list[Evidence | None] = [*row.lines] or [None]
    without = "quoted" if row.row.source == "quoted" else NOT_RUN
    lines = []
    for number_of_line, evidence in enumerate(kinds):
        verdict = row.verdicts.get(results.table.primary or "")
        if evidence is not None and evidence.kind not in row.runs:
            verdict = None
        cells = [("" if number_of_line else _paper(row, name), *_ours(row, evidence, name)) for name in names]
        lines.append(
            {
                "cells": cells,
                "seeds": _seeds(evidence) if evidence is not None and evidence.kind in row.runs else "",
                "kind": without if evidence is None else evidence.kind,
                "gap": _gap(verdict),
                "verdict": _word(verdict),
            }
        )
    return lines


def _seeds(evidence: Evidence) -> str:
    """How many, and how many of them learned to read where not all did."""
    hits, count = min((evidence.rate(name) for name in evidence.values), default=(0, 0))
    return str(evidence.n) if hits == count else f"{hits} of {count} learned"


def _paper(row: RowResults, name: str) -> str:
    value, sd = row.row.paper[name], row.row.also.get("sd", {}).get(name)
    text = row.row.text.get(name, "–") if value is None else printed(value)
    return text if sd is None else f"{text} ± {printed(sd)}"


def _ours(row: RowResults, evidence: Evidence | None, name: str) -> tuple[Any, bool]:
    """The summary over seeds, None where there is none, and whether it is counted and not run."""
    holder = next((e for e in (evidence, row.counted) if e is not None and e.values.get(name)), None)
    return (None, False) if holder is None else (holder.summary(name), holder.kind == COUNTED)


def _gap(verdict: Verdict | None) -> str:
    """The paper's difference and ours."""
    if verdict is None or verdict.paper_difference is None:
        return ""
    found = verdict.difference
    if found is None:
        return f"{verdict.paper_difference:+.2f}"
    interval = "" if found.low != found.low else f" ({found.low:+.2f} to {found.high:+.2f})"
    return f"{verdict.paper_difference:+.2f} | {found.mean:+.2f}{interval}"


def _word(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    needed = "" if verdict.needed is None else f" ({verdict.needed} seeds would)"
    return f"{SIGNS.get(verdict.word, '')} {verdict.word}{needed}".strip()


def _commands(results: TableResults) -> list[tuple[str, str, str]]:
    """Row, hash and command of every row that has runs."""
    from vtg_lib.papers import load_paper
    from vtg_lib.papers.plan import row_datasets, row_spec

    paper, found = load_paper(results.paper), []
    for row in results.rows:
        evidence = row.best_run
        if evidence is None or evidence.profile not in paper.profiles:
            continue
        profile = paper.profile(evidence.profile or "")
        for dataset in row_datasets(results.table, profile):
            spec = row_spec(row.row, profile, dataset, 0)
            command = f"vtg run --paper {paper.key} --profile {profile.name} --table {results.table.id}"
            command += f' --row "{row.row.label}"'
            command += "" if dataset == "qvhighlights" else f" --dataset {dataset}"
            found.append((row.row.label, spec.hash, f"{command} --seed 0"))
    return found


def _csv(names: Sequence[str], rows: Sequence[tuple[Any, Sequence[dict[str, Any]]]]) -> str:
    """All columns as a file, in base64."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "row",
            "evidence",
            "seeds",
            *(f"{name} {side}" for name in names for side in ("paper", "ours", "sd")),
        ]
    )
    for row, lines in rows:
        for line in lines:
            cells: list[str] = []
            for paper, ours, _ in line["cells"]:
                cells += [paper, *(("", "") if ours is None else (number(ours.mean, 4), number(ours.sd, 4)))]
            writer.writerow([row.label, line["kind"], line["seeds"], *cells])
    return base64.b64encode(out.getvalue().encode()).decode()


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
