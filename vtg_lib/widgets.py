"""Explorers that work live in JupyterLab and, with no kernel, in the rendered page.

Without a kernel only links between widget properties run, so everything a reader can choose is made beforehand: a
selector's index drives the visible child of a `Stack` (`jslink`). Choosing *rows* needs no widget at all: each row has a
checkbox, and the style sheet hides the bars of unchecked rows.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib import plots

if TYPE_CHECKING:
    import ipywidgets

_STYLE = f"""<style>
.vtg-x {{ font: 13px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; padding: 10px 12px; border-radius: 4px;
  box-sizing: border-box; max-width: 100%; overflow-x: auto; }}
.vtg-x table {{ display: table; border-collapse: collapse; width: 100%; min-width: 30rem; font-variant-numeric: tabular-nums; }}
.vtg-x th, .vtg-x td {{ padding: 3px 8px; text-align: left; border: 0; background: #fff; color: #1a1a1a; white-space: nowrap; }}
.vtg-x th {{ border-bottom: 1px solid #999; font-weight: 600; }}
.vtg-x td.n {{ text-align: right; }}
.vtg-x td.b {{ width: 55%; white-space: normal; }}
.vtg-x i {{ display: block; height: 8px; margin: 1px 0; border-radius: 1px; position: relative; }}
.vtg-x i.p {{ background: {plots.PAPER}; }} .vtg-x i.o {{ background: {plots.OURS}; }}
.vtg-x tr:has(input:not(:checked)) td {{ color: #8a8a8a; }}
.vtg-x tr:has(input:not(:checked)) i, .vtg-x tr:has(input:not(:checked)) td.n span {{ visibility: hidden; }}
.vtg-x .k {{ display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 10px; border-radius: 1px; }}
.vtg-x label {{ cursor: pointer; }} .vtg-x p {{ margin: 0 0 6px; }}
</style>"""


def _selector(options: Sequence[str], stack: ipywidgets.Stack, description: str) -> ipywidgets.Dropdown:
    """A drop-down that shows one child of `stack`, by a link that needs no kernel."""
    import ipywidgets

    selector = ipywidgets.Dropdown(
        options=list(options),
        description=description,
        layout={"width": "min(100%, 34rem)"},
        style={"description_width": "6.5rem"},
    )
    stack.selected_index = 0
    ipywidgets.jslink((selector, "index"), (stack, "selected_index"))
    return selector


def _number(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if sd is None else f"{value:.2f} ± {sd:.2f}"


def _width(value: float | None, low: float, high: float) -> float:
    return 0.0 if value is None else 4 + 96 * (value - low) / (high - low) if high > low else 100.0


def metric_panel(rows: Sequence[Mapping[str, Any]], column: str, *, caption: str = "") -> str:
    """One metric of one table as HTML: per row a checkbox, the paper's number, ours, and a bar for each.

    The paper's bars and ours have scales of their own (least value of the side short, greatest full), because evidence
    other than `official` and `released` is no absolute number.

    Args:
        rows: {label, paper: {column: number}, source, ours: {column: {mean, sd, n, evidence}}} each.
        column: the metric.
        caption: the table's caption, shown above.
    """
    paper = [row.get("paper", {}).get(column) for row in rows]
    cells = [row.get("ours", {}).get(column) or {} for row in rows]
    ours = [cell.get("mean") for cell in cells]
    scales = []
    for side in (paper, ours):
        known = [value for value in side if value is not None]
        scales.append((min(known, default=0.0), max(known, default=0.0)))
    kinds = sorted({cell["evidence"] for cell in cells if cell.get("evidence")})
    body = []
    for row, published, cell in zip(rows, paper, cells, strict=True):
        mean = cell.get("mean")
        label = html.escape(str(row["label"]))
        missing = "quoted" if row.get("source") == "quoted" else "not run"
        text = f"{_number(mean, cell.get('sd'))} (n = {cell.get('n', 1)})" if mean is not None else missing
        body.append(
            f'<tr><td><label><input type="checkbox" checked> {label}</label></td>'
            f'<td class="n"><span>{_number(published)}</span></td><td class="n"><span>{text}</span></td><td class="b">'
            f'<i class="p" style="width:{_width(published, *scales[0]):.1f}%"></i>'
            f'<i class="o" style="width:{_width(mean, *scales[1]):.1f}%"></i></td></tr>'
        )
    evidence = f" ({html.escape(', '.join(kinds))})" if kinds else ""
    return (
        f'{_STYLE}<div class="vtg-x" role="group" aria-label="{html.escape(column, quote=True)}"><p>{html.escape(caption)}</p>'
        f"<table><thead><tr><th>row</th><th>paper</th><th>ours{evidence}</th>"
        f'<th><span class="k" style="background:{plots.PAPER}"></span>paper'
        f'<span class="k" style="background:{plots.OURS}"></span>ours; each on its own scale</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def table_explorer(tables: Sequence[Mapping[str, Any]]) -> ipywidgets.VBox:
    """Choose table, metric and rows; see the paper's numbers and ours.

    Args:
        tables: {table, caption, columns, rows} each, rows as in `metric_panel`. Tables without a numeric column are left out.

    Raises:
        ValueError: no table has a number.
    """
    import ipywidgets

    names, panels = [], []
    for table in tables:
        rows = table["rows"]
        columns = [c for c in table["columns"] if any(row.get("paper", {}).get(c) is not None for row in rows)]
        if not columns:
            continue
        pages = [ipywidgets.HTML(metric_panel(rows, c, caption=table["caption"]), layout={"width": "auto"}) for c in columns]
        stack = ipywidgets.Stack(pages)
        names.append(str(table["table"]))
        panels.append(ipywidgets.VBox([_selector(columns, stack, "metric"), stack]))
    if not names:
        raise ValueError("no table to explore: expected at least one table with a number in it")
    outer = ipywidgets.Stack(panels)
    return ipywidgets.VBox([_selector(names, outer, "table"), outer])


def picture_explorer(pictures: Mapping[str, str], *, description: str) -> ipywidgets.VBox:
    """Choose one of several ready-made HTML pictures by name; arrow keys and the slider step through them.

    Args:
        pictures: per name, an HTML element, such as `plots.figure_html` gives.

    Raises:
        ValueError: there are no pictures.
    """
    import ipywidgets

    if not pictures:
        raise ValueError("no pictures to explore: expected at least one")
    stack = ipywidgets.Stack([ipywidgets.HTML(element, layout={"width": "auto"}) for element in pictures.values()])
    selector = _selector(list(pictures), stack, description)
    slider = ipywidgets.IntSlider(
        min=0,
        max=max(len(pictures) - 1, 1),
        description="step",
        readout=False,
        layout={"width": "min(100%, 34rem)"},
        style={"description_width": "6.5rem"},
        disabled=len(pictures) == 1,
    )
    ipywidgets.jslink((slider, "value"), (selector, "index"))
    return ipywidgets.VBox([selector, slider, stack])


def timeline_explorer(samples: Sequence[plots.Timeline], *, top: int = 3) -> ipywidgets.VBox:
    """Choose a sample; see ground truth, predictions, saliency, references by level and where attention looks.

    Args:
        samples: what to choose from, each drawn by `plots.timeline`.
        top: predictions drawn per method.

    Raises:
        ValueError: there are no samples.
    """
    pictures = {
        f"{index + 1}. {sample.name}: {sample.query[:60]}": plots.figure_html(
            plots.timeline(sample, top=top), plots.timeline_alt(sample)
        )
        for index, sample in enumerate(samples)
    }
    return picture_explorer(pictures, description="sample")
