"""Explorers that work live in JupyterLab and, with no kernel, in the rendered page.

Without a kernel only links between widget properties run, so everything a reader can choose is made
beforehand: a selector's index drives the visible child of a `Stack` (`jslink`). Choosing *rows* needs no
widget at all: each row has a checkbox, and the style sheet hides the bars of unchecked rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book import figures as plots
from vtg_lib.book import tables
from vtg_lib.book.figures.diagnostics import decoder_layer, decoder_layer_alt

if TYPE_CHECKING:
    import ipywidgets

    from vtg_lib.diagnostics.decoder import Decoded

# A widget has 2 px of margin on either side: without room for them every box around it gets a scroll bar.
WIDE = "min(100% - 4px, 34rem)"
FULL = {"width": "calc(100% - 4px)", "min_width": "0"}
_PANEL = tables.template("""<style>
.widget-html-content:has(.vtg-x) { min-width: 0; }
.vtg-x { font: 13px/1.5 system-ui, sans-serif; color: inherit; padding: 10px 12px;
border-radius: 4px; box-sizing: border-box; max-width: 100%; overflow-x: auto; }
.vtg-x table { display: table; border-collapse: collapse; width: 100%; min-width: 30rem;
font-variant-numeric: tabular-nums; }
.vtg-x th, .vtg-x td { padding: 3px 8px; text-align: left; border: 0;
white-space: nowrap; }
.vtg-x th { border-bottom: 1px solid #999; font-weight: 600; }
.vtg-x td.n { text-align: right; }
.vtg-x td.b { width: 55%; white-space: normal; }
.vtg-x i { display: block; height: 8px; margin: 1px 0; border-radius: 1px; }
.vtg-x td.b div { display: flex; align-items: center; gap: 6px; height: 1.5em; }
.vtg-x td.b small { white-space: nowrap; }
.vtg-x i.p { background: {{ colours.p }}; } .vtg-x i.o { background: {{ colours.o }}; }
.vtg-x tr:has(input:not(:checked)) td { color: #8a8a8a; }
.vtg-x tr:has(input:not(:checked)) :is(td.b *, td.n *) { visibility: hidden; }
.vtg-x .k { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 10px; border-radius: 1px; }
.vtg-x label { cursor: pointer; } .vtg-x p { margin: 0 0 6px; }
</style>
<div class="vtg-x" role="group" aria-label="{{ column }}"><p>{{ caption }}</p>
<table><thead><tr>
<th scope="col">row</th><th scope="col">paper</th><th scope="col">ours, by kind of evidence</th>
<th scope="col"><span class="k" style="background:{{ colours.p }}"></span>paper
<span class="k" style="background:{{ colours.o }}"></span>ours; each kind on its own scale</th>
</tr></thead><tbody>
{% for row in rows %}<tr>
  <td><label><input type="checkbox" checked> {{ row.label }}</label></td>
  <td class="n"><span>{{ row.paper|printed }}</span></td>
  <td class="n"><span>
    {% for text in row.texts %}{% if not loop.first %}<br>{% endif %}{{ text }}{% endfor %}
  </span></td>
  <td class="b">{% for kind, share, label in row.bars %}
    <div><i class="{{ kind }}" style="width:calc((100% - 5em) * {{ share|number(3) }})"></i>
    <small>{{ label }}</small></div>
  {% endfor %}</td>
</tr>{% endfor %}
</tbody></table></div>""")


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
    scales: dict[str, list[float]] = {}
    for cell in itertools.chain.from_iterable(cells):
        scales.setdefault(cell["evidence"], []).append(cell["mean"])
    scale = [value for value in paper if value is not None]
    shown = []
    for row, value, found in zip(rows, paper, cells, strict=True):
        bars = [] if value is None else [("p", _share(value, scale), "")]
        bars += [("o", _share(cell["mean"], scales[cell["evidence"]]), cell["evidence"]) for cell in found]
        missing = "quoted" if row.get("source") == "quoted" else "not run"
        texts = [_told(cell) for cell in found] or [missing]
        shown.append({"label": row["label"], "paper": value, "texts": texts, "bars": bars})
    return _PANEL.render(
        column=column, caption=caption, rows=shown, colours={"p": plots.PAPER, "o": plots.OURS}
    )


def _told(cell: Mapping[str, Any]) -> str:
    seeds = "" if cell["n"] is None else f" (n = {cell['n']})"
    return f"{cell['evidence']} {tables.with_sd(cell['mean'], cell['sd'])}{seeds}"


def _share(value: float, values: Sequence[float]) -> float:
    """How long a bar is: the least of `values` is short, the greatest full."""
    low, high = min(values), max(values)
    return 0.04 + 0.96 * (value - low) / (high - low) if high > low else 1.0


def table_explorer(compared: Sequence[Mapping[str, Any]]) -> ipywidgets.VBox:
    """Choose table, metric and rows; see the paper's numbers and ours.

    Args:
        compared: {table, caption, columns, rows} each, rows as in `metric_panel`. Tables without a numeric
            column are left out.

    Raises:
        ValueError: no table has a number.
    """
    import ipywidgets

    names, panels = [], []
    for table in compared:
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
            "layer explorer: expected DETR-style methods with two or more decoder layers and"
            f" `clip_attention` in the trace, got {', '.join(lacking)}"
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
