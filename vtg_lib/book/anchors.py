"""The explorer of anchors: one query from layer to layer, from its own anchor or from a noisy moment.

In the rendered page some scales of noise are computed beforehand; with a kernel any scale can be chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book import tables
from vtg_lib.book.figures import TRUTH, looks
from vtg_lib.book.masking import STYLE, polyline
from vtg_lib.book.widgets import by_sample, chosen
from vtg_lib.diagnostics.decoder import Decoded, decode
from vtg_lib.diagnostics.recovery import noisy_anchors
from vtg_lib.spans import cw_to_se

if TYPE_CHECKING:
    import ipywidgets
    from torch import Tensor, nn

    from vtg_lib.data.batches import GroundingData

SCALES = (None, 0.0, 0.2, 0.6, 1.0)  # of the noise, in widths of the moment; None: the method's own anchors

_PANEL = tables.template("""<div class="vtg-m" role="group" aria-label="{{ told }}">
<p>“{{ query }}”</p>
<p>truth</p>
<div class="l">{% for at, wide in truth %}
<b style="left:{{ at|number(1) }}%; width:{{ wide|number(1) }}%; background:{{ green }}"></b>
{% endfor %}</div>
{% for one in methods %}<p>{{ one.name }}: {{ one.told }}</p>
{% for layer in one.layers %}<div class="l" title="{{ layer.name }}"><b style="left:{{ layer.at|number(1) }}%;
width:{{ layer.wide|number(1) }}%; background:{{ one.colour }}"></b></div>
{% if layer.attention %}<svg viewBox="0 0 100 34" preserveAspectRatio="none" aria-hidden="true">
{% if layer.mask %}<polyline fill="none" stroke="currentColor" stroke-dasharray="3 3"
vector-effect="non-scaling-stroke" points="{{ layer.mask }}"/>{% endif %}
<polyline fill="none" stroke="{{ one.colour }}" vector-effect="non-scaling-stroke"
points="{{ layer.attention }}"/></svg>{% endif %}
{% endfor %}{% endfor %}
<div class="a"><span>0 s</span><span>{{ seconds|number(0) }} s</span></div>
<p>Bars: where the query starts, then where it stands after each layer. Curves: its attention; its mask,
dashed.</p>
</div>""")


def decoded(model: nn.Module, data: GroundingData, rows: Sequence[int], scale: float | None) -> Decoded:
    """What the decoder makes of rows of a split, from its own anchors or from noisy moments.

    Raises:
        ValueError: a method without anchors or without attention in its trace.
    """
    with contextlib.nullcontext() if scale is None else noisy_anchors(model, scale):
        found = decode(model, data, rows)
    if found is None or found.anchors is None or found.attention is None:
        raise ValueError(
            "anchor explorer: expected methods with two or more decoder layers that start from anchors, "
            f"got {type(model).__name__}"
        )
    return found


def panel(found: Mapping[str, Decoded], row: int) -> str:
    """One row as HTML: the truth, and by layer every method's best query: its anchor, mask and attention."""
    first = next(iter(found.values()))
    annotation = first.annotations[row]
    seconds = float(annotation["duration"])
    methods = []
    for (name, one), look in zip(found.items(), looks(list(found)), strict=True):
        query = int(one.rank[-1, row].argmax())
        reached = [float(iou) for iou in one.overlap_of(_anchors(one))[:, row, :, query].amax(1)]
        methods.append(
            {
                "name": name,
                "colour": look["color"],
                "told": "IoU " + " → ".join(f"{value:.2f}" for value in reached),
                "layers": [_layer(one, row, query, layer) for layer in range(len(reached))],
            }
        )
    return _PANEL.render(
        query=annotation["query"],
        truth=[_percent(s / seconds, e / seconds) for s, e in annotation["relevant_windows"]],
        methods=methods,
        seconds=seconds,
        green=TRUTH,
        told="; ".join(f"{one['name']}: {one['told']}" for one in methods),
    )


def _anchors(one: Decoded) -> Tensor:
    assert one.anchors is not None
    return one.anchors


def _layer(one: Decoded, row: int, query: int, layer: int) -> dict[str, Any]:
    """Where a query stands before any layer (0) or after one, and what it reads next."""
    start, end = cw_to_se(_anchors(one)[layer, row, query]).clamp(0, 1).tolist()
    at, wide = _percent(start, end)
    lines = {}
    if layer < len(one.spans):
        real = one.clips[row]
        for kind, values in (("attention", one.attention), ("mask", one.clip_mask)):
            if values is not None:
                lines[kind] = polyline(values[layer, row, query][real].tolist())
    return {"name": f"after layer {layer}" if layer else "start", "at": at, "wide": wide, **lines}


def _percent(start: float, end: float) -> tuple[float, float]:
    return 100 * start, 100 * (min(end, 1.0) - start)


def anchor_explorer(
    models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int]
) -> ipywidgets.VBox:
    """Choose a sample and what the decoder starts from; see the best query of every method go through the
    layers.

    Raises:
        ValueError: no rows or no models, or see `decoded`.
    """
    import ipywidgets

    if not rows or not models:
        raise ValueError("anchor explorer: expected rows and models, got none of one of them")
    by_scale = [
        {name: decoded(model, data, rows, scale) for name, model in models.items()} for scale in SCALES
    ]
    labels = ["own anchors" if s is None else f"moments, noise {s:g} of their width" for s in SCALES]
    samples = [
        chosen({label: panel(found, n) for label, found in zip(labels, by_scale, strict=True)}, "starts from")
        for n in range(len(rows))
    ]
    choices = by_sample([data.annotations[row] for row in rows], samples)
    return ipywidgets.VBox([ipywidgets.HTML(STYLE), *choices, _live(models, data, rows)])


def _live(models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int]) -> ipywidgets.VBox:
    """Any scale of noise, with a kernel; the style sheet of the rendered book hides it."""
    import ipywidgets

    sample = ipywidgets.Dropdown(options=[(data.annotations[row]["query"][:50], row) for row in rows])
    scale = ipywidgets.FloatSlider(value=0.0, min=0.0, max=1.0, step=0.05)
    shown = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        found = {name: decoded(model, data, [sample.value], scale.value) for name, model in models.items()}
        shown.value = panel(found, 0)

    for widget in (sample, scale):
        widget.observe(draw, "value")
    draw()
    box = ipywidgets.VBox([ipywidgets.HTML("With a kernel, any scale of noise:"), sample, scale, shown])
    box.add_class("vtg-live")
    return box
