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
from vtg_lib.papers.columns import axis_label

if TYPE_CHECKING:
    import ipywidgets

    from vtg_lib.diagnostics.decoder import Decoded

# A widget has 2 px of margin on either side: without room for them every box around it gets a scroll bar.
WIDE = "min(100% - 4px, 34rem)"
FULL = {"width": "calc(100% - 4px)", "min_width": "0"}
_SAMPLE = (
    "Green: the query's moments. Orange: the best {} predictions of each method, the first full. One run a "
    "method. Saliency: annotators' mean (area) and the methods' scores, each from its least to its greatest."
)
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
.vtg-x td.b { width: 45%; min-width: 12rem; white-space: normal; padding-right: 5em; }
.vtg-x :is(th, td:first-child) { white-space: normal; }
.vtg-x label { display: flex; gap: .4em; align-items: baseline; }
.vtg-x .t { position: relative; height: 1.5em; border-left: 1px solid #8888; border-right: 1px solid #8888; }
.vtg-x .t > * { position: absolute; top: 50%; }
.vtg-x .k { display: inline-block; width: 9px; height: 9px; }
.vtg-x .k.p { transform: rotate(45deg) scale(.9); }
.vtg-x .t i { height: 2px; transform: translateY(-50%); min-width: 2px; }
.vtg-x .t b { width: 9px; height: 9px; transform: translate(-50%, -50%); }
.vtg-x .t small { left: calc(100% + 6px); transform: translateY(-50%); white-space: nowrap; }
.vtg-x .p { background: {{ colours.p }}; } .vtg-x .o { background: {{ colours.o }}; }
.vtg-x .t b.p { transform: translate(-50%, -50%) rotate(45deg) scale(.9); } .vtg-x b.o { border-radius: 50%; }
.vtg-x tfoot td { border-top: 1px solid #999; vertical-align: top; white-space: normal; }
.vtg-x tfoot .a { display: flex; justify-content: space-between; gap: 1em; }
.vtg-x tr:has(input:not(:checked)) td { color: #8a8a8a; }
.vtg-x tr:has(input:not(:checked)) :is(td.b *, td.n *) { visibility: hidden; }
.vtg-x label { cursor: pointer; } .vtg-x p { margin: 0 0 6px; }
:is([data-theme="dark"], [data-jp-theme-light="false"]) .vtg-x .p { background: {{ colours.dark_p }}; }
:is([data-theme="dark"], [data-jp-theme-light="false"]) .vtg-x .o { background: {{ colours.dark_o }}; }
@media (max-width: 700px) {
.vtg-x table { min-width: 0; }
.vtg-x tr { display: grid; grid-template-columns: 1fr auto auto; }
.vtg-x th { border: 0; } .vtg-x thead { border-bottom: 1px solid #999; }
.vtg-x td.n { white-space: normal; min-width: 3.5em; }
.vtg-x :is(td.b, th:last-child, tfoot td) { grid-column: 1 / -1; width: auto; padding: 0 5em 4px 1.6em; }
}
</style>
<div class="vtg-x" role="group" aria-label="{{ column }}"><p>{{ caption }}</p>
<p><b class="k p"></b> paper &nbsp; <b class="k o"></b> ours, the line its 95 % interval over seeds;&#32;
each kind of evidence on a scale of its own, whose ends stand below.</p>
<table><thead><tr>
<th scope="col">row</th><th scope="col">paper</th><th scope="col">ours, mean over seeds</th>
<th scope="col">{{ axis }}</th>
</tr></thead><tbody>
{% for row in rows %}<tr>
  <td><label><input type="checkbox" checked> {{ row.label }}</label></td>
  <td class="n"><span>{{ row.paper|printed }}</span></td>
  <td class="n"><span>
    {% for text in row.texts %}{% if not loop.first %}<br>{% endif %}{{ text }}{% endfor %}
  </span></td>
  <td class="b">{% for kind, mark, at, low, high in row.marks %}
    <div class="t">
    {% if low is not none %}
    <i class="{{ mark }}" style="left:{{ low|number(1) }}%; width:{{ (high - low)|number(1) }}%"></i>
    {% endif %}
    <b class="{{ mark }}" style="left:{{ at|number(1) }}%"></b><small>{{ kind }}</small></div>
  {% endfor %}</td>
</tr>{% endfor %}
</tbody><tfoot><tr><td colspan="3">scales, {{ axis }}</td><td class="b">
{% for kind, (low, high) in scales.items() %}
  <div class="a"><span>{{ low|number }}</span><span>{{ kind }}</span><span>{{ high|number }}</span></div>
{% endfor %}
</td></tr></tfoot></table></div>""")


def selector(options: Sequence[str], stack: ipywidgets.Stack, description: str) -> ipywidgets.Dropdown:
    """A drop-down that shows one child of `stack`, by a link that needs no kernel."""
    import ipywidgets

    chosen = ipywidgets.Dropdown(
        options=list(options),
        description=description,
        layout={"width": WIDE},
        style={"description_width": "6.5rem"},
    )
    stack.selected_index = 0
    ipywidgets.jslink((chosen, "index"), (stack, "selected_index"))
    return chosen


def chosen(options: Mapping[str, str], description: str) -> ipywidgets.VBox:
    """A drop-down over pages of HTML, by what they are called."""
    import ipywidgets

    stack = ipywidgets.Stack([ipywidgets.HTML(page, layout=FULL) for page in options.values()])
    return ipywidgets.VBox([selector(list(options), stack, description), stack])


def by_sample(
    annotations: Sequence[Mapping[str, Any]], pages: Sequence[ipywidgets.Widget]
) -> list[ipywidgets.Widget]:
    """A drop-down over queries, and the page of the one that is chosen."""
    import ipywidgets

    stack = ipywidgets.Stack(list(pages))
    names = [f"{row['qid']}: {row['query'][:50]}" for row in annotations]
    return [selector(names, stack, "sample"), stack]


def metric_panel(rows: Sequence[Mapping[str, Any]], column: str, *, caption: str = "") -> str:
    """One metric of one table as HTML: per row a checkbox, the paper's number, ours, and a mark on an axis
    for each, with the interval over seeds.

    The paper's marks and those of each kind of our evidence have axes of their own, because evidence other
    than `official` and `released` is no absolute number; their ends stand below. Every number and mark of
    ours names its kind.

    Args:
        rows: {label, paper: {column: number}, source, ours: {column: [{mean, interval, n, evidence}, ...]}}
            each, a cell a kind; interval is (low, high) or None; n is None where there are no seeds.
        column: the metric.
        caption: the table's caption, shown above.
    """
    paper = [row.get("paper", {}).get(column) for row in rows]
    cells = [row.get("ours", {}).get(column, []) for row in rows]
    reach: dict[str, list[float]] = {}
    if known := [value for value in paper if value is not None]:
        reach["paper"] = known
    for cell in itertools.chain.from_iterable(cells):
        reach.setdefault(cell["evidence"], []).extend([cell["mean"], *(cell["interval"] or ())])
    scales = {kind: _scale(values) for kind, values in reach.items()}
    shown = []
    for row, value, found in zip(rows, paper, cells, strict=True):
        marks: list[tuple[str, str, float, float | None, float | None]] = []
        if value is not None:
            marks.append(("paper", "p", _place(value, scales["paper"]), None, None))
        for cell in found:
            scale = scales[cell["evidence"]]
            low, high = (
                (_place(bound, scale) for bound in cell["interval"]) if cell["interval"] else [None] * 2
            )
            marks.append((cell["evidence"], "o", _place(cell["mean"], scale), low, high))
        missing = "quoted" if row.get("source") == "quoted" else "not run"
        texts = [_told(cell) for cell in found] or [missing]
        shown.append({"label": row["label"], "paper": value, "texts": texts, "marks": marks})
    return _PANEL.render(
        column=column,
        caption=caption,
        axis=axis_label(column),
        rows=shown,
        scales=scales,
        colours={"p": plots.PAPER, "o": plots.OURS, "dark_p": "#b5b5b5", "dark_o": "#56b4e9"},
    )


def _told(cell: Mapping[str, Any]) -> str:
    text = f"{cell['evidence']} {tables.number(cell['mean'])}"
    if cell["n"] is None:
        return text  # a count or a score, not a mean
    if cell["interval"] is None:
        return f"{text} (one seed)" if cell["n"] == 1 else f"{text} (n = {cell['n']})"
    low, high = map(tables.number, cell["interval"])
    return f"{text} ({low} to {high}, n = {cell['n']})"


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: the least and the greatest of `values` and a little room."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _place(value: float, scale: tuple[float, float]) -> float:
    """Where a value stands between the ends of its axis, percent."""
    low, high = scale
    return 100 * (value - low) / (high - low)


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
        panels.append(ipywidgets.VBox([selector(columns, stack, "metric"), stack]))
    if not names:
        raise ValueError("no table to explore: expected at least one table with a number in it")
    outer = ipywidgets.Stack(panels)
    return ipywidgets.VBox([selector(names, outer, "table"), outer])


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
    chosen = selector(list(pictures), stack, description)
    slider = ipywidgets.IntSlider(
        min=0,
        max=max(len(pictures) - 1, 1),
        description="step",
        readout=False,
        layout={"width": WIDE},
        style={"description_width": "6.5rem"},
        disabled=len(pictures) == 1,
    )
    ipywidgets.jslink((slider, "value"), (chosen, "index"))
    return ipywidgets.VBox([chosen, slider, stack])


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
            plots.timeline(sample, top=top, width=width), plots.timeline_alt(sample), _SAMPLE.format(top)
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
                    decoder_layer(decoded, row, layer), alt, f"“{annotation['query']}”. {alt} One run."
                )
                pictures[f"{row + 1}. {annotation['query'][:34]} | {name} | layer {layer + 1}"] = element
    return picture_explorer(pictures, description="step")
