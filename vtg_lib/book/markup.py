"""Rows of numbers and words as an HTML table of the pages."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import HTML

# Headers and words wrap, numbers do not; on a narrow page the table scrolls in its own box and the first
# column stays in sight.
_STYLE = """<style>
.vtg-page-table { overflow-x: auto; max-width: 100%; margin: .4em 0 .6em; }
.vtg-page-table table { border-collapse: collapse; font-size: .82rem; line-height: 1.35; margin: 0;
  font-variant-numeric: tabular-nums; }
.vtg-page-table :is(th, td) { padding: .2em .5em; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
.vtg-page-table thead th { white-space: normal; vertical-align: bottom; font-weight: 600; min-width: 3.6em; }
.vtg-page-table th:first-child { text-align: left; position: sticky; left: 0; background: var(--pst-color-background, #fff);
  white-space: normal; min-width: min(8.5em, 30vw); max-width: min(20em, 40vw); font-weight: 500; }
.vtg-page-table th.group { font-weight: 700; padding-top: .6em; max-width: none; white-space: nowrap; }
.vtg-page-table .text { text-align: left; white-space: normal; min-width: 6.5em; }
</style>"""
GROUP = ""  # the one key of a row that is a heading within a table


def table(
    rows: Sequence[Mapping[str, Any]], *, digits: int = 2, across: bool = False, text: Collection[str] = ()
) -> HTML:
    """Rows as a table; the first column names them.

    Args:
        rows: {column: number, text or None} each; {GROUP: text} is a heading over the rows that follow.
        digits: decimals of numbers that are not whole; across: turn the table, so that each of `rows` is a
            column.
        text: columns of words, set flush left.
    """
    from IPython.display import HTML

    names = list(dict.fromkeys(name for row in rows for name in row if name != GROUP))
    if across:
        first = names[0]
        rows = [{first: name} | {str(row[first]): row.get(name) for row in rows} for name in names[1:]]
        names = list(dict.fromkeys(name for row in rows for name in row))
    marked = {name: ' class="text"' if name in text else "" for name in names}
    head = "".join(f'<th scope="col"{marked[name]}>{html.escape(name)}</th>' for name in names)
    body = []
    for row in rows:
        if GROUP in row:
            body.append(
                f'<tr><th scope="rowgroup" class="group" colspan="{len(names)}">{html.escape(row[GROUP])}</th></tr>'
            )
            continue
        cells = [f"<td{marked[name]}>{html.escape(_cell(row.get(name), digits))}</td>" for name in names[1:]]
        body.append(
            f'<tr><th scope="row">{html.escape(_cell(row[names[0]], digits))}</th>{"".join(cells)}</tr>'
        )
    box = '<div class="vtg-page-table" role="region" tabindex="0" aria-label="table">'
    return HTML(
        f"{_STYLE}{box}<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
