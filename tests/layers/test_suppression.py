"""Suppression against loops over one sample at a time."""

from __future__ import annotations

import math

import pytest
import torch

from vtg_lib.layers.suppression import (
    DECAYS,
    best_spans,
    gaussian,
    greedy_nms,
    hard,
    linear,
    lower_scores,
    snap,
    vote,
)
from vtg_lib.spans import cw_to_se, iou


def slow_soft_nms(spans: list[list[float]], scores: list[float], sigma: float) -> list[float]:
    """Bodla et al. 2017, Fig. 2, with Python numbers."""
    scores, waiting = list(scores), list(range(len(scores)))
    while waiting:
        best = max(waiting, key=lambda i: scores[i])
        waiting.remove(best)
        (c1, w1) = spans[best]
        for i in waiting:
            (c2, w2) = spans[i]
            inter = max(0.0, min(c1 + w1 / 2, c2 + w2 / 2) - max(c1 - w1 / 2, c2 - w2 / 2))
            overlap = inter / max(w1 + w2 - inter, 1e-6)
            scores[i] *= math.exp(-overlap * overlap / sigma)
    return scores


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_equals_the_loop(sigma):
    generator = torch.Generator().manual_seed(0)
    spans, scores = torch.rand(6, 9, 2, generator=generator), torch.rand(6, 9, generator=generator)
    result = lower_scores(spans, scores, gaussian(sigma))
    for b in range(6):
        expected = slow_soft_nms(spans[b].tolist(), scores[b].tolist(), sigma)
        torch.testing.assert_close(result[b], torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_keeps_the_best_and_what_does_not_overlap():
    spans = torch.tensor([[[0.2, 0.2], [0.2, 0.2], [0.8, 0.2]]])
    result = lower_scores(spans, torch.tensor([[0.5, 0.9, 0.4]]), gaussian(0.5))
    torch.testing.assert_close(result, torch.tensor([[0.5 * math.exp(-2), 0.9, 0.4]]))


def test_leaves_the_input_alone_and_refuses_sigma_zero():
    scores = torch.rand(1, 4)
    before = scores.clone()
    lower_scores(torch.full((1, 4, 2), 0.5), scores, gaussian(0.5))
    torch.testing.assert_close(scores, before)
    with pytest.raises(ValueError, match="sigma > 0"):
        gaussian(0.0)


@pytest.mark.parametrize("kind", ["hard", "linear"])
def test_lowered_scores_against_a_loop(kind):
    torch.manual_seed(0)
    spans, scores = torch.rand(3, 12, 2) * torch.tensor([1.0, 0.5]), torch.rand(3, 12)
    found = lower_scores(spans, scores, DECAYS[kind](0.4))
    for b in range(3):
        left, rest = scores[b].tolist(), set(range(12))
        while rest:
            best = max(rest, key=lambda q: left[q])
            rest.remove(best)
            for q in rest:
                overlap = float(iou(cw_to_se(spans[b, best]), cw_to_se(spans[b, q])))
                left[q] *= 1 - overlap if kind == "linear" else float(overlap < 0.4)
        assert found[b].tolist() == pytest.approx(left, abs=1e-6)
    assert (found < scores).any() and (kind == "linear" or (found == 0).any())


def test_an_overlap_of_exactly_the_threshold_is_too_much():
    borders = torch.tensor([[66.0, 106.0], [78.0, 106.0], [66.0, 93.0]]) / 150
    spans = torch.stack((borders.mean(-1), borders[:, 1] - borders[:, 0]), -1)[None]
    assert lower_scores(spans, torch.tensor([[0.9, 0.8, 0.7]]), DECAYS["hard"](0.7))[
        0
    ].tolist() == pytest.approx([0.9, 0, 0.7])


def test_best_spans_and_snapping():
    spans, scores = torch.rand(2, 5, 2), torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1]])
    kept, best = best_spans(spans, scores, 2)
    torch.testing.assert_close(kept, torch.stack((spans[0, [1, 4]], spans[1, [0, 1]])))
    torch.testing.assert_close(best, torch.tensor([[0.5, 0.4], [0.5, 0.4]]))
    assert best_spans(spans, scores, 9)[0].shape == (2, 5, 2)
    borders = torch.tensor([[[-1.0, 3.4], [2.6, 7.2], [4.4, 12.0]]]) / 10
    given = torch.stack((borders.mean(-1), borders[..., 1] - borders[..., 0]), -1)
    for grid, open_ended, expected in (
        (1.0, False, [[0, 3], [3, 7], [4.4, 10]]),
        (1.0, True, [[0, 3], [3, 7], [4, 10]]),
        (0.0, False, [[0, 3.4], [2.6, 7.2], [4.4, 10]]),
    ):
        found = cw_to_se(snap(given, torch.tensor([10]), grid, open_ended)) * 10
        torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize(
    "decay",
    [hard(0.5), linear, gaussian(0.4), gaussian(0.4, 0.3)],
    ids=["hard", "linear", "gaussian", "late"],
)
def test_suppression_is_the_greedy_one(decay):
    torch.manual_seed(0)
    spans = torch.rand(4, 30, 2) * 0.5 + 0.1
    scores = torch.rand(4, 30)
    scores[:, 20:] = 0  # padding
    chosen, kept = greedy_nms(spans, scores, 25, decay, least=0.05)
    for b in range(4):
        waiting = {q: scores[b, q] for q in range(30)}
        expected = []
        while (
            len(expected) < 25
            and (best := max(waiting, key=waiting.get)) is not None
            and waiting[best] > 0.05
        ):
            expected.append((spans[b, best], waiting.pop(best)))
            for q in waiting:
                waiting[q] = waiting[q] * decay(iou(cw_to_se(spans[b, best]), cw_to_se(spans[b, q])))
        assert 0 < len(expected) <= 20
        torch.testing.assert_close(chosen[b, : len(expected)], torch.stack([span for span, _ in expected]))
        torch.testing.assert_close(kept[b, : len(expected)], torch.stack([score for _, score in expected]))
        assert not chosen[b, len(expected) :].any() and not kept[b, len(expected) :].any()


def test_votes_move_a_span_to_its_neighbours():
    spans = torch.tensor([[[0.5, 0.4], [0.51, 0.4], [0.2, 0.1]]])
    scores = torch.tensor([[0.6, 0.2, 0.9]])
    chosen = torch.tensor([[[0.5, 0.4], [0.0, 0.0]]])
    voted = vote(chosen, spans, scores, 0.9)
    assert voted[0, 0].tolist() == pytest.approx([(0.5 * 0.6 + 0.51 * 0.2) / 0.8, 0.4])
    assert voted[0, 1].tolist() == [0.0, 0.0]
