"""The feature pyramid and its points, their losses, and the suppression that keeps all spans, against slow
versions.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.layers.pooling import ClipPooling, TokenPooling, WordPool
from vtg_lib.layers.pyramid import ConvPyramid, DistanceHead, Points, best_over_levels
from vtg_lib.layers.pyramid_scores import AdaptiveScore
from vtg_lib.losses.contrastive import sampled_nce
from vtg_lib.losses.points import (
    PointTargets,
    at_least_one_clip,
    clip_borders,
    point_class_loss,
    point_distance_loss,
    point_targets,
)
from vtg_lib.losses.saliency import (
    above_median,
    clip_cross_entropy,
    extreme_pair,
    rescaled_error,
)
from vtg_lib.spans import cw_to_se

LENGTHS = (21, 13, 4)
STRIDES = (1, 2, 4, 8)


def clips(width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), max(LENGTHS), width), mask


def points() -> Points:
    _, mask = clips()
    return Points.of(STRIDES, [mask[:, s - 1 :: s] for s in STRIDES])


@pytest.mark.parametrize("row", range(len(LENGTHS)))
def test_levels_are_strided_convolutions_of_the_video_alone(row):
    torch.manual_seed(0)
    pyramid, (x, mask) = ConvPyramid(6, STRIDES), clips()
    levels, masks = pyramid(torch.where(mask[..., None], x, 7.0), mask)
    for stride, level, own, blocks in zip(STRIDES, levels, masks, pyramid.levels, strict=True):
        expected = x[row, : LENGTHS[row]].T.relu()[None]
        for block in blocks:
            if expected.shape[-1] < 2:
                expected = expected[..., :0]
                break
            weight = block.pair.weight.unflatten(1, (2, 6)).transpose(1, 2)
            expected = (
                block.norm(F.conv1d(expected, weight, block.pair.bias, stride=2).transpose(1, 2))
                .relu()
                .transpose(1, 2)
            )
        assert int(own[row].sum()) == LENGTHS[row] // stride == expected.shape[-1]
        torch.testing.assert_close(level[row, own[row]], expected[0].T)


def test_a_short_batch_has_fewer_levels():
    x, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    levels, masks = ConvPyramid(6, STRIDES)(x, mask)
    assert [level.shape[1] for level in levels] == [5, 2, 1]
    found = Points.of(STRIDES, masks)
    assert found.position.tolist() == [0, 1, 2, 3, 4, 0, 2, 0] and found.high.tolist()[-1] == 8
    assert DistanceHead(6, 4)(levels, masks).shape == (2, 8, 2)


@pytest.mark.parametrize("strides", [(), (2, 4), (1, 3), (1, 4, 2), (1, 1)])
def test_other_strides_are_refused(strides):
    with pytest.raises(ValueError, match="powers of two rising from 1"):
        ConvPyramid(4, strides)


def test_points_and_their_spans():
    found = points()
    assert len(found.position) == 21 + 10 + 5 + 2 and found.valid.sum(1).tolist() == [
        38,
        13 + 6 + 3 + 1,
        4 + 2 + 1,
    ]
    assert found.low.unique().tolist() == [0, 2, 4, 8] and found.high.unique().tolist() == [
        2,
        4,
        8,
        torch.inf,
    ]
    distances = torch.rand(3, 38, 2)
    spans = cw_to_se(found.spans(distances, torch.tensor(LENGTHS)))
    for b, length in enumerate(LENGTHS):
        for p in range(38):
            here, stride = found.position[p], found.stride[p]
            expected = [
                (here - distances[b, p, 0] * stride) / length,
                (here + distances[b, p, 1] * stride) / length,
            ]
            expected = expected if found.valid[b, p] else [0, 0]
            assert spans[b, p].tolist() == pytest.approx([float(x) for x in expected], abs=1e-5)


def moments() -> tuple[torch.Tensor, torch.Tensor]:
    """Borders in clips; overlapping, nested, empty-handed and on the grid."""
    given = [
        [(2, 6), (3, 20.5), (7.5, 9), (9.3, 14.8), (0, 19.5)],
        [(0, 13), (4, 5), (6.5, 11)],
        [(1.2, 1.7), (0, 4)],
    ]
    borders, real = torch.zeros(3, 5, 2), torch.zeros(3, 5, dtype=torch.bool)
    for b, rows in enumerate(given):
        borders[b, : len(rows)], real[b, : len(rows)] = torch.tensor(rows, dtype=torch.float32), True
    return borders, real


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_targets_against_a_loop(radius, strict):
    found, (borders, real) = points(), moments()
    targets = point_targets(found, borders, real, radius, strict)
    positives = 0
    for b in range(3):
        for p in range(38):
            here, stride = float(found.position[p]), float(found.stride[p])
            fitting = []
            for m in range(5):
                start, end = borders[b, m].tolist()
                reach, depth = max(here - start, end - here), min(here - start, end - here)
                if radius:
                    depth = min(depth, radius * stride - abs(here - (start + end) / 2))
                fits = (
                    depth > 0 and reach < found.high[p] if strict else depth >= 0 and reach <= found.high[p]
                )
                if real[b, m] and found.valid[b, p] and fits and reach >= found.low[p]:
                    fitting.append((end - start, m))
            assert bool(targets.positive[b, p]) == bool(fitting)
            if fitting:
                start, end = borders[b, min(fitting)[1]].tolist()
                assert targets.distances[b, p].tolist() == pytest.approx(
                    [(here - start) / stride, (end - here) / stride]
                )
                positives += 1
    assert positives > 5


def test_borders_in_clips_and_short_moments():
    spans, length = torch.tensor([[[0.5, 0.5], [0.01, 0.02], [0.98, 0.04]]]), torch.tensor([20])
    borders = clip_borders(spans, length)
    torch.testing.assert_close(borders, torch.tensor([[[5.0, 15.0], [0.0, 0.4], [19.2, 20.0]]]))
    torch.testing.assert_close(
        at_least_one_clip(borders, length), torch.tensor([[[5.0, 15.0], [0.0, 1.0], [19.0, 20.0]]])
    )


def test_point_losses_against_loops():
    torch.manual_seed(0)
    found, logits, distances = points(), torch.randn(3, 38), torch.rand(3, 38, 2)
    targets = point_targets(found, *moments(), 1.5)
    focal, errors = [], []
    for b in range(3):
        for p in range(38):
            if found.valid[b, p]:
                right = logits[b, p].sigmoid() if targets.positive[b, p] else 1 - logits[b, p].sigmoid()
                focal.append(-((1 - right) ** 2) * right.log())
            if targets.positive[b, p]:
                errors += (distances[b, p] - targets.distances[b, p]).abs().tolist()
    assert float(point_class_loss(logits, targets, found)) == pytest.approx(
        float(sum(focal) / len(focal)), rel=1e-4
    )
    assert float(point_distance_loss(distances, targets)) == pytest.approx(
        sum(errors) / len(errors), rel=1e-4
    )
    none = PointTargets(torch.zeros_like(targets.positive), targets.distances)
    assert float(point_distance_loss(distances, none)) == 0


def test_clips_take_the_best_score_of_their_points():
    _, mask = clips()
    masks = [mask[:, s - 1 :: s] for s in STRIDES]
    scores = [torch.rand(own.shape) for own in masks]
    found = best_over_levels(scores, masks, mask)
    for b, length in enumerate(LENGTHS):
        rows = []
        for score, own in zip(scores, masks, strict=True):
            if count := int(own[b].sum()):
                row = score[b, :count].repeat_interleave(length // count)
                rows.append(torch.cat((row, row[-1:].repeat(length - len(row)))))
        torch.testing.assert_close(found[b, :length], torch.stack(rows).amax(0))
        assert not found[b, length:].any()


def test_adaptive_scores_do_not_read_padding_between_levels():
    torch.manual_seed(0)
    score, pyramid, (x, mask) = AdaptiveScore(6, 3, 2, 2), ConvPyramid(6, STRIDES), clips()
    together = score(*pyramid(x, mask))
    valid = points().valid
    for b, length in enumerate(LENGTHS):
        levels, masks = pyramid(x[b : b + 1, :length], mask[b : b + 1, :length])
        row = torch.cat(levels, 1)
        every = torch.ones(row.shape[:2], dtype=torch.bool)
        own = torch.cat([score.intra(level, own) for level, own in zip(levels, masks, strict=True)], 1)
        torch.testing.assert_close(
            together[b, valid[b]], (score.share * own + (1 - score.share) * score.inter(row, every))[0]
        )


def test_pooling():
    torch.manual_seed(0)
    words, mask = (
        torch.randn(2, 3, 4, 6),
        torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] * 3 + [False]]),
    )
    pool = WordPool(6)
    found = pool(words, mask)
    for k in range(2):
        for b in range(3):
            real = words[k, b, mask[b]]
            torch.testing.assert_close(found[k, b], (pool.weight(real).softmax(0) * real).sum(0))
    tokens, pool = torch.randn(3, 5, 7, 6), TokenPooling(6)
    found = pool(tokens, words[0], mask)
    for b in range(3):
        for t in range(5):
            real = words[0, b, mask[b]]
            weight = (pool.query(real) @ pool.key(tokens[b, t]).T / 6**0.5).softmax(-1)
            torch.testing.assert_close(found[b, t], (weight @ tokens[b, t] + real).amax(0))
    torch.testing.assert_close(
        ClipPooling(6)(tokens[:, :, :1], words[0], mask), pool(tokens[:, :, :1], words[0], mask)
    )


def test_losses_of_highlights():
    torch.manual_seed(0)
    _, mask = clips()
    saliency = torch.rand(mask.shape) * mask
    found = above_median(saliency, mask)
    high, low = extreme_pair(saliency - 1, mask)
    similarity, logits = torch.randn(mask.shape), torch.randn(mask.shape)
    positive = (found + torch.rand(1)).argmax(1)
    nce, entropy, unit = [], [], []
    for b, length in enumerate(LENGTHS):
        own = saliency[b, :length]
        expected = torch.where(own > own.median(), own, 0)
        torch.testing.assert_close(found[b, :length], expected)
        assert int(high[b]) == int(own.argmax()) and int(low[b]) == int(own.argmin())
        chosen = own[positive[b]]
        row = similarity[b, :length][own <= chosen] / 0.07
        nce.append(row.logsumexp(0) - similarity[b, positive[b]] / 0.07)
        entropy.append(F.binary_cross_entropy(logits[b, :length].sigmoid(), own, reduction="none"))
        unit.append((logits[b, :length], own))
    valid = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(
        sampled_nce(similarity, saliency, mask, positive, valid, across=False), torch.stack(nce).mean()
    )
    torch.testing.assert_close(clip_cross_entropy(logits, saliency, mask), torch.cat(entropy).mean())
    first, second = (torch.cat(x) for x in zip(*unit, strict=True))
    first, second = ((x - x.min()) / (x.max() - x.min()) for x in (first, second))
    torch.testing.assert_close(rescaled_error(logits, saliency, mask), F.mse_loss(first, second))
    assert rescaled_error(logits, torch.zeros_like(saliency), mask).isfinite()
