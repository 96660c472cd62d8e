"""SA-DETR: Table 9, equations against slow versions, controls, noise groups, padding, bad input, learning."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from ragged import (
    TEXT_DIM,
    VIDEO_DIM,
    alone,
    losses_of,
    ragged_batch,
    with_noise_in_padding,
    without_moments,
)
from ragged import moved as shift
from torch import Tensor

from vtg_lib.experiments.config import TrainConfig
from vtg_lib.layers.roi import sample_span
from vtg_lib.layers.span_aware import MASKS, LocalBlock, SpanEnhance, log_gaussian
from vtg_lib.layers.span_queries import ANCHORS, LEAST_WIDTH, NoiseGroups
from vtg_lib.losses.contrastive import TEMPERATURE, clip_text_matching, intra_video_nce
from vtg_lib.losses.matching import MatchCost, match
from vtg_lib.models import MODELS, build, count_parameters, qd_detr, tr_detr
from vtg_lib.models.inference import autocast
from vtg_lib.models.parts.span_aware import NOISES
from vtg_lib.models.sa_detr import SADETR, Config
from vtg_lib.papers import load_paper
from vtg_lib.spans import cw_to_se, generalised_iou, iou

SIZES = {
    **{"video_dim": VIDEO_DIM, "text_dim": TEXT_DIM, "width": 16, "heads": 2, "hidden": 24, "queries": 5},
    "samples": 4,
}
SMALL = Config(**SIZES)
STILL = {"dropout": 0.0, "input_dropout": 0.0}


def build_small(moved: bool = True, **changes) -> SADETR:
    torch.manual_seed(0)
    model = SADETR(dataclasses.replace(SMALL, **changes))
    return shift(model, 0.1) if moved else model


def test_table_9():
    names = ("qvhighlights", "tacos", "charades_sta", "charades_sta_vgg")  # of the table's rows
    assert set(Config.presets) == set(Config.training) == set(names)
    for name, row in zip(names, load_paper("sadetr").table("tab9").rows, strict=True):
        c, train = Config.paper(name), TrainConfig(**Config.training[name])
        others = {"batch": train.batch_size, "epochs": train.epochs, "rate": train.learning_rate}
        for column, printed in row.paper.items():
            assert others.get(column, getattr(c, column, None)) == printed, (name, column)
        assert (c.width, c.heads) == (256, 8)
        assert c.fusion_layers == c.encoder_layers == c.decoder_layers == 2
    qvhighlights = TrainConfig(**Config.training["qvhighlights"])  # "gradually to 0 after 40 epochs"
    assert [qvhighlights.learning_rate_at(epoch, 1) for epoch in (0, 40, 120)] == [1e-4, 1e-4, 5e-5]
    assert (Config.paper("charades_sta_vgg").video_dim, Config.paper("charades_sta_vgg").text_dim) == (
        4096,
        300,
    )
    assert MODELS["sa_detr"].published_parameters is None  # none is printed
    with pytest.raises(ValueError, match="tvsum"):
        Config.paper("tvsum")


@pytest.mark.parametrize("anchors", ANCHORS)
@pytest.mark.parametrize("enhance", [True, False])
def test_every_parameter_gets_a_gradient(anchors: str, enhance: bool):
    model, batch = build_small(anchors=anchors, enhance=enhance), ragged_batch()
    output = model(batch, trace=True)
    losses = model.loss(output, batch)
    assert set(losses) == {"moment", "quality", "saliency", "init", "noise", "margin", "vtc", "ctm"}
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert output.spans.shape == (5, 5, 2) and output.scores.shape == (5, 5)
    assert output.trace["references"].shape == (2, 5, 5, 2)
    assert output.trace["clip_mask"].shape == output.trace["clip_attention"].shape == (2, 5, 5, 23)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith(("key.bias", "key_position.bias")):  # the same for every key
            assert parameter.grad.abs().max() > 0, name


SWITCHES = [
    *({"mask": mask} for mask in MASKS),
    *({"noise": noise} for noise in NOISES),
    {"groups": 0},
    {"margin": "decaying", "margin_steps": 3},
    {"vtc": "off", "ctm": "off"},
    {"vtc": "after", "ctm": "before"},
    {"vtc": "off", "ctm": "off", "enhance": False},
    {"pairs": "shuffled"},
    {"token": "mean", "anchors": "learned", "init_loss": False},
    {"local": "fused"},
    {"decoder_layers": 3, "queries": 10},
    {"weight_align": 0.0},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_every_switch_trains(changes: dict):
    model, batch = build_small(**changes), ragged_batch()
    losses = losses_of(model, batch)
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    c = model.config
    assert ("init" in losses) == c.init_loss and ("noise" in losses) == bool(c.sigmas)
    assert ("margin" in losses) == (len(set(c.sigmas)) == 2)
    assert ("vtc" in losses) == (c.vtc != "off" and c.weight_align > 0)
    model.eval()
    first, again = model(batch), model(batch)  # no random number when evaluating
    torch.testing.assert_close(first.spans, again.spans, rtol=0, atol=0)
    assert set(model.loss(first, batch)) == set(losses) - {"noise", "margin"}


def test_padding_changes_nothing():
    model, batch = build_small().eval(), ragged_batch()
    output, noisy = model(batch, trace=True), model(with_noise_in_padding(batch))
    for row in range(len(batch)):
        clips, single = int(batch.video_mask[row].sum()), model(alone(batch, row), trace=True)
        for name in ("spans", "scores"):
            found = getattr(output, name)[row]
            torch.testing.assert_close(getattr(single, name)[0], found, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(getattr(noisy, name)[row], found)
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        mask = output.trace["clip_mask"][:, row]
        torch.testing.assert_close(single.trace["clip_mask"][:, 0], mask[..., :clips], atol=1e-5, rtol=1e-4)
        assert not mask[..., clips:].any()
    losses, others = (losses_of(model, b) for b in (batch, with_noise_in_padding(batch)))
    torch.testing.assert_close(losses, others)


def test_clips_are_sampled_in_the_span():
    torch.manual_seed(0)
    features, length = torch.randn(2, 9, 3), torch.tensor([9, 6])
    spans = torch.tensor([[[0.5, 0.4], [0.05, 0.3], [0.97, 0.2]], [[0.4, 0.5], [0.5, 0.0], [0.5, 1.0]]])
    found = sample_span(features, spans, length, 4)
    assert found.shape == (2, 3, 4, 3)
    for b in range(2):
        for q in range(3):
            for n in range(4):
                center, width = spans[b, q].tolist()
                place = (center + width * ((n + 0.5) / 4 - 0.5)) * int(length[b]) - 0.5
                place = min(max(place, 0), int(length[b]) - 1)
                low = min(int(place), int(length[b]) - 2)
                share = place - low
                expected = (1 - share) * features[b, low] + share * features[b, low + 1]
                torch.testing.assert_close(found[b, q, n], expected)
    middles = (torch.arange(9) + 0.5) / 9  # the whole video, a point a clip: the clips themselves
    assert middles[0] > 0
    torch.testing.assert_close(
        sample_span(features[:1], torch.tensor([[[0.5, 1.0]]]), length[:1], 9)[0, 0], features[0]
    )


def test_the_mask_is_equation_5():
    reference = torch.tensor([[[0.5, 0.4], [0.1, 0.05]], [[0.25, 1.0], [0.9, 0.0]]])
    mask = torch.arange(10) < torch.tensor([10, 8])[:, None]
    found = log_gaussian(reference, mask, 2.0).exp()
    for b, length in enumerate((10, 8)):
        for q in range(2):
            c, w = reference[b, q].tolist()
            for i in range(1, length + 1):
                expected = math.exp(-2 * (i / length - c) ** 2 / max(w, 0.01) ** 2)
                assert found[b, q, i - 1].item() == pytest.approx(expected, abs=1e-6)
    # .61 at the border of a span, here clip 7 of 10 (reading 5)
    assert found[0, 0, 6].item() == pytest.approx(math.exp(-0.5)) == pytest.approx(0.61, abs=0.005)


def attention_by_hand(model: SADETR, mask: Tensor, form: str) -> Tensor:
    """Eq. 4 to 6 for one head and one query, with the weights of layer 0."""
    part = model.decoder.layers[0].cross_attention
    torch.manual_seed(3)
    x, position = torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    memory, memory_position = torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    query = torch.cat((part.query(x), part.query_position(position)), -1)[0, 0]
    key = torch.cat((part.key(memory), part.key_position(memory_position)), -1)[0]
    logits = key @ query / math.sqrt(2 * 16)
    if form == "logits":
        weights = (logits * mask).softmax(0)
    elif form == "log":
        weights = (logits + mask.log()).softmax(0)
    else:
        weights = logits.softmax(0) * mask
        weights = weights / weights.sum() if form == "weights" else weights
    expected = part.out(weights @ part.value(memory)[0])
    modulation = MASKS[form](2.0).form(mask.log()[None, None])
    real = torch.ones(1, 6).bool()
    found, shown = part(x, position, memory, memory_position, real, need_weights=True, modulation=modulation)
    torch.testing.assert_close(shown[0, 0, 0], weights)
    torch.testing.assert_close(found[0, 0], expected)
    return weights


def test_forms_of_equation_6():
    model = build_small(heads=1).eval()
    mask = torch.tensor([0.01, 0.2, 0.9, 1.0, 0.5, 0.05])
    found = {form: attention_by_hand(model, mask, form) for form in ("logits", "log", "weights", "gain")}
    torch.testing.assert_close(found["log"], found["weights"])  # the same function
    assert found["gain"].sum() < 0.9 and found["logits"][0] > found["log"][0]


def test_the_span_joins_the_query_as_in_equations_2_and_3():
    torch.manual_seed(0)
    block, x, memory = shift(SpanEnhance(8, 3)), torch.randn(2, 4, 8), torch.randn(2, 7, 8)
    reference, sentence = torch.rand(2, 4, 2), torch.randn(2, 8)
    mask = torch.ones(2, 7).bool()
    found = block(x, reference, memory, mask, sentence)
    sampled = sample_span(memory, reference, mask.sum(1), 3)
    for b in range(2):
        for q in range(4):
            text = block.sentence.weight @ sentence[b]
            parts = [m * ((block.clip.weight @ m) @ text / math.sqrt(8)) for m in sampled[b, q]]
            read = sum(parts) / 3
            gate = torch.sigmoid(x[b, q] @ read)
            expected = block.out.weight @ ((read + x[b, q]) * gate) + x[b, q]
            torch.testing.assert_close(found[b, q], expected, atol=1e-5, rtol=1e-4)


def test_local_block_is_three_convolutions():
    torch.manual_seed(0)
    block, x = LocalBlock(4), torch.randn(2, 6, 4)
    expected = x.transpose(1, 2)
    for i, (conv, kernel) in enumerate(zip(block.convs, (1, 3, 1), strict=True)):
        weight = conv.taps.weight.unflatten(1, (kernel, 4)).transpose(1, 2)
        expected = F.conv1d(expected.relu() if i else expected, weight, conv.taps.bias, padding=kernel // 2)
    torch.testing.assert_close(block(x, torch.ones(2, 6).bool()), expected.transpose(1, 2))


def test_noise_stays_within_its_scale():
    torch.manual_seed(0)
    batch = ragged_batch()
    noise = NoiseGroups(8, 40, (0.2, 0.6))
    noise.groups = 30
    groups = noise(batch, 5)
    anchors = groups.anchors.unflatten(1, (30, 2, 2))  # [B, G, K, M, 2]
    edges = cw_to_se(anchors)
    assert (edges >= -1e-6).all() and (edges <= 1 + LEAST_WIDTH).all() and (anchors > 0).all()
    truth = batch.spans[:, None, None]
    inside = (cw_to_se(truth)[..., 0] > truth[..., 1]) & (cw_to_se(truth)[..., 1] + truth[..., 1] < 1)
    real = (batch.span_mask[:, None, None] & inside).expand(anchors.shape[:-1])  # never cut
    assert real.any()
    for kind, sigma in enumerate((0.2, 0.6)):
        chosen = real[:, :, kind]
        moved = (anchors - truth)[:, :, kind].abs()[chosen] / truth.expand_as(anchors)[:, :, kind, :, 1:][
            chosen
        ]
        assert moved[:, 0].max() <= sigma / 2 + 1e-5 and moved[:, 1].max() <= sigma + 1e-5
        assert moved[:, 0].max() > 0.8 * sigma / 2 and moved[:, 1].max() > 0.8 * sigma
    assert torch.equal(noise.content, torch.ones(8)) and noise(without_moments(batch), 5) is None


def test_noise_groups_are_isolated_in_both_directions():
    batch = ragged_batch()
    isolated = NoiseGroups(8, 3, (0.2, 0.6))(batch, 5).isolated
    assert isolated.shape == (5, 5 + 12, 5 + 12)
    for b in range(5):
        for i in range(17):
            for j in range(17):
                group = [-1 if k < 5 else (k - 5) // 4 for k in (i, j)]
                real = j < 5 or bool(batch.span_mask[b, (j - 5) % 2])
                assert isolated[b, i, j] == (group[0] != group[1] or not real)


def test_noise_changes_nothing_else():
    model, batch = build_small(**STILL), ragged_batch()
    output = model(batch)
    model.noise = None
    plain = model(batch)
    torch.testing.assert_close(output.layers, plain.layers)
    assert output.extras["group_states"].shape == (2, 5, 5 * 2 * 2, 16)
    assert "group_states" not in model(batch).extras


def test_the_margin_decays():
    noise, batch = NoiseGroups(8, 1, (0.2, 0.6), decay=4), ragged_batch()
    scales = []
    for _ in range(6):
        scales.append([round(s, 4) for s in noise.scales().tolist()])
        noise(batch, 5)
    assert scales == [[0.2, s] for s in (0.6, 0.5, 0.4, 0.3, 0.2, 0.2)]
    assert NoiseGroups(8, 1, (0.2, 0.6), decay=4).load_state_dict(noise.state_dict()) is not None


def test_repeated_targets_are_as_many_and_start_at_the_truth():
    batch = ragged_batch()
    pairs, repeated = (build_small(noise=n, **STILL)(batch).extras for n in ("pairs", "repeated"))
    assert pairs["group_states"].shape == repeated["group_states"].shape
    start = repeated["group_references"][0].unflatten(1, (10, 2))[batch.span_mask[:, None].expand(-1, 10, -1)]
    truth = batch.spans[:, None].expand(-1, 10, -1, -1)[batch.span_mask[:, None].expand(-1, 10, -1)]
    torch.testing.assert_close(start, truth)


def test_losses_are_the_slow_ones():
    model, batch = build_small(weight_matched=3.0, **STILL), ragged_batch(samples=6)
    output = model(batch)
    losses = model.loss(output, batch)
    layers, truth = output.layers, cw_to_se(batch.spans)
    cost = MatchCost(score=4.0)
    matches = match(layers["spans"], layers["quality"], batch.spans, batch.span_mask, cost)
    pairs = batch.span_mask.nonzero().tolist()

    def eq_7(spans: Tensor, b: int, m: int) -> float:
        overlap = generalised_iou(cw_to_se(spans), truth[b, m])
        return (10 * (spans - batch.spans[b, m]).abs().mean() + 1 - overlap).item()

    moment, quality = 0.0, 0.0
    for s in range(2):
        found = [eq_7(layers["spans"][s, b, matches.query[s, b, m]], b, m) for b, m in pairs]
        moment += sum(found) / len(found)
        for b in range(6):
            for q in range(5):
                best = max(
                    [0.0]
                    + [
                        iou(cw_to_se(layers["spans"][s, b, q]).clamp(0, 1), truth[b, m]).item()
                        for m in range(2)
                        if batch.span_mask[b, m]
                    ]
                )
                weight = 3 if matches.positive[s, b, q] else 1
                quality += weight * abs(layers["quality"][s, b, q].item() - best) / 6
    assert losses["moment"].item() == pytest.approx(moment, rel=1e-4)
    assert losses["quality"].item() == pytest.approx(quality, rel=1e-4)

    extras = output.extras
    noisy = model.read(extras["group_states"], extras["group_references"])
    noise, margin, count = 0.0, 0.0, 5 * len(pairs)
    for s in range(2):
        for g in range(5):
            for b, m in pairs:
                positive, negative = g * 4 + m, g * 4 + 2 + m
                noise += eq_7(noisy["spans"][s, b, positive], b, m) / count
                gap = noisy["quality"][s, b, negative] - noisy["quality"][s, b, positive] + 0.4
                margin += max(gap.item(), 0) / count
    assert losses["noise"].item() == pytest.approx(noise, rel=1e-4)
    assert losses["margin"].item() == pytest.approx(margin, rel=1e-4)

    anchors = extras["initial"]
    by_place = match(anchors, anchors[..., 0], batch.spans, batch.span_mask, MatchCost(score=0.0))
    initial = [eq_7(anchors[b, by_place.query[b, m]], b, m) for b, m in pairs]
    assert losses["init"].item() == pytest.approx(sum(initial) / len(initial), rel=1e-4)


def test_alignment_against_loops():
    model, batch = build_small(**STILL).eval(), ragged_batch(samples=4)
    output = model(batch)
    losses = model.loss(output, batch)
    clips, words = output.extras["aligned"]["before"]
    video = torch.stack([clips[b, batch.video_mask[b]].mean(0) for b in range(4)])
    text = torch.stack([words[b, batch.text_mask[b]].mean(0) for b in range(4)])
    logits = F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T / TEMPERATURE
    target = torch.arange(4)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(losses["vtc"], expected)

    clips, words = output.extras["aligned"]["after"]
    sentence = model.pool(words, batch.text_mask)
    cosine = F.cosine_similarity(clips, sentence[:, None], dim=-1)
    terms, chosen = [], []
    for b in range(4):
        for t in range(int(batch.video_mask[b].sum())):
            p = torch.sigmoid(cosine[b, t] / TEMPERATURE)
            terms.append(-(p if batch.saliency[b, t] > 0 else 1 - p).log())
        chosen.append(int(batch.saliency[b].argmax()))
    valid = torch.tensor([False, True, True, True])
    place = torch.tensor(chosen)
    intra = intra_video_nce(cosine, batch.saliency, batch.video_mask, place, valid)
    logits = F.normalize(clips[range(1, 4), chosen[1:]], dim=-1) @ F.normalize(sentence[1:], dim=-1).T
    target = torch.arange(3)
    inter = F.cross_entropy(logits / TEMPERATURE, target) + F.cross_entropy(logits.T / TEMPERATURE, target)
    torch.testing.assert_close(losses["ctm"], torch.stack(terms).mean() + intra + inter, atol=1e-3, rtol=1e-4)


def test_shuffled_alignment_has_the_same_terms_and_no_signal():
    batch, parameters = ragged_batch(), count_parameters(build_small())
    own, shuffled = (build_small(pairs=p, **STILL).eval() for p in ("own", "shuffled"))
    torch.testing.assert_close(own(batch).spans, shuffled(batch).spans)
    assert count_parameters(shuffled) == parameters
    first, second = own.loss(own(batch), batch), shuffled.loss(shuffled(batch), batch)
    assert set(first) == set(second)
    assert first["vtc"] != second["vtc"] and first["ctm"] != second["ctm"]
    one = alone(batch, 1)  # nothing to shuffle with
    torch.testing.assert_close(*(m.alignment(m(one), one) for m in (own, shuffled)))


def test_anchors_of_the_instance_and_its_controls():
    batch, spread = ragged_batch(), {}
    for kind in ANCHORS:
        model = build_small(anchors=kind, **STILL)
        output = model(batch, trace=True)
        spread[kind] = output.trace["references"][0].var(0).mean().item()
        assert (model.decoder.anchors is None) == (kind != "learned")
        if kind == "shuffled":
            shuffled, own = output, build_small(anchors="instance", **STILL)(batch, trace=True)
            expected = own.extras["initial"].roll(2, 0)
            torch.testing.assert_close(shuffled.trace["references"][0], expected)
            one = alone(batch, 1)
            torch.testing.assert_close(
                model(one).extras["initial"], build_small(anchors="instance", **STILL)(one).extras["initial"]
            )
        if kind == "mean":
            supervised = output.extras["initial"]
            torch.testing.assert_close(output.trace["references"][0, 0], supervised.mean(0))
            model.eval()
            again = model(alone(batch, 2), trace=True).trace["references"][0, 0]
            torch.testing.assert_close(again, supervised.mean(0))
            fresh = build_small(anchors="mean", **STILL)
            fresh.load_state_dict(model.state_dict())
            torch.testing.assert_close(fresh.initial.mean.value, model.initial.mean.value)
    assert spread["learned"] == spread["mean"] == 0 < spread["instance"]
    # What learned anchors start with is as spread as what instance anchors do.
    heads = build_small(False).initial.head.layers[-1]
    assert 0.3 < heads.bias.std() < 2


def test_controls_of_the_mask():
    torch.manual_seed(0)
    reference, mask = torch.rand(3, 5, 2), torch.arange(12) < torch.tensor([12, 9, 1])[:, None]
    plain = MASKS["logits"](2.0)(reference, mask).factor * mask[:, None]
    moved = MASKS["random_place"](2.0)
    for training in (True, False):
        values = moved.train(training)(reference, mask).factor * mask[:, None]
        torch.testing.assert_close(values.sort(-1).values, plain.sort(-1).values)  # the same mass
        assert not torch.allclose(values[0], plain[0], atol=1e-2)
    torch.testing.assert_close(moved(reference, mask).factor, moved(reference, mask).factor)
    width, batch = MASKS["mean_width"](2.0), ragged_batch()
    width.show(batch.spans, batch.span_mask)
    mean = batch.spans[..., 1][batch.span_mask].mean()
    torch.testing.assert_close(width.width.value, mean)
    same = torch.stack((reference[..., 0], mean.expand(3, 5)), -1)
    torch.testing.assert_close(width(reference, mask).factor, log_gaussian(same, mask, 2.0).exp())
    before = width.width.value.clone()
    width.show(batch.spans, batch.span_mask & False)
    assert torch.equal(before, width.width.value) and MASKS["off"](2.0) is None


def test_a_batch_of_one_and_a_batch_without_moments():
    model, batch = build_small(**STILL), ragged_batch()
    one = losses_of(model, alone(batch, 2))
    assert one["vtc"].abs() < 1e-6 and all(loss.isfinite() for loss in one.values())
    sum(one.values()).backward()
    empty = losses_of(model, without_moments(batch))
    assert "noise" not in empty and "margin" not in empty
    assert empty["moment"] == empty["init"] == 0 and all(loss.isfinite() for loss in empty.values())
    sum(empty.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("mask", ["logits", "log", "random_place"])
def test_odd_moments_anchors_and_rows_stay_finite(mask: str):
    model, batch = build_small(mask=mask, **STILL), ragged_batch()
    batch.spans[1, 0] = torch.tensor([0.5, 1e-3])  # shorter than a clip
    batch.spans[2, 0] = torch.tensor([0.0, 0.0])
    batch.video_mask[3], batch.text_mask[4] = False, False  # nothing to see, nothing to read
    batch.saliency[3] = 0
    with torch.no_grad():
        model.initial.head.layers[-1].bias[:4] = -80.0  # anchors (0, 0)
    output = model(batch, trace=True)
    losses = model.loss(output, batch)
    assert (output.trace["references"][0] < 1e-6).any()
    assert output.spans.isfinite().all() and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": "none"}, "anchors: expected one of instance, learned, shuffled, mean; got 'none'"),
        ({"noise": "both"}, "noise: expected one of pairs, positive, repeated, off"),
        ({"mask": "box"}, "mask: expected one of logits, log, weights, gain, random_place, mean_width, off"),
        ({"vtc": "between"}, "vtc: expected one of before, after, off"),
        ({"groups": -1}, "groups: expected 0 .off. or more; got -1"),
        ({"sigma_p": 0.0}, r"sigma_p: expected a noise scale in \(0, 1\]; got 0.0"),
        ({"sigma_n": 1.5}, r"sigma_n: expected a noise scale in \(0, 1\]; got 1.5"),
        ({"sigma_p": 0.6}, "sigma_p: expected less than sigma_n, which is 0.6, with noise 'pairs'; got 0.6"),
        ({"margin": "decaying"}, "margin: expected 'fixed', or noise 'pairs'.*margin_steps"),
        ({"margin": "decaying", "margin_steps": 3, "noise": "positive"}, "margin: expected 'fixed'"),
        ({"anchors": "mean", "init_loss": False}, "init_loss: expected True with mean anchors"),
        ({"alpha": 0.0}, "alpha: expected a positive number"),
        ({"samples": 0}, "samples: expected at least 1; got 0"),
        ({"width": 20}, "width: expected a multiple of 2 heads|multiple of"),
    ],
)
def test_bad_settings_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_too_many_groups_are_refused_with_the_number_that_fits():
    model, batch = build_small(groups=65), ragged_batch()
    with pytest.raises(
        ValueError, match=r"groups: expected at most 64, as 2 moments x 2 make 4 .* got 65, 260"
    ):
        model(batch)
    assert SADETR(dataclasses.replace(SMALL, groups=64))(batch).spans.isfinite().all()
    Config(sigma_p=0.6, noise="positive")


@pytest.mark.parametrize(("name", "base"), [("sa_qd_detr", qd_detr.QDDETR), ("sa_tr_detr", tr_detr.TRDETR)])
def test_parts_on_other_methods(name: str, base: type):
    batch, sizes = ragged_batch(), {k: v for k, v in SIZES.items() if k != "samples"} | STILL
    torch.manual_seed(0)
    plain = shift(base(base.__init__.__globals__["Config"](**sizes))).eval()
    off = build(name, sizes | {"anchors": "learned", "init_loss": False, "mask": "off"}).eval()
    off.load_state_dict(plain.state_dict())
    torch.testing.assert_close(off(batch).layers, plain(batch).layers, rtol=0, atol=0)
    torch.testing.assert_close(losses_of(off, batch), losses_of(plain, batch))
    torch.manual_seed(0)
    model = shift(build(name, sizes | {"noise": "pairs"}))
    losses = losses_of(model, batch)
    assert {"init", "noise", "margin"} <= set(losses)
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []
    model.eval()
    whole = model(batch, trace=True)
    assert whole.trace["clip_mask"].shape == (2, 5, 5, 23)
    for row in range(len(batch)):
        one = model(alone(batch, row))
        torch.testing.assert_close(one.spans[0], whole.spans[row], atol=1e-5, rtol=1e-4)


def test_half_precision():
    model, batch = build_small(**STILL), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
        losses = model.loss(output, batch)
    assert output.spans.dtype == output.scores.dtype == torch.float32
    assert all(loss.isfinite() for loss in losses.values())


def test_clip_text_matching_falls_when_clips_turn_to_the_sentence():
    torch.manual_seed(0)
    batch = ragged_batch()
    sentence, clips = torch.randn(5, 8), torch.randn(5, 23, 8)
    turned = clips + 20 * (batch.saliency > 0)[..., None] * sentence[:, None]
    losses = [
        clip_text_matching(x, batch.video_mask, sentence, batch.saliency, False) for x in (clips, turned)
    ]
    assert losses[1] < 0.7 * losses[0]


def test_a_few_samples_can_be_learned():
    model, batch = build_small(moved=False, **STILL), ragged_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(80):
        losses = losses_of(model, batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name in ("moment", "init", "vtc", "ctm", "saliency"):
        assert history[-1][name] < 0.75 * history[0][name], (name, history[0], history[-1])
    assert sum(history[-1].values()) < 0.6 * sum(history[0].values())
