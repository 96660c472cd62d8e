"""Saliency, what clips read, calibration and fusion: on models whose answers are known, and on real ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS
from vtg_lib.losses.bridge import clips_inside
from vtg_lib.models import build

SIZES = {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16, "queries": 5}
TOPICS = ("saliency_rank", "irrelevant_attention", "calibration", "head_share")


@pytest.fixture(scope="module")
def data():
    sim = {"kind": "sim", "semantic_dim": 8, "motion_dim": 4, "train": 8, "val": 40, "clips": 16}
    return load_data({**sim, "moments": [0.4, 0.6]})["val"]


class Known(nn.Module):
    """Answers with the first moment, moved, at a score of `score`; saliency is 1 inside the moments."""

    def __init__(self, move=0.0, score=0.95, sign=1.0):
        super().__init__()
        self.move, self.score, self.sign = move, score, sign
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch, trace=False):
        inside = (clips_inside(batch.spans, batch.video_mask) & batch.span_mask[..., None]).any(1).float()
        spans = batch.spans[:, :1].clone()
        spans[..., 0] += self.move * spans[..., 1]
        scores = torch.full(spans.shape[:2], self.score)
        return Output(spans, scores, self.sign * inside, {}, {"local": torch.zeros_like(inside)}, {})


def test_saliency_of_moments_is_above_that_of_the_rest(data):
    assert DIAGNOSTICS["saliency_rank"](Known(), data) == {"local": 0.5, "global": 1.0}
    assert DIAGNOSTICS["saliency_rank"](Known(sign=-1.0), data)["global"] == 0.0


def test_scores_of_right_and_wrong_answers(data):
    right = DIAGNOSTICS["calibration"](Known(), data)
    assert right["0.5"]["ece"] == right["0.7"]["ece"] == pytest.approx(0.05, abs=1e-3)
    assert right["0.7"]["right"][9] == 1.0 and right["0.7"]["right"][0] is None
    half = DIAGNOSTICS["calibration"](Known(move=0.25), data)  # IoU 0.6, or more at the video's end
    assert half["0.5"]["ece"] < 0.2 < half["0.7"]["ece"]
    assert DIAGNOSTICS["calibration"](Known(score=1.5), data) == {}


def test_who_is_nearer_to_the_fused_answer(data):
    class Two(Known):
        readings = {"fused": Known(), "detr": Known(), "atss": Known(move=0.1)}

    found = DIAGNOSTICS["head_share"](Two(), data)
    assert found["detr"]["all"] > 0.9 and found["atss"]["all"] == 0.0
    assert sum(count for name, count in found["count"].items() if name != "all") == found["count"]["all"]
    Two.readings = {"fused": Known(), "detr": Known(), "atss": Known()}
    assert DIAGNOSTICS["head_share"](Two(), data)["both"]["all"] == 1.0
    assert DIAGNOSTICS["head_share"](Known(), data) == {}


def test_what_clips_read(data):
    model = build("sg_detr", {**SIZES, "guidance": "none"}).eval()
    encoder = model.cross_encoder

    def blind(_, inputs, result):  # nothing is added to the second half of the video
        changed = result.clone()
        changed[:, result.shape[1] // 2 :] = 0
        return changed

    plain = DIAGNOSTICS["irrelevant_attention"](model, data)
    assert plain["ratio"] == pytest.approx(plain["irrelevant"] / plain["relevant"], abs=1e-3)
    hooks = [layer.out.register_forward_hook(blind) for layer in encoder.layers]
    cut = DIAGNOSTICS["irrelevant_attention"](model, data)
    assert cut["irrelevant"] < 0.7 * plain["irrelevant"]
    for hook in hooks:
        hook.remove()
    assert (
        DIAGNOSTICS["irrelevant_attention"](model, data) == plain and not encoder.layers[0].out._forward_hooks
    )


@pytest.mark.parametrize("name", ["sg_detr", "qd_detr", "tr_detr", "cg_detr", "moment_detr", "univtg"])
def test_every_method_has_what_it_can(data, name):
    sizes = {key: value for key, value in SIZES.items() if key != "queries" or name != "univtg"}
    model = build(name, sizes).eval()
    for topic in TOPICS:
        record = DIAGNOSTICS[topic](model, data)
        has = {"irrelevant_attention": name not in ("moment_detr", "univtg"), "head_share": name == "sg_detr"}
        assert bool(record) == has.get(topic, True), topic
        if record:
            assert VIEWS[topic].number(record) is not None and VIEWS[topic].table.rows(record)
