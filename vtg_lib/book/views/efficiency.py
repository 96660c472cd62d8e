"""What a training step costs: the paper's numbers beside those that `vtg bench --record` measured
(`vtg_lib.experiments.bench.memory`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book.tables import folded, template
from vtg_lib.experiments.bench.memory import CUDA_ALLOCATED, RECORD, load

if TYPE_CHECKING:
    from IPython.display import HTML

    from vtg_lib.book.chapter import Chapter
    from vtg_lib.papers.evidence import RowResults, TableResults

PARAMETERS, MEMORY, RATE = "#Params (M)", "Memory (GB)", "Runtime (it/s)"  # columns
SHOWN = {PARAMETERS: PARAMETERS, MEMORY: "GPU memory (GB)", RATE: RATE}
NOTES = (
    "Absolute memory and speed on another device than the paper's cannot be compared with it; within one "
    "device, rows can.",
    "Our GPU memory is the peak that PyTorch allocated; CPU process memory is the peak resident set, "
    "interpreter and libraries included, and is no counterpart of the paper's. Data is resident and "
    "generated: loading costs nothing.",
)
Record = Mapping[str, Any]

_TABLE = template("""
<div class="vtg-scroll" role="region" tabindex="0" aria-label="{{ table.title }}, efficiency"><table>
<caption>{{ table.title }} ({{ table.place }}). {{ table.caption }} Paper | measured here.</caption>
<thead><tr><th rowspan="2" scope="col">row</th>
{% for title in titles %}<th scope="colgroup" colspan="2">{{ title }}</th>{% endfor %}
<th rowspan="2" scope="col">CPU process memory (GB), ours</th>
<th rowspan="2" scope="col">our device</th><th rowspan="2" scope="col">measured</th>
</tr><tr>{% for title in titles %}<th scope="col">paper</th><th scope="col">ours</th>{% endfor %}</tr></thead>
<tbody>
{% for label, lines in rows %}{% for cells in lines %}<tr>
  {% if loop.first %}<th scope="rowgroup" rowspan="{{ lines|length }}">{{ label }}</th>{% endif %}
  {% for cell in cells %}<td>{{ cell|code }}</td>{% endfor %}
</tr>{% endfor %}{% endfor %}
</tbody></table>
<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul></div>""")


def efficiency(chapter: Chapter, table_id: str) -> HTML:
    """Parameters, training memory and speed of a table's rows, from the record beside the chapter's store."""
    from IPython.display import HTML

    results, records = chapter.compared[table_id], load(chapter.store.path.parent / RECORD.name)
    found = sum(bool(_records_of(row, records)) for row in results.rows)
    told = (
        f"{results.table.title}, measured here: {len(results.rows)} rows, {found or 'none'} of them measured"
    )
    return HTML(folded(told, table_html(results, records)))


def table_html(results: TableResults, records: Sequence[Record]) -> str:
    """Parameters, memory and speed of a table's rows, paper | ours, one line per device that we measured on.

    Columns that the table lacks are left out. A row is measured as the published model, so rows with
    overrides are not.
    """
    names = [name for name in SHOWN if name in {column.name for column in results.table.columns}]
    rows = [(row.row.label, _lines(row, names, _records_of(row, records))) for row in results.rows]
    notes = [*NOTES, *_relative(results, records)]
    return _TABLE.render(table=results.table, titles=[SHOWN[name] for name in names], rows=rows, notes=notes)


def _lines(row: RowResults, names: Sequence[str], found: Sequence[Record]) -> list[list[str]]:
    """The cells of a row's lines, one per record; the paper's numbers stand in the first."""
    counted = None if row.counted is None else row.counted.summary(PARAMETERS).mean
    paper = [_number(row.row.paper[name]) for name in names]
    lines = []
    shown: Sequence[Record | None] = found or [None]
    for record in shown:
        cpu, ours, device, note = "", {PARAMETERS: counted}, "", _why_not(row)
        if record is not None:
            memory = record["peak_memory_mb"] * 2**20 / 1e9
            ours = {PARAMETERS: record["parameters"] / 1e6, RATE: record["iterations_per_s"]}
            if record["memory"] == CUDA_ALLOCATED:
                ours[MEMORY] = memory
            else:
                cpu = _number(memory)
            device, note = f"{record['device']}, {record['precision']}", _measured(record, counted)
        mine = [_number(ours[name]) if name in ours else "" for name in names]
        pairs = [cell for pair in zip(paper, mine, strict=True) for cell in pair]
        lines.append([*pairs, cpu, device, note])
        paper = [""] * len(names)
    return lines


def _records_of(row: RowResults, records: Sequence[Record]) -> list[Record]:
    if row.row.model is None or row.row.overrides.config:
        return []
    return [record for record in records if record["model"] == row.row.model]


def _why_not(row: RowResults) -> str:
    from vtg_lib.models import MODELS

    if row.row.model is None:
        return "quoted"
    if row.row.model not in MODELS:
        return "not measured: the method is not in the library"
    if row.row.overrides.config:
        return "not measured: only published models are"
    return f"not measured: `vtg bench --record --model {row.row.model}`"


def _measured(record: Record, counted: float | None) -> str:
    text = f"{record['date'][:10]}, batch of {record['batch']['samples']}, torch {record['torch']}, "
    text += f"code {record['code_version']}"
    if counted is not None and abs(counted * 1e6 - record["parameters"]) >= 1:
        text += f"; out of date: the model now has {counted:.2f} M parameters"
    return text


def _relative(results: TableResults, records: Sequence[Record]) -> list[str]:
    """Speed relative to the first measured row, which can be compared with the paper's: one sentence per
    device.
    """
    rates: dict[tuple[str, str], list[tuple[str, Any, float]]] = {}
    for row in results.rows:
        printed = row.row.paper.get(RATE)
        for record in _records_of(row, records) if printed is not None else ():
            where = record["device"], record["precision"]
            rates.setdefault(where, []).append((row.row.label, printed, record["iterations_per_s"]))
    lines = []
    for (device, precision), ((base, paper, ours), *others) in sorted(rates.items()):
        told = "; ".join(
            f"{label} {p / paper:.2f} in the paper, {o / ours:.2f} in ours" for label, p, o in others
        )
        if told:
            lines.append(f"Iterations per second relative to {base} on {device}, {precision}: {told}.")
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
