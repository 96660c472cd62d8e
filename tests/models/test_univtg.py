"""UniVTG: size, targets and losses against slow versions, padding, suppression, learning."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from ragged import TEXT_DIM, VIDEO_DIM, alone, ragged_batch, with_noise_in_padding
from ragged import moved as shift

from vtg_lib.losses.contrastive import choose_positive
from vtg_lib.losses.points import assign_moments, clip_points
from vtg_lib.models import MODELS, count_parameters
from vtg_lib.models.inference import autocast
from vtg_lib.models.univtg import Config, UniVTG
from vtg_lib.spans import cw_to_se, iou

SMALL = Config(video_dim=VIDEO_DIM, text_dim=TEXT_DIM, width=16, heads=2, hidden=24, encoder_layers=2)


def build_small(moved: bool = True, **changes) -> UniVTG:
    torch.manual_seed(0)
    model = UniVTG(dataclasses.replace(SMALL, **changes))
    return shift(model, 0.1) if moved else model


def test_size_is_that_of_the_public_code_without_what_it_never_uses():
    count = count_parameters(UniVTG(Config.paper()))
    assert count == 43_406_855 - (75 + 2) * 1024  # position embedding and norm of the words
    assert count / 2**20 == pytest.approx(MODELS["univtg"].published_parameters, abs=0.05)
    with pytest.raises(ValueError, match="tacos"):
        Config.paper("tacos")


def test_every_parameter_gets_a_gradient():
    model, batch = build_small(), ragged_batch()
    output = model(batch)
    losses = model.loss(output, batch)
    assert set(losses) == {"l1", "iou", "foreground", "intra", "inter"}
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert output.spans.shape == (5, 23, 2) and output.scores.shape == output.saliency.shape == (5, 23)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # the same for every key, so softmax does not see it
            assert parameter.grad.abs().max() > 0, name


def test_padding_changes_nothing():
    model, batch = build_small().eval(), ragged_batch()
    output, noisy = model(batch), model(with_noise_in_padding(batch))
    kept = model.post_process(output)
    for row in range(len(batch)):
        clips, single = int(batch.video_mask[row].sum()), model(alone(batch, row))
        for name in ("spans", "scores", "saliency"):
            torch.testing.assert_close(
                getattr(single, name)[0], getattr(output, name)[row, :clips], atol=1e-5, rtol=1e-4
            )
            torch.testing.assert_close(getattr(noisy, name)[row, :clips], getattr(output, name)[row, :clips])
        assert not output.scores[row, clips:].any()
        again = model.post_process(single)
        size = again.scores.shape[1]  # a short video has fewer clips than predictions are kept
        torch.testing.assert_close(again.scores[0], kept.scores[row, :size], atol=1e-5, rtol=1e-4)
        assert not kept.scores[row, size:].any()
    losses, others = model.loss(output, batch), model.loss(noisy, batch)
    torch.testing.assert_close(losses, others)


def test_moments_are_assigned_as_clip_by_clip():
    batch = ragged_batch(samples=9)
    batch.spans[2, 0] = torch.tensor([0.5 / 23 + 0.2, 1e-3])  # between two points: its first clip stands in
    batch.span_mask[2] = torch.tensor([True, False])
    for offset in (1.0, 0.5):
        points = clip_points(batch.video_mask, offset)
        target, foreground = assign_moments(points, batch.video_mask, batch.spans, batch.span_mask)
        for b in range(len(batch)):
            length = int(batch.video_mask[b].sum())
            moments = cw_to_se(batch.spans[b][batch.span_mask[b]]).tolist()
            expected = {}
            for t in range(length):
                for start, end in moments:
                    if start - 1e-5 <= (t + offset) / length <= end + 1e-5:
                        expected[t] = (start, end)
            if moments and not expected:
                expected[int(moments[0][0] * length + 1e-4)] = moments[0]
            assert foreground[b].nonzero()[:, 0].tolist() == sorted(expected)
            for t, span in expected.items():
                assert target[b, t].tolist() == pytest.approx(span)
    assert not foreground[0].any() and foreground[2].sum() == 1


def test_losses_are_the_slow_ones():
    model, batch = build_small().eval(), ragged_batch(samples=7)
    output = model(batch)
    losses = model.loss(output, batch)
    target, foreground = assign_moments(
        clip_points(batch.video_mask, 1.0), batch.video_mask, batch.spans, batch.span_mask
    )
    l1, overlap, label, clips = [], [], [], 0
    for b in range(7):
        for t in range(int(batch.video_mask[b].sum())):
            clips += 1
            p = output.scores[b, t]
            label.append(-p.log() if foreground[b, t] else -0.1 * (1 - p).log())
            if foreground[b, t]:
                (s, e), (u, v) = cw_to_se(output.spans[b, t]), target[b, t]
                l1.append(sum(0.5 * d**2 if d < 1 else d - 0.5 for d in ((s - u).abs(), (e - v).abs())))
                inter, hull = (
                    (torch.min(e, v) - torch.max(s, u)).clamp(min=0),
                    torch.max(e, v) - torch.min(s, u),
                )
                union = (e - s) + (v - u) - inter
                overlap.append(1 - (inter / union - (hull - union) / hull))
    assert losses["l1"].item() == pytest.approx(10 * torch.stack(l1).mean().item(), rel=1e-4)
    assert losses["iou"].item() == pytest.approx(torch.stack(overlap).mean().item(), rel=1e-4)
    assert losses["foreground"].item() == pytest.approx(
        10 * torch.stack(label).sum().item() / clips, rel=1e-4
    )

    positive, valid = choose_positive(batch.saliency, batch.video_mask, False)
    assert valid.tolist() == [False] + [True] * 6
    similarity, intra = output.extras["similarity"] / 0.07, 0.0
    for b in range(1, 7):
        p = int(positive[b])

        def usable(row: int, clip: int) -> bool:
            chosen = batch.saliency[row, positive[row]]
            own = clip == positive[row]
            return bool(batch.video_mask[row, clip] and (own or batch.saliency[row, clip] < chosen))

        row = torch.stack([similarity[b, t] for t in range(23) if usable(b, t)])
        column = torch.stack([similarity[other, p] for other in range(7) if usable(other, p)])
        intra += row.logsumexp(0) + column.logsumexp(0) - 2 * similarity[b, p]
    assert losses["intra"].item() == pytest.approx(0.05 * intra.item() / 6, rel=1e-4)

    chosen = F.normalize(output.extras["clips"][range(1, 7), positive[1:]], dim=-1)
    logits = chosen @ F.normalize(output.extras["text"][1:], dim=-1).T / 0.07
    inter = F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))
    assert losses["inter"].item() == pytest.approx(0.01 * inter.item(), rel=1e-4)


def test_predictions_are_few_inside_the_video_and_falling():
    model, batch = build_small().eval(), ragged_batch()
    output = model.post_process(model(batch))
    assert output.spans.shape == (5, 10, 2)
    borders = cw_to_se(output.spans)
    assert (borders >= -1e-6).all() and (borders <= 1 + 1e-6).all()
    assert (output.scores.diff(dim=1) <= 0).all() and (output.scores[:, 0] > 0).all()
    overlap = iou(borders[:, :, None], borders[:, None]).tril(-1)
    assert overlap.max() <= 0.7


def test_half_precision_keeps_scores_apart():
    model, batch = build_small().eval(), ragged_batch()
    with autocast(torch.device("cpu"), "bfloat16"):
        output = model(batch)
        losses = model.loss(output, batch)
    assert output.scores.dtype == output.spans.dtype == output.saliency.dtype == torch.float32
    reference = model(batch)
    torch.testing.assert_close(output.scores, reference.scores, atol=0.05, rtol=0.1)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_few_samples_can_be_learned():
    model, batch = build_small(moved=False, input_dropout=0.0, droppath=0.0), ragged_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        loss = sum(model.loss(model(batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]
