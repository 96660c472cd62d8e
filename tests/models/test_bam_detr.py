"""BAM-DETR: size, padding, decoder, matching and losses against slow versions, suppression, import,
learning.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from imported import check_golden
from ragged import TEXT_DIM, VIDEO_DIM, alone, losses_of, moved, ragged_batch, with_noise_in_padding

from vtg_lib.data.batches import Output
from vtg_lib.layers.boundary_decoder import POINTS, BorderAttention, BorderFeatures, BoundaryDecoder, borders
from vtg_lib.losses.saliency import saliency_pairs
from vtg_lib.models import MODELS, count_parameters
from vtg_lib.models.bam_detr import BAMDETR, Config
from vtg_lib.models.inference import autocast
from vtg_lib.models.parts import query_encoder

SMALL = Config(video_dim=VIDEO_DIM, text_dim=TEXT_DIM, width=16, heads=2, hidden=24, queries=5)
STILL = {"dropout": 0.0, "input_dropout": 0.0}


def build_small(**changes) -> BAMDETR:
    torch.manual_seed(0)
    model = BAMDETR(dataclasses.replace(SMALL, **changes))
    return moved(model, 0.1)


def test_size_is_that_of_the_public_code_without_what_it_never_uses():
    assert MODELS["bam_detr"].published_parameters is None
    d, hidden = 256, 1024
    encoder_layer = 4 * d * d + 4 * d + 2 * d * hidden + d + hidden + 1 + 4 * d
    unused = {
        "text encoder, its token and its position": 2 * encoder_layer + 2 * d,
        "class heads": 2 * (3 * d * 2 + 2),
        "positions of borders": 3 * 2 * (d * d + d),
        "norms that are never called": 4 * 2 * d,
        "positions of words": 32 * d + 2 * d,
    }
    assert count_parameters(BAMDETR(Config.paper())) == 14_503_994 - sum(unused.values())
    # Without the quality head it counts the class heads in its place.
    heads = 2 * (3 * d * 2 + 2) - (3 * d * d + d + d * d + d + d + 1)
    by_class = count_parameters(BAMDETR(dataclasses.replace(Config.paper(), ranking="class")))
    assert by_class - count_parameters(BAMDETR(Config.paper())) == heads


def test_settings_are_checked():
    with pytest.raises(ValueError, match="ranking: expected one of quality, class; got 'iou'"):
        Config(ranking="iou")
    with pytest.raises(ValueError, match="multiple of 4 and of 8 heads; got 20"):
        Config(width=20)
    with pytest.raises(ValueError, match="got 'tacos'"):
        Config.paper("tacos")


@pytest.mark.parametrize("ranking", ["quality", "class"])
def test_shapes_and_gradients(ranking: str):
    model, batch = build_small(ranking=ranking), ragged_batch()
    output = model(batch, trace=True)
    name, shape = {"quality": ("quality", (2, 5, 5)), "class": ("logits", (2, 5, 5, 2))}[ranking]
    assert output.layers["spans"].shape == (2, 5, 5, 2) and output.layers[name].shape == shape
    assert output.trace["references"].shape == (2, 5, 5, 3) and output.extras["borders"].shape == (
        2,
        5,
        23,
        16,
    )
    assert ((output.scores > 0) & (output.scores < 1)).all()
    losses = model.loss(output, batch)
    assert set(losses) == {"l1", "giou", ranking, "border", "saliency"}
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        if not parameter_name.endswith(("key.bias", "key_position.bias")):
            assert parameter.grad.abs().max() > 0, parameter_name
    assert set(model.eval().loss(model(batch), batch)) == set(losses)


def test_padding_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    model, batch = build_small(**STILL), ragged_batch()
    pairs = saliency_pairs(batch.saliency, batch.video_mask)
    monkeypatch.setattr(query_encoder, "saliency_pairs", lambda saliency, mask: pairs)
    longer = dataclasses.replace(
        batch,
        **{name: F.pad(getattr(batch, name), (0, 0, 0, 3)) for name in ("video", "text")},
        **{name: F.pad(getattr(batch, name), (0, 3)) for name in ("video_mask", "text_mask", "saliency")},
    )
    expected = losses_of(model, batch)
    for other in (with_noise_in_padding(batch), with_noise_in_padding(longer)):
        torch.testing.assert_close(losses_of(model, other), expected, atol=1e-4, rtol=1e-4)
    model.eval()
    output = model(with_noise_in_padding(longer))
    for row in range(len(batch)):
        single, clips = model(alone(batch, row)), int(batch.video_mask[row].sum())
        for name in ("spans", "quality"):
            torch.testing.assert_close(
                single.layers[name][:, 0], output.layers[name][:, row], atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)


def test_borders_are_read_where_the_offsets_point():
    torch.manual_seed(0)
    layer = BorderAttention(8, 2)
    assert layer.offsets.bias.tolist() == [1.0, 2, 3, 4, 1, 2, 3, 4]
    with torch.no_grad():
        layer.offsets.weight.mul_(3)
        layer.weights.bias.normal_()
    x, values, point, length = (
        torch.randn(2, 3, 8),
        torch.randn(2, 2, 9, 4),
        torch.rand(2, 3),
        torch.tensor([9.0, 6.0]),
    )
    found = layer(x, values, point, length)
    for b in range(2):
        clips = int(length[b])
        for q in range(3):
            heads = []
            for h in range(2):
                part = slice(h * POINTS, (h + 1) * POINTS)
                weights = (layer.weights.weight[part] @ x[b, q] + layer.weights.bias[part]).softmax(0)
                offsets = layer.offsets.weight[part] @ x[b, q] + layer.offsets.bias[part]
                total = torch.zeros(4)
                for offset, weight in zip(offsets, weights, strict=True):
                    index = (point[b, q] + offset / clips).clamp(0, 1) * (clips - 1)
                    low = min(int(index), clips - 2)
                    share = index - low
                    total = total + weight * ((1 - share) * values[b, h, low] + share * values[b, h, low + 1])
                heads.append(total)
            torch.testing.assert_close(found[b, q], layer.out(torch.cat(heads)), atol=1e-5, rtol=1e-4)


def test_border_features_are_convolutions():
    torch.manual_seed(0)
    layer, x = BorderFeatures(8), torch.randn(2, 7, 8)
    expected = x.transpose(1, 2)
    for conv, kernel in zip(layer.convs, (3, 3, 1), strict=True):
        weight = conv.taps.weight.unflatten(1, (kernel, 8)).transpose(1, 2)
        expected = F.conv1d(expected, weight, conv.taps.bias, padding=kernel // 2).relu()
        # Xavier's bound counts the taps of both sides.
        assert weight.abs().max() <= (6 / (2 * 8 * kernel)) ** 0.5
        assert weight.abs().max() >= 0.9 * (6 / (2 * 8 * kernel)) ** 0.5
    torch.testing.assert_close(layer(x, torch.ones(2, 7, dtype=torch.bool)), expected.transpose(1, 2))


def test_learned_moments_stay_inside_the_video():
    torch.manual_seed(0)
    decoder = BoundaryDecoder(40, 1, 8, 2, 8, 0.0)
    with torch.no_grad():
        decoder.anchors.mul_(3)
    before = decoder.anchors.detach().clone()
    decoder.eval()
    start, end = borders(decoder.first_references())
    assert (start >= -1e-6).all() and (end <= 1 + 2e-3).all()
    assert torch.equal(decoder.anchors, before)
    decoder.train()
    after = decoder.first_references()
    torch.testing.assert_close(decoder.anchors.sigmoid(), after)
    assert not torch.equal(decoder.anchors, before)
    inside = (before[:, 1] <= before[:, 0]) & (before[:, 2] <= -before[:, 0])
    assert inside.any() and torch.equal(decoder.anchors[inside], before[inside])
    after.sum().backward()
    torch.testing.assert_close(decoder.anchors.grad, after * (1 - after))


def test_fresh_refinement_keeps_the_anchors():
    model, batch = BAMDETR(SMALL).eval(), ragged_batch()
    output = model(batch, trace=True)
    first = model.decoder.first_references()
    start, end = borders(first)
    expected = torch.stack(((start + end) / 2, end - start), -1)
    torch.testing.assert_close(output.layers["spans"][0, 0], expected, atol=3e-3, rtol=0)
    torch.testing.assert_close(output.trace["references"][0, 0], first)


def test_suppression_lowers_only_what_overlaps_enough():
    model = BAMDETR(dataclasses.replace(SMALL, nms_threshold=0.5))
    spans = torch.tensor([[[0.5, 0.4], [0.5, 0.36], [0.7, 0.4], [0.1, 0.2]]])
    scores = torch.tensor([[0.5, 0.9, 0.8, 0.3]])
    output = Output(spans=spans, scores=scores, saliency=torch.zeros(1, 3))
    kept = model.post_process(output)
    overlap = 0.9  # of the first two; the third overlaps the second by less than a half
    expected = sorted([0.9, 0.8, 0.5 * torch.tensor(-(overlap**2) / 0.5).exp().item(), 0.3], reverse=True)
    assert kept.scores[0].tolist() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(kept.spans[0, :3], spans[0, [1, 2, 3]])
    plain = BAMDETR(dataclasses.replace(SMALL, nms_threshold=1.0)).post_process(output)
    assert plain.scores[0].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.3])


def test_quality_sees_how_borders_differ_from_the_anchor():
    model = build_small()
    states = torch.randn(2, 3, 5, 48)
    anchor, start, end = states.split(16, -1)
    expected = model.ranking.head(torch.cat((anchor, start - anchor, end - anchor), -1)).sigmoid()[..., 0]
    torch.testing.assert_close(model.ranking(states)["quality"], expected)


def test_half_precision():
    model, batch = build_small(), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
    assert output.spans.dtype == output.scores.dtype == torch.float32
    losses = model.loss(output, batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


def test_a_few_samples_can_be_learned():
    model, batch = build_small(**STILL), ragged_batch(samples=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    history = []
    for _ in range(40):
        losses = losses_of(model, batch)
        history.append({name: loss.item() for name, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    for name in ("l1", "giou", "border", "saliency"):
        assert history[-1][name] < 0.8 * history[0][name], name


def test_an_imported_checkpoint_predicts_as_recorded(tmp_path):
    done = check_golden("bam_detr", tmp_path, quality_loss_coef=3, nms_thd=-1)
    c = done.config
    assert (c.ranking, c.cross_layers, c.decoder_layers, c.weight_ranking, c.nms_threshold) == (
        "quality",
        2,
        2,
        3.0,
        1.0,
    )
    assert any(name.startswith("idle.class_embed") for name in done.unused)
    assert any(name.startswith("transformer.txt_encoder") for name in done.unused)
