"""Explorers that work live in JupyterLab and, with no kernel, in the rendered page.

Without a kernel only links between widget properties run, so everything a reader can choose is made
beforehand: a selector's index drives the visible child of a `Stack` (`jslink`). Choosing *rows* needs no
widget at all: each row has a checkbox, and the style sheet hides the bars of unchecked rows.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book.figures.diagnostics import decoder_layer, decoder_layer_alt

if TYPE_CHECKING:
    import ipywidgets

    from vtg_lib.diagnostics.decoder import Decoded

# A widget has 2 px of margin on either side: without room for them every box around it gets a scroll bar.
WIDE = "min(100% - 4px, 34rem)"
FULL = {"width": "calc(100% - 4px)", "min_width": "0"}
_STYLE = f"""<style>
.widget-html-content:has(.vtg-x) {{ min-width: 0; }}
.vtg-x {{ font: 13px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; padding: 10px 12px; border-radius: 4px;
  box-sizing: border-box; max-width: 100%; overflow-x: auto; }}
.vtg-x table {{ display: table; border-collapse: collapse; width: 100%; min-width: 30rem; font-variant-numeric: tabular-nums; }}
.vtg-x th, .vtg-x td {{ padding: 3px 8px; text-align: left; border: 0; background: #fff; color: #1a1a1a; white-space: nowrap; }}
.vtg-x th {{ border-bottom: 1px solid #999; font-weight: 600; }}
.vtg-x td.n {{ text-align: right; }}
.vtg-x td.b {{ width: 55%; white-space: normal; }}
.vtg-x i {{ display: block; height: 8px; margin: 1px 0; border-radius: 1px; }}
.vtg-x td.b div {{ display: flex; align-items: center; gap: 6px; height: 1.5em; }}
.vtg-x td.b small {{ white-space: nowrap; }}
.vtg-x i.p {{ background: {plots.PAPER}; }} .vtg-x i.o {{ background: {plots.OURS}; }}
.vtg-x tr:has(input:not(:checked)) td {{ color: #8a8a8a; }}
.vtg-x tr:has(input:not(:checked)) :is(td.b *, td.n *) {{ visibility: hidden; }}
.vtg-x .k {{ display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 10px; border-radius: 1px; }}
.vtg-x label {{ cursor: pointer; }} .vtg-x p {{ margin: 0 0 6px; }}
</style>"""


def _selector(options: Sequence[str], stack: ipywidgets.Stack, description: str) -> ipywidgets.Dropdown:
    """A drop-down that shows one child of `stack`, by a link that needs no kernel."""
    import ipywidgets

    selector = ipywidgets.Dropdown(
        options=list(options),
        description=description,
        layout={"width": WIDE},
        style={"description_width": "6.5rem"},
    )
    stack.selected_index = 0
    ipywidgets.jslink((selector, "index"), (stack, "selected_index"))
    return selector


def _number(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if sd is None else f"{value:.2f} ± {sd:.2f}"


def _told(cell: Mapping[str, Any]) -> str:
    seeds = "" if cell["n"] is None else f" (n = {cell['n']})"
    return f"{cell['evidence']} {_number(cell['mean'], cell['sd'])}{seeds}"


def _bar(kind: str, value: float | None, values: Sequence[float | None], label: str = "") -> str:
    """A bar of class `kind`, with room for its label; the least of `values` is short, the greatest full."""
    known = [other for other in values if other is not None]
    if value is None:
        return ""
    low, high = min(known), max(known)
    share = 0.04 + 0.96 * (value - low) / (high - low) if high > low else 1.0
    bar = f'<i class="{kind}" style="width:calc((100% - 5em) * {share:.3f})"></i>'
    return f"<div>{bar}<small>{html.escape(label)}</small></div>"


def metric_panel(rows: Sequence[Mapping[str, Any]], column: str, *, caption: str = "") -> str:
    """One metric of one table as HTML: per row a checkbox, the paper's number, ours, and a bar for each.

    The paper's bars and those of each kind of our evidence have scales of their own, because evidence other
    than `official` and `released` is no absolute number; every number and bar of ours names its kind.

    Args:
        rows: {label, paper: {column: number}, source, ours: {column: [{mean, sd, n, evidence}, ...]}} each, a
            cell a kind; n is None where there are no seeds.
        column: the metric.
        caption: the table's caption, shown above.
    """
    paper = [row.get("paper", {}).get(column) for row in rows]
    cells = [row.get("ours", {}).get(column, []) for row in rows]
    scales: dict[str, list[float | None]] = {}
    for cell in (cell for row_cells in cells for cell in row_cells):
        scales.setdefault(cell["evidence"], []).append(cell["mean"])
    body = []
    for row, published, found in zip(rows, paper, cells, strict=True):
        missing = "quoted" if row.get("source") == "quoted" else "not run"
        texts = [_told(cell) for cell in found] or [missing]
        bars = [_bar("o", c["mean"], scales[c["evidence"]], c["evidence"]) for c in found]
        body.append(
            f'<tr><td><label><input type="checkbox" checked> {html.escape(str(row["label"]))}</label></td>'
            f'<td class="n"><span>{_number(published)}</span></td>'
            f'<td class="n"><span>{"<br>".join(map(html.escape, texts))}</span></td>'
            f'<td class="b">{_bar("p", published, paper)}{"".join(bars)}</td></tr>'
        )
    return (
        f'{_STYLE}<div class="vtg-x" role="group" aria-label="{html.escape(column, quote=True)}"><p>{html.escape(caption)}</p>'
        f"<table><thead><tr><th>row</th><th>paper</th><th>ours, by kind of evidence</th>"
        f'<th><span class="k" style="background:{plots.PAPER}"></span>paper'
        f'<span class="k" style="background:{plots.OURS}"></span>ours; each kind on its own scale</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def table_explorer(tables: Sequence[Mapping[str, Any]]) -> ipywidgets.VBox:
    """Choose table, metric and rows; see the paper's numbers and ours.

    Args:
        tables: {table, caption, columns, rows} each, rows as in `metric_panel`. Tables without a numeric
            column are left out.

    Raises:
        ValueError: no table has a number.
    """
    import ipywidgets

    names, panels = [], []
    for table in tables:
        rows = table["rows"]
        columns = [
            c for c in table["columns"] if any(row.get("paper", {}).get(c) is not None for row in rows)
        ]
        if not columns:
            continue
        pages = [
            ipywidgets.HTML(metric_panel(rows, c, caption=table["caption"]), layout=FULL) for c in columns
        ]
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
    stack = ipywidgets.Stack([ipywidgets.HTML(element, layout=FULL) for element in pictures.values()])
    selector = _selector(list(pictures), stack, description)
    slider = ipywidgets.IntSlider(
        min=0,
        max=max(len(pictures) - 1, 1),
        description="step",
        readout=False,
        layout={"width": WIDE},
        style={"description_width": "6.5rem"},
        disabled=len(pictures) == 1,
    )
    ipywidgets.jslink((slider, "value"), (selector, "index"))
    return ipywidgets.VBox([selector, slider, stack])


def timeline_explorer(
    samples: Sequence[plots.Timeline], *, top: int = 3, width: float = 7.2
) -> ipywidgets.VBox:
    """Choose a sample; see ground truth, predictions, saliency, references by level and where attention
    looks.

    Args:
        samples: what to choose from, each drawn by `plots.timeline`.
        top: predictions drawn per method; width: of a picture, inches.

    Raises:
        ValueError: there are no samples.
    """
    pictures = {
        f"{index + 1}. {sample.name}: {sample.query[:60]}": plots.figure_html(
            plots.timeline(sample, top=top, width=width), plots.timeline_alt(sample)
        )
        for index, sample in enumerate(samples)
    }
    return picture_explorer(pictures, description="sample")


def layer_explorer(models: Mapping[str, Decoded | None]) -> ipywidgets.VBox:
    """Step through samples, methods and decoder layers: predictions, matching, ranks, attention, S_attn.

    Args:
        models: per method, what `vtg_lib.diagnostics.decoder.decode` gave for the same rows.

    Raises:
        ValueError: a method has no decoder layers or leaves no attention in its trace, or there are no rows.
    """
    if lacking := [name for name, found in models.items() if found is None or found.attention is None]:
        raise ValueError(
            "layer explorer: expected DETR-style methods with two or more decoder layers and `clip_attention` "
            f"in the trace, got {', '.join(lacking)}"
        )
    known = {name: found for name, found in models.items() if found is not None}
    pictures = {}
    for row, annotation in enumerate(next(iter(known.values())).annotations):
        for name, decoded in known.items():
            for layer in range(len(decoded.spans)):
                alt = f"{name}, {decoder_layer_alt(decoded, row, layer)}"
                element = plots.figure_html(
                    decoder_layer(decoded, row, layer), alt, f"{annotation['query']}. {alt}"
                )
                pictures[f"{row + 1}. {annotation['query'][:34]} | {name} | layer {layer + 1}"] = element
    return picture_explorer(pictures, description="step")
