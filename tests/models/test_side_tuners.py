"""The side-tuners of SDST's Tab. H: parameter counts, gradients, padding, what each one reads, losses,
learning.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from ragged import moved as shift
from ragged import without_moments
from torch import nn

from vtg_lib.data.batches import Batch
from vtg_lib.models import MODELS, build, count_parameters, entry
from vtg_lib.models.parts.side_tuning import RADIUS
from vtg_lib.papers import load_paper
from vtg_lib.spans import cw_to_se

COUNTS = {"untuned": 2_770_699, "e3va": 2_551_563, "losa": 6_392_339, "lst": 2_083_151}
NAMES = tuple(COUNTS)
SMALL = {"video_dim": 12, "text_dim": 10, "width": 16, "heads": 4}
DEEP = ("e3va", "losa", "lst")


def make_batch(samples: int = 5, levels: int = 4, clips: int = 14, words: int = 6) -> Batch:
    """Random features of videos of different lengths; the first sample has no moment."""
    generator = torch.Generator().manual_seed(0)
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


def build_small(name: str, moved: bool = True, **changes) -> nn.Module:
    """A small model; `moved` shifts every parameter off its initial value (gates and adapters start at
    zero).
    """
    torch.manual_seed(0)
    model = build(name, SMALL | changes)
    return shift(model, 0.05) if moved else model


# --- published numbers


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_are_within_three_percent_of_the_published(name):
    count = count_parameters(build(name))
    assert count == pytest.approx(MODELS[name].published_parameters * 1e6, rel=0.03)
    assert count == COUNTS[name]  # the deviations speak of these counts
    label = {"untuned": "w/o Tuning", "e3va": "E3VA", "losa": "LoSA", "lst": "LST"}[name]
    row = load_paper("sdst").table("tabH").row(label)
    assert row.model == name and row.paper["#Params (M)"] == MODELS[name].published_parameters


@pytest.mark.parametrize("name", NAMES)
def test_presets(name):
    config = entry(name).config_class
    assert config.paper("qvhighlights") == config()
    charades, tacos = config.paper("charades_sta"), config.paper("tacos")
    assert (charades.dropout, charades.weight_saliency, charades.nms, charades.grid) == (
        0.35,
        0.01,
        "linear",
        0.1,
    )
    assert (tacos.dropout, tacos.weight_saliency, tacos.nms, tacos.grid) == (0.5, 0.05, "linear", 0.0)
    rendered = load_paper("sdst").profile("rendered")
    for dataset, preset in (("qvhighlights", config()), ("charades_sta", charades), ("tacos", tacos)):
        assert config(**rendered.overrides(name, dataset).config) == preset
    with pytest.raises(ValueError, match="tvsum"):
        config.paper("tvsum")


def test_only_the_tuner_differs():
    shared = [
        {
            key: value.shape
            for key, value in build_small(name).named_parameters()
            if not key.startswith("tuner.")
        }
        for name in NAMES
    ]
    assert all(other == shared[0] for other in shared[1:])


# --- training signal


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    model, batch = build_small(name, strides=(1, 2, 4)), make_batch()
    torch.manual_seed(1)
    output = model(batch)
    losses = model.loss(output, batch)
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    points = 14 + 7 + 3
    assert (
        output.spans.shape == (5, points, 2)
        and output.scores.shape == (5, points)
        and output.saliency.shape == (5, 14)
    )
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if not key.endswith("key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_an_untouched_model_learns_a_few_samples(name):
    model, batch = build_small(name, moved=False, dropout=0.0, droppath=0.0), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.6 * sum(values[:5])


def test_losses_are_what_their_sentences_say():
    """Every term against loops over samples, points and moments."""
    model, batch = build_small("e3va").eval(), make_batch()
    output = model(batch)
    losses, extras = model.loss(output, batch), output.extras
    points, logits = extras["points"], output.layers["logits"][0]
    focal, regression = [], []
    for row in range(5):
        length = int(batch.video_mask[row].sum())
        moments = []
        for center, width in batch.spans[row][batch.span_mask[row]].tolist():
            width = max(width, 1 / length)
            moments.append(((center - width / 2) * length, (center + width / 2) * length))
        for p in range(logits.shape[1]):
            if not points.valid[row, p]:
                continue
            at, stride = float(points.position[p]), float(points.stride[p])
            fitting = [
                (end - start, start, end)
                for start, end in moments
                if start <= at <= end
                and abs(at - (start + end) / 2) <= RADIUS * stride
                and float(points.low[p]) <= max(at - start, end - at) <= float(points.high[p])
            ]
            chance = logits[row, p].sigmoid()
            focal.append(
                -((1 - chance) ** 2) * chance.log() if fitting else -(chance**2) * (1 - chance).log()
            )
            if fitting:
                _, start, end = min(fitting)
                target = torch.tensor([at - start, end - at]) / stride
                regression.append((extras["distances"][row, p] - target).abs().mean())
    assert len(regression) > 3
    torch.testing.assert_close(losses["class"], torch.stack(focal).mean())
    torch.testing.assert_close(losses["distance"], 0.2 * torch.stack(regression).mean())

    best = batch.saliency.argmax(1)  # in evaluation the most salient clip is the positive one
    rows = [row for row in range(5) if batch.saliency[row].max() > 0]
    video = torch.stack([extras["clips"][:, row, best[row]] for row in rows])  # [N, K, D]
    text = torch.stack([extras["text"][:, row] for row in rows])

    def contrast(first, second):
        logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / 0.07
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    over_batch = torch.stack([contrast(video[:, k], text[:, k]) for k in range(4)]).mean()
    over_levels = torch.stack([contrast(v, t) for v, t in zip(video, text, strict=True)]).mean()
    torch.testing.assert_close(losses["video_align"], 0.1 * over_batch)
    torch.testing.assert_close(losses["layer_align"], 0.1 * over_levels)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_scales_its_loss(name):
    batch = make_batch()
    model = build_small(name).eval()
    full = model.loss(model(batch), batch)
    terms = ["class", "distance", "saliency", "video_align"] + ["layer_align"] * (name != "untuned")
    assert list(full) == terms
    for term in terms:
        key = f"weight_{term}"
        double = build_small(name, **{key: 2 * getattr(model.config, key)}).eval()
        torch.testing.assert_close(double.loss(double(batch), batch)[term], 2 * full[term])


def test_a_batch_without_any_moment():
    batch = make_batch()
    empty = without_moments(batch)
    model = build_small("losa")
    losses = model.loss(model(empty), empty)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["distance"] == losses["saliency"] == losses["video_align"] == losses["layer_align"] == 0


# --- structure


def alone(batch: Batch, row: int) -> Batch:
    """One sample without its padding."""
    clips, words = int(batch.video_mask[row].sum()), int(batch.text_mask[row].sum())
    rows = {f.name: getattr(batch, f.name)[row : row + 1] for f in dataclasses.fields(batch)}
    rows |= {"video": rows["video"][:, :, :clips], "text": rows["text"][:, :, :words]}
    rows |= {name: rows[name][:, :clips] for name in ("video_mask", "saliency")}
    return Batch(**rows | {"text_mask": rows["text_mask"][:, :words]})


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name):
    model, batch = build_small(name).eval(), make_batch()
    batch.video = torch.where(
        batch.video_mask[:, None, :, None], batch.video, torch.full_like(batch.video, 7.0)
    )
    batch.text = torch.where(batch.text_mask[:, None, :, None], batch.text, torch.full_like(batch.text, 7.0))
    together = model(batch)
    assert (together.scores[~together.extras["points"].valid] == 0).all()
    after = model.post_process(together)
    for row in range(5):
        single = model(alone(batch, row))
        valid, clips = together.extras["points"].valid[row], single.saliency.shape[1]
        assert int(valid.sum()) == single.scores.shape[1]
        for field in ("spans", "scores"):
            torch.testing.assert_close(
                getattr(single, field)[0], getattr(together, field)[row, valid], atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(single.saliency[0], together.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        kept = model.post_process(single).scores[0]
        torch.testing.assert_close(kept, after.scores[row, : len(kept)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_which_levels_are_read(name):
    model, batch = build_small(name).eval(), make_batch(levels=5)
    before = model(batch).spans
    first = dataclasses.replace(batch, video=batch.video.clone(), text=batch.text.clone())
    first.video[:, 0] += 1
    first.text[:, 0] += 1
    assert torch.equal(model(first).spans, before)  # only the last four count
    for level in range(1, 5):
        changed = dataclasses.replace(batch, video=batch.video.clone())
        changed.video[:, level] = changed.video[:, level].roll(1, 1)
        moved = not torch.allclose(model(changed).spans, before, atol=1e-6)
        assert moved == (name in DEEP or level == 4), level


@pytest.mark.parametrize("name", NAMES)
def test_the_sentence_is_read(name):
    model, batch = build_small(name).eval(), make_batch()
    other = dataclasses.replace(batch, text=batch.text.roll(1, 0), text_mask=batch.text_mask.roll(1, 0))
    assert not torch.allclose(model(other).scores, model(batch).scores, atol=1e-6)
    assert not torch.allclose(model(other).saliency, model(batch).saliency, atol=1e-6)


def test_features_of_one_level():
    batch = make_batch()
    single = dataclasses.replace(batch, video=batch.video[:, -1], text=batch.text[:, -1])
    model = build_small("untuned").eval()
    torch.testing.assert_close(model(single).spans, model(batch).spans)
    with pytest.raises(ValueError, match="4 levels need .* got 1 of the video"):
        build_small("lst")(single)


# --- numerics, errors


@pytest.mark.parametrize("name", NAMES)
def test_post_process_keeps_the_best_inside_the_video(name):
    model, batch = build_small(name, candidates=6).eval(), make_batch()
    output = model(batch)
    after = model.post_process(output)
    assert after.spans.shape == (5, 6, 2) and (after.scores[:, 0] == output.scores.amax(1)).all()
    borders = cw_to_se(after.spans)
    assert (borders > -1e-6).all() and (borders < 1 + 1e-6).all()
    clips = borders * output.extras["length"][:, None, None]
    assert torch.allclose(clips, clips.round(), atol=1e-4)  # the grid is one clip


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_autocast(name):
    model, batch = build_small(name), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    losses = model.loss(output, batch)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for tensor in (output.spans, output.scores, output.saliency):
        assert tensor.dtype == torch.float32
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch)
    torch.testing.assert_close(half.scores, model(batch).scores, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_numbers(name):
    batch = make_batch()

    def gradients() -> torch.Tensor:
        model = build_small(name)
        torch.manual_seed(4)
        sum(model.loss(model(batch), batch).values()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    assert torch.equal(gradients(), gradients())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lst", {"reduction": 3}, "lst.reduction"),
        ("lst", {"width": 18}, "width"),
        ("losa", {"kernel": 2}, "losa.kernel"),
        ("losa", {"bottleneck": 3}, "losa.bottleneck"),
        ("e3va", {"rank": 0}, "e3va.rank"),
        ("e3va", {"levels": 0}, "levels"),
        ("untuned", {"droppath": 1.0}, "droppath"),
        ("untuned", {"nms": "none"}, "nms"),
        ("untuned", {"strides": (1, 3)}, "strides"),
    ],
)
def test_bad_configs_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        build(name, SMALL | changes)
