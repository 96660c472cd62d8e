"""The explorer of pseudo-labels: a caption, its video's scores, a threshold, and the moments that come of it.

In the rendered page some thresholds are computed beforehand, those of the readings of Eq. 17 among them; with
a kernel any threshold can be set. The truth, and how right the labels are, is shown on demand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from vtg_lib.book import tables
from vtg_lib.book.figures import TRUTH, looks
from vtg_lib.book.masking import STYLE
from vtg_lib.book.widgets import FULL, WIDE, by_sample, selector
from vtg_lib.data.pseudo.labels import GRADES, PseudoLabels, Threshold, captioned_clips, threshold_of
from vtg_lib.data.pseudo.quality import INTERVAL, example
from vtg_lib.data.pseudo.world import Interval, interval_labels, intervals, quality, scores_of
from vtg_lib.diagnostics.timelines import choose_rows

if TYPE_CHECKING:
    import ipywidgets

    from vtg_lib.data.batches import GroundingData

STEPS = 17  # thresholds made beforehand, besides those of the readings
RULES: tuple[Threshold, ...] = get_args(Threshold)
NAMES = {"mean_minus_sd": "mean − sd", "mean": "mean", "min": "minimum", INTERVAL: "the interval alone"}
SHOWN, HIDDEN = "shown", "hidden"
_BROAD = {"width": "100%"}  # inside each other they would shrink to what they show
_SLIDER = {"readout": False, "layout": {"width": WIDE}, "style": {"description_width": "6.5rem"}}

_CLIPS = """<style>
.vtg-m .c { height: 72px; } .vtg-m .g { height: 40px; }
.vtg-m .k { display: inline-block; width: 1.4em; height: 9px; margin-right: .3em; }
</style>"""
_PANEL = tables.template("""<div class="vtg-m" role="group" aria-label="{{ told }}">
<p>“{{ query }}”</p>
<p>the captioned interval (hatched)</p>
<div class="l">
<b class="hid" style="left:{{ named[0]|number(1) }}%; width:{{ named[1]|number(1) }}%"></b></div>
<p>score of each clip, {{ low|number }} to {{ high|number }}; {% if line is not none %}
dashed: the threshold, <b>{{ threshold|number }}</b>{% else %}no threshold{% endif %}</p>
<svg class="c" viewBox="0 0 {{ bars|length }} 1" preserveAspectRatio="none" aria-hidden="true">
{% for high, grade in bars %}<rect x="{{ (loop.index0 + 0.06)|number(2) }}" width="0.88"
y="{{ (1 - high)|number(3) }}" height="{{ high|number(3) }}"
{% if grade %} fill="{{ blue }}"{% else %} fill="currentColor" fill-opacity="0.35"{% endif %}/>{% endfor %}
{% if line is not none %}<line x1="0" x2="{{ bars|length }}" y1="{{ (1 - line)|number(3) }}"
y2="{{ (1 - line)|number(3) }}" stroke="currentColor" stroke-dasharray="4 3"
vector-effect="non-scaling-stroke"/>{% endif %}</svg>
<p>Eq. 17 here: {% for name, value, now in readings %}{% if now %}<b>{{ name }} {{ value|number }}</b>
{% else %}{{ name }} {{ value|number }}{% endif %}{% if not loop.last %}, {% endif %}{% endfor %}</p>
<p>{{ counted }}, and the grades of their clips, 1 to {{ most }} (height)</p>
<div class="l">{% for at, wide in moments %}
<b style="left:{{ at|number(1) }}%; width:{{ wide|number(1) }}%; background:{{ blue }}"></b>{% endfor %}</div>
<svg class="g" viewBox="0 0 {{ bars|length }} {{ most }}" preserveAspectRatio="none" aria-hidden="true">
{% for _, grade in bars %}{% if grade %}<rect x="{{ loop.index0 }}" width="1.02" y="{{ most - grade }}"
height="{{ grade }}" fill="{{ blue }}"/>{% endif %}{% endfor %}</svg>
<div class="a"><span>0 s</span><span>{{ seconds|number(0) }} s</span></div>
</div>""")
_TRUTH = tables.template("""<div class="vtg-m" role="group" aria-label="truth: {{ told }}">
<p>truth: every moment that shows what the caption says</p>
<div class="l">{% for at, wide in truth %}
<b style="left:{{ at|number(1) }}%; width:{{ wide|number(1) }}%; background:{{ green }}"></b>
{% endfor %}</div>
<p>{{ told }}</p>
</div>""")


@dataclasses.dataclass(frozen=True)
class Caption:
    """One caption of a split whose truth is known.

    Attributes:
        data: the split; row: of it; interval: that the caption names, seconds; settings: all but Eq. 17.
    """

    data: GroundingData
    row: int
    interval: Interval
    settings: PseudoLabels = PseudoLabels()

    def readings(self) -> dict[Threshold, float]:
        """The threshold of every reading of Eq. 17."""
        scores = scores_of(self.data, self.row)
        captioned = captioned_clips(self.interval, len(scores))
        return {rule: threshold_of(scores, captioned, rule) for rule in RULES}

    def grid(self) -> list[float]:
        """Thresholds from the lowest score to the highest, in order, the readings' among them."""
        scores = scores_of(self.data, self.row)
        steps = np.linspace(scores.min(), scores.max(), STEPS)
        return sorted({*steps.tolist(), *self.readings().values()})

    def made(self, threshold: float | None) -> dict[str, Any]:
        """What `example` gives at a threshold; None is the interval alone, whatever the scores."""
        found = example(self.data, self.row, self.interval, self.settings, threshold)
        if threshold is not None:
            return found
        one = self.data.rows([self.row])
        alone = interval_labels(one, self.settings, [self.interval])
        return {
            **found,
            "threshold": None,
            "grades": alone[0].grades.tolist(),
            **alone[0].fields(one.annotations[0]["duration"]),
            **quality(one, alone, [self.interval]),
        }


def panel(caption: Caption, made: Mapping[str, Any]) -> str:
    """One caption at one threshold as HTML: its interval, scores, moments and grades."""
    seconds, scores, threshold = _seconds(caption), np.array(made["scores"]), made["threshold"]
    low, high = float(scores.min()), float(scores.max())
    reach = (high - low) or 1.0
    heights = 0.06 + 0.94 * (scores - low) / reach  # the lowest has a bar, too
    windows = made["relevant_windows"]
    counted = _number(len(windows), "moment")
    spans = ", ".join(f"{start:g} to {end:g} s" for start, end in windows)
    at = "no threshold" if threshold is None else f"threshold {threshold:.2f}"
    return _PANEL.render(
        query=made["query"],
        named=_placed(caption.interval, seconds),
        low=low,
        high=high,
        threshold=threshold,
        line=None if threshold is None else float(np.clip(0.06 + 0.94 * (threshold - low) / reach, 0, 1)),
        bars=list(zip(heights.tolist(), made["grades"], strict=True)),
        readings=[(NAMES[rule], value, value == threshold) for rule, value in caption.readings().items()],
        moments=[_placed(window, seconds) for window in windows],
        counted=counted,
        most=GRADES[-1],
        seconds=seconds,
        blue=looks(["labels"])[0]["color"],
        told=f"{made['query']}: {at}, {counted}{': ' if spans else ''}{spans}",
    )


def truth(caption: Caption, made: Mapping[str, Any]) -> str:
    """The true moments, and how right what was made is, as HTML."""
    seconds, windows = _seconds(caption), made["truth"]
    told = [
        f"{name}: precision {_percent(made[name]['precision'])}, recall {_percent(made[name]['recall'])}"
        for name in ("clips", "moments")
    ]
    if made["unnamed"] is not None:
        told.append(f"of the moments that the caption does not name {_percent(made['unnamed'])} are found")
    return _TRUTH.render(
        truth=[_placed(window, seconds) for window in windows],
        green=TRUTH,
        told=f"{'; '.join(told)}. A moment is found at IoU 0.5.",
    )


def several(data: GroundingData, number: int) -> list[int]:
    """Rows with several moments, of which a caption names one; of all rows if there are none."""
    rows = [n for n, row in enumerate(data.annotations) if len(row["relevant_windows"]) > 1]
    rows = rows or list(range(len(data)))
    return [rows[n] for n in choose_rows(data.rows(rows), number)]


def caption_explorer(
    data: GroundingData, rows: Sequence[int], *, settings: PseudoLabels | None = None, seed: int = 0
) -> ipywidgets.VBox:
    """Choose a caption and a reading of Eq. 17, move the threshold, and see moments and grades appear.

    Args:
        data: with true labels, in which video and text share a space; rows: of it.
        settings: all but the threshold; seed: draws the moments that captions name.

    Raises:
        ValueError: no rows; rows without moments.
    """
    import ipywidgets

    if not rows:
        raise ValueError("caption explorer: expected rows, got none")
    named = intervals(data, seed)
    captions = [Caption(data, row, named[row], settings or PseudoLabels()) for row in rows]
    shown = ipywidgets.Dropdown(
        options=[HIDDEN, SHOWN],
        description="truth",
        layout={"width": WIDE},
        style={"description_width": "6.5rem"},
    )
    samples = [_sample(caption, shown) for caption in captions]
    choose, stack = by_sample([data.annotations[row] for row in rows], samples)
    return ipywidgets.VBox([ipywidgets.HTML(STYLE + _CLIPS), choose, shown, stack, _live(captions)])


def _sample(caption: Caption, shown: ipywidgets.Dropdown) -> ipywidgets.VBox:
    """A reading of Eq. 17 and a slider that stands at its threshold; readings share their pages."""
    import ipywidgets

    grid, marks = caption.grid(), caption.readings()
    made = [caption.made(threshold) for threshold in grid]
    pages, truths = (
        [ipywidgets.HTML(page(caption, one), layout=FULL) for one in made] for page in (panel, truth)
    )
    nothing = ipywidgets.HTML("")
    choices = []
    for rule in RULES:
        here = grid.index(marks[rule])
        slider = ipywidgets.IntSlider(
            value=here, min=0, max=max(len(grid) - 1, 1), description="threshold", **_SLIDER
        )
        slider.disabled = len(grid) == 1  # all scores are equal
        labels, right = (
            ipywidgets.Stack(each, selected_index=here, layout=_BROAD) for each in (pages, truths)
        )
        for stack in (labels, right):
            ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
        choices.append(ipywidgets.VBox([slider, labels, _on_demand(nothing, right, shown)]))
    alone = caption.made(None)
    page, right = (ipywidgets.HTML(make(caption, alone), layout=FULL) for make in (panel, truth))
    choices.append(ipywidgets.VBox([page, _on_demand(nothing, right, shown)]))
    stack = ipywidgets.Stack(choices)
    return ipywidgets.VBox([selector(list(NAMES.values()), stack, "Eq. 17"), stack])


def _on_demand(
    nothing: ipywidgets.Widget, truth: ipywidgets.Widget, shown: ipywidgets.Dropdown
) -> ipywidgets.Stack:
    import ipywidgets

    stack = ipywidgets.Stack([nothing, truth], selected_index=0, layout=_BROAD)
    ipywidgets.jslink((shown, "index"), (stack, "selected_index"))
    return stack


def _live(captions: Sequence[Caption]) -> ipywidgets.VBox:
    """Any threshold, with a kernel; the style sheet of the rendered book hides it."""
    import ipywidgets

    names = [caption.data.annotations[caption.row]["query"][:50] for caption in captions]
    sample = ipywidgets.Dropdown(options=list(zip(names, captions, strict=True)))
    reading = ipywidgets.Dropdown(options=[(name, rule) for rule, name in NAMES.items()])
    threshold = ipywidgets.FloatSlider(min=-1, max=1, step=0.005, readout_format=".3f")
    known = ipywidgets.Checkbox(value=False, description="truth", indent=False)
    page = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        alone = reading.value == INTERVAL
        made = sample.value.made(None if alone else threshold.value)
        threshold.disabled = alone
        page.value = panel(sample.value, made) + (truth(sample.value, made) if known.value else "")

    def mark(_: object = None) -> None:
        if reading.value != INTERVAL:
            threshold.value = sample.value.readings()[reading.value]
        draw()

    for widget in (sample, reading):
        widget.observe(mark, "value")
    for widget in (threshold, known):
        widget.observe(draw, "value")
    mark()
    told = ipywidgets.HTML("With a kernel, any threshold:")
    box = ipywidgets.VBox([told, sample, reading, threshold, known, page])
    box.add_class("vtg-live")
    return box


def _seconds(caption: Caption) -> float:
    return float(caption.data.annotations[caption.row]["duration"])


def _placed(window: Sequence[float], seconds: float) -> tuple[float, float]:
    """Left end and width of a window, percent of the video."""
    start, end = window
    return 100 * start / seconds, 100 * (min(end, seconds) - start) / seconds


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
