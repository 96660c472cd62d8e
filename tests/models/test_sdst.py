"""SDST: parameter counts, gradients, padding, variants, traces, precision."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ragged import moved as shift
from ragged import without_moments

from vtg_lib.data.batches import Batch
from vtg_lib.models import build, count_parameters
from vtg_lib.models.sdst import SDST, Config

SMALL = Config(video_dim=12, text_dim=10, width=16, heads=4, queries=6, levels=3, points=2)


def make_batch(samples: int = 5, levels: int = 3, clips: int = 14, words: int = 6, seed: int = 0) -> Batch:
    """Random features of videos of different lengths; the first sample has no moment."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(clips // 2, clips + 1, (samples,), generator=generator)
    length[-1] = clips
    video_mask = torch.arange(clips) < length[:, None]
    text_mask = torch.arange(words) < torch.randint(2, words + 1, (samples,), generator=generator)[:, None]
    span_mask = torch.arange(2) < torch.tensor([0] + [1 + i % 2 for i in range(samples - 1)])[:, None]
    spans = torch.rand(samples, 2, 2, generator=generator) * 0.4 + 0.2
    middle = (torch.arange(clips) + 0.5) / length[:, None]
    inside = (middle[:, None] - spans[..., :1]).abs() < spans[..., 1:] / 2  # [B, M, T]
    scores = torch.randint(1, 13, (samples, clips), generator=generator)
    saliency = scores * (inside & span_mask[..., None]).any(1) * video_mask
    return Batch(
        video=torch.randn(samples, levels, clips, 12, generator=generator) * video_mask[:, None, :, None],
        video_mask=video_mask,
        text=torch.randn(samples, levels, words, 10, generator=generator) * text_mask[:, None, :, None],
        text_mask=text_mask,
        spans=spans * span_mask[..., None],
        span_mask=span_mask,
        saliency=saliency.float(),
        duration=length * 2.0,
        index=torch.arange(samples),
    )


def build_small(seed: int = 0, moved: bool = False, **changes) -> SDST:
    """A small SDST; `moved` shifts every parameter off its initial value (some start at zero)."""
    torch.manual_seed(seed)
    model = SDST(dataclasses.replace(SMALL, **changes))
    return shift(model, 0.05) if moved else model


# --- published numbers


@pytest.mark.parametrize(
    ("shared", "published", "ours"), [(True, 4.10e6, 4_084_232), (False, 12.43e6, 12_571_220)]
)
def test_parameter_counts_are_within_three_percent_of_the_published(shared, published, ours):
    count = count_parameters(SDST(dataclasses.replace(Config.paper(), shared=shared)))
    assert count == pytest.approx(published, rel=0.03)
    assert count == ours  # the first of the deviations speaks of these counts


def test_paper_configs():
    assert [Config.paper(name).queries for name in ("qvhighlights", "charades_sta", "tacos")] == [30, 30, 5]
    with pytest.raises(ValueError, match="tvsum"):
        Config.paper("tvsum")


# --- training signal

VARIANTS = [
    {},
    {"attention": "cross"},
    {"attention": "deformable"},
    {"attention": "deformable_pure_init"},
    {"attention": "deformable_mixed_init"},
    {"sampling": "c"},
    {"sampling": "l-r", "context_cnn": False},
    {"conditioning": "raw"},
    {"conditioning": "cross"},
    {"conditioning": "self"},
    {"modules": ("cross", "self", "ffn")},
    {"modules": ("self", "video", "ffn")},
    {"modules": ("video", "self", "cross", "ffn")},
    {"modules": ("cross", "self", "video")},
    {"levels": 1},
    {"levels": 2},
    {"levels": 2, "level_stride": 2},
    {"levels": 5, "last_level_only": True},
    {"shared": False},
    {"shared": False, "attention": "deformable_mixed_init"},
    {"tef": False},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda v: "-".join(map(str, v.items())) or "paper")
def test_every_variant_trains_every_parameter(changes):
    model, batch = build_small(moved=True, **changes), make_batch()
    torch.manual_seed(1)
    output = model(batch)
    losses = model.loss(output, batch)
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert (
        output.spans.shape == (5, 6, 2) and output.scores.shape == (5, 6) and output.saliency.shape == (5, 14)
    )
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, name


def test_a_few_steps_lower_the_loss():
    model, batch = build_small(dropout=0.0, droppath=0.0), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_a_weight_of_zero_removes_its_loss_and_weights_scale():
    batch = make_batch()
    names = ["class", "l1", "iou", "actionness", "saliency", "video_align", "layer_align"]
    model = build_small().eval()
    full = model.loss(model(batch), batch)
    assert list(full) == names
    for name in names:
        without = build_small(**{f"weight_{name}": 0.0}).eval()
        assert list(without.loss(without(batch), batch)) == [other for other in names if other != name]
        double = build_small(**{f"weight_{name}": 2 * getattr(SMALL, f"weight_{name}")}).eval()
        torch.testing.assert_close(double.loss(double(batch), batch)[name], 2 * full[name])


def test_scores_combine_only_what_is_trained():
    batch = make_batch()
    both, class_only = build_small(moved=True).eval(), build_small(moved=True, weight_actionness=0.0).eval()
    output, other = both(batch), class_only(batch)
    probability = output.layers["logits"][-1].sigmoid()
    torch.testing.assert_close(
        output.scores, (probability * output.layers["actionness"][-1].sigmoid()).sqrt()
    )
    torch.testing.assert_close(other.scores, probability)


# --- structure


@pytest.mark.parametrize(
    "attention", ["rdsa", "cross", "deformable", "deformable_pure_init", "deformable_mixed_init"]
)
def test_padding_changes_nothing(attention):
    model, batch = build_small(moved=True, attention=attention).eval(), make_batch()
    output = model(batch)
    for row in range(5):
        clips, words = int(batch.video_mask[row].sum()), int(batch.text_mask[row].sum())
        alone = Batch(
            **{
                field.name: getattr(batch, field.name)[row : row + 1]
                for field in dataclasses.fields(batch)
                if field.name not in ("video", "video_mask", "text", "text_mask", "saliency")
            },
            video=batch.video[row : row + 1, :, :clips],
            video_mask=batch.video_mask[row : row + 1, :clips],
            text=batch.text[row : row + 1, :, :words],
            text_mask=batch.text_mask[row : row + 1, :words],
            saliency=batch.saliency[row : row + 1, :clips],
        )
        single = model(alone)
        for name in ("spans", "scores"):
            torch.testing.assert_close(
                getattr(single, name)[0], getattr(output, name)[row], atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(single.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)


def test_what_stands_in_the_padding_is_not_read():
    model, batch = build_small(moved=True).eval(), make_batch()
    noise = torch.where(batch.video_mask[:, None, :, None], batch.video, torch.full_like(batch.video, 7.0))
    text = torch.where(batch.text_mask[:, None, :, None], batch.text, torch.full_like(batch.text, 7.0))
    output, other = model(batch), model(dataclasses.replace(batch, video=noise, text=text))
    torch.testing.assert_close(other.spans, output.spans)
    torch.testing.assert_close(other.scores, output.scores)


def test_levels_are_counted_from_the_last():
    batch = make_batch(levels=7)
    keep = torch.tensor([2, 4, 6])
    strided = build_small(level_stride=2).eval()
    plain = build_small().eval()
    picked = dataclasses.replace(batch, video=batch.video[:, keep], text=batch.text[:, keep])
    torch.testing.assert_close(strided(batch).spans, plain(picked).spans)
    last = build_small(last_level_only=True).eval()
    repeated = dataclasses.replace(batch, video=batch.video[:, [6, 6, 6]], text=batch.text[:, [6, 6, 6]])
    torch.testing.assert_close(last(batch).saliency, plain(repeated).saliency)


def test_features_of_one_level():
    batch = make_batch()
    single = dataclasses.replace(batch, video=batch.video[:, -1], text=batch.text[:, -1])
    one = build_small(levels=1).eval()
    torch.testing.assert_close(one(single).spans, one(batch).spans)
    assert build_small(last_level_only=True).eval()(single).layers["spans"].shape[0] == 3
    with pytest.raises(ValueError, match="at least 3 levels, got 1"):
        build_small()(single)


def test_shared_and_unshared_start_with_the_same_heads_but_more_modules():
    shared, separate = build_small(), build_small(shared=False)
    assert len(shared.tuners) == 1 and len(separate.tuners) == 3
    per_level = count_parameters(shared.tuners)
    assert count_parameters(separate) == count_parameters(shared) + 2 * per_level


def test_fewer_clips_than_queries():
    for attention in ("deformable_pure_init", "deformable_mixed_init"):
        output = build_small(attention=attention, queries=40).eval()(make_batch())
        assert output.spans.shape == (5, 40, 2) and output.spans.isfinite().all()
        assert output.layers["logits"].shape == (4, 5, 40)  # the proposals are supervised too


def test_a_batch_without_any_moment():
    batch = make_batch()
    empty = without_moments(batch)
    model = build_small()
    losses = model.loss(model(empty), empty)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["l1"] == losses["iou"] == losses["saliency"] == losses["video_align"] == 0


# --- diagnostics


@pytest.mark.parametrize("attention", ["rdsa", "deformable"])
@pytest.mark.parametrize("shared", [True, False])
def test_trace(attention, shared):
    model, batch = build_small(attention=attention, shared=shared).eval(), make_batch()
    assert model(batch).trace == {}
    output = model(batch, trace=True)
    trace = output.trace
    assert set(trace) == {"offsets", "attention", "weighted_offsets", "initial_offsets", "references"}
    assert trace["offsets"].shape == trace["attention"].shape == (3, 5, 6, 4, 2)
    assert trace["weighted_offsets"].shape == (3, 5, 6, 4)
    assert trace["references"].shape == (4, 5, 6, 2)
    torch.testing.assert_close(trace["references"][-1], output.spans)
    torch.testing.assert_close(trace["weighted_offsets"], (trace["offsets"] * trace["attention"]).sum(-1))
    torch.testing.assert_close(trace["offsets"], trace["initial_offsets"].expand_as(trace["offsets"]))
    # An untrained model refines nothing: every level starts from the learned anchors.
    torch.testing.assert_close(trace["references"], trace["references"][:1].expand_as(trace["references"]))


def test_trace_does_not_change_the_predictions():
    model, batch = build_small(moved=True).eval(), make_batch()
    torch.testing.assert_close(model(batch, trace=True).spans, model(batch).spans)
    standard = build_small(attention="cross").eval()
    assert set(standard(batch, trace=True).trace) == {"references"}


def test_post_process_lowers_scores_only():
    model = build_small(moved=True).eval()
    output = model(make_batch())
    after = model.post_process(output)
    assert torch.equal(after.spans, output.spans)
    assert (after.scores <= output.scores).all()
    assert torch.equal(after.scores.amax(1), output.scores.amax(1))
    assert (after.scores < output.scores).any()


# --- numerics, errors


def test_same_seed_same_numbers():
    batch = make_batch()

    def run() -> torch.Tensor:
        model = build_small(seed=3)
        torch.manual_seed(4)
        sum(model.loss(model(batch), batch).values()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(run(), run())


@pytest.mark.parametrize("attention", ["rdsa", "cross", "deformable_mixed_init"])
def test_bfloat16_autocast(attention):
    model, batch = build_small(moved=True, attention=attention), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    losses = model.loss(output, batch)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for tensor in (output.spans, output.scores, output.saliency):
        assert tensor.dtype == torch.float32
    if attention.endswith("init"):  # near ties among the selected clips may fall the other way
        return
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch)
    torch.testing.assert_close(half.spans, model(batch).spans, atol=0.03, rtol=0)


def test_registry_and_lists_from_yaml():
    model = build(
        "sdst", {"video_dim": 12, "text_dim": 10, "width": 16, "heads": 4, "modules": ["cross", "video"]}
    )
    assert model.config.modules == ("cross", "video")


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "linear"},
        {"sampling": "r"},
        {"conditioning": "post"},
        {"modules": ("cross", "cross")},
        {"modules": ()},
        {"width": 18},
        {"levels": 0},
        {"droppath": 1.0},
    ],
)
def test_bad_configs_are_refused(changes):
    with pytest.raises(ValueError, match=f"sdst.{next(iter(changes))}"):
        dataclasses.replace(SMALL, **changes)
