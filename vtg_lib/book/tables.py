"""Tables of the pages as HTML: rows, data frames, names with values.

The same values give the same string, with no script and no outside file; what a template is given is escaped.
A label that names a method links to its paper (`vtg_lib.book.references`).
A wide table scrolls sideways in its own box, and its first column stays in sight.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, Template
from markupsafe import Markup, escape

from vtg_lib.book.references import linked

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

GROUP = ""  # the one key of a row that is a heading within a table
SENTENCE = 18  # characters from which on a cell of a data frame wraps


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


def with_sd(mean: float, sd: float | None, digits: int = 2) -> str:
    """Our number: mean ± standard deviation over seeds, where there is one."""
    alone = sd is None or math.isnan(sd)
    return number(mean, digits) if alone else f"{number(mean, digits)} ± {number(sd, digits)}"


_ENVIRONMENT = Environment(autoescape=True)
_ENVIRONMENT.filters |= {"code": code, "linked": linked, "number": number, "printed": printed}


def template(source: str) -> Template:
    """A template that escapes what it is given; its line breaks and indents are not part of the page."""
    return _ENVIRONMENT.from_string("".join(line.strip() for line in source.splitlines()))


def folded(heading: str, inside: str) -> str:
    """HTML that opens on demand, under a line that says what is in it."""
    return f'<details class="vtg-more"><summary>{code(heading)}</summary>{inside}</details>'


def tally(words: Iterable[str]) -> str:
    """How often each word comes, in the order of their first: "2 supports, 1 cannot tell"."""
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


# --- rows

# Headers and words wrap, numbers do not.
_ROWS = template("""
<div class="vtg-page-table" role="region" tabindex="0" aria-label="table"><table>
<thead><tr>
{% for name in names %}
  <th scope="col"{% if name in text %} class="text"{% endif %}>{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}<tr>
  {% if group in row %}
    <th scope="rowgroup" class="group" colspan="{{ names|length }}">{{ row[group]|linked }}</th>
  {% else %}
    <th scope="row">{{ row[names[0]]|number(digits)|linked }}</th>
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


def frame_html(frame: pd.DataFrame, *, digits: int = 2, fold: str = "") -> HTML:
    """A data frame as a `table`; columns with sentences flush left.

    Args:
        fold: what it holds; given, the table opens on demand below that line.
    """
    from IPython.display import HTML

    words = [
        name for name in frame if any(isinstance(cell, str) and len(cell) > SENTENCE for cell in frame[name])
    ]
    shown = table(frame.to_dict("records"), digits=digits, text=words)
    if not fold:
        return shown
    rows = "1 row" if len(frame) == 1 else f"{len(frame)} rows"
    return HTML(folded(f"{fold}: {rows}", shown.data))


def record_html(items: Mapping[str, str]) -> HTML:
    """Names and values as a two-column table; what stands in backticks is set as code."""
    from IPython.display import HTML

    return HTML(_RECORD.render(items=items))
