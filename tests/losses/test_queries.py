"""SG-DETR's losses of queries, groups, saliency and alignment against loops."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.losses.matching import MatchCost
from vtg_lib.losses.queries import (
    group_losses,
    match_queries,
    paired_alignment,
    query_losses,
    saliency_loss,
)
from vtg_lib.spans import cw_to_se, generalised_iou, iou

TARGET = torch.tensor([[[0.3, 0.2], [0.7, 0.3]], [[0.5, 0.4], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
MASK = torch.tensor([[True, True], [True, False], [False, False]])


def predictions(layers: int = 2, queries: int = 4):
    torch.manual_seed(0)
    shape = (layers, 3, queries)
    return torch.rand(*shape, 2) * 0.5 + 0.2, torch.randn(shape), torch.randn(shape)


@pytest.mark.parametrize("weight", [0.0, 50.0])
def test_matching_is_the_cheapest_assignment(weight: float):
    spans, logits, quality = predictions()
    found = match_queries(spans, logits, quality, TARGET, MASK, MatchCost(), weight)
    for s in range(2):
        for b, count in ((0, 2), (1, 1)):

            def cost(queries, s=s, b=b) -> float:
                total = 0.0
                for m, q in enumerate(queries):
                    one, other = spans[s, b, q], TARGET[b, m]
                    total += 10 * (one - other).abs().sum() - generalised_iou(cw_to_se(one), cw_to_se(other))
                    total -= 4 * logits[s, b, q].sigmoid() + weight * quality[s, b, q].sigmoid()
                return float(total)

            best = min(itertools.permutations(range(4), count), key=cost)
            assert tuple(found.query[s, b, :count].tolist()) == best
    assert found.valid.sum() == 6
    without = match_queries(spans, logits, None, TARGET, MASK, MatchCost(), weight)
    base = match_queries(spans, logits, quality, TARGET, MASK, MatchCost(), 0.0)
    assert without.query.tolist() == base.query.tolist()


def test_query_losses_against_the_loop():
    spans, logits, quality = predictions()
    matches = match_queries(spans, logits, quality, TARGET, MASK, MatchCost(), 1.0)
    found = query_losses(spans, logits, quality, TARGET, matches)
    expected = dict.fromkeys(("span", "giou", "class", "iou"), 0.0)
    for s in range(2):
        for b, m in [(0, 0), (0, 1), (1, 0)]:
            q = matches.query[s, b, m]
            one, other = spans[s, b, q], TARGET[b, m]
            expected["span"] += float(F.smooth_l1_loss(one, other)) / 3
            expected["giou"] += float(1 - generalised_iou(cw_to_se(one), cw_to_se(other))) / 3
            truth = iou(cw_to_se(one), cw_to_se(other))
            expected["iou"] += float(F.binary_cross_entropy_with_logits(quality[s, b, q], truth)) / 3
        for b, q in itertools.product(range(3), range(4)):
            taken = bool(matches.positive[s, b, q])
            chance = logits[s, b, q].sigmoid()
            expected["class"] += float(-chance.log() if taken else -0.1 * (1 - chance).log()) / 12
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-4), name
    assert "iou" not in query_losses(spans, logits, None, TARGET, matches)


def test_no_moment_leaves_the_class_alone():
    spans, logits, quality = (x.requires_grad_() for x in predictions())
    matches = match_queries(spans, logits, quality, TARGET, MASK & False, MatchCost(), 1.0)
    losses = query_losses(spans, logits, quality, TARGET, matches)
    assert losses["class"] > 0 and losses["span"] == losses["giou"] == losses["iou"] == 0
    sum(losses.values()).backward()
    assert all(x.grad.isfinite().all() for x in (spans, logits, quality))


@pytest.mark.parametrize("borders", [False, True])
def test_group_losses_against_the_loop(borders: bool):
    spans, logits, _ = predictions()
    torch.manual_seed(1)
    target, real = torch.rand(3, 4, 2) * 0.3 + 0.3, torch.rand(3, 4) > 0.3
    positive = real & (torch.rand(3, 4) > 0.5)
    found = group_losses(spans, logits, target, positive, real, borders)
    span, giou, label = 0.0, 0.0, 0.0
    for s, b, q in itertools.product(range(2), range(3), range(4)):
        one, other = spans[s, b, q], target[b, q]
        if positive[b, q]:
            first, second = cw_to_se(one), cw_to_se(other)
            apart = (first - second).abs().mean() if borders else F.smooth_l1_loss(one, other)
            span += float(apart) / int(positive.sum())
            giou += float(1 - generalised_iou(first, second)) / int(positive.sum())
        if real[b, q]:
            wanted = positive[b, q].float()
            label += float(F.binary_cross_entropy_with_logits(logits[s, b, q], wanted)) / int(real.sum())
    for name, value in {"span": span, "giou": giou, "class": label}.items():
        assert found[name].item() == pytest.approx(value, rel=1e-4), name


def test_saliency_against_the_loop():
    torch.manual_seed(0)
    own, other = torch.randn(2, 2, 6)
    mask = torch.arange(6) < torch.tensor([6, 4])[:, None]
    target = torch.tensor([[0.0, 3, 7, 0, 0, 12], [0, 0, 2, 0, 0, 0]])
    pairs = torch.tensor([[5, 1], [2, 2]]), torch.tensor([[1, 0], [2, 3]])
    real = torch.tensor([True, False])
    found = saliency_loss(own, other, target, mask, pairs, real, 0.15)
    clips = [(b, t) for b in range(2) for t in range(6) if mask[b, t]]
    entropy = [
        F.binary_cross_entropy_with_logits(own[b, t], target[b, t].clamp(max=1)).item() for b, t in clips
    ]
    silence = [F.softplus(other[0, t]).item() for t in range(6)]
    chance, hinge, contrast = own.sigmoid(), 0.0, 0.0
    for b in range(2):
        for high, low in zip(pairs[0][b], pairs[1][b], strict=True):
            hinge += max(0.0, 0.15 + chance[b, low].item() - chance[b, high].item()) / 4 * 2
        numbers = [own[b, t] / 0.5 for t in range(6) if mask[b, t]]
        numbers += [other[b, t] / 0.5 for t in range(6)] if b == 0 else []
        total = torch.stack(numbers).logsumexp(0)
        for rank in range(1, 12):
            above = [t for t in range(6) if mask[b, t] and target[b, t] >= rank]
            if above:
                mean = sum((own[b, t] / 0.5 - total).item() for t in above) / len(above)
                contrast -= mean / 2 / 12
    expected = sum(entropy) / len(entropy) + hinge + contrast + sum(silence) / len(silence)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert saliency_loss(own, None, target, mask, pairs, real, 0.15) < found


def test_alignment_is_a_focal_loss_of_cosines():
    torch.manual_seed(0)
    moment, sentence = torch.randn(2, 3, 8)
    total = 0.0
    for i, j in itertools.product(range(3), range(3)):
        chance = F.cosine_similarity(moment[i], sentence[j], dim=0).sigmoid()
        right = chance if i == j else 1 - chance
        total += float(-0.5 * (1 - right) ** 2 * right.log()) / 3
    assert paired_alignment(moment, sentence).item() == pytest.approx(total, rel=1e-4)
