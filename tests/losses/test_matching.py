"""Batched matching against SciPy's assignment, one sample at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from vtg_lib.losses.matching import MatchCost, assign, match
from vtg_lib.spans import cw_to_se, generalised_iou


@settings(max_examples=60, deadline=None)
@given(
    problems=st.integers(1, 6),
    rows=st.integers(1, 6),
    columns=st.integers(1, 7),
    seed=st.integers(0, 2**31),
    ties=st.booleans(),
)
def test_assign_is_optimal(problems: int, rows: int, columns: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=(problems, rows, columns)) * 10
    if ties:
        cost = np.round(cost / 10)
    valid = rng.random((problems, rows)) < 0.7
    chosen = assign(cost, valid)
    for p in range(problems):
        own = cost[p][valid[p]]
        best = own[linear_sum_assignment(own)].sum()
        matched = chosen[p] >= 0
        assert not matched[~valid[p]].any()
        assert matched.sum() == min(len(own), columns)
        assert len(set(chosen[p][matched])) == matched.sum()
        assert cost[p][matched, chosen[p][matched]].sum() == pytest.approx(best)


def test_match_equals_one_by_one_for_every_layer() -> None:
    torch.manual_seed(0)
    layers, samples, queries, moments = 2, 5, 6, 3
    spans, scores = torch.rand(layers, samples, queries, 2), torch.rand(layers, samples, queries)
    target = torch.rand(samples, moments, 2)
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]]).bool()
    weights = MatchCost(score=4, l1=10, giou=1)
    matches = match(spans, scores, target, mask, weights)
    for layer in range(layers):
        for sample in range(samples):
            count = int(mask[sample].sum())
            b, t = spans[layer, sample], target[sample, :count]
            cost = 10 * torch.cdist(b, t, p=1) - 4 * scores[layer, sample][:, None]
            cost = cost - generalised_iou(cw_to_se(b)[:, None], cw_to_se(t)[None])
            query, moment = linear_sum_assignment(cost.numpy())
            assert dict(zip(moment, query, strict=True)) == {
                m: int(matches.query[layer, sample, m])
                for m in range(moments)
                if matches.valid[layer, sample, m]
            }
            assert set(matches.positive[layer, sample].nonzero()[:, 0].tolist()) == set(query)


def test_match_names_bad_predictions() -> None:
    spans = torch.full((1, 1, 2, 2), float("nan"))
    with pytest.raises(FloatingPointError, match="finite predictions"):
        match(spans, torch.rand(1, 1, 2), torch.rand(1, 1, 2), torch.ones(1, 1).bool(), MatchCost())


def test_gather_takes_the_matched_rows() -> None:
    spans = torch.tensor([[[0.1, 0.1], [0.5, 0.2], [0.9, 0.1]]])
    matches = match(
        spans,
        torch.full((1, 3), 0.5),
        torch.tensor([[[0.9, 0.1], [0.5, 0.2]]]),
        torch.ones(1, 2).bool(),
        MatchCost(),
    )
    assert torch.equal(matches.gather(spans), torch.tensor([[[0.9, 0.1], [0.5, 0.2]]]))
