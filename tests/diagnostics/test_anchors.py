"""Anchors, masks and recovery from noise: on models whose anchors are known, and on every DETR-style
method.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vtg_lib.book.views.diagnostics import _lines
from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS, recovery
from vtg_lib.models import build
from vtg_lib.models.sa_detr import SADETR, Config

SIZES = {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16, "queries": 5}
ANCHORED = ("qd_detr", "tr_detr", "cg_detr", "sim_detr", "sa_detr", "sa_qd_detr", "sa_tr_detr")
TOPICS = ("anchor_quality", "anchor_spread", "mask_mass", "recovery")


@pytest.fixture(scope="module")
def data():
    sim = {"kind": "sim", "semantic_dim": 8, "motion_dim": 4, "train": 8, "val": 70, "clips": 16}
    return load_data({**sim, "moments": [0.4, 0.6]})["val"]


class Known(nn.Module):
    """Two layers with a query a moment, whose anchors are `first`, then the truth; masks are what `mask`
    makes of the clips inside the moment.
    """

    def __init__(self, first, mask=None):
        super().__init__()
        self.first, self.mask = first, mask
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch, trace=False):
        truth = batch.spans[:, :2]
        references = torch.stack((self.first(truth), truth))
        spans = truth.expand(2, -1, -1, -1)
        middle = (torch.arange(batch.video_mask.shape[1]) + 0.5) / batch.video_mask.sum(1, keepdim=True)
        inside = ((middle[:, None] - truth[..., :1]).abs() <= truth[..., 1:] / 2).float()
        traced = {"references": references, "clip_attention": inside.expand(2, -1, -1, -1)}
        if self.mask is not None:
            traced["clip_mask"] = self.mask(inside).expand(2, -1, -1, -1)
        scores = torch.ones(2, len(batch), 2)
        layers = {"spans": spans, "quality": scores}
        return Output(spans[-1], scores[-1], batch.saliency, layers, {}, traced)


def test_quality_of_anchors_by_layer(data):
    half = Known(lambda truth: truth * torch.tensor([1.0, 0.5]))
    found = DIAGNOSTICS["anchor_quality"](half, data)
    assert found["best"] == found["matched"] == pytest.approx([0.5, 1, 1], abs=1e-3)
    assert VIEWS["anchor_quality"].number(found) == pytest.approx(0.5, abs=1e-3)
    swapped = DIAGNOSTICS["anchor_quality"](Known(lambda truth: truth.flip(1)), data)
    assert swapped["matched"][0] < 0.2 and swapped["best"][1] == pytest.approx(1, abs=1e-3)


def test_learned_anchors_do_not_spread(data):
    fixed = Known(lambda truth: torch.tensor([0.3, 0.2]).expand_as(truth))
    found = DIAGNOSTICS["anchor_spread"](fixed, data)
    assert found["center"][0] == found["width"][0] == 0 < found["center"][1]
    one = data.span_count == 1
    assert one.any() and found["truth"]["center"] > 0.1
    assert VIEWS["anchor_spread"].number(found) == 0


def test_mass_inside_the_moment(data):
    model = Known(lambda truth: truth, mask=lambda inside: inside + 0.0)
    found = DIAGNOSTICS["mask_mass"](model, data)
    assert found["mask"] == found["attention"] == pytest.approx([1, 1])
    outside = DIAGNOSTICS["mask_mass"](Known(lambda truth: truth, mask=lambda inside: 1 - inside), data)
    assert outside["mask"] == [0, 0] and VIEWS["mask_mass"].number(outside) == pytest.approx(100)
    without = DIAGNOSTICS["mask_mass"](Known(lambda truth: truth), data)
    assert without["mask"] == [None, None]


@pytest.mark.parametrize("name", ANCHORED)
def test_every_method_with_anchors_can_be_looked_into(name, data):
    torch.manual_seed(0)
    model = build(name, SIZES)
    layers = len(model.decoder.layers)
    for topic in TOPICS:
        record = DIAGNOSTICS[topic](model, data)
        assert record, topic
        if topic == "recovery":
            assert record["before"] == sorted(record["before"], reverse=True)
            assert record["before"][0] == pytest.approx(1, abs=1e-3) and len(record["after"]) == 6
            assert not model._forward_pre_hooks and not model.decoder._forward_pre_hooks
        elif topic != "mask_mass":
            assert all(len(record[key]) == layers + 1 for key in record if key != "truth")
    spread = DIAGNOSTICS["anchor_spread"](model, data)["center"][0]
    assert (spread == 0) == (name in ("qd_detr", "tr_detr", "cg_detr", "sim_detr"))
    assert model.training
    drawn = _lines(VIEWS["recovery"].figure, {name: [DIAGNOSTICS["recovery"](model, data)]}, False)
    assert list(drawn.axes[0].lines[0].get_xdata()) == list(recovery.SCALES)


def test_methods_with_other_decoders(data):
    bam, moment = build("bam_detr", SIZES), build("moment_detr", SIZES)
    assert len(DIAGNOSTICS["anchor_quality"](bam, data)["best"]) == 3
    assert DIAGNOSTICS["anchor_spread"](bam, data)["center"][0] == 0
    assert DIAGNOSTICS["anchor_quality"](moment, data) == DIAGNOSTICS["anchor_spread"](moment, data) == {}
    assert DIAGNOSTICS["recovery"](bam, data) == DIAGNOSTICS["recovery"](moment, data) == {}
    univtg = build("univtg", {k: v for k, v in SIZES.items() if k != "queries"})
    assert all(DIAGNOSTICS[topic](univtg, data) == {} for topic in TOPICS)


def test_recovery_knows_a_decoder_that_changes_nothing(data):
    torch.manual_seed(0)
    model = SADETR(Config(**SIZES))
    with torch.no_grad():
        for parameter in model.decoder.refine.parameters():
            parameter.zero_()
    found = recovery.measure(model, data)
    assert found["after"] == pytest.approx(found["before"], abs=0.01)  # logits of 0 and 1 are cut
