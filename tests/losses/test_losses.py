"""Losses against naive loops over samples, clips and ranks."""

import math

import pytest
import torch

from vtg_lib.data.batches import Batch
from vtg_lib.losses import saliency as losses
from vtg_lib.losses.matching import Matches
from vtg_lib.losses.set_prediction import loss_giou, loss_l1, loss_label, set_losses
from vtg_lib.spans import cw_to_se


def span_losses(spans: torch.Tensor, target: torch.Tensor, matches: Matches) -> tuple[torch.Tensor, ...]:
    """L1 and gIoU loss of matched predictions."""
    predicted = matches.gather(spans)
    target = target.expand_as(predicted)
    giou = loss_giou(cw_to_se(predicted), cw_to_se(target), matches.valid)
    return loss_l1(predicted, target, matches.valid), giou


def test_span_losses_average_over_moments() -> None:
    spans = torch.tensor([[[[0.5, 0.2], [0.2, 0.4]], [[0.5, 0.5], [0.1, 0.1]]]])  # [1, 2, 2, 2]
    target = torch.tensor([[[0.5, 0.4], [0.2, 0.4]], [[0.5, 0.5], [0.0, 0.0]]])
    matches = Matches(
        query=torch.tensor([[[0, 1], [0, 0]]]),
        valid=torch.tensor([[[True, True], [True, False]]]),
        positive=torch.tensor([[[True, True], [True, False]]]),
    )
    l1, giou = span_losses(spans, target, matches)
    assert l1.item() == pytest.approx((0.1 + 0 + 0) / 3)  # |0.2 - 0.4| / 2 coordinates, over three moments
    assert giou.item() == pytest.approx((0.5 + 0 + 0) / 3)


def test_no_moment_gives_zero_and_a_gradient() -> None:
    spans = torch.rand(1, 2, 3, 2, requires_grad=True)
    empty = Matches(
        query=torch.zeros(1, 2, 1, dtype=torch.long),
        valid=torch.zeros(1, 2, 1, dtype=torch.bool),
        positive=torch.zeros(1, 2, 3, dtype=torch.bool),
    )
    l1, giou = span_losses(spans, torch.zeros(2, 1, 2), empty)
    (l1 + giou).sum().backward()
    assert l1.item() == giou.item() == 0
    assert spans.grad is not None and spans.grad.isfinite().all()


def test_cross_entropy_weights_the_background() -> None:
    logits = torch.tensor([[[[2.0, 0.0], [0.0, 1.0]]]])
    positive = torch.tensor([[[True, False]]])
    expected = (math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(-1))) / 2
    assert loss_label(logits, positive).item() == pytest.approx(expected, rel=1e-5)


def test_set_losses_are_weighted_sums_over_layers() -> None:
    torch.manual_seed(0)
    layers = {"spans": torch.rand(2, 3, 4, 2), "logits": torch.randn(2, 3, 4, 2)}
    nothing = torch.zeros(3, 1)
    batch = Batch(
        video=nothing,
        video_mask=nothing,
        text=nothing,
        text_mask=nothing,
        spans=torch.rand(3, 2, 2),
        span_mask=torch.tensor([[True, True], [True, False], [False, False]]),
        saliency=nothing,
        duration=nothing,
        index=nothing,
    )
    whole = set_losses(layers, batch)
    single = [set_losses({name: x[s : s + 1] for name, x in layers.items()}, batch) for s in range(2)]
    assert set(whole) == {"l1", "giou", "label"}
    for name, value in whole.items():
        torch.testing.assert_close(value, single[0][name] + single[1][name])
    counted = set_losses(layers, batch, label=lambda logits, positive: positive.sum((1, 2)).float())
    assert counted["label"] == 4 * 2 * 3  # weight, layers, moments


def test_rank_contrastive_equals_the_loop_over_ranks() -> None:
    torch.manual_seed(0)
    scores, target = torch.randn(3, 8), torch.randint(0, 13, (3, 8)).float()
    target[2] = 0  # no positive clip
    mask = torch.ones(3, 8).bool()
    mask[1, 6:] = False
    total = 0.0
    for rank in range(1, 12):
        for b in range(3):
            positive = [t for t in range(8) if mask[b, t] and target[b, t] >= rank]
            logits = [scores[b, t].item() / 0.5 for t in range(8) if mask[b, t]]
            normaliser = math.log(sum(math.exp(v) for v in logits))
            if positive:
                total -= sum(scores[b, t].item() / 0.5 - normaliser for t in positive) / len(positive) / 3
    assert losses.rank_contrastive_saliency(scores, target, mask).item() == pytest.approx(
        total / 12, rel=1e-4
    )


def test_saliency_pairs_are_ordered() -> None:
    torch.manual_seed(1)
    saliency = torch.tensor([[0, 3, 9, 5, 0, 0.0], [4, 4, 4, 4, 4, 7.0]])
    mask = torch.ones(2, 6).bool()
    mask[0, 5] = False
    for _ in range(20):
        positive, negative = losses.saliency_pairs(saliency, mask)
        assert positive[0, 0] == 2 and negative[0, 0] == 1  # highest and lowest of the relevant clips
        assert saliency[0, positive[0, 1]] > 0 and negative[0, 1] in (0, 4)  # padding is never drawn
        assert positive[1, 1] == positive[1, 0] == 5  # nothing irrelevant: the hard pair again
    hinge = losses.hinge_saliency(saliency, positive, negative, margin=0.2)
    assert hinge.item() == 0  # true scores satisfy every margin


def test_negative_pairs_push_towards_low_scores() -> None:
    mask = torch.ones(1, 2).bool()
    low, high = torch.full((1, 2), -3.0), torch.full((1, 2), 3.0)
    assert losses.negative_pair_saliency(low, mask) < losses.negative_pair_saliency(high, mask)
    assert losses.negative_pair_saliency(torch.zeros(1, 2), mask).item() == pytest.approx(2 * math.log(2))
