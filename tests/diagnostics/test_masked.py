"""Spurious evaluation on models whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from vtg_lib.data import load_data, views
from vtg_lib.data.batches import Output
from vtg_lib.diagnostics import DIAGNOSTICS, VIEWS, masked

DATA = load_data({"kind": "sim", "semantic_dim": 16, "motion_dim": 8, "train": 8, "val": 64, "clips": 24})[
    "val"
]


class Fixed(nn.Module):
    """Answers with the truth, whatever it sees; or only where the moment's middle clip is not empty."""

    def __init__(self, sees: bool) -> None:
        super().__init__()
        self.sees, self.weight = sees, nn.Parameter(torch.zeros(1))

    def forward(self, batch, trace=False):
        spans, scores = batch.spans.clone(), batch.span_mask.float()
        if self.sees:
            middle = (batch.spans[..., 0] * batch.video_mask.sum(1, keepdim=True)).long()
            seen = batch.video.abs().sum(-1).gather(1, middle.clamp(max=batch.video.shape[1] - 1)) > 0
            spans = torch.where(seen[..., None], spans, torch.tensor([0.01, 0.02]))
        return Output(spans=spans, scores=scores, saliency=batch.video_mask.float())


def test_what_answers_from_elsewhere_stays_and_what_looks_moves():
    blind = masked.measure(Fixed(sees=False), DATA)
    assert blind["standard"]["map"] == pytest.approx(100, abs=0.1)
    for fill in views.FILLS:
        found = blind["masks"][fill]
        assert (found["ratio"], found["stays"], found["score_drop"]) == (pytest.approx(1), 1, 0)
    assert blind["bounds"]["decoy"] == blind["bounds"]["swapped_text"] == blind["standard"]["map"]
    seeing = masked.measure(Fixed(sees=True), DATA)
    zeros = seeing["masks"]["zeros"]
    assert zeros["map"] < 10 and zeros["stays"] < 0.1 and seeing["masks"]["mean"]["stays"] == 1
    assert zeros["stays"] + zeros["moves_to_edge"] + zeros["moves_away"] == pytest.approx(1, abs=1e-3)
    assert zeros["moves_away"] > 0.3 and seeing["bounds"]["decoy"] == seeing["standard"]["map"]


def test_the_prior_is_better_than_chance_and_knows_only_the_other_half():
    answers = masked.prior(DATA)
    assert {len(row["pred_relevant_windows"]) for row in answers} == {10}
    one, other = (np.array(answers[half]["pred_relevant_windows"]) for half in (0, 1))
    assert not np.array_equal(one, other)
    known = {tuple(w) for row in DATA.annotations[1::2] for w in row["relevant_windows"]}
    assert {tuple(np.round(w[:2], 6)) for w in one} <= {tuple(np.round(w, 6)) for w in known}
    assert 1 < masked.measure(Fixed(sees=True), DATA)["bounds"]["prior"] < 60


def test_a_probe_finds_what_is_hidden():
    hidden = views.moment_clips(DATA, masked.MARGIN)
    assert masked._probe(views.masked(DATA, "noise", masked.MARGIN), hidden.numpy()) > 0.5
    lit = views.masked(DATA, "zeros", masked.MARGIN)
    lit.video[..., 0] += 5 * (~hidden)[lit.video_index]
    assert masked._probe(lit, hidden.numpy()) == pytest.approx(1.0, abs=1e-3)


def test_a_foreign_context_leaves_the_moments_alone():
    view = views.dynamic_context(DATA)
    moments = views.moment_clips(DATA, 0.0)
    whole, new = DATA.video[DATA.video_index], view.video
    assert torch.equal(whole[moments], new[moments])
    first, last = moments.int().argmax(1), moments.shape[1] - moments.flip(1).int().argmax(1)
    place = torch.arange(moments.shape[1])
    outside = (place < first[:, None]) | (place >= last[:, None])
    assert torch.equal(new[outside], whole.roll(-1, 0)[outside]) and torch.equal(
        new[~outside], whole[~outside]
    )
    found = DIAGNOSTICS["dynamic_context"](Fixed(sees=False), DATA)
    assert found["lost"] == 0 and VIEWS["dynamic_context"].number(found) == 0
