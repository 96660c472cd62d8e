"""The pyramid with a level finer than the clips, its anchors and head: against PyTorch's convolutions, and
with padding.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtg_lib.layers.fine_pyramid import SIZES, STRIDES, Anchors, AtssHead, FinePyramid, LevelBlock
from vtg_lib.spans import cw_to_se

LENGTHS = (21, 8, 3, 1)


def clips(width: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randn(len(LENGTHS), max(LENGTHS), width), mask


def moved(module: nn.Module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def slow_block(block: LevelBlock, x: Tensor) -> Tensor:
    """One video `[T, D]` by PyTorch's convolutions."""
    for part, stride in ((block.first, block.stride), (block.second, 1)):
        taps = part.depthwise.taps.squeeze(1).T[:, None]  # [D, 1, 3]
        x = F.conv1d(x.T[None], taps, padding=1, stride=stride, groups=len(taps))[0].T
        x = part.norm(part.pointwise(x))
        x = F.gelu(x) if part is block.first else x
    return x


def test_levels_against_convolutions_of_every_video_alone():
    x, mask = clips()
    pyramid = moved(FinePyramid(6))
    levels, masks = pyramid(x.masked_fill(~mask[..., None], 9.0), mask)
    for b, length in enumerate(LENGTHS):
        one = x[b, :length]
        half = slow_block(pyramid.coarser, one)
        expected = [
            slow_block(pyramid.finer, one.repeat_interleave(2, 0)),
            slow_block(pyramid.clips, one),
            half,
            slow_block(pyramid.coarsest, F.gelu(half)),
        ]
        for level, real, own, stride in zip(levels, masks, expected, STRIDES, strict=True):
            assert int(real[b].sum()) == len(own) == math.ceil(length / stride)
            torch.testing.assert_close(level[b, real[b]], own, atol=1e-5, rtol=1e-5)


def test_anchors_are_counted_as_the_public_code_does():
    _, mask = clips()
    anchors = Anchors.of(FinePyramid(6)(clips()[0], mask)[1])
    assert anchors.counts == (42, 21, 11, 6)
    first = [level[0, :2].tolist() for level in anchors.levels(anchors.center[None])]
    assert first == [[0.25, 0.75], [0.5, 1.5], [1.0, 3.0], [2.0, 6.0]]
    size = [level[0, 0].item() for level in anchors.levels(anchors.size[None])]
    assert tuple(size) == SIZES
    borders = anchors.borders()
    torch.testing.assert_close(borders[:, 1] - borders[:, 0], anchors.size - 1)
    torch.testing.assert_close(anchors.decode(torch.zeros(1, 80, 2))[0], borders)
    offsets = torch.tensor([10.0, 5.0]).expand(1, 80, 2)  # one size to the right, e times as wide
    found = anchors.decode(offsets)[0]
    torch.testing.assert_close(found.mean(-1), anchors.center + anchors.size)
    torch.testing.assert_close(found[:, 1] - found[:, 0], anchors.size * math.e - 1)
    far = anchors.decode(torch.full((1, 80, 2), 1e4))
    assert far.isfinite().all()
    assert cw_to_se(torch.tensor([0.25, 3.0])).tolist() == borders[0].tolist()


def test_the_head_does_not_see_padding_and_starts_at_its_prior():
    x, mask = clips()
    pyramid, head = moved(FinePyramid(6)), AtssHead(6, 2, 0.35)
    levels, masks = pyramid(x, mask)
    anchors = Anchors.of(masks)
    start = head(levels, masks, anchors).logits.sigmoid()
    torch.testing.assert_close(start, torch.full_like(start, 0.35), atol=0.02, rtol=0)
    moved(head)
    noisy = [level.masked_fill(~real[..., None], 7.0) for level, real in zip(levels, masks, strict=True)]
    output, other = (head(given, masks, anchors) for given in (levels, noisy))
    for ours, theirs in zip(output, other, strict=True):
        torch.testing.assert_close(ours[anchors.valid], theirs[anchors.valid])
    scores = output.scores(anchors)
    assert not scores[~anchors.valid].any() and (scores[anchors.valid] > 0).all()
    for b, length in enumerate(LENGTHS):
        alone = pyramid(x[b : b + 1, :length], mask[b : b + 1, :length])
        own = head(*alone, Anchors.of(alone[1]))
        torch.testing.assert_close(own.borders[0], output.borders[b, anchors.valid[b]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_videos_shorter_than_the_coarsest_stride_have_a_point_a_level(length: int):
    x, mask = torch.randn(1, length, 6), torch.ones(1, length, dtype=torch.bool)
    levels, masks = FinePyramid(6)(x, mask)
    assert [level.shape[1] for level in levels] == [2 * length, length, math.ceil(length / 2), 1]
    assert all(real.all() for real in masks)
