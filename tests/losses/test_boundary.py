"""BAM-DETR's matching and losses against slow versions."""

from __future__ import annotations

import itertools

import pytest
import torch

from vtg_lib.losses.boundary import (
    border_feature_loss,
    border_targets,
    inside_video,
    match_borders,
    quality_loss,
)
from vtg_lib.losses.matching import MatchCost
from vtg_lib.losses.set_prediction import loss_giou, loss_l1
from vtg_lib.spans import cw_to_se, generalised_iou, iou


def random_spans(*shape: int) -> torch.Tensor:
    """(center, width) that may reach beyond the video."""
    return torch.stack((torch.rand(shape), 0.05 + 0.6 * torch.rand(shape)), -1)


def test_matching_is_the_cheapest_by_borders():
    torch.manual_seed(0)
    spans, scores, target = random_spans(2, 3, 4), torch.rand(2, 3, 4), random_spans(3, 3)
    mask = torch.tensor([[True, True, True], [True, False, False], [False] * 3])
    for cost in (MatchCost(score=0.0), MatchCost(score=4.0)):
        found = match_borders(spans, scores, target, mask, cost)
        for layer, b in itertools.product(range(2), range(3)):
            count = int(mask[b].sum())

            def price(order, layer=layer, b=b, cost=cost):
                total = 0.0
                for moment, query in enumerate(order):
                    one = cw_to_se(spans[layer, b, query]).clamp(0, 1)
                    other = cw_to_se(target[b, moment]).clamp(0, 1)
                    total += cost.l1 * (one - other).abs().sum() - cost.giou * generalised_iou(one, other)
                    total -= cost.score * scores[layer, b, query]
                return float(total)

            best = min(itertools.permutations(range(4), count), key=price)
            assert found.query[layer, b, :count].tolist() == list(best)
            assert found.positive[layer, b].nonzero().flatten().tolist() == sorted(best)
            assert found.valid[layer, b].tolist() == mask[b].tolist()
    with pytest.raises(FloatingPointError, match="expected finite predictions"):
        match_borders(spans * torch.nan, scores, target, mask, MatchCost())


def test_border_and_quality_losses_against_slow_versions():
    torch.manual_seed(0)
    spans, target = random_spans(2, 3, 6), random_spans(3, 2)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    quality = torch.rand(2, 3, 6)
    matches = match_borders(spans, quality, target, mask, MatchCost(score=0.0))
    predicted = cw_to_se(matches.gather(spans))
    wanted = inside_video(target).expand_as(predicted)
    l1, giou = (loss(predicted, wanted, matches.valid) for loss in (loss_l1, loss_giou))
    found = quality_loss(quality, spans, target, mask)
    for layer in range(2):
        pairs = [(b, m, int(matches.query[layer, b, m])) for b in range(3) for m in range(2) if mask[b, m]]
        ends = [(cw_to_se(spans[layer, b, q]), cw_to_se(target[b, m]).clamp(0, 1)) for b, m, q in pairs]
        torch.testing.assert_close(l1[layer], torch.stack([(x - y).abs().mean() for x, y in ends]).mean())
        torch.testing.assert_close(
            giou[layer], torch.stack([1 - generalised_iou(x, y) for x, y in ends]).mean()
        )
        bins: dict[str, list[float]] = {"low": [], "middle": [], "high": []}
        for b in range(3):
            for q in range(6):
                one = cw_to_se(spans[layer, b, q]).clamp(0, 1)
                best = max(
                    [float(iou(one, cw_to_se(target[b, m]).clamp(0, 1))) for m in range(2) if mask[b, m]],
                    default=0.0,
                )
                name = "low" if best <= 0.3 else "middle" if best <= 0.7 else "high"
                bins[name].append(abs(float(quality[layer, b, q]) - best))
        assert bins["middle"]
        expected = sum(sum(errors) / len(errors) for errors in bins.values() if errors) / 3
        assert found[layer].item() == pytest.approx(expected, rel=1e-4)


def test_border_clips_and_their_loss_against_slow_versions():
    torch.manual_seed(0)
    target = torch.tensor([[[0.5, 0.4], [0.15, 0.3]], [[0.9, 0.4], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    span_mask = torch.tensor([[True, True], [True, False], [False, False]])
    mask = torch.arange(20) < torch.tensor([20, 16, 10])[:, None]
    features = torch.rand(2, 3, 20, 4)
    wanted = border_targets(target, span_mask, mask)
    losses = []
    for b in range(3):
        clips = int(mask[b].sum())
        for side in range(2):
            at_border = set()
            for m in range(2):
                if span_mask[b, m]:
                    ends = [x * clips for x in cw_to_se(target[b, m]).clamp(0, 1).tolist()]
                    size, border = ends[1] - ends[0], ends[side]
                    before, behind = (0.25, 0.1) if side == 0 else (0.1, 0.25)
                    at_border |= {
                        t for t in range(clips) if border - before * size <= t + 0.5 <= border + behind * size
                    }
            assert wanted[side, b].nonzero().flatten().tolist() == sorted(at_border)
            score = features[side, b].tanh().mean(-1)
            yes = [-score[t].log() for t in range(clips) if t in at_border]
            no = [-(1 - score[t]).log() for t in range(clips) if t not in at_border]
            losses.append(sum(float(sum(terms) / len(terms)) for terms in (yes, no) if terms) / 2)
    assert wanted.any()
    found = border_feature_loss(features, target, span_mask, mask)
    assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
