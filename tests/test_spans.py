"""Span geometry against hand-made cases and a slow oracle."""

import pytest
import torch

from vtg_lib import spans


def test_conversions_are_inverse() -> None:
    se = torch.tensor([[0.0, 0.4], [0.25, 1.0]])
    assert torch.allclose(spans.cw_to_se(spans.se_to_cw(se)), se)
    assert torch.allclose(spans.se_to_cw(se), torch.tensor([[0.2, 0.4], [0.625, 0.75]]))


@pytest.mark.parametrize(
    ("first", "second", "iou", "giou"),
    [
        ((0.0, 1.0), (0.0, 1.0), 1.0, 1.0),
        ((0.0, 0.5), (0.25, 0.75), 1 / 3, 1 / 3),  # overlapping spans: hull equals union
        ((0.0, 0.2), (0.6, 0.8), 0.0, -0.5),  # apart: the gap is half of the hull
        ((0.0, 0.2), (0.2, 0.4), 0.0, 0.0),  # touching
    ],
)
def test_iou_by_hand(first: tuple, second: tuple, iou: float, giou: float) -> None:
    a, b = torch.tensor(first), torch.tensor(second)
    assert spans.iou(a, b).item() == pytest.approx(iou, abs=1e-6)
    assert spans.generalised_iou(a, b).item() == pytest.approx(giou, abs=1e-6)


def test_empty_spans_give_zero_and_no_nan() -> None:
    empty = torch.tensor([0.3, 0.3])
    assert spans.iou(empty, empty) == 0


def test_inverse_sigmoid_is_bounded() -> None:
    value = torch.tensor([0.0, 0.3, 1.0])
    result = spans.inverse_sigmoid(value).sigmoid()
    assert torch.allclose(result, value.clamp(1e-3, 1 - 1e-3))
