"""SnAG: sizes, local attention, targets and losses against slow versions, padding, resampling, suppression,
learning.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from ragged import TEXT_DIM, VIDEO_DIM, alone, ragged_batch, with_noise_in_padding

from vtg_lib.layers.conv_transformer import LocalPyramid, local_attend
from vtg_lib.layers.convolution import DepthwiseConv, TemporalConv, max_pool
from vtg_lib.losses.points import diou_loss, point_targets
from vtg_lib.models import MODELS, count_parameters
from vtg_lib.models.inference import autocast
from vtg_lib.models.snag import PRESETS, Config, SnAG, level_ranges, resample, scores_by_clip
from vtg_lib.spans import cw_to_se

SMALL = Config(
    video_dim=VIDEO_DIM,
    text_dim=TEXT_DIM,
    width=16,
    text_width=8,
    heads=2,
    pyramid_levels=3,
    text_layers=1,
    loss_norm=7.0,
)
PUBLIC_SIZES = {  # parameters that the public code counts
    "activitynet": 3_228_042,
    "charades_sta": 9_883_785,
    "charades_sta_c3d": 10_408_073,
    "ego4d": 24_404_747,
    "ego4d_slowfast": 37_546_635,
    "mad": 42_118_668,
    "tacos": 11_202_187,
}
VARIANTS = [
    {},
    {"fusion": "affine", "stem": 1, "window": 0},
    {"text_encoder": "pool", "stride": 2, "positions": False},
    {"fixed_length": 16, "regression": "iou"},
]


def build_small(moved: bool = True, **changes) -> SnAG:
    """A small SnAG; `moved` shifts every parameter off its initial value, so that every branch counts."""
    torch.manual_seed(0)
    model = SnAG(dataclasses.replace(SMALL, **changes))
    if moved:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            model.distance_head.convs[-1].taps.bias.add_(2.0)
    return model


@pytest.mark.parametrize("dataset", PRESETS)
def test_sizes_are_those_of_the_public_code(dataset):
    assert count_parameters(SnAG(Config.paper(dataset))) == PUBLIC_SIZES[dataset]
    assert MODELS["snag"].published_parameters is None


def test_presets_and_refusals():
    tacos, mad = Config.paper("tacos"), Config.paper("mad")
    assert (tacos.pyramid_levels, tacos.window, tacos.fusion, tacos.predictions) == (8, 19, "affine", 5)
    assert (mad.stride, mad.text_encoder, mad.predictions) == (2, "pool", 50)
    with pytest.raises(ValueError, match="qvhighlights"):
        Config.paper("qvhighlights")
    with pytest.raises(ValueError, match="adaln, affine"):
        Config(fusion="film")
    with pytest.raises(ValueError, match="odd window"):
        SnAG(dataclasses.replace(SMALL, window=4))
    with pytest.raises(ValueError, match="stride"):
        SnAG(dataclasses.replace(SMALL, stride=8))


# --- layers


def test_convolutions_are_torch_ones():
    torch.manual_seed(0)
    x, mask = torch.randn(3, 14, 6), torch.arange(14) < torch.tensor([14, 9, 4])[:, None]
    masked = (x * mask[..., None]).transpose(1, 2)
    for kernel, stride in ((3, 1), (5, 2)):
        conv = TemporalConv(6, 4, kernel, stride)
        weight = conv.taps.weight.unflatten(1, (kernel, 6)).transpose(1, 2)
        expected = F.conv1d(masked, weight, conv.taps.bias, stride, kernel // 2)
        torch.testing.assert_close(conv(x, mask), expected.transpose(1, 2))
    depthwise = DepthwiseConv(6, 3)
    for number, out in enumerate(depthwise(x, mask, 2)):
        expected = F.conv1d(masked, depthwise.taps[:, number].T[:, None], stride=2, padding=1, groups=6)
        torch.testing.assert_close(out, expected.transpose(1, 2))
    pooled = max_pool(x, mask, 2)
    assert pooled[1, 4].tolist() == x[1, 7:9].amax(0).tolist()  # clip 9 is padding
    assert not pooled[1, 5:].any() and not pooled[2, 2:].any()


@pytest.mark.parametrize("clips", [1, 20, 70])
def test_local_attention_reads_the_real_clips_around(clips):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, clips, 4) for _ in range(3))
    mask = torch.arange(clips) < torch.tensor([clips, max(1, clips - 9)])[:, None]
    out = local_attend(query, key, value, mask, 7)
    for b in range(2):
        for t in range(int(mask[b].sum())):
            near = [s for s in range(max(0, t - 3), min(clips, t + 4)) if mask[b, s]]
            weight = (key[b][:, near] @ query[b, :, t, :, None] / 2).softmax(1)
            torch.testing.assert_close(out[b, :, t], (weight * value[b][:, near]).sum(1))


def test_pyramid_halves_from_level_to_level():
    net = LocalPyramid(
        VIDEO_DIM,
        8,
        2,
        3,
        stride=2,
        convolutions=2,
        stem=1,
        levels=3,
        positions=True,
        dropout=0.0,
        droppath=0.0,
    )
    batch = ragged_batch(clips=19)
    levels, masks = net(batch.video, batch.video_mask)
    assert [level.shape[1] for level in levels] == [12, 6, 3]  # 19 clips are padded to 24
    length = batch.video_mask.sum(1)
    for level, mask, stride in zip(levels, masks, (2, 4, 8), strict=True):
        assert mask.sum(1).tolist() == (-(-length // stride)).tolist()
        assert not level[~mask].any() and level[mask].any()


def test_resampling_keeps_a_line_straight():
    length = torch.tensor([5, 16, 40])
    video = torch.arange(40.0)[None, :, None].expand(3, -1, 2)
    for b, row in enumerate(resample(video, length, 16)):
        n = int(length[b])
        fine = math.ceil(n / 16) * 16
        expected = F.interpolate(
            torch.arange(float(n))[None, None], size=fine, mode="linear", align_corners=False
        )
        torch.testing.assert_close(row[:, 0], F.avg_pool1d(expected, fine // 16)[0, 0])


# --- the model


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda v: "-".join(map(str, v.items())) or "default")
def test_every_parameter_gets_a_gradient(changes):
    model, batch = build_small(**changes), ragged_batch()
    output = model(batch)
    losses = model.loss(output, batch)
    assert set(losses) == {"class", "regression"} and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert output.spans.shape == (*output.scores.shape, 2) and output.saliency.shape == (5, 23)
    assert ((output.scores >= 0) & (output.scores <= 1)).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda v: "-".join(map(str, v.items())) or "default")
def test_padding_changes_nothing(changes):
    model, batch = build_small(**changes).eval(), ragged_batch()
    output, noisy = model(batch), model(with_noise_in_padding(batch))
    kept = model.post_process(output)
    points = output.extras["points"]
    assert not output.scores[~points.valid].any() and not output.spans[~points.valid].any()
    for name in ("spans", "scores", "saliency"):
        torch.testing.assert_close(getattr(noisy, name), getattr(output, name))
    for row in range(len(batch)):
        single, clips = alone(batch, row), int(batch.video_mask[row].sum())
        again = model(single)
        valid = again.extras["points"].valid[0]
        for name in ("spans", "scores"):
            expected = getattr(output, name)[row][points.valid[row]]
            torch.testing.assert_close(getattr(again, name)[0][valid], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(again.saliency[0], output.saliency[row, :clips], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.post_process(again).spans[0], kept.spans[row], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.loss(noisy, batch), model.loss(output, batch))


def test_ranges_double_and_the_last_is_open():
    assert level_ranges(4, 4.0, 0.5) == [(0, 4), (2, 8), (4, 16), (8, math.inf)]
    assert level_ranges(3, 8.0, 1.0) == [(0, 8), (8, 16), (16, math.inf)]
    assert level_ranges(1, 4.0, 0.5) == [(0, 4)]


def test_targets_and_losses_are_the_slow_ones():
    model, batch = build_small(weight_regression=3.0).eval(), ragged_batch(samples=9)
    batch.spans[3] = (
        torch.tensor([[11.5, 19.0], [11.5, 7.0]]) / batch.video_mask[3].sum()
    )  # one moment in another: the shorter one counts
    output = model(batch)
    points = output.extras["points"]
    length = batch.video_mask.sum(1)
    borders = cw_to_se(batch.spans) * length[:, None, None] - 0.5
    targets = point_targets(points, borders, batch.span_mask, 1.5, strict=True)
    focal = regression = 0.0
    places = [
        (level, t) for level in range(3) for t in range(24 // 2**level + 1)
    ]  # 23 clips are padded to 24
    assert len(places) == points.position.shape[0]
    count = 0
    for b in range(9):
        for place, (level, t) in enumerate(places):
            stride, position = 2**level, t * 2**level
            if t >= 24 // stride or position >= length[b]:
                assert not points.valid[b, place] and not targets.positive[b, place]
                continue
            low, high = [(0, 4), (2, 8), (4, math.inf)][level]
            found = []
            for start, end in borders[b][batch.span_mask[b]].double().round(decimals=3).tolist():
                before, after = position - start, end - position
                central = abs(position - (start + end) / 2) < 1.5 * stride
                if before > 0 and after > 0 and central and low <= max(before, after) < high:
                    found.append((end - start, before / stride, after / stride))
            assert bool(targets.positive[b, place]) == bool(found), (b, level, t)
            p = output.layers["logits"][0, b, place].sigmoid().item()
            target = 0.9 if found else 0.1
            right = p * target + (1 - p) * (1 - target)
            focal += 0.5 * (1 - right) ** 2 * -(target * math.log(p) + (1 - target) * math.log(1 - p))
            if found:
                count += 1
                _, left, right = min(found)
                assert targets.distances[b, place].tolist() == pytest.approx(
                    [left, right], rel=1e-4, abs=1e-5
                )
                d = output.extras["distances"][b, place].tolist()
                inter = min(d[0], left) + min(d[1], right)
                overlap = inter / (sum(d) + left + right - inter)
                shift = (d[1] - d[0] - right + left) / 2 / (max(d[0], left) + max(d[1], right))
                regression += 1 - overlap + shift**2
    assert count > 10
    losses = model.loss(output, batch)
    assert losses["class"].item() == pytest.approx(focal / 7, rel=1e-4)
    assert losses["regression"].item() == pytest.approx(3 * regression / 7, rel=1e-4)


def test_losses_are_divided_by_a_running_count_of_positive_points():
    model, batch = build_small(dropout=0.0, droppath=0.0), ragged_batch()
    output = model(batch)
    length = output.extras["length"][:, None, None]
    borders = cw_to_se(batch.spans) * length - 0.5
    positive = point_targets(
        output.extras["points"], borders, batch.span_mask, 1.5, strict=True
    ).positive.sum()
    first, second = model.loss(output, batch), model.loss(output, batch)
    norm = 0.9 * 7 + 0.1 * float(positive)
    assert second["class"].item() == pytest.approx(first["class"].item() * 7 / norm, rel=1e-4)
    model.eval()
    kept = model.loss_norm.clone()
    model.loss(output, batch)
    assert torch.equal(model.loss_norm, kept)


def test_diou_is_zero_for_equal_spans_and_grows_with_the_shift():
    target = torch.tensor([2.0, 2.0])
    assert diou_loss(target, target) == 0
    values = [diou_loss(torch.tensor([2.0 + s, 2.0 - s]), target).item() for s in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values) and values[1] == pytest.approx(1 - 3.5 / 4.5 + (0.5 / 4.5) ** 2)


def test_saliency_is_the_best_class_score_of_any_level_at_the_clip():
    masks = [torch.tensor([[True] * 5 + [False]]), torch.tensor([[True] * 3])]
    scores = torch.tensor([[0.1, 0.2, 0.0, 0.4, 0.3, 9.0, 9.0, 0.3, 0.1, 0.5, 9.0]])  # 9 where no point is
    saliency = scores_by_clip(scores, masks, torch.arange(6.0)[None])
    assert saliency[0].tolist() == pytest.approx([0.3, 0.2, 0.1, 0.4, 0.5, 0.5])
    model, batch = build_small(stride=2).eval(), ragged_batch()
    output = model(batch)
    points, probability = output.extras["points"], output.layers["logits"][0].sigmoid()
    for b in range(5):
        for t in range(0, int(batch.video_mask[b].sum()), 8):  # a point of every level is here
            here = probability[b][points.valid[b] & (points.position == t)]
            assert output.saliency[b, t].item() == pytest.approx(here.max().item(), rel=1e-5)


def test_predictions_are_few_and_inside_the_video():
    model, batch = build_small(predictions=4).eval(), ragged_batch()
    output = model.post_process(model(batch))
    borders = cw_to_se(output.spans)
    assert output.spans.shape == (5, 4, 2) and (borders >= -1e-6).all() and (borders <= 1 + 1e-6).all()
    assert (output.scores.diff(dim=1) <= 0).all() and (output.scores[:, 0] > 0).all()


def test_half_precision_keeps_scores_apart():
    model, batch = build_small().eval(), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
        losses = model.loss(output, batch)
    assert output.scores.dtype == output.spans.dtype == output.saliency.dtype == torch.float32
    torch.testing.assert_close(output.scores, model(batch).scores, atol=0.1, rtol=0.2)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_few_samples_can_be_learned():
    model, batch = build_small(moved=False, dropout=0.0, droppath=0.0), ragged_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item() * model.loss_norm.item())
    assert history[-1] < 0.5 * history[0]
