"""The explorer of SG-DETR: what clips read, how salient they are, and what either head and both find.

The guidance of a trained model is exchanged, so that one sees what it does and not what training made of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from vtg_lib.book import tables
from vtg_lib.book.figures import TRUTH, looks
from vtg_lib.book.masking import STYLE, polyline
from vtg_lib.book.widgets import by_sample, chosen
from vtg_lib.layers.saliency_guidance import FACTORS
from vtg_lib.models.inference import evaluation_mode, predict

if TYPE_CHECKING:
    import ipywidgets
    from torch import nn

    from vtg_lib.data.batches import GroundingData

GUIDED = ("saliency", "shuffled", "constant", "none")
NAMES = {"fused": "both, fused", "detr": "DETR", "atss": "ATSS"}
TOP = 3  # answers shown

_WORDS = """<style>
.vtg-m .w { display: grid; grid-template-columns: 6em 1fr; align-items: center; }
.vtg-m .w svg { height: 12px; border: 0; }
</style>"""
_PANEL = tables.template("""<div class="vtg-m" role="group" aria-label="{{ told }}">
<p>“{{ query }}”</p>
<p>truth</p>
<div class="l">{% for at, wide in truth %}
<b style="left:{{ at|number(1) }}%; width:{{ wide|number(1) }}%; background:{{ green }}"></b>
{% endfor %}</div>
<p>what each clip reads of each word</p>
{% for word, cells in words %}<div class="w"><span>{{ word }}</span>
<svg viewBox="0 0 {{ cells|length }} 1" preserveAspectRatio="none" aria-hidden="true">
{% for cell in cells %}<rect x="{{ loop.index0 }}" width="1.02" height="1" fill="currentColor"
fill-opacity="{{ cell|number(2) }}"/>{% endfor %}</svg></div>{% endfor %}
<p>saliency of a clip alone (dashed) and in its video</p>
<svg viewBox="0 0 100 34" preserveAspectRatio="none" aria-hidden="true">
<polyline fill="none" stroke="currentColor" stroke-dasharray="3 3" vector-effect="non-scaling-stroke"
points="{{ local }}"/><polyline fill="none" stroke="{{ blue }}" vector-effect="non-scaling-stroke"
points="{{ whole }}"/></svg>
{% for one in heads %}<p>{{ one.name }}: {{ one.told }}</p>
{% for at, wide, score in one.spans %}<div class="l"><b style="left:{{ at|number(1) }}%;
width:{{ wide|number(1) }}%; background:{{ one.colour }}; opacity:{{ score|number(2) }}"></b></div>
{% endfor %}{% endfor %}
<div class="a"><span>0 s</span><span>{{ seconds|number(0) }} s</span></div>
</div>""")


@contextlib.contextmanager
def guided(model: nn.Module, guidance: str) -> Iterator[None]:
    """Within, the attention of an SG-DETR is scaled by another of `GUIDED` than it was trained with.

    Raises:
        ValueError: another kind of method, or one with dummy tokens or a sigmoid.
    """
    encoder: Any = getattr(model, "cross_encoder", None)
    trained = getattr(getattr(model, "config", None), "guidance", None)
    if trained not in GUIDED:
        raise ValueError(
            f"guidance explorer: expected an SG-DETR trained with one of {', '.join(GUIDED)}; "
            f"got {type(model).__name__} with {trained}"
        )
    kept = encoder.factor
    encoder.factor = FACTORS.get(guidance)
    try:
        yield
    finally:
        encoder.factor = kept


def answers(model: nn.Module, data: GroundingData, row: int, guidance: str) -> dict[str, Any]:
    """What a panel shows of one row: reading -> its answers; and of its clips `words [L][T]`, `local [T]`,
    `whole [T]`.
    """
    one = data.rows([row])
    with guided(model, guidance):
        readings: Mapping[str, nn.Module] = cast(Any, model).readings
        found = {
            name: predict(reading, one)[0]["pred_relevant_windows"] for name, reading in readings.items()
        }
        device = next(model.parameters()).device
        batch = one.batch(torch.tensor([0])).to(device)
        with evaluation_mode(model, device):
            output = model(batch, trace=True)
    clips, words = batch.video_mask[0], batch.text_mask[0]
    return {
        "found": found,
        "words": output.trace["text_attention"][0][clips][:, words].T.float().tolist(),
        "local": output.trace["local_saliency"][0][clips].float().tolist(),
        "whole": output.saliency[0][clips].float().tolist(),
    }


def panel(annotation: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    """One row under one guidance, as HTML."""
    seconds = float(annotation["duration"])
    said = [*annotation["query"].split(), "(end)"]  # a token that stands for the sentence
    rows, most = shown["words"], max(map(max, shown["words"])) or 1.0
    labels = said if len(said) == len(rows) else [f"word {n + 1}" for n in range(len(rows))]
    heads = []
    for (name, windows), look in zip(shown["found"].items(), looks(list(NAMES.values())), strict=False):
        best = [window for window in windows[:TOP] if window[1] > window[0]]
        told = f"{best[0][0]:.0f} to {best[0][1]:.0f} s, score {best[0][2]:.2f}" if best else "nothing"
        spans = [
            (100 * s / seconds, 100 * (e - s) / seconds, max(min(score, 1.0), 0.05)) for s, e, score in best
        ]
        heads.append({"name": NAMES.get(name, name), "told": told, "spans": spans, "colour": look["color"]})
    return _PANEL.render(
        query=annotation["query"],
        truth=[(100 * s / seconds, 100 * (e - s) / seconds) for s, e in annotation["relevant_windows"]],
        words=[(label, [cell / most for cell in row]) for label, row in zip(labels, rows, strict=True)],
        local=polyline(shown["local"]),
        whole=polyline(shown["whole"]),
        heads=heads,
        seconds=seconds,
        green=TRUTH,
        blue=looks(["saliency"])[0]["color"],
        told="; ".join(f"{one['name']}: {one['told']}" for one in heads),
    )


def guidance_explorer(model: nn.Module, data: GroundingData, rows: Sequence[int]) -> ipywidgets.VBox:
    """Choose a sample and what guides the attention to its words.

    Raises:
        ValueError: no rows, or see `guided`.
    """
    import ipywidgets

    if not rows:
        raise ValueError("guidance explorer: expected rows, got none")
    annotations = [data.annotations[row] for row in rows]
    samples = [
        chosen(
            {kind: panel(annotation, answers(model, data, row, kind)) for kind in GUIDED},
            "guided by",
        )
        for row, annotation in zip(rows, annotations, strict=True)
    ]
    return ipywidgets.VBox([ipywidgets.HTML(STYLE + _WORDS), *by_sample(annotations, samples)])
