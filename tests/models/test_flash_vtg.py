"""Flash-VTG: sizes, presets, scores and losses against slow versions, negatives, padding, learning."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
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

from vtg_lib.data import load_data
from vtg_lib.losses import correlation
from vtg_lib.losses.contrastive import choose_positive, sampled_nce
from vtg_lib.losses.points import clip_borders, point_targets
from vtg_lib.losses.saliency import (
    hinge_saliency,
    negative_pair_saliency,
    rank_contrastive_saliency,
    saliency_pairs,
)
from vtg_lib.models import MODELS, build, count_parameters, flash_vtg
from vtg_lib.models.flash_vtg import PRESETS, Config, FlashVTG
from vtg_lib.models.inference import autocast

SMALL = Config(
    video_dim=VIDEO_DIM,
    text_dim=TEXT_DIM,
    width=16,
    heads=2,
    hidden=24,
    dummies=3,
    dummy_layers=1,
    cross_layers=2,
    encoder_layers=1,
    convolutions=2,
    score_depth=2,
)
STILL = {"dropout": 0.0, "input_dropout": 0.0, "dummy_dropout": 0.0}
HIGHLIGHTS = {"task": "highlights", "strides": (1,), "saliency_scale": 0.5}
PUBLIC_SIZES = {  # parameters that the public code counts
    "qvhighlights": 10_484_760,
    "qvhighlights+internvideo2": 11_408_409,
    "charades_sta+internvideo2": 11_995_160,
    "tacos": 13_112_603,
    "tvsum": 7_764_497,
    "youtube_highlights": 7_894_033,
}


def build_small(**changes) -> FlashVTG:
    """A small Flash-VTG with every parameter off its initial value."""
    torch.manual_seed(0)
    model = FlashVTG(dataclasses.replace(SMALL, **changes))
    return moved(model, 0.1)


@pytest.mark.parametrize("preset", PUBLIC_SIZES)
def test_sizes_are_those_of_the_public_code_without_what_it_never_uses(preset):
    word_positions, distances = 100 * 256 + 2 * 256, 256 * 256 * 3 + 256 + 256 * 2 * 3 + 2 + 1
    unused = word_positions + distances * (Config.paper(preset).task == "highlights")
    assert count_parameters(FlashVTG(Config.paper(preset))) == PUBLIC_SIZES[preset] - unused


def test_the_published_size_is_that_of_the_variant():
    ((_, changes, published),) = MODELS["flash_vtg"].variants
    assert dataclasses.replace(Config(), **changes) == Config.paper("qvhighlights+internvideo2")
    assert PUBLIC_SIZES["qvhighlights+internvideo2"] / 2**20 == pytest.approx(published, abs=0.05)


def test_presets_and_refusals():
    for dataset in PRESETS:
        assert Config.paper(dataset).encoder_layers == 3
    assert Config.paper("charades_sta+vgg").video_dim == 4096 and Config.paper("tacos").dummies == 35
    with pytest.raises(ValueError, match="expected data set qvhighlights, .*got 'activitynet'"):
        Config.paper("activitynet")
    for name in ("task", "nms"):
        with pytest.raises(ValueError, match=f"flash_vtg.{name}: expected one of .*got 'other'"):
            Config(**{name: "other"})
    with pytest.raises(ValueError, match="dummies: expected at least 1; got 0"):
        Config(dummies=0)


@pytest.mark.parametrize("changes", [{}, {"strides": (1, 2), "tef": False}, HIGHLIGHTS])
def test_shapes_and_gradients(changes):
    model, batch = build_small(**changes), ragged_batch()
    output = model(batch)
    number = 0 if changes == HIGHLIGHTS else sum(23 // s for s in model.config.strides)
    assert (
        output.spans.shape == (5, number, 2)
        and output.scores.shape == (5, number)
        and output.saliency.shape == (5, 23)
    )
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    losses = model.loss(output, batch)
    assert set(losses) == {"class", "nce", "label", "saliency"} | ({"distance"} if number else set())
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("attention.key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, name
    processed = model.post_process(output)
    assert (
        processed.spans.shape[1] == min(number, 50)
        and (processed.scores.sum(1) <= output.scores.sum(1)).all()
    )


@pytest.mark.parametrize("changes", [{}, HIGHLIGHTS])
def test_padding_changes_nothing(changes, monkeypatch: pytest.MonkeyPatch):
    model, batch = build_small(**STILL, **changes), ragged_batch()
    monkeypatch.setattr(flash_vtg, "same_video", lambda video, mask: torch.zeros(len(mask), dtype=torch.bool))
    pairs = saliency_pairs(batch.saliency, batch.video_mask)
    model.task.pairs = lambda saliency, mask: pairs
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
    for row in range(5):
        single, clips = model(alone(batch, row)), int(batch.video_mask[row].sum())
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        attention = output.extras["attention"][row, :clips]
        torch.testing.assert_close(single.extras["attention"][0], attention, atol=1e-5, rtol=1e-4)
        valid = output.extras["points"].valid[row]
        assert int(valid.sum()) == sum(clips // s for s in model.config.strides)
        logits = output.extras["logits"][row, valid]
        torch.testing.assert_close(single.extras["logits"][0], logits, atol=1e-5, rtol=1e-4)
        if not changes:
            torch.testing.assert_close(single.spans[0], output.spans[row, valid], atol=1e-5, rtol=1e-4)
            assert not output.scores[row, ~valid].any() and not output.spans[row, ~valid].any()


def test_losses_against_slow_versions():
    model, batch = build_small(**STILL), ragged_batch()
    output = model(batch)
    torch.manual_seed(3)
    losses = model.loss(output, batch)
    torch.manual_seed(3)
    extras, mask, saliency = output.extras, batch.video_mask, batch.saliency
    pairs = saliency_pairs(saliency, mask)
    borders = clip_borders(batch.spans, mask.sum(1))
    targets = point_targets(extras["points"], borders, batch.span_mask, 1.5)
    p, valid = extras["logits"].sigmoid(), extras["points"].valid
    focal = torch.where(targets.positive, (1 - p) ** 2 * -p.log(), p**2 * -(1 - p).log())
    assert losses["class"].item() == pytest.approx(5 * focal[valid].mean().item(), rel=1e-4)
    error = F.l1_loss(extras["distances"][targets.positive], targets.distances[targets.positive])
    assert losses["distance"].item() == pytest.approx(error.item(), rel=1e-4)
    nce = sampled_nce(extras["similarity"], saliency, mask, *choose_positive(saliency, mask, sample=False))
    assert losses["nce"].item() == pytest.approx(0.1 * nce.item(), rel=1e-4)
    first, second = extras["logits"][:, :23][mask], saliency[mask]
    first, second = ((x - x.min()) / (x.max() - x.min()) for x in (first, second))
    assert losses["label"].item() == pytest.approx(4 * F.mse_loss(first, second).item(), rel=1e-4)
    # Saliency: hinge, rank-contrastive and negative pairs, of the saliency and of the attention; relevance of
    # the latter.
    both_mask, both_target = mask.repeat(1, 2), F.pad(saliency, (0, 23))
    own, other = output.saliency, extras["negative_saliency"]
    total = hinge_saliency(own, *pairs, 0.2) + negative_pair_saliency(other, mask)
    total = total + rank_contrastive_saliency(torch.cat((own, other), 1), both_target, both_mask)
    own, other = extras["attention"], extras["negative_attention"]
    total = total + hinge_saliency(own, *pairs, 0.2) + (-(1 - other).log() * mask).sum(1).mean()
    total = total + rank_contrastive_saliency(torch.cat((own, other), 1), both_target, both_mask)
    total = total + F.binary_cross_entropy(own[mask], saliency[mask].clamp(max=1))
    assert losses["saliency"].item() == pytest.approx(0.8 * total.item(), rel=1e-4)


def test_losses_of_highlights_are_those_of_clips():
    model, batch = build_small(**STILL, **HIGHLIGHTS).eval(), ragged_batch()
    losses, output = losses_of(model, batch), model(batch)
    mask, saliency, logits = batch.video_mask, batch.saliency / 2, output.extras["logits"]
    entropy = F.binary_cross_entropy_with_logits(logits[mask], saliency[mask])
    assert losses["class"].item() == pytest.approx(5 * entropy.item(), rel=1e-4)
    high, low = model.task.pairs(saliency, mask)
    none = torch.zeros(5, dtype=torch.bool)
    common = (saliency, mask, (high, low), none, 0.2, 1.0)
    zero = torch.zeros_like(saliency)
    expected = correlation.guided_saliency((output.saliency, zero, zero), *common)
    expected = expected + correlation.guided_saliency((output.extras["attention"], zero, zero), *common)
    expected = expected + correlation.relevance(output.extras["attention"], saliency, mask)
    assert losses["saliency"].item() == pytest.approx(0.8 * expected.item(), rel=1e-4)


def test_negative_pairs_are_of_other_videos_and_only_while_training():
    model, batch = build_small(**STILL), ragged_batch()
    batch.video[1], batch.video_mask[1] = batch.video[0], batch.video_mask[0]
    output = model(batch)
    assert output.extras["real_negative"].tolist() == [False, True, True, True, True]
    rolled = dataclasses.replace(batch, text=batch.text.roll(-1, 0), text_mask=batch.text_mask.roll(-1, 0))
    torch.testing.assert_close(output.extras["negative_saliency"], model(rolled).saliency)
    torch.testing.assert_close(output.extras["negative_attention"], model(rolled).extras["attention"])
    assert "negative_saliency" not in model.eval()(batch).extras
    one = model.train()(alone(batch, 2))
    assert "negative_saliency" not in one.extras
    assert all(loss.isfinite() for loss in model.loss(one, alone(batch, 2)).values())


def test_weights():
    batch = ragged_batch()
    full, model = (
        losses_of(build_small(**STILL), batch),
        build_small(**STILL, weight_label=0.0, weight_attention=0.0),
    )
    assert "label" not in losses_of(model, batch)
    silent = losses_of(build_small(**STILL, weight_negative=0.0, weight_attention=0.0), batch)
    assert silent["saliency"] < losses_of(model, batch)["saliency"] < full["saliency"]
    double = losses_of(build_small(**STILL, weight_class=10.0, weight_nce=0.2), batch)
    torch.testing.assert_close((double["class"], double["nce"]), (2 * full["class"], 2 * full["nce"]))


def test_a_batch_without_any_moment():
    model, batch = build_small(), ragged_batch()
    batch = without_moments(batch)
    losses = model.loss(model(batch), batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()) and losses["distance"] == losses["nce"] == 0


def test_bfloat16_autocast():
    model, batch = build_small(**STILL), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        half = model(batch)
    assert half.spans.dtype == half.scores.dtype == half.extras["similarity"].dtype == torch.float32
    losses = model.loss(half, batch)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    torch.testing.assert_close(half.scores, model(batch).scores, atol=0.05, rtol=0)


def test_a_few_steps_in_a_small_world_lower_the_loss():
    data = load_data({"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 24, "val": 8, "clips": 16})
    torch.manual_seed(0)
    sizes = {
        name: getattr(SMALL, name)
        for name in ("width", "heads", "hidden", "dummies", "cross_layers", "encoder_layers")
    }
    model = build("flash_vtg", {"video_dim": 24, "text_dim": 16, **sizes, **STILL})
    optimizer, batch = torch.optim.AdamW(model.parameters(), lr=3e-3), data["train"].batch(torch.arange(8))
    history = []
    for _ in range(30):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]
