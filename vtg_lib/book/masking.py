"""The explorer of hidden clips: paint a mask over a video, and see what methods answer.

In the rendered page a grid of masks is computed beforehand; with a kernel any mask can be painted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtg_lib.book import tables
from vtg_lib.book.figures import TRUTH, looks
from vtg_lib.book.widgets import FULL, WIDE, by_sample, selector
from vtg_lib.data import views
from vtg_lib.diagnostics.masked import JUDGED
from vtg_lib.models.inference import predict

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import HTML
    from torch import nn

    from vtg_lib.data.batches import GroundingData

SHARES = (0.0, 0.1, 0.2, 0.4)  # of the video that the masks of the grid hide
PLACES = 11  # of such a mask
TOP = 3  # answers shown, the first full
Answers = Mapping[str, Sequence[Mapping[str, Any]]]  # method -> an answer a mask, as `predict` gives it

STYLE = """<style>
.vtg-m { font: 13px/1.5 system-ui, sans-serif; color: inherit; max-width: 100%;
min-width: min(34rem, 80vw); box-sizing: border-box; padding: 4px 0; }
.vtg-m p { margin: 0 0 4px; } .vtg-m .l { position: relative; height: 14px; border-left: 1px solid #8888;
border-right: 1px solid #8888; margin: 2px 0; }
.vtg-m .l > * { position: absolute; top: 2px; height: 10px; min-width: 2px; }
.vtg-m .hid { background: repeating-linear-gradient(45deg, #8889 0 3px, transparent 3px 7px);
outline: 1px solid #888; }
.vtg-m .a { display: flex; justify-content: space-between; }
.vtg-m svg { display: block; width: 100%; height: 34px; border-bottom: 1px solid #8888; }
</style>"""
_PANEL = tables.template("""<div class="vtg-m" role="group" aria-label="{{ told }}">
<p>“{{ query }}”</p>
<p>truth (solid) and hidden (hatched)</p>
<div class="l">{% for at, wide in truth %}
<b style="left:{{ at|number(1) }}%; width:{{ wide|number(1) }}%; background:{{ green }}"></b>{% endfor %}
{% if hidden %}
<b class="hid" style="left:{{ hidden[0]|number(1) }}%; width:{{ hidden[1]|number(1) }}%"></b>{% endif %}</div>
{% for one in methods %}<p>{{ one.name }}: {{ one.told }}</p>
{% for at, wide, score in one.spans %}<div class="l"><b style="left:{{ at|number(1) }}%;
width:{{ wide|number(1) }}%; background:{{ one.colour }}; opacity:{{ score|number(2) }}"></b></div>
{% endfor %}
<svg viewBox="0 0 100 34" preserveAspectRatio="none" aria-hidden="true"><polyline fill="none"
stroke="{{ one.colour }}" vector-effect="non-scaling-stroke" points="{{ one.line }}"/></svg>
{% endfor %}
<div class="a"><span>0 s</span><span>curves: saliency</span><span>{{ seconds|number(0) }} s</span></div>
</div>""")


def grid(duration: float) -> list[list[tuple[float, float]]]:
    """(start, end) in seconds of the masks computed beforehand, by share and by place."""
    found = []
    for share in SHARES:
        starts = [duration * (1 - share) * n / (PLACES - 1) for n in range(PLACES if share else 1)]
        found.append([(start, start + share * duration) for start in starts])
    return found


def answers(
    models: Mapping[str, nn.Module], data: GroundingData, row: int, masks: Sequence[tuple[float, float]]
) -> Answers:
    """What every method answers to a row of the split under every mask."""
    view = views.painted(data, row, masks, JUDGED)
    return {name: predict(model, view) for name, model in models.items()}


def panel(
    annotation: Mapping[str, Any], mask: tuple[float, float], found: Mapping[str, Mapping[str, Any]]
) -> str:
    """One mask as HTML: truth, mask, and of every method its best answers and its saliency."""
    seconds = float(annotation["duration"])

    def placed(start: float, end: float) -> tuple[float, float]:
        return 100 * start / seconds, 100 * (min(end, seconds) - start) / seconds

    methods = []
    for (name, answer), look in zip(found.items(), looks(list(found)), strict=True):
        best = answer["pred_relevant_windows"][:TOP]
        start, end, score = best[0]
        methods.append(
            {
                "name": name,
                "colour": look["color"],
                "told": f"{start:.0f} to {end:.0f} s, score {score:.2f}",
                "spans": [(*placed(s, e), max(min(value, 1.0), 0.05)) for s, e, value in best],
                "line": polyline(answer["pred_saliency_scores"]),
            }
        )
    start, end = mask
    hidden = placed(start, end) if end > start else None
    told = f"hidden {start:.0f} to {end:.0f} s" if hidden else "nothing hidden"
    return _PANEL.render(
        query=annotation["query"],
        truth=[placed(*window) for window in annotation["relevant_windows"]],
        hidden=hidden,
        methods=methods,
        seconds=seconds,
        green=TRUTH,
        told="; ".join([told, *(f"{one['name']}: {one['told']}" for one in methods)]),
    )


def polyline(values: Sequence[float]) -> str:
    """Points of a polyline in a box of 100 by 34, from the least to the greatest value."""
    low, high = min(values), max(values)
    reach = (high - low) or 1.0
    return " ".join(
        f"{100 * (place + 0.5) / len(values):.1f},{32 - 30 * (value - low) / reach:.1f}"
        for place, value in enumerate(values)
    )


def before_and_after(models: Mapping[str, nn.Module], data: GroundingData, row: int) -> HTML:
    """A row of the split as it is, and with all from its first to its last moment hidden."""
    from IPython.display import HTML

    annotation = data.annotations[row]
    windows = annotation["relevant_windows"]
    masks = [(0.0, 0.0), (min(start for start, _ in windows), max(end for _, end in windows))]
    found = answers(models, data, row, masks)
    pages = [
        panel(annotation, mask, {name: one[n] for name, one in found.items()}) for n, mask in enumerate(masks)
    ]
    return HTML(STYLE + "".join(pages))


def mask_explorer(
    models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int]
) -> ipywidgets.VBox:
    """Choose a sample, how much of it is hidden and where; see answers, confidence and saliency follow.

    Raises:
        ValueError: no rows, or no models.
    """
    import ipywidgets

    if not rows or not models:
        raise ValueError("mask explorer: expected rows and models, got none of one of them")
    samples = []
    for row in rows:
        annotation = data.annotations[row]
        sizes = []
        for masks in grid(float(annotation["duration"])):
            found = answers(models, data, row, masks)
            pages = [
                ipywidgets.HTML(
                    panel(annotation, mask, {name: one[n] for name, one in found.items()}), layout=FULL
                )
                for n, mask in enumerate(masks)
            ]
            stack = ipywidgets.Stack(pages)
            stack.selected_index = 0
            place = ipywidgets.IntSlider(
                min=0,
                max=max(len(masks) - 1, 1),
                description="place",
                readout=False,
                disabled=len(masks) == 1,
                layout={"width": WIDE},
                style={"description_width": "6.5rem"},
            )
            ipywidgets.jslink((place, "value"), (stack, "selected_index"))
            sizes.append(ipywidgets.VBox([place, stack]))
        shares = ipywidgets.Stack(sizes)
        labels = [f"{share:.0%} of the video" if share else "nothing" for share in SHARES]
        samples.append(ipywidgets.VBox([selector(labels, shares, "hidden"), shares]))
    choices = by_sample([data.annotations[row] for row in rows], samples)
    return ipywidgets.VBox([ipywidgets.HTML(STYLE), *choices, _live(models, data, rows)])


def _live(models: Mapping[str, nn.Module], data: GroundingData, rows: Sequence[int]) -> ipywidgets.VBox:
    """Any mask, with a kernel; the style sheet of the rendered book hides it."""
    import ipywidgets

    seconds = max(float(data.annotations[row]["duration"]) for row in rows)
    sample = ipywidgets.Dropdown(options=[(data.annotations[row]["query"][:50], row) for row in rows])
    mask = ipywidgets.FloatRangeSlider(value=(0, 0), min=0, max=seconds, step=data.clip_length)
    shown = ipywidgets.HTML()

    def paint(_: object = None) -> None:
        found = answers(models, data, sample.value, [mask.value])
        firsts = {name: one[0] for name, one in found.items()}
        shown.value = panel(data.annotations[sample.value], mask.value, firsts)

    for widget in (sample, mask):
        widget.observe(paint, "value")
    paint()
    box = ipywidgets.VBox([ipywidgets.HTML("With a kernel, any mask:"), sample, mask, shown])
    box.add_class("vtg-live")
    return box
