"""Diagnostics of decoder queries: on decoders that are made to behave in a known way, and on every DETR-style
method.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vtg_lib.data import load_data
from vtg_lib.data.batches import Output
from vtg_lib.diagnostics import DIAGNOSTICS
from vtg_lib.diagnostics.decoder import decode
from vtg_lib.models import build

DATA = {
    "kind": "sim",
    "semantic_dim": 8,
    "motion_dim": 4,
    "train": 8,
    "val": 70,
    "clips": 16,
    "moments": [0.4, 0.6],
}
QUERIES, LAYERS, WIDTH = 4, 3, 8
AWAY = torch.tensor([0.5, 1e-3])  # a moment that is nowhere


class Scripted(nn.Module):
    """A decoder whose layer l lets query `order[l][m]` predict moment m exactly, and all others nothing."""

    def __init__(self, data, order, scores=None, quality=None, states=None, attention=None):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        spans = AWAY.repeat(LAYERS, len(data), QUERIES, 1)
        for layer in range(LAYERS):
            for moment in range(2):
                real = torch.arange(len(data))[data.span_count > moment]
                spans[layer, real, order[layer][moment]] = data.spans[real, moment]
        best = torch.full((LAYERS, len(data), QUERIES), 0.5) if scores is None else scores
        self.whole = {
            "spans": spans,
            "logits": torch.stack((best.logit(), torch.zeros_like(best)), -1),
            "iou": quality,
        }
        self.states, self.attention = states, attention

    def forward(self, batch, trace=False):
        layers = {name: value[:, batch.index] for name, value in self.whole.items() if value is not None}
        extras = {} if self.states is None else {"states": self.states[:, batch.index]}
        traced = {} if self.attention is None else {"clip_attention": self.attention(batch)}
        return Output(
            layers["spans"][-1], layers["logits"][-1, ..., 0], batch.saliency, layers, extras, traced
        )


@pytest.fixture(scope="module")
def data():
    return load_data(DATA)["val"]


def test_queries_that_stay_swap_and_move(data):
    one, two = int((data.span_count == 1).sum()), int((data.span_count == 2).sum())
    assert one and two
    stays = DIAGNOSTICS["matching"](Scripted(data, [(0, 1)] * 3), data)
    assert stays["moments"] == {"all": one + 2 * two, "1": one, "2": 2 * two, "3+": 0}
    assert stays["kept"] == {"all": [1, 1], "1": [1, 1], "2": [1, 1], "3+": [None, None]}
    changes = DIAGNOSTICS["matching"](Scripted(data, [(0, 1), (1, 0), (2, 3)]), data)
    assert (
        changes["kept"]["2"] == [0, 0]
        and changes["swapped"]["2"] == [1, 0]
        and changes["moved"]["2"] == [0, 1]
    )
    assert changes["kept"]["1"] == [0, 0] and changes["swapped"]["1"] == [0, 0]  # nobody to swap with


def test_similarity_of_queries(data):
    torch.manual_seed(0)
    order = [(0, 1)] * LAYERS
    model = Scripted(data, order)
    model.whole["spans"][:, :, 2] = model.whole["spans"][:, :, 0]  # two queries on the first moment
    first, second = torch.eye(WIDTH)[:2]
    states = torch.zeros(LAYERS, len(data), QUERIES, WIDTH)
    states[:, :, [0, 2]], states[:, :, 1] = first, second
    model.states = states
    found = DIAGNOSTICS["similarity"](model, data)
    assert (
        found["auc"] == [1, 1, 1] and found["same_mean"] == [1, 1, 1] and found["different_mean"] == [0, 0, 0]
    )
    two = int((data.span_count == 2).sum())
    assert sum(found["same"][0]) == len(data) and sum(found["different"][0]) == 2 * two
    model.states = torch.ones_like(states)
    assert DIAGNOSTICS["similarity"](model, data)["auc"] == [0.5] * 3
    model.states = None
    assert DIAGNOSTICS["similarity"](model, data) == {}


def test_scores_that_know_the_best_moment_and_scores_that_do_not(data):
    order = [(0, 1)] * LAYERS
    good = torch.tensor([0.9, 0.8, 0.1, 0.1]).repeat(LAYERS, len(data), 1)
    found = DIAGNOSTICS["global_local"](Scripted(data, order, scores=good), data)
    assert (
        found["best_misses"] == 0
        and found["class"]["top_misses"] == 0
        and found["class"]["rank_correlation"] > 0.7
    )
    assert set(found) == {"best_misses", "class"}
    bad = torch.tensor([0.1, 0.1, 0.8, 0.9]).repeat(LAYERS, len(data), 1)
    found = DIAGNOSTICS["global_local"](Scripted(data, order, scores=bad, quality=good), data)
    assert found["class"]["top_misses"] == 1 and found["class"]["rank_correlation"] < -0.5
    assert found["iou"]["top_misses"] == 0
    even = torch.full_like(good, 0.5)
    assert (
        DIAGNOSTICS["global_local"](Scripted(data, order, scores=even), data)["class"]["rank_correlation"]
        is None
    )


def test_attention_on_the_own_moment(data):
    order = [(0, 1)] * LAYERS

    def focused(batch):  # query m looks at moment m only
        middle = (torch.arange(batch.video_mask.shape[1]) + 0.5) / batch.video_mask.sum(1, keepdim=True)
        inside = (middle[:, None] - batch.spans[:, :2, :1]).abs() <= batch.spans[:, :2, 1:] / 2
        looked = inside.float().repeat(1, QUERIES // 2, 1)
        return (looked / looked.sum(-1, keepdim=True).clamp(min=1)).expand(LAYERS, -1, -1, -1)

    found = DIAGNOSTICS["attention"](Scripted(data, order, attention=focused), data)
    assert found["own"] == pytest.approx([1, 1, 1]) and found["others"] == pytest.approx([0, 0, 0], abs=1e-6)
    even = DIAGNOSTICS["attention"](
        Scripted(
            data, order, attention=lambda b: torch.ones(LAYERS, len(b), QUERIES, b.video_mask.shape[1]) * 0.01
        ),
        data,
    )
    assert even["own"] == pytest.approx([even["length"]] * 3, abs=1e-3) and 0 < even["length"] < 1
    assert DIAGNOSTICS["attention"](Scripted(data, order), data) == {}


@pytest.mark.parametrize("name", ["moment_detr", "qd_detr", "tr_detr", "cg_detr", "bam_detr", "sim_detr"])
def test_every_detr_style_method_can_be_looked_into(name, data):
    torch.manual_seed(0)
    model = build(
        name,
        {
            "video_dim": 12,
            "text_dim": 8,
            "width": 16,
            "heads": 2,
            "hidden": 16,
            "queries": 5,
            "decoder_layers": 3,
        },
    )
    for diagnostic in ("matching", "similarity", "global_local", "attention"):
        assert DIAGNOSTICS[diagnostic](model, data), diagnostic
    assert len(DIAGNOSTICS["matching"](model, data)["kept"]["all"]) == 2
    assert model.training


def test_methods_without_decoder_layers_have_nothing_to_show(data):
    model = build("univtg", {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16})
    assert all(
        DIAGNOSTICS[name](model, data) == {}
        for name in ("matching", "similarity", "global_local", "attention")
    )


def test_one_logit_a_query_is_a_foreground_logit(data):
    model = Scripted(data, [(0, 1)] * LAYERS)
    expected = DIAGNOSTICS["global_local"](model, data)
    two = model.whole["logits"]
    model.whole["logits"] = two[..., 0] - two[..., 1]
    assert DIAGNOSTICS["global_local"](model, data) == expected


def test_the_layers_of_a_sample(data):
    torch.manual_seed(0)
    sizes = {"video_dim": 12, "text_dim": 8, "width": 16, "heads": 2, "hidden": 16}
    model = build("sim_detr", {**sizes, "queries": 5, "decoder_layers": 3})
    rows = torch.nonzero(data.span_count == 2)[:2, 0].tolist()
    decoded = decode(model, data, rows)
    assert decoded.annotations == [data.annotations[row] for row in rows]
    assert decoded.spans.shape == (3, 2, 5, 2) and decoded.factor.shape == (2, 2, 5, 5)
    for layer in decoded.served:
        assert [sorted(served[served >= 0].tolist()) for served in layer] == [[0, 1]] * 2  # a query for each
    torch.testing.assert_close(decoded.attention.sum(-1), torch.ones(3, 2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(decoded.rank, decoded.scores * decoded.quality)
    assert decoded.seconds.tolist() == (data.video_length[data.video_index[rows]] * data.clip_length).tolist()
