"""SG-DETR's selector, decoder and query groups: against loops, and who sees whom."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vtg_lib.layers.query_groups import (
    FARTHER,
    NOISE,
    QueryGroup,
    choose_anchors,
    isolating_bias,
    noisy_moments,
)
from vtg_lib.layers.selected_decoder import WIDTHS, QuerySelector, SelectedDecoder
from vtg_lib.spans import cw_to_se, inverse_sigmoid

SPANS = torch.tensor([[[0.0, 0.0], [0.3, 0.2], [0.7, 0.4]], [[0.5, 0.1], [0.0, 0.0], [0.0, 0.0]]])
MASK = torch.tensor([[False, True, True], [True, False, False]])


def moved(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def levels(lengths: tuple[int, ...], width: int = 8):
    """A pyramid's levels and masks of videos of these lengths."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    masks = [mask.repeat_interleave(2, 1), mask, mask[:, ::2], mask[:, ::4]]
    torch.manual_seed(1)
    return [torch.randn(*real.shape, width) for real in masks], masks


@pytest.mark.parametrize("rank", [False, True])
def test_the_selector_against_a_loop(rank: bool):
    features, masks = levels((12, 7))
    selector = moved(QuerySelector(8, 5, 0.35, True, rank))
    found = selector(features, masks)
    for b in range(2):
        proposals = []
        for level, mask, width in zip(features, masks, WIDTHS, strict=True):
            for i in range(int(mask[b].sum())):
                center = (i + 0.5) / int(mask[b].sum())
                if 0.0125 < center < 0.9875:
                    state = selector.norm(selector.project(level[b, i]))
                    chance = selector.class_head(state).sigmoid()
                    quality = selector.iou_head(state).sigmoid() if rank else 1
                    start = inverse_sigmoid(torch.tensor([center, width]))
                    span = (start + selector.span_head(state)).sigmoid()
                    proposals.append(((chance * quality).item(), state, span))
        proposals.sort(key=lambda proposal: -proposal[0])
        for q in range(5):
            torch.testing.assert_close(found.content[b, q], proposals[q][1])
            torch.testing.assert_close(found.spans[b, q], proposals[q][2])
    assert not found.content.requires_grad and not found.reference.requires_grad
    assert found.spans.requires_grad


def test_fewer_proposals_than_queries():
    features, masks = levels((3, 1))
    selector = moved(QuerySelector(8, 25, 0.35, True, True))
    found = selector(features, masks)
    assert found.reference.shape == (2, 25, 2) and found.reference.isfinite().all()
    left = (found.reference == 1).all(-1).sum(1)  # those without a proposal start at the end of the video
    assert left.tolist() == [25 - (6 + 3 + 2 + 1), 25 - (2 + 1 + 1 + 1)]
    found.spans.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in selector.parameters())


def test_extra_queries_do_not_change_the_main_ones():
    torch.manual_seed(0)
    decoder = moved(SelectedDecoder(2, 8, 2, 16, 0.0, 0.0, True))
    memory, position = torch.randn(2, 2, 9, 8)
    mask = torch.arange(9) < torch.tensor([9, 6])[:, None]
    content, reference = torch.randn(2, 4, 8), torch.rand(2, 4, 2)
    alone = decoder(content, reference, memory, position, mask)
    real = torch.tensor([[True] * 5, [True, False] * 2 + [False]])
    block = torch.tensor([0, 0, 0, 1, 1])
    starts = torch.randn(2, 5, 8), torch.rand(2, 5, 2), torch.rand(2, 5, 2)
    group = QueryGroup(*starts, positive=real, real=real, block=block, borders=True)

    def together(extra: torch.Tensor):
        bias = isolating_bias(4, [group])
        both = torch.cat((content, extra), 1), torch.cat((reference, group.reference), 1)
        return decoder(*both, memory, position, mask, bias)

    first = together(group.content)
    torch.testing.assert_close(first.states[:, :, :4], alone.states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first.iou[..., :4], alone.iou, atol=1e-5, rtol=1e-5)
    other = group.content.clone()
    other[:, 3:] += 1.0  # another block
    other[1, 1] += 1.0  # a query that does not exist
    second = together(other)
    torch.testing.assert_close(second.states[:, 0, 4:7], first.states[:, 0, 4:7])
    torch.testing.assert_close(second.states[:, 1, 4], first.states[:, 1, 4])
    assert not torch.allclose(second.states[:, 0, 7:], first.states[:, 0, 7:])
    assert isolating_bias(4, []) is None


def test_positive_anchors_come_first_and_others_fill_up():
    positive = torch.zeros(3, 20, dtype=torch.bool)
    positive[0, [2, 5, 11]] = True
    positive[1, 7] = True
    valid = torch.arange(20) < torch.tensor([20, 9, 2])[:, None]
    learned, start = choose_anchors(positive, valid, random=False)
    assert learned is start and learned.shape == (3, 3)
    assert set(learned[0].tolist()) == {2, 5, 11} and learned[1, 0] == 7
    assert positive.gather(1, learned).sum(1).tolist() == [3, 1, 0]
    assert valid.gather(1, learned).sum(1).tolist() == [3, 3, 2]  # fewer points than queries
    torch.manual_seed(0)
    learned, start = choose_anchors(positive, valid, random=True)
    assert positive.gather(1, learned).sum() == 4 and start.tolist() != learned.tolist()
    assert valid.gather(1, start).sum(1).tolist() == [3, 3, 2]
    assert choose_anchors(positive & False, valid, random=False) is None


def test_noisy_moments_are_near_or_far():
    torch.manual_seed(0)
    reference, target, positive, real, block = noisy_moments(SPANS, MASK, queries=240)
    assert reference.shape == (2, 240, 2) and block.tolist() == [i // 4 for i in range(240)]
    assert real.view(2, 60, 2, 2).all(1).tolist() == [[[True] * 2] * 2, [[True, False]] * 2]
    assert positive.view(2, 60, 2, 2)[:, :, 1].sum() == 0 and (positive & ~real).sum() == 0
    wanted = target.view(2, 60, 2, 2, 2)[:, 0, 0]
    torch.testing.assert_close(wanted[0], SPANS[0, 1:])
    torch.testing.assert_close(wanted[1, 0], SPANS[1, 0])
    off = (cw_to_se(reference) - cw_to_se(target)).abs() / (target[..., 1:] / 2)
    inside = (cw_to_se(reference) > 0) & (cw_to_se(reference) < 1)
    far = real & ~positive
    assert off[positive].max() <= NOISE + 1e-4
    assert off[far][inside[far]].min() >= NOISE * FARTHER * 0.2
    assert (reference[..., 1] >= 0).all()
    assert noisy_moments(SPANS, MASK, queries=1)[0].shape == (2, 4, 2)  # a copy at least
    assert noisy_moments(SPANS, MASK & False, queries=9) is None
    same = F.pad(SPANS, (0, 0, 0, 3)), F.pad(MASK, (0, 3))
    assert noisy_moments(*same, queries=1)[0].shape == (2, 4, 2)
