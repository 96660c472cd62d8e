"""CG-DETR: size, presets, padding, attention and losses against slow versions, negatives, import,
learning.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from imported import check_golden
from ragged import TEXT_DIM, VIDEO_DIM, alone, losses_of, moved, ragged_batch, with_noise_in_padding

from vtg_lib.layers.adaptive_attention import AdaptiveCrossLayer, DropPath, GroupLayer, PathLayer
from vtg_lib.layers.attention import attend
from vtg_lib.losses.correlation import same_video
from vtg_lib.losses.saliency import saliency_pairs
from vtg_lib.models import MODELS, cg_detr, count_parameters
from vtg_lib.models.cg_detr import CGDETR, Config
from vtg_lib.models.inference import autocast

SMALL = Config(
    video_dim=VIDEO_DIM,
    text_dim=TEXT_DIM,
    width=16,
    heads=2,
    hidden=24,
    queries=5,
    encoder_layers=2,
    decoder_layers=2,
    dummies=4,
    prompts=3,
    chosen_prompts=2,
)
STILL = {"dropout": 0.0, "input_dropout": 0.0, "token_dropout": 0.0}


def build_small(**changes) -> CGDETR:
    torch.manual_seed(0)
    model = CGDETR(dataclasses.replace(SMALL, **changes))
    return moved(model, 0.1)


def test_size_is_that_of_the_public_code_without_what_it_never_uses():
    second_projection, word_positions = 2 * 512 + 512 * 256 + 256, 32 * 256 + 2 * 256
    count = count_parameters(CGDETR(Config.paper()))
    assert count == 12_615_467 - second_projection - word_positions
    assert pytest.approx(MODELS["cg_detr"].published_parameters, abs=0.05) == 12_615_467 / 2**20


def test_presets():
    for dataset in Config.presets:
        config = Config.paper(dataset)
        assert (config.encoder_layers, config.decoder_layers, config.queries) == (3, 3, 10)
    assert Config.paper("tacos").dummies == 50 and Config.paper("charades_sta+vgg").video_dim == 4096
    assert Config.paper("tvsum").highlights_only and not Config.paper().highlights_only
    with pytest.raises(ValueError, match="expected data set qvhighlights, .*got 'activitynet'"):
        Config.paper("activitynet")
    with pytest.raises(ValueError, match="at most the 3 prompts; got 4"):
        Config(prompts=3, chosen_prompts=4)
    with pytest.raises(ValueError, match="dummies: expected at least 1; got 0"):
        Config(dummies=0)


def test_shapes_and_gradients():
    model, batch = build_small(), ragged_batch()
    output = model(batch, trace=True)
    assert output.layers["spans"].shape == output.layers["logits"].shape == (2, 5, 5, 2)
    assert output.saliency.shape == (5, 23) and output.trace["text_attention"].shape == (
        5,
        23,
        4 + batch.text.shape[1],
    )
    losses = model.loss(output, batch)
    assert set(losses) == {"l1", "giou", "label", "saliency", "attention", "align", "distill", "orthogonal"}
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert set(model.eval().loss(model(batch), batch)) == {"l1", "giou", "label", "saliency"}


def test_padding_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    model, batch = build_small(**STILL), ragged_batch()
    monkeypatch.setattr(cg_detr, "same_video", lambda video, mask: torch.zeros(len(mask), dtype=torch.bool))
    pairs = saliency_pairs(batch.saliency, batch.video_mask)
    monkeypatch.setattr(cg_detr, "saliency_pairs", lambda saliency, mask: pairs)
    longer = dataclasses.replace(
        batch,
        **{name: F.pad(getattr(batch, name), (0, 0, 0, 3)) for name in ("video", "text")},
        **{name: F.pad(getattr(batch, name), (0, 3)) for name in ("video_mask", "text_mask", "saliency")},
    )
    expected = losses_of(model, batch)
    for other in (with_noise_in_padding(batch), longer, with_noise_in_padding(longer)):
        torch.testing.assert_close(losses_of(model, other), expected, atol=1e-4, rtol=1e-4)
    model.eval()
    output = model(with_noise_in_padding(longer))
    for row in range(len(batch)):
        single, clips = model(alone(batch, row)), int(batch.video_mask[row].sum())
        torch.testing.assert_close(
            single.layers["spans"][:, 0], output.layers["spans"][:, row], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(single.scores[0], output.scores[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)


def test_adaptive_attention_reads_words_only_and_spends_on_dummies_too():
    torch.manual_seed(0)
    layer = AdaptiveCrossLayer(8, 2, 16, 0.0)
    clips, position, dummies, words = (torch.randn(2, n, 8) for n in (5, 5, 3, 4))
    place, mask = torch.randn(3, 8), torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    keys, values = layer.prepare(dummies, place, words, heads=2)
    result, attention = layer(clips, position, keys, values, mask)
    for b in range(2):
        real = int(mask[b].sum()) - 3
        tokens = torch.cat((dummies[b] + place, words[b, :real]))
        mixed, weights = [], []
        for h in (slice(0, 4), slice(4, 8)):
            weight = ((clips[b] + position[b])[:, h] @ tokens[:, h].T / 2).softmax(-1)
            mixed.append(weight[:, 3:] @ words[b, :real, h])
            weights.append(weight)
        x = clips[b] + layer.out(torch.cat(mixed, -1))
        x = layer.norm_feed_forward(x + layer.feed_forward(layer.norm_attention(x)))
        torch.testing.assert_close(result[b], x)
        torch.testing.assert_close(attention[b, :, : 3 + real], (weights[0] + weights[1]) / 2)
        assert not attention[b, :, 3 + real :].any()
    silent = layer.advance(clips, torch.zeros_like(clips))
    no_words = layer(clips, position, keys, torch.zeros_like(values), mask)[0]
    torch.testing.assert_close(silent, no_words)


def test_saliency_token_is_the_context_and_the_best_prompts():
    model, batch = build_small().eval(), ragged_batch()
    video, attention = torch.randn(5, 23, 16), torch.rand(5, 23, 9)
    found = model.saliency_token(video, batch.video_mask, attention)
    prompts = F.normalize(model.prompts, dim=-1)
    for b in range(5):
        real = video[b, batch.video_mask[b]]
        context = real.mean(0)
        relevant = attention[b, batch.video_mask[b], 4:].sum(-1)
        suits = (
            (F.normalize(real - context, dim=-1) @ prompts.T).softmax(-1)
            * (relevant / relevant.sum())[:, None]
        ).sum(0)
        best = sorted(range(3), key=lambda i: -suits[i])[:2]
        torch.testing.assert_close(found[b, 0], context + sum(suits[i] * model.prompts[i] for i in best))


def test_dummies_need_the_words_of_their_own_last_layer_only():
    model, batch = build_small().eval(), ragged_batch()
    text = torch.randn(5, batch.text.shape[1], 16)
    x = torch.cat((model.dummies.expand(5, -1, -1), text), 1)
    position = torch.cat((model.dummy_position.expand(5, -1, -1), torch.zeros_like(text)), 1)
    for layer in model.dummy_encoder:
        x = layer(x, position, F.pad(batch.text_mask, (4, 0), value=True))
    torch.testing.assert_close(model.condition(text, batch.text_mask), x[:, :4])


def test_moment_and_background_do_not_see_each_other():
    model, batch = build_small(**STILL), ragged_batch()
    torch.manual_seed(1)
    video, text, dummies = (torch.randn(5, n, 16) for n in (23, batch.text.shape[1], 4))
    position = torch.randn(5, 23, 16)
    before = model.correlate(video, position, text, dummies, batch)
    inside = (batch.saliency > 0) & batch.video_mask
    after = model.correlate(torch.where(inside[..., None], video, video + 1), position, text, dummies, batch)
    torch.testing.assert_close(after["moment"], before["moment"])
    torch.testing.assert_close(after["clips"][inside], before["clips"][inside])
    assert not torch.allclose(after["background"], before["background"])
    assert not torch.allclose(after["clips"][~inside], before["clips"][~inside])
    assert before["words"].shape == (5, 4 + text.shape[1], 16)


@pytest.mark.parametrize("training", [False, True])
def test_groups_are_as_separate_passes(training: bool):
    torch.manual_seed(0)
    layer = GroupLayer(8, 2, 16, 0.0).train(training)
    x, position = torch.randn(3, 7, 8), torch.randn(3, 7, 8)
    mask = torch.arange(7) < torch.tensor([7, 5, 3])[:, None]
    group = torch.tensor([[0, 1, 0, 0, 1, 1, 0], [1, 0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 1, 1]])
    found = layer(x, position, mask, group)
    for number in range(2):
        alone = PathLayer.forward(layer, x, position, mask & (group == number))
        part = mask & (group == number)
        torch.testing.assert_close(found[part], alone[part])


def test_attention_with_a_bias_drops_weights():
    torch.manual_seed(0)
    query, key, allowed = torch.randn(1, 1, 2000, 4), torch.randn(1, 1, 6, 4), torch.rand(1, 2000, 6) > 0.5
    allowed[..., 0] = True
    value = torch.eye(6)[None, None]
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, torch.finfo(torch.float32).min)
    weights, _ = attend(query, key, value, bias=bias)
    dropped, _ = attend(query, key, value, bias=bias, dropout=0.25)
    assert not weights[~allowed[:, None]].any() and not dropped[~allowed[:, None]].any()
    kept = dropped[allowed[:, None]] / weights[allowed[:, None]]
    assert kept.unique().round(decimals=3).unique().tolist() == pytest.approx([0, 4 / 3], abs=1e-2)
    assert kept.mean() == pytest.approx(1, abs=0.05)


def test_drop_path_drops_whole_samples():
    drop = DropPath(0.25)
    torch.manual_seed(0)
    kept = drop(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (kept == kept[:, :1, :1]).all() and kept.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(2, 2, 3)), torch.ones(2, 2, 3))
    assert isinstance(PathLayer(8, 2, 8, 0.1).dropout, DropPath)
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        DropPath(1)


def test_a_sentence_about_the_same_video_is_no_negative():
    batch = ragged_batch()
    video = batch.video.clone()
    mask = batch.video_mask.clone()
    video[2], mask[2] = video[1], mask[1]
    video[2, ~mask[2]] = 7.0
    assert same_video(video, mask).tolist() == [False, True, False, False, False]
    model = build_small(**STILL)
    batch = dataclasses.replace(batch, video=video, video_mask=mask, saliency=batch.saliency * mask)
    assert model(batch).extras["real_negative"].tolist() == [True, False, True, True, True]
    assert not model(alone(batch, 0)).extras["real_negative"].any()
    assert all(loss.isfinite() for loss in losses_of(model, alone(batch, 4)).values())


def test_highlights_alone_need_no_moments():
    batch = ragged_batch()
    batch.span_mask[:] = False
    model = build_small(highlights_only=True, weight_negative=0.0)
    losses = losses_of(model, batch)
    assert set(losses) == {"saliency", "attention"} and all(loss.isfinite() for loss in losses.values())
    assert "moment" not in model(batch).extras


def test_half_precision():
    model, batch = build_small(), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
    assert output.spans.dtype == torch.float32
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
    for name in ("l1", "label", "saliency", "attention", "align"):
        assert history[-1][name] < 0.8 * history[0][name], name


def test_an_imported_checkpoint_predicts_as_recorded(tmp_path):
    done = check_golden("cg_detr", tmp_path, num_prompts=2, lw_wattn=0.5, lw_distill=2.0)
    assert {name.split(".")[0] for name in done.unused} == {"txt_position_embed", "txt_proj_linear"}
    c = done.config
    assert (c.dummies, c.prompts, c.chosen_prompts, c.dummy_layers, c.cross_layers, c.moment_layers) == (
        4,
        3,
        2,
        2,
        2,
        1,
    )
    assert (c.weight_attention, c.weight_distill, c.weight_orthogonal, c.highlights_only) == (
        0.5,
        2.0,
        2.0,
        False,
    )
