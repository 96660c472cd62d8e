"""Weighted fusion against the published algorithm, one video and span at a time, and against numbers that the
package ensemble-boxes 1.0.9 gave.
"""

from __future__ import annotations

import pytest
import torch

from vtg_lib.layers.fusion import weighted_fusion
from vtg_lib.spans import cw_to_se, se_to_cw

WEIGHTS = (1.0, 2.5)


def slow_fusion(sets, weights, threshold: float, least: float) -> list[tuple[float, float, float]]:
    """(score, start, end) of one video, falling: Solovyev et al. 2021, Sec. 2."""
    boxes = []
    for (spans, scores), weight in zip(sets, weights, strict=True):
        for (center, width), score in zip(spans, scores, strict=True):
            start, end = max(0.0, center - width / 2), min(1.0, center + width / 2)
            if score >= least and end > start:
                boxes.append((score * weight, start, end))
    groups: list[list[tuple[float, float, float]]] = []

    def fused(group) -> tuple[float, float]:
        mass = sum(score for score, _, _ in group)
        return tuple(sum(box[0] * box[side] for box in group) / mass for side in (1, 2))

    for box in sorted(boxes, reverse=True):
        best, chosen = threshold, None
        for group in groups:
            start, end = fused(group)
            inter = max(0.0, min(end, box[2]) - max(start, box[1]))
            overlap = inter / (end - start + box[2] - box[1] - inter)
            if overlap > best:
                best, chosen = overlap, group
        if chosen is None:
            groups.append([box])
        else:
            chosen.append(box)
    done = []
    for group in groups:
        mean = sum(box[0] for box in group) / len(group)
        done.append((mean * min(len(sets), len(group)) / sum(weights), *fused(group)))
    return sorted(done, reverse=True)


def random_sets(seed: int, samples: int = 6):
    """Two sets of spans around the same few places, some reaching out of the video."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(samples, 4, 2, generator=generator) * torch.tensor([1.0, 0.6])
    sets = []
    for number in (25, 10):
        index = torch.randint(0, 4, (samples, number), generator=generator)
        spans = places.gather(1, index[..., None].expand(-1, -1, 2))
        spans = spans + 0.02 * torch.randn(samples, number, 2, generator=generator)
        sets.append((spans.clamp(min=1e-3), torch.rand(samples, number, generator=generator)))
    return sets


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(seed: int, threshold: float):
    sets = random_sets(seed)
    spans, scores = weighted_fusion(sets, WEIGHTS, threshold, 0.1)
    assert spans.shape == (6, 35, 2) and (scores.diff(dim=1) <= 0).all()
    for b in range(6):
        expected = slow_fusion([(s[b].tolist(), p[b].tolist()) for s, p in sets], WEIGHTS, threshold, 0.1)
        count = len(expected)
        assert 0 < count < 35 and not scores[b, count:].any() and not spans[b, count:].any()
        found = torch.cat((scores[b, :count, None], cw_to_se(spans[b, :count])), -1)
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-5)


# ensemble_boxes_wbf_1d([...], weights=[1, 2.5], iou_thr=0.8, skip_box_thr=0.1) of version 1.0.9
FIRST = [[0.10, 0.50], [0.11, 0.52], [0.60, 0.90], [0.00, 0.30]], [0.9, 0.4, 0.05, 0.3]
SECOND = [[0.12, 0.49], [0.61, 0.88], [0.02, 0.29]], [0.8, 0.7, 0.2]
FUSED = [(0.628571, 0.113333, 0.496364), (0.5, 0.61, 0.88), (0.228571, 0.0125, 0.29375)]


def test_equals_the_package():
    sets = [
        (se_to_cw(torch.tensor([borders])), torch.tensor([scores])) for borders, scores in (FIRST, SECOND)
    ]
    spans, scores = weighted_fusion(sets, WEIGHTS, 0.8, 0.1)
    found = torch.cat((scores[0, : len(FUSED), None], cw_to_se(spans[0, : len(FUSED)])), -1)
    torch.testing.assert_close(found, torch.tensor(FUSED), atol=1e-5, rtol=1e-5)
    assert not scores[0, len(FUSED) :].any()


def test_one_set_without_any_span():
    (spans, scores), _ = random_sets(0)
    nothing = spans[:, :0], scores[:, :0]
    fused = weighted_fusion([(spans, scores), nothing], WEIGHTS, 0.8, 0.1)
    silent = weighted_fusion([(spans, scores), (spans, scores * 0)], WEIGHTS, 0.8, 0.1)
    torch.testing.assert_close(fused[1], silent[1][:, :25])
    assert not silent[1][:, 25:].any() and (fused[1][:, 0] > 0).all()
    empty = weighted_fusion([nothing, nothing], WEIGHTS, 0.8, 0.1)
    assert empty[0].shape == (6, 0, 2) and empty[1].shape == (6, 0)
    low = weighted_fusion([(spans, scores * 0.01)], [1.0], 0.8, 0.1)
    assert not low[0].any() and not low[1].any()


def test_bad_input_says_what_is_wrong():
    (spans, scores), other = random_sets(0)
    with pytest.raises(ValueError, match="expected one weight a set of spans, got 1 for 2"):
        weighted_fusion([(spans, scores), other], [1.0], 0.8, 0.1)
    with pytest.raises(ValueError, match="expected positive weights.*leave a set out"):
        weighted_fusion([(spans, scores), other], [1.0, 0.0], 0.8, 0.1)
    with pytest.raises(ValueError, match=r"of one batch, got \[5, 10, 2\] and \[5, 10\] in set 1"):
        weighted_fusion([(spans, scores), (other[0][1:], other[1][1:])], WEIGHTS, 0.8, 0.1)
    before = spans.clone()
    weighted_fusion([(spans, scores), other], WEIGHTS, 0.8, 0.1)
    torch.testing.assert_close(spans, before)
