"""ATSS: assignment and losses against loops over one point and moment at a time, and degenerate input."""

from __future__ import annotations

import statistics

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.layers.fine_pyramid import Anchors, PointOutput
from vtg_lib.losses.adaptive_assignment import (
    Assigned,
    assign_points,
    centerness_targets,
    nearest,
    point_losses,
)

LENGTHS = (30, 12, 5, 1)


def anchors() -> Anchors:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return Anchors.of([mask.repeat_interleave(2, 1), mask, mask[:, ::2], mask[:, ::4]])


def moments(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to three moments a video in clips, overlapping ones among them; none in the last video."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor(LENGTHS)[:, None]
    borders = (torch.rand(len(LENGTHS), 3, 2, generator=generator) * length[..., None]).sort(-1).values
    count = torch.tensor([3, 2, 1, 0])
    return borders, torch.arange(3) < count[:, None]


def overlap(a, b) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inter / max(a[1] - a[0] + b[1] - b[0] - inter, 1e-6)


def slow_assign(grid: Anchors, b: int, spans: list, most: int) -> dict[int, int]:
    """Zhang et al. 2020, Algorithm 1, of one video: positive point -> moment."""
    center, borders = grid.center.tolist(), grid.borders().tolist()
    found: dict[int, tuple[float, int]] = {}
    for m, (start, end) in enumerate(spans):
        candidates, first = [], 0
        for count in grid.counts:
            points = [p for p in range(first, first + count) if grid.valid[b, p]]
            candidates += sorted(points, key=lambda p: abs(center[p] - (start + end) / 2))[:most]
            first += count
        values = [overlap(borders[p], (start, end)) for p in candidates]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        for p, value in zip(candidates, values, strict=True):
            if value >= statistics.mean(values) + spread and start < center[p] < end:
                found[p] = max(found.get(p, (-1.0, 0)), (value, -m))
    return {p: -m for p, (_, m) in found.items()}


@pytest.mark.parametrize("most", [3, 12, 500])
@pytest.mark.parametrize("seed", range(5))
def test_assignment_against_the_loop(seed: int, most: int):
    grid, (borders, mask) = anchors(), moments(seed)
    found = assign_points(grid, borders, mask, most)
    for b in range(len(LENGTHS)):
        expected = slow_assign(grid, b, borders[b, mask[b]].tolist(), most)
        positive = found.positive[b].nonzero()[:, 0].tolist()
        assert {p: int(found.moment[b, p]) for p in positive} == expected
    assert not (found.positive & ~grid.valid).any() and not found.positive[-1].any()
    assert found.moment[~found.positive].sum() == 0


def test_candidates_are_never_on_padding():
    grid = anchors()
    middle = torch.tensor([[29.0], [29.0], [29.0], [29.0]])  # where only the first video is
    chosen = nearest(grid, middle, 12).squeeze(-1)
    assert not (chosen & ~grid.valid).any()
    assert [int(level.sum()) for level in grid.levels(chosen[2:3])] == [10, 5, 3, 2]  # all that there are


def test_losses_against_the_loop():
    torch.manual_seed(0)
    grid, (borders, mask) = anchors(), moments(1)
    points = grid.valid.shape[1]
    offsets = torch.randn(len(LENGTHS), points, 2)
    output = PointOutput(
        torch.randn(len(LENGTHS), points), torch.randn(len(LENGTHS), points), grid.decode(offsets)
    )
    assigned = assign_points(grid, borders, mask, 12)
    losses = point_losses(output, grid, assigned, borders)
    focal, span, giou, center, weights = 0.0, 0.0, 0.0, 0.0, 0.0
    positives = int(assigned.positive.sum())
    assert positives > 5
    for b in range(len(LENGTHS)):
        for p in grid.valid[b].nonzero()[:, 0].tolist():
            probability, wanted = output.logits[b, p].sigmoid(), bool(assigned.positive[b, p])
            right = probability if wanted else 1 - probability
            focal += -(0.25 if wanted else 0.75) * (1 - right) ** 2 * right.log()
            if not wanted:
                continue
            target, predicted = borders[b, assigned.moment[b, p]], output.borders[b, p]
            sides = sorted([(grid.center[p] - target[0]).item(), (target[1] - grid.center[p]).item()])
            weight = sides[0] / sides[1]
            weights += weight
            span += weight * F.smooth_l1_loss(predicted, target, reduction="sum")
            low, high = predicted[0], max(predicted)
            inter = max(torch.tensor(0.0), min(high, target[1]) - max(low, target[0]))
            union = high - low + target[1] - target[0] - inter
            hull = max(high, target[1]) - min(low, target[0])
            giou += weight * (1 - (inter / union - (hull - union) / hull))
            chance = output.centerness[b, p].sigmoid()
            center += -(weight * chance.log() + (1 - weight) * (1 - chance).log())
    expected = {
        "class": focal / positives,
        "span": span / weights,
        "giou": giou / weights,
        "centerness": center / positives,
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(float(value), rel=1e-4), name


def test_no_moment_leaves_the_class_alone():
    grid = anchors()
    borders, mask = torch.zeros(len(LENGTHS), 0, 2), torch.zeros(len(LENGTHS), 1, dtype=torch.bool)
    borders = F.pad(borders, (0, 0, 0, 1))
    assigned = assign_points(grid, borders, mask, 12)
    zeros = torch.zeros(grid.valid.shape, requires_grad=True)
    output = PointOutput(zeros, zeros, grid.decode(zeros[..., None].expand(-1, -1, 2)))
    losses = point_losses(output, grid, assigned, borders)
    assert losses["class"] > 0 and all(losses[name] == 0 for name in ("span", "giou", "centerness"))
    sum(losses.values()).backward()
    assert zeros.grad.isfinite().all()


def test_an_anchor_outside_its_moment_is_not_centered():
    grid = anchors()
    target = torch.tensor([40.0, 50.0]).expand(1, len(grid.center), 2)
    assert not centerness_targets(grid, target).any()
    one = Assigned(torch.ones(1, 2, dtype=torch.bool), torch.tensor([[1, 0]]))
    assert one.targets(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])).tolist() == [[[2.0, 3.0], [0.0, 1.0]]]
