"""Contrastive and focal losses, and those of SDST's moments, against loops over samples, clips and levels."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.data.batches import Output
from vtg_lib.losses.contrastive import TEMPERATURE, choose_positive, info_nce, sampled_nce
from vtg_lib.losses.matching import match
from vtg_lib.losses.set_prediction import best_overlap, focal_loss
from vtg_lib.models.sdst import MATCH_COST, detection_losses
from vtg_lib.spans import cw_to_se


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor([7, 5, 6, 4])[:, None]
    saliency = torch.randint(0, 5, (4, 7), generator=generator).float() * mask
    saliency[2] = 0  # a video without a relevant clip
    return torch.rand(4, 7, generator=generator) * 2 - 1, saliency, mask


def test_sampled_nce_equals_the_loop(clips):
    similarity, saliency, mask = clips
    positive, valid = choose_positive(saliency, mask, sample=False)
    assert valid.tolist() == [True, True, False, True]
    total = 0.0
    for b in (0, 1, 3):
        p = int(positive[b])

        def allowed(j, t):
            limit = saliency[j, int(positive[j])]
            return bool(mask[j, t]) and bool(saliency[j, t] <= limit)

        own = [similarity[b, t] / TEMPERATURE for t in range(7) if allowed(b, t)]
        others = [similarity[j, p] / TEMPERATURE for j in range(4) if allowed(j, p)]
        for row in (own, others):
            total += torch.stack(row).logsumexp(0) - similarity[b, p] / TEMPERATURE
    torch.testing.assert_close(sampled_nce(similarity, saliency, mask, positive, valid), total / 3)


def test_sampled_nce_prefers_the_salient_clip(clips):
    _, saliency, mask = clips
    positive, valid = choose_positive(saliency, mask, sample=False)
    right, wrong = saliency / 5, -saliency / 5
    assert sampled_nce(right, saliency, mask, positive, valid) < sampled_nce(
        wrong, saliency, mask, positive, valid
    )


def test_sampled_nce_without_any_relevant_clip_is_zero_with_a_gradient():
    similarity = torch.rand(2, 4, requires_grad=True)
    saliency, mask = torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.bool)
    loss = sampled_nce(similarity, saliency, mask, *choose_positive(saliency, mask, sample=True))
    loss.backward()
    assert loss == 0 and (similarity.grad == 0).all()


def test_drawn_positives_are_relevant_and_spread(clips):
    _, saliency, mask = clips
    torch.manual_seed(0)
    seen = {int(choose_positive(saliency, mask, sample=True)[0][0]) for _ in range(200)}
    assert seen == set(saliency[0].nonzero().flatten().tolist())


def test_looking_draws_no_random_numbers(clips):
    _, saliency, mask = clips
    state = torch.get_rng_state()
    positive, _ = choose_positive(saliency, mask, sample=False)
    assert torch.equal(state, torch.get_rng_state())
    assert (saliency.gather(1, positive[:, None]).squeeze(1) == saliency.amax(1)).all()


def test_info_nce_equals_the_loop():
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(3, 5, 8, generator=generator) for _ in range(2))
    valid = torch.tensor([True, True, False, True, True])
    for mask in (None, valid):
        rows = [i for i in range(5) if mask is None or mask[i]]
        total, count = 0.0, 0
        for group in range(3):
            cosine = torch.tensor(
                [[F.cosine_similarity(first[group, i], second[group, j], dim=0) for j in rows] for i in rows]
            )
            logits, own = cosine / TEMPERATURE, torch.arange(len(rows))
            total += sum(F.cross_entropy(way, own, reduction="sum").item() for way in (logits, logits.T))
            count += len(rows)
        assert info_nce(first, second, mask).item() == pytest.approx(total / count, rel=1e-5)


def test_focal_loss_equals_its_formula():
    logits = torch.tensor([-3.0, -0.2, 0.0, 1.5, 30.0, -30.0])
    for label in (True, False):
        loss = focal_loss(logits, torch.full((6,), label))
        for x, value in zip(logits.tolist(), loss.tolist(), strict=True):
            p = 1 / (1 + math.exp(-x if label else x))
            alpha = 0.25 if label else 0.75
            expected = alpha * (1 - p) ** 2 * -math.log(p)
            assert value == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_detection_losses_and_best_overlap_equal_the_loop():
    generator = torch.Generator().manual_seed(2)
    spans = torch.rand(2, 3, 5, 2, generator=generator)
    target = torch.rand(3, 4, 2, generator=generator)
    mask = torch.arange(4) < torch.tensor([2, 0, 4])[:, None]
    logits = torch.randn(2, 3, 5, generator=generator)
    matches = match(spans, logits.sigmoid(), target, mask, MATCH_COST)
    layers = {"spans": spans, "logits": logits, "actionness": logits}
    output = Output(spans=spans[-1], scores=logits[-1].sigmoid(), saliency=torch.zeros(3, 1), layers=layers)
    found = detection_losses(output, SimpleNamespace(spans=target, span_mask=mask))
    quality = best_overlap(cw_to_se(spans), cw_to_se(target), mask)

    def iou(a, b):
        low = max(a[0] - a[1] / 2, b[0] - b[1] / 2)
        high = min(a[0] + a[1] / 2, b[0] + b[1] / 2)
        inter = max(0.0, float(high - low))
        return inter / float(a[1] + b[1] - inter)

    expected_l1 = expected_iou = 0.0
    for level in range(2):
        for b in range(3):
            for m in range(4):
                if mask[b, m]:
                    predicted = spans[level, b, matches.query[level, b, m]]
                    expected_l1 += float((predicted - target[b, m]).abs().sum())
                    expected_iou += 1 - iou(predicted, target[b, m])
            for q in range(5):
                best = max(
                    (iou(spans[level, b, q], target[b, m]) for m in range(4) if mask[b, m]), default=0.0
                )
                assert float(quality[level, b, q]) == pytest.approx(best, abs=1e-5)
    assert float(found["l1"]) == pytest.approx(expected_l1 / 6, rel=1e-4)  # six moments
    assert float(found["iou"]) == pytest.approx(expected_iou / 6, rel=1e-4)
    error = (logits.sigmoid() - quality).abs().sum((1, 2)) / 15
    torch.testing.assert_close(found["actionness"], error.sum())
