"""Soft-NMS against a loop over one sample at a time."""

from __future__ import annotations

import math

import pytest
import torch

from vtg_lib.layers.suppression import soft_nms


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
    result = soft_nms(spans, scores, sigma)
    for b in range(6):
        expected = slow_soft_nms(spans[b].tolist(), scores[b].tolist(), sigma)
        torch.testing.assert_close(result[b], torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_keeps_the_best_and_what_does_not_overlap():
    spans = torch.tensor([[[0.2, 0.2], [0.2, 0.2], [0.8, 0.2]]])
    result = soft_nms(spans, torch.tensor([[0.5, 0.9, 0.4]]))
    torch.testing.assert_close(result, torch.tensor([[0.5 * math.exp(-2), 0.9, 0.4]]))


def test_leaves_the_input_alone_and_refuses_sigma_zero():
    scores = torch.rand(1, 4)
    before = scores.clone()
    soft_nms(torch.full((1, 4, 2), 0.5), scores)
    torch.testing.assert_close(scores, before)
    with pytest.raises(ValueError, match="sigma > 0"):
        soft_nms(torch.zeros(1, 1, 2), torch.zeros(1, 1), 0.0)
