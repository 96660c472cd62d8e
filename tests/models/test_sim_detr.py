"""Sim-DETR: relation and bridging against slow versions, every part on every DETR-style method, padding,
learning.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from ragged import (
    TEXT_DIM,
    VIDEO_DIM,
    alone,
    losses_of,
    moved,
    ragged_batch,
    with_noise_in_padding,
    without_moments,
)

from vtg_lib.layers.query_relation import GROUPINGS, WHOSE, QueryRelation, class_score
from vtg_lib.losses.bridge import bridging_loss, clip_overlap, clip_similarity, clips_inside
from vtg_lib.losses.matching import MatchCost, Matches, match
from vtg_lib.models import bam_detr, cg_detr, count_parameters, moment_detr, qd_detr, tr_detr
from vtg_lib.models.sim_detr import Config, PartsConfig, SimDETR, SimParts

SMALL = {
    "video_dim": VIDEO_DIM,
    "text_dim": TEXT_DIM,
    "width": 16,
    "heads": 2,
    "hidden": 24,
    "queries": 5,
    "decoder_layers": 3,
}
STILL = {"input_dropout": 0.0, "dropout": 0.0}
METHODS = {
    "moment_detr": (moment_detr.MomentDETR, moment_detr.Config, {}),
    "qd_detr": (qd_detr.QDDETR, qd_detr.Config, {}),
    "tr_detr": (tr_detr.TRDETR, tr_detr.Config, {}),
    "cg_detr": (cg_detr.CGDETR, cg_detr.Config, {"dummies": 3, "prompts": 2}),
    "bam_detr": (bam_detr.BAMDETR, bam_detr.Config, {}),
}


def with_parts(name: str, parts: PartsConfig, **config):
    method, config_class, own = METHODS[name]
    made = type(f"Sim{method.__name__}", (SimParts, method), {})(config_class(**SMALL, **own, **config))
    made.add_parts(parts, SMALL["width"], SMALL["heads"], 3 * SMALL["width"] if name == "bam_detr" else None)
    return made


def test_relation_is_signed_nearness():
    spans = torch.tensor([[[0.2, 0.2], [0.25, 0.1], [0.8, 0.2]]])  # (0.1, 0.3), (0.2, 0.3), (0.7, 0.9)
    rank = torch.tensor([[0.5, 0.9, 0.5]])
    expected = {"border": 1 - 0.01 / 2, "border_l2": 0.1, "border_l1": 0.1, "center": 1 - 0.05**2, "iou": 0.5}
    assert set(expected) == set(GROUPINGS)
    for name, nearness in expected.items():
        bias, signed = QueryRelation(name, 2)(1, spans, rank)
        assert signed[0, 1, 0] == pytest.approx(nearness) and signed[0, 0, 1] == pytest.approx(-nearness)
        assert signed[0, 0, 2] == signed[0, 2, 0] >= 0  # equal ranks
        assert bias.shape == (1, 3, 3) and (bias < 0).all()
    assert QueryRelation("border_l2", 1)(0, spans, rank)[1][0, 0, 2] == pytest.approx(math.hypot(0.6, 0.6))


def test_relation_multiplies_attention_and_moves_spans():
    torch.manual_seed(0)
    relation = QueryRelation("border", 3)
    spans, rank, logits = torch.rand(2, 4, 2).requires_grad_(), torch.rand(2, 4), torch.randn(2, 4, 4)
    bias, signed = relation(2, spans, rank)
    factor = relation.networks[2](signed[..., None]).squeeze(-1).sigmoid()
    weights = logits.softmax(-1) * factor
    torch.testing.assert_close((logits + bias).softmax(-1), weights / weights.sum(-1, keepdim=True))
    assert not torch.equal(bias, relation(0, spans, rank)[0])  # a network a layer
    bias.sum().backward()
    assert spans.grad is not None and spans.grad.abs().sum() > 0


def test_whose_relations():
    bias = torch.arange(3.0)[:, None, None].expand(3, 2, 2)
    assert WHOSE["own"](bias, 2) is bias
    assert WHOSE["another"](bias, 2)[:, 0, 0].tolist() == [2, 0, 1]
    # Head h of sample b is number 2 b + h, and reads the factor of that number by (head, sample).
    assert WHOSE["released"](bias, 2)[..., 0, 0].tolist() == [[0, 1], [2, 0], [1, 2]]


def test_bridging_loss_against_a_loop():
    batch = ragged_batch()
    torch.manual_seed(0)
    states, memory, scale = torch.randn(2, 5, 4, 8), torch.randn(5, 23, 8), torch.tensor(3.0)
    query = torch.randint(0, 4, (2, 5, 2))
    matches = Matches(
        query=query, valid=batch.span_mask.expand(2, -1, -1), positive=torch.zeros(2, 5, 4).bool()
    )
    overlap = clip_overlap(clip_similarity(states, memory, scale), batch.spans, batch.video_mask)
    found = bridging_loss(overlap, matches, batch.spans, batch.video_mask)
    for layer in range(2):
        ratios = []
        for sample in range(5):
            clips = int(batch.video_mask[sample].sum())
            for moment in torch.nonzero(batch.span_mask[sample])[:, 0].tolist():
                center, width = batch.spans[sample, moment].tolist()
                q = states[layer, sample, query[layer, sample, moment]]
                inside, outside, size = 0.0, 0.0, 0
                for clip in range(clips):
                    value = torch.sigmoid(3 * torch.cosine_similarity(q, memory[sample, clip], dim=0)).item()
                    if abs((clip + 0.5) / clips - center) <= width / 2:
                        inside, size = inside + value, size + 1
                    else:
                        outside += value
                if size:
                    ratios.append(inside / (outside + size))
        assert found[layer].item() == pytest.approx(-sum(ratios) / len(ratios), rel=1e-5)


def test_bridging_loss_is_least_for_queries_that_look_like_their_moment():
    batch = ragged_batch()
    inside = clips_inside(batch.spans, batch.video_mask)[None]  # [1, B, M, T], which serve as two queries
    matches = Matches(torch.arange(2).expand(1, 5, 2), batch.span_mask[None], batch.span_mask[None])

    def loss(z, chosen):
        overlap = clip_overlap(z, batch.spans, batch.video_mask)
        return bridging_loss(overlap, chosen, batch.spans, batch.video_mask)

    assert loss(inside.float(), matches) == -1
    assert loss((~inside).float(), matches) == 0
    assert loss(inside.float(), dataclasses.replace(matches, valid=matches.valid & False)) == 0


@pytest.mark.parametrize("name", METHODS)
def test_every_part_on_every_method(name: str):
    torch.manual_seed(0)
    batch = ragged_batch()
    method, config_class, own = METHODS[name]
    base, built = method(config_class(**SMALL, **own, **STILL)), {}
    for part in ("none", "iou", "grouping", "bridging", "all"):
        parts = PartsConfig(
            iou_head=part not in ("none", "bridging"),
            grouping=part in ("grouping", "all"),
            bridging=part in ("bridging", "all"),
        )
        model = built[part] = with_parts(name, parts, **STILL)
        assert not model.load_state_dict(base.state_dict(), strict=False).unexpected_keys
    plain = base.eval()(batch)
    outputs = {part: model.eval()(batch, trace=True) for part, model in built.items()}
    for part, output in outputs.items():  # only grouping changes moments before anything is learned
        if part not in ("grouping", "all"):
            torch.testing.assert_close(output.spans, plain.spans)
        assert ("iou" in output.layers) == (part not in ("none", "bridging"))
        assert ("relation" in output.trace) == (part in ("grouping", "all"))
    torch.testing.assert_close(outputs["none"].scores, plain.scores)
    torch.testing.assert_close(outputs["iou"].scores, plain.scores * outputs["iou"].layers["iou"][-1])
    trace = outputs["all"].trace
    assert trace["relation"].shape == trace["attention_factor"].shape == (2, 5, 5, 5)
    assert trace["clip_similarity"].shape == (3, 5, 5, 23)
    first, last = (outputs["grouping"].extras["states"][i] - plain.extras["states"][i] for i in (0, -1))
    assert first.abs().max() < 1e-6 < last.abs().max()  # the first layer comes before any relation

    model = built["all"].train()
    losses = losses_of(model, batch)
    assert {"iou", "bridge"} <= set(losses) and -12 <= losses["bridge"] <= 0 <= losses["iou"]
    sum(losses.values()).backward()
    parts_of = ("iou_head", "relation", "bridge_scale", "bridge_net")
    mine = [n for n, _ in model.named_parameters() if n.split(".")[0] in parts_of]
    gradients = dict(model.named_parameters())
    assert {n.split(".")[0] for n in mine} == set(parts_of)
    assert all(gradients[n].grad is not None and gradients[n].grad.isfinite().all() for n in mine)


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model, batch = moved(SimDETR(Config(**SMALL, **STILL))).eval(), ragged_batch()
    whole, noisy = model(batch, trace=True), model(with_noise_in_padding(batch))
    torch.testing.assert_close(noisy.spans, whole.spans)
    torch.testing.assert_close(noisy.scores, whole.scores)
    for row in range(len(batch)):
        one = model(alone(batch, row), trace=True)
        torch.testing.assert_close(one.spans[0], whole.spans[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.scores[0], whole.scores[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            one.trace["relation"][:, 0], whole.trace["relation"][:, row], atol=1e-5, rtol=1e-4
        )


def test_queries_start_with_the_last_word():
    torch.manual_seed(0)
    model, batch = SimDETR(Config(**SMALL, **STILL)).eval(), ragged_batch()
    words = model.project(batch)[1]
    content = model.query_content(words, batch.text_mask)
    for row in range(len(batch)):
        torch.testing.assert_close(content[row, 0], words[row, int(batch.text_mask[row].sum()) - 1])
    assert SimDETR(Config(**SMALL, sentence_content=False)).query_content(words, batch.text_mask) is None


def test_bridging_takes_part_in_the_matching():
    torch.manual_seed(0)
    model, batch = SimDETR(Config(**SMALL, **STILL)), ragged_batch()
    output = model(batch)
    overlap = clip_overlap(output.extras["clip_similarity"], batch.spans, batch.video_mask)
    cost = -1e7 * torch.cat((overlap[:-1], overlap[-2:-1]))
    spans, scores = output.layers["spans"], class_score(output.layers)
    free = match(spans, scores, batch.spans, batch.span_mask, MatchCost())
    swayed = match(spans, scores, batch.spans, batch.span_mask, MatchCost(), cost)
    assert not torch.equal(free.query, swayed.query)
    single = batch.span_mask.sum(1) == 1  # one moment: the query that resembles its clips most
    torch.testing.assert_close(swayed.query[:, single, 0], cost[:, single, 0].argmin(-1))
    with_cost = dataclasses.replace(model.parts, cost_bridge=1e4)
    plain = model.loss(output, batch)["l1"]
    model.parts = with_cost
    assert model.loss(output, batch)["l1"] != plain


def test_a_batch_without_moments_trains():
    model = SimDETR(Config(**SMALL))
    losses = losses_of(model, without_moments(ragged_batch()))
    assert losses["bridge"] == 0 and all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()


def test_few_samples_can_be_learned():
    torch.manual_seed(0)
    model, batch = SimDETR(Config(**SMALL, **STILL, weight_bridge=3.0)), ragged_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = losses_of(model, batch)
    for _ in range(150):
        optimizer.zero_grad()
        sum(losses_of(model, batch).values()).backward()
        optimizer.step()
    last, output = losses_of(model, batch), model.eval()(batch, trace=True)
    assert last["l1"] + last["giou"] < 0.4 * (first["l1"] + first["giou"])
    assert last["bridge"] < first["bridge"] - 0.3
    inside = clips_inside(batch.spans, batch.video_mask).any(1)
    for row in range(1, 5):  # the best query looks like the moments, not like the rest
        best = output.trace["clip_similarity"][-2, row, class_score(output.layers)[-2, row].argmax()]
        real = batch.video_mask[row]
        assert best[real & inside[row]].mean() > best[real & ~inside[row]].mean() + 0.2
    assert model.bridge_scale.exp().item() != pytest.approx(Config.first_scale)


def test_sizes_and_refusals():
    parts = count_parameters(SimDETR(Config())) - count_parameters(
        tr_detr.TRDETR(tr_detr.Config(decoder_layers=4))
    )
    bridge = 3 * (256 * 256 + 256) + 1
    assert parts == 257 + 3 * (2 * 16 + 17) + bridge  # IoU head, relation, network and tau
    assert Config.paper().decoder_layers == 4
    for field in ("nearness", "ranking", "relations"):
        with pytest.raises(ValueError, match=rf"sim_detr.{field}: expected one of .*; got 'other'"):
            Config(**{field: "other"})
    with pytest.raises(ValueError, match="without the IoU head, which the others need"):
        PartsConfig(iou_head=False)
    PartsConfig(iou_head=False, ranking="class")
    PartsConfig(iou_head=False, grouping=False)
